"""The results that rules may name: what each is, what draws it, and where it is found."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from analysis import paths, registry
from analysis.profiles import PROFILES, RunContext
from analysis.results import Result, read_result
from analysis.verdicts.cases import Lacking


@dataclass(frozen=True)
class Source:
    """A result by name.

    Attributes:
        what: what it holds. module: what measures it. drawn_by: what draws it; where either changes, the notebook
            that writes the report is run again.
        later: why it may not be there: what has to come first; fields: those that its rows will have, so that rules
            can be checked before.
    """

    what: str
    module: str = ""
    drawn_by: str = ""
    later: str = ""
    fields: tuple[str, ...] = ()

    @property
    def told(self) -> str:
        """What it holds and which modules make it."""
        by = [f"{how} {name}" for how, name in (("measured by", self.module), ("drawn by", self.drawn_by)) if name]
        return "; ".join([self.what, *by])


SOURCES = {
    "accuracy": Source(
        "exact match by model, family, method and keep ratio", "analysis.accuracy", "analysis.figures.accuracy"
    ),
    "main_table": Source(
        "score, paired difference to the unpruned run, recall and cost by method and ratio", "analysis.main_table",
        "analysis.figures.main_table",
    ),
    "step_similarity": Source(
        "Sim_k, the cosine of S_1 and S_k, by step", "analysis.step_similarity", "analysis.figures.step_similarity"
    ),
    "pruning_maps": Source(
        "kept tokens of chosen samples", "analysis.pruning_maps", "analysis.figures.pruning_maps"
    ),
    "two_tokens": Source(
        "answers of two tokens, by the step that committed them", "analysis.two_tokens", "analysis.figures.two_tokens"
    ),
    "shortcuts": Source("answers without image or question", "analysis.shortcuts", "analysis.figures.shortcuts"),
    "token_counts": Source(
        "visual and prompt tokens by image size", "analysis.token_counts", "analysis.figures.token_counts"
    ),
    "compute": Source(
        "FLOPs of the true shapes by place of the cut", "analysis.compute", "analysis.figures.compute"
    ),
    "layer_attention": Source(
        "where response rows attend, by layer and step", "analysis.layer_attention", "analysis.figures.layer_attention"
    ),
    "layer_grid": Source(
        "LLaDA-FastV's accuracy over layer and ratio, FastV beside", "analysis.layer_grid",
        "analysis.figures.layer_grid",
    ),
    "ablations": Source(
        "one factor of RedVTP changed at a time", "analysis.ablations", "analysis.figures.ablations"
    ),
    "efficiency": Source("time and memory of a reduced shape on a CPU", "analysis.efficiency"),
    "lavida": Source(
        "a small LaViDa, as published and repaired; difference: from the repaired one; changed: with another image",
        "analysis.lavida", "analysis.figures.lavida",
    ),
    "caches": Source(
        "accuracy with prefix, Fast-dLLM and dLLM caches; difference: from the same without a cache",
        "analysis.caches", "analysis.figures.caches",
    ),
    "rivals": Source(
        "late, progressive and rival methods; difference: from the same unpruned, or unchanged", "analysis.rivals",
        "analysis.figures.rivals",
    ),
    "positions": Source(
        "exact match with kept tokens re-numbered, and at their old positions; difference: original less compact",
        "analysis.positions", "analysis.figures.positions",
    ),
    "speed": Source(
        "times of the true shapes on a GPU, against our own loop unpruned", "analysis.speed.measure",
        "analysis.figures.speed",
        later="it comes with the speed profile, which needs a GPU",
        fields=("host", "variant", "batch", "image", "cache", "method", "attention", "response", "steps", "start",
                "keep", "throughput_gain", "latency_cut", "speedup", "later_share"),
    ),
    "paper_scores": Source(
        "scores and times on the public benchmarks",
        later="it needs the published weights and benchmarks, which are not part of this repository",
        fields=("host", "benchmark", "cache", "method", "rows", "start", "layer", "comparison", "keep", "score",
                "share_of_unpruned", "throughput_gain", "latency_cut", "visual_to_prompt", "evidence_recall"),
    ),
}  # fmt: skip
"""All results that a rule may name."""

PROFILE_OF = {"mini": "mini", "flops": "mini", "parity": "mini", "speed": "speed", "paper": "paper"}
"""The profile whose results each kind of evidence is."""


@dataclass(frozen=True)
class Found:
    """A result with the file that it was read from."""

    name: str
    profile: str
    result: Result
    path: Path

    @property
    def notebook(self) -> str:
        """The notebook that measures it, or ""."""
        return notebook_of(self.name)


def notebook_of(name: str) -> str:
    """The file name of the first notebook that writes this result, or ""."""
    return next((one.file for one in registry.NOTEBOOKS if name in one.measurements and one.name != "claims"), "")


def find(name: str, link: str | None, run: RunContext) -> Found:
    """A result as the run sees it: of its own profile from its own source, of others what is there.

    What no notebook measures is taken from the committed results, too. Raises Lacking saying why there is none, also
    for a result that is another kind of evidence than ``link`` (None for any kind).
    """
    profile = PROFILE_OF[link or "mini"]
    own = paths.RUNS / (run.folder if profile == run.profile.name else profile) / f"{name}.json"
    reference = paths.RESULTS / profile / f"{name}.json"
    places = [reference] if run.source == "reference" else [own]
    if run.source == "run" and (profile != run.profile.name or not notebook_of(name)):
        places.append(reference)
    for path in places:
        if path.is_file():
            result = read_result(path)
            if link is not None and result.link != link:
                raise Lacking(f"result {name} is evidence of kind {result.link}, not {link}")
            return Found(name, profile, result, path)
    raise Lacking(_why(name, profile, run))


def _why(name: str, profile: str, run: RunContext) -> str:
    source = SOURCES[name]
    here = f"no result {name}" + (f" of profile {profile}" if profile != run.profile.name else "")
    if source.later:
        return f"{here}: {source.later}"
    if profile != run.profile.name:
        return f"{here}: it needs {PROFILES[profile].needs}"
    if run.source == "reference":
        return f"{here} among the committed results"
    return f"{here} of this run: run ./reproduce.sh"


def drawings(patterns: tuple[str, ...], run: RunContext) -> list[Path]:
    """The run's own drawings with these names (`*` allowed), or else the committed ones, in the names' order."""
    found: list[Path] = []
    for pattern in patterns:
        folders = (run.figures, *(() if run.quick else (paths.REFERENCE_FIGURES / run.profile.name,)))
        for folder in folders:
            there = sorted(folder.glob(f"{pattern}.png"))
            if there:
                found += [path for path in there if path not in found]
                break
    return found
