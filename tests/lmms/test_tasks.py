"""The table of benchmarks against lmms-eval's own tasks."""

from __future__ import annotations

import pytest
from lmms_eval import utils
from lmms_eval.models import get_model

from redvtp.lmms import MODELS
from redvtp.lmms.arguments import generation_words, read
from redvtp.lmms.tasks import TASKS


@pytest.mark.parametrize("name", MODELS)
def test_lmms_eval_finds_the_models(name):
    assert get_model(name).host == MODELS[name]


@pytest.fixture(scope="module")
def configs(manager) -> dict[str, dict]:
    """Each task's file as lmms-eval reads it, what it includes among it."""
    found = {}
    for name in TASKS:
        assert name in manager.all_tasks, f"lmms-eval has no task {name}"
        found[name] = utils.load_yaml_config(manager.task_index[name]["yaml_path"], mode="simple")
    return found


def test_every_metric_is_one_of_the_task(configs):
    for name, task in TASKS.items():
        own = [one["metric"] for one in configs[name].get("metric_list", [])]
        assert set(task.metrics) <= set(own), (name, own)
        assert task.metrics or "group" in configs[name], name


def test_every_tasks_generation_keywords_are_understood(configs):
    for name, task in TASKS.items():
        words = configs[name].get("generation_kwargs") or {}
        assert generation_words(words).get("temperature", 0) == 0, name
        if not task.video:
            for host in MODELS.values():
                read(host, {}).decoding(name, words)


