"""The notebooks, in the papers' order: one line each. A new figure or table is one more line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from analysis import paths


@dataclass(frozen=True)
class Notebook:
    """What `--only NAME` runs: a file in notebooks/, the results that it writes, what it redraws."""

    name: str
    file: str
    measurements: tuple[str, ...]
    draws: str
    profiles: tuple[str, ...] = ("mini",)

    @property
    def path(self) -> Path:
        return paths.NOTEBOOKS / self.file


NOTEBOOKS = (
    Notebook("token_counts", "01_token_counts.ipynb", ("token_counts",), "RedVTP Figure 1: visual and prompt tokens"),
    Notebook("benchmarks", "02_benchmarks.ipynb", ("chance", "shortcuts"), "the generated families, their shortcuts"),
    Notebook("pruning_maps", "03_pruning_maps.ipynb", ("pruning_maps",), "RedVTP Figure 3: what is kept"),
    Notebook(
        "step_similarity",
        "04_step_similarity.ipynb",
        ("step_similarity", "score_drift"),
        "RedVTP Figure 4: Sim_k, and why it falls",
    ),
    Notebook("accuracy", "05_accuracy.ipynb", ("accuracy",), "accuracy table: methods by keep ratio"),
    Notebook("two_token_answers", "06_two_token_answers.ipynb", ("two_tokens",), "two-token answers: can they fall?"),
    Notebook("compute", "07_compute.ipynb", ("compute",), "FLOPs of the true shapes, and the speed-up they allow"),
    Notebook("layer_attention", "08_layer_attention.ipynb", ("layer_attention",), "LLaDA-FastV: attention by layer"),
    Notebook("layer_grid", "09_layer_grid.ipynb", ("layer_grid",), "LLaDA-FastV: accuracy over layer and ratio"),
    Notebook("ablations", "10_ablations.ipynb", ("ablations",), "RedVTP's choices, one changed at a time"),
    Notebook("framework", "11_framework.ipynb", ("framework",), "RedVTP Figure 2: from attention to kept tokens"),
    Notebook("qualitative", "12_qualitative.ipynb", ("qualitative",), "RedVTP Figure 5: answers at full and at 25%"),
    Notebook(
        "failures",
        "13_failures.ipynb",
        ("failures", "recall_effect", "method_differences", "layer_grid"),
        "which samples flip, and whether evidence recall predicts it",
    ),
    Notebook("main_table", "14_main_table.ipynb", ("main_table",), "RedVTP's main LLaDA-V table, in kind"),
    Notebook(
        "caches",
        "15_caches.ipynb",
        ("caches", "head_budgets"),
        "caches x pruning: score against compute; budgets by head",
    ),
    Notebook("lavida", "16_lavida.ipynb", ("lavida",), "LaViDa's main table, repaired and as published"),
    Notebook(
        "speed", "17_speed.ipynb", ("speed", "speed_stages"), "latency, throughput and memory, beside the FLOPs",
        ("mini", "speed"),
    ),
    Notebook("rivals", "18_rivals.ipynb", ("rivals", "rival_order"), "the redundancy study's tables, in kind"),
    Notebook("positions", "19_positions.ipynb", ("positions",), "kept tokens re-numbered, or at their old positions"),
    Notebook(
        "contender", "20_contender.ipynb", ("contender_test",), "staged pruning beside RedVTP at equal FLOPs, on test"
    ),
    Notebook(
        "claims",
        "21_claims.ipynb",
        (
            "accuracy", "main_table", "step_similarity", "two_tokens", "compute", "layer_attention", "layer_grid",
            "ablations", "lavida", "caches", "rivals", "positions",
        ),
        "every claim of the papers, and what the results say of it",
    ),
)


def chosen(names: tuple[str, ...]) -> tuple[Notebook, ...]:
    """The notebooks called `names`, or all, in the registry's order. Raises ValueError for unknown names."""
    known = [notebook.name for notebook in NOTEBOOKS]
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(f"unknown notebook {', '.join(map(repr, unknown))}, expected: {', '.join(known)}")
    return tuple(notebook for notebook in NOTEBOOKS if not names or notebook.name in names)
