"""What lmms-eval wrote about a run of our models (``--output_path FOLDER --log_samples``), read and checked."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis import paths, storage
from redvtp.lmms import MODELS
from redvtp.lmms.arguments import Arguments, read, split
from redvtp.lmms.tasks import Task, task_of

OF_THE_MODEL = ("pretrained", "dtype", "source")
"""Model arguments that say nothing of the method."""

ENDING = "_results.json"


@dataclass(frozen=True)
class Evaluation:
    """One task of one run.

    Attributes:
        date: of the run, as lmms-eval writes it; later ones sort behind earlier ones.
        model: its folder's name. pretrained: as it was given. dtype: None where the run left it to the model.
        task: the table's entry. name: lmms-eval's task, which may be another split of that benchmark.
        given: generation keywords of the command line.
        score: lmms-eval's, in the papers' scale.
        samples: by document. whole: whether these are all of the task's.
        about: lmms-eval's version and hashes of the task, and the data set's revision.
    """

    date: str
    model: str
    pretrained: str
    dtype: str | None
    batch_size: int
    arguments: Arguments
    task: Task
    name: str
    given: Mapping[str, Any]
    score: float
    samples: Mapping[int, Mapping[str, Any]]
    whole: bool
    about: Mapping[str, str | None]

    @property
    def costs(self) -> dict[int, Mapping[str, Any]]:
        """What each answer cost, by document; without those that came from lmms-eval's cache of responses."""
        found = {place: (sample.get("token_counts") or [None])[0] for place, sample in self.samples.items()}
        return {place: cost for place, cost in found.items() if cost and "seconds" in cost}


def evaluations(folders: Iterable[Path]) -> Iterator[Evaluation]:
    """All tasks of all runs of our models below the folders, earlier runs first.

    Raises:
        ValueError: a file that cannot be read, or a run without its samples; FileNotFoundError where there is no run.
    """
    files = sorted((file for folder in folders for file in folder.rglob(f"*{ENDING}")), key=lambda file: file.name)
    if not files:
        raise FileNotFoundError(f"no *{ENDING} in {', '.join(map(str, folders))}: expected lmms-eval's --output_path")
    for file in files:
        results = storage.read_json(file)
        if results.get("config", {}).get("model") in MODELS:
            for name in results["results"]:
                if task_of(name) is not None and task_of(name).metrics and name in results.get("n-samples", {}):
                    yield evaluation(file, results, name)


def evaluation(file: Path, results: Mapping[str, Any], name: str) -> Evaluation:
    """One task of a results file."""
    config, task = results["config"], task_of(name)
    words = config["model_args"]
    words = split(words) if isinstance(words, str) else dict(words)
    arguments = read(MODELS[config["model"]], {key: words[key] for key in words if key not in OF_THE_MODEL})
    samples = read_samples(file.with_name(f"{file.name.removesuffix(ENDING)}_samples_{name}.jsonl"))
    counts = results["n-samples"][name]
    return Evaluation(
        date=file.name.removesuffix(ENDING),
        model=Path(str(words["pretrained"])).name,
        pretrained=str(words["pretrained"]),
        dtype=words.get("dtype"),
        batch_size=int(config.get("batch_size") or 1),
        arguments=arguments,
        task=task,
        name=name,
        given=config.get("gen_kwargs") or {},
        score=task.scale * sum(metric_of(results["results"][name], metric, file) for metric in task.metrics),
        samples=samples,
        whole=counts["effective"] == counts["original"] == len(samples),
        about=about(results, name, samples, words.get("source")),
    )


def metric_of(found: Mapping[str, Any], metric: str, file: Path) -> float:
    """A metric's value; lmms-eval puts the filter's name behind it."""
    values = {key: value for key, value in found.items() if key.split(",")[0] == metric}
    if len(values) != 1 or not isinstance(next(iter(values.values())), int | float):
        raise ValueError(f"{paths.shown(file)}: expected one number for {metric}, found {values or 'none'}")
    return float(next(iter(values.values())))


def read_samples(file: Path) -> dict[int, dict[str, Any]]:
    """A file of samples by document, in their order."""
    if not file.is_file():
        raise ValueError(f"{paths.shown(file)} is missing: expected a run with --log_samples")
    try:
        lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    except ValueError as error:
        raise ValueError(f"{paths.shown(file)} is not JSON Lines: {error}") from error
    found = {line["doc_id"]: line for line in sorted(lines, key=lambda line: line["doc_id"])}
    if len(found) != len(lines):
        raise ValueError(f"{paths.shown(file)}: documents come twice; expected one answer each")
    return found


def about(
    results: Mapping[str, Any], name: str, samples: Mapping[int, Mapping[str, Any]], source: str | None
) -> dict[str, str | None]:
    """What a score stands on. Raises ValueError where answers of one run stand on different code or data.

    lmms-eval 0.7's own hash of a task depends on the number of its documents alone, so there is one of questions and
    targets beside it.
    """
    config = results.get("configs", {}).get(name, {})
    told = {storage.digest(one): one for one in stands_on(samples)}
    if len(told) > 1:
        raise ValueError(f"{name}: answers of one run stand on different code, data or devices: {list(told.values())}")
    one = next(iter(told.values()), {})
    asked = [[place, sample.get("input"), sample.get("target")] for place, sample in samples.items()]
    return {
        "lmms_eval": one.get("lmms-eval"),
        "torch": one.get("torch"),
        "transformers": one.get("transformers"),
        "device": one.get("device"),
        "source": one.get("source") or (None if source is None else str(source)),
        "dataset": "/".join(filter(None, [config.get("dataset_path"), config.get("dataset_name")])) or None,
        "data_revision": one.get("data"),
        "task_version": str(results.get("versions", {}).get(name)),
        "task_hash": results.get("task_hashes", {}).get(name),
        "questions_hash": storage.digest(asked),
    }


def stands_on(samples: Mapping[int, Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """What each answer says it stands on, where it was not read from a cache."""
    for sample in samples.values():
        for cost in sample.get("token_counts") or []:
            if cost and "stands_on" in cost:
                yield cost["stands_on"]
