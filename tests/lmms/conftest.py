"""A task of lmms-eval on this machine alone: our own documents as a file in DocVQA's schema. Needs lmms-eval; run by
`./reproduce.sh test --lmms`, which has an environment of its own."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODEL = "mini/llada_v"
TASK = "docvqa_mini"  # the table decodes what begins with docvqa_ as DocVQA, 32 tokens in 16 steps
N = 24

os.environ |= {
    "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false",
}  # fmt: skip

FUNCTIONS = """\
from lmms_eval.tasks.docvqa.utils import docvqa_doc_to_text, docvqa_doc_to_visual
"""
CONFIG = """\
task: {task}
dataset_path: parquet
dataset_kwargs:
  data_files:
    validation: {data}
test_split: validation
output_type: generate_until
doc_to_visual: !function functions.docvqa_doc_to_visual
doc_to_text: !function functions.docvqa_doc_to_text
doc_to_target: "answers"
generation_kwargs:
  max_new_tokens: 32
  temperature: 0
  do_sample: False
lmms_eval_specific_kwargs:
  default:
    pre_prompt: ""
    post_prompt: ""
metric_list:
  - metric: anls
    aggregation: mean
    higher_is_better: true
"""


@dataclass(frozen=True)
class Evaluation:
    """What a run of lmms-eval left."""

    results: dict
    samples: list[dict]
    folder: Path | None = None

    @property
    def score(self) -> float:
        return self.results["results"][TASK]["anls,none"]

    @property
    def answers(self) -> dict[int, str]:
        found = {sample["doc_id"]: sample["filtered_resps"] for sample in self.samples}
        return {place: text[0] if isinstance(text, list) else text for place, text in found.items()}

    @property
    def costs(self) -> dict[int, dict]:
        return {sample["doc_id"]: sample["token_counts"][0] for sample in self.samples}


@pytest.fixture(scope="session")
def samples():
    from analysis import benchmarks

    return benchmarks.get("doc").samples("test", N)


@pytest.fixture(scope="session")
def task_folder(tmp_path_factory, samples) -> Path:
    """The folder for --include_path."""
    import datasets

    folder = tmp_path_factory.mktemp("tasks")
    os.environ["LMMS_EVAL_DATASETS_CACHE"] = str(tmp_path_factory.mktemp("datasets"))
    rows = []
    for sample in samples:
        image = io.BytesIO()
        sample.image.save(image, "PNG")
        rows.append({
            "questionId": str(sample.index), "question": sample.question, "question_types": ["form"],
            "image": {"bytes": image.getvalue(), "path": f"{sample.index}.png"}, "docId": sample.index,
            "ucsf_document_id": "", "ucsf_document_page_no": "1", "answers": [sample.answer], "data_split": "val",
        })  # fmt: skip
    data = datasets.Dataset.from_list(rows).cast_column("image", datasets.Image())
    data.to_parquet(folder / "validation.parquet")
    (folder / "functions.py").write_text(FUNCTIONS)
    (folder / f"{TASK}.yaml").write_text(CONFIG.format(task=TASK, data=folder / "validation.parquet"))
    return folder


@pytest.fixture(scope="session")
def manager(task_folder):
    """lmms-eval's tasks and ours, read once."""
    from lmms_eval.tasks import TaskManager

    return TaskManager("WARNING", include_path=str(task_folder), model_name="redvtp_llada_v")


@pytest.fixture(scope="session")
def evaluate(manager):
    """`evaluate("keep=0.25", ...)` is lmms-eval's own call, in this process."""
    from lmms_eval.evaluator import simple_evaluate

    def run(arguments: str = "", **options) -> Evaluation:
        found = simple_evaluate(
            model="redvtp_llada_v", model_args=model_arguments(arguments), tasks=[TASK], device="cpu",
            task_manager=manager, bootstrap_iters=0, **options,
        )  # fmt: skip
        return Evaluation(found, found["samples"][TASK])

    return run


@pytest.fixture(scope="session")
def command(task_folder, tmp_path_factory):
    """`command("keep=0.25", ...)` is the command line, in processes of its own."""

    def run(arguments: str = "", *words: str, processes: int = 1, module: str = "redvtp.lmms") -> Evaluation:
        folder = tmp_path_factory.mktemp("run")
        start = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
        done = subprocess.run(
            [sys.executable, *(start if processes > 1 else []), "-m", module, "--model", "redvtp_llada_v",
             "--model_args", model_arguments(arguments), "--tasks", TASK, "--include_path", str(task_folder),
             "--device", "cpu", "--output_path", str(folder), "--log_samples", *words],
            env={**os.environ, "PYTHONPATH": str(ROOT)}, cwd=folder, capture_output=True, text=True, timeout=600,
        )  # fmt: skip
        found = sorted(folder.rglob("*_results.json"))
        assert found, (done.stdout + done.stderr)[-4000:]
        lines = found[0].with_name(found[0].name.replace("_results.json", f"_samples_{TASK}.jsonl"))
        samples = [json.loads(line) for line in lines.read_text().splitlines()]
        return Evaluation(json.loads(found[0].read_text()), samples, folder)

    return run


def model_arguments(more: str) -> str:
    """Of the shipped model, which knows no modes of thinking."""
    return ",".join(filter(None, [f"pretrained={MODEL},think=none", more]))
