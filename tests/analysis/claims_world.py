"""Made-up results in which every claim holds, each by one number that can be turned."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from itertools import product
from pathlib import Path

from PIL import Image

from analysis import paths, storage
from analysis.profiles import LINKS

REPOSITORY = Path(__file__).resolve().parents[2]
MODELS = ("llada_v", "llada_v_seed1")
FAMILIES = ("doc", "info", "chart", "diagram", "scene", "perception", "choice")
KEEPS = (0.75, 0.5, 0.25)
BENCHMARKS = ("ai2d", "realworldqa", "infovqa", "docvqa", "mme", "mmbench")
WIDE = 0.01  # half of every interval

FIGURES = (
    "fig1_token_counts", "fig3_pruning_maps_doc", "fig3_pruning_maps_others", "fig4_step_similarity", "fig5_examples",
    "tab_accuracy", "tab_accuracy_recall", "tab_main", "tab_two_tokens", "compute", "layer_attention", "layer_grid",
    "ablations",
)  # fmt: skip
"""Names of drawings that claims show."""


def ends(**values: float) -> dict[str, float]:
    """Each value with its interval."""
    found: dict[str, float] = {}
    for name, value in values.items():
        found |= {name: value, f"{name}_low": value - WIDE, f"{name}_high": value + WIDE}
    return found


def rows_of(names: str, *values: Iterable) -> list[dict]:
    """A row for each combination."""
    return [dict(zip(names.split(), combination)) for combination in product(*values)]


def accuracy() -> list[dict]:
    found = []
    for row in rows_of("model family", MODELS, FAMILIES):
        found.append(row | {"method": "none", "keep": 1.0, "n": 900, "evidence_recall": 1.0} | ends(exact_match=1.0))
        for keep in KEEPS:
            found.append(row | {"method": "redvtp", "keep": keep, "n": 900, "evidence_recall": 0.96})
            found[-1] |= ends(exact_match=0.99)
            found.append(row | {"method": "random", "keep": keep, "n": 900, "evidence_recall": keep})
            found[-1] |= ends(exact_match=0.2)
    return found


def main_table() -> list[dict]:
    losses = {"redvtp": -0.01, "random": -0.8}
    return [
        row | ends(from_unpruned=losses[row["method"]])
        for row in rows_of("model family method keep", MODELS, FAMILIES, losses, KEEPS)
    ]


def step_similarity(family: str) -> list[dict]:
    return [
        {"host": "llada_v", "model": "llada_v", "family": family, "rule": rule, "layers": "all", "step": step, "n": 100}
        | ends(similarity=0.97 if rule == "none" else 0.5)
        for rule in ("none", "stop") for step in range(2, 16)
    ]  # fmt: skip


def compute() -> list[dict]:
    cuts = {
        "none": 0.0, "before step 1": 0.8, "after step 1": 0.75, "inside step 1, layer 16": 0.7,
        "after half of the steps": 0.4,
    }  # fmt: skip
    found = []
    for host, (response, steps), (place, cut) in product(("llada_v", "lavida"), ((2, 2), (32, 16)), cuts.items()):
        for keep in (1.0,) if place == "none" else KEEPS:
            # Only 25% saves as much as is claimed.
            saved = cut if keep == 0.25 else cut * 0.2 if host == "lavida" else cut * 0.6
            row = {"host": host, "response": response, "steps": steps, "place": place, "keep": keep}
            row |= {"later": 0.95 * (1 - cut) if keep == 0.25 else 0.5, "plain_macs": 9 * (1 - saved)}
            row |= {"share": 1 - saved, "share_with_vision": 1 - saved, "own_share": 1 - saved}
            found.append(row | {"gated_macs": 10 * (1 - saved)} | ({"later": 1.0} if place == "none" else {}))
    return found


def ablations() -> list[dict]:
    found = []
    for family, keep in product(("doc", "info", "scene"), (1.0, 0.5, 0.25)):
        common = {"host": "llada_v", "model": "llada_v", "family": family, "keep": keep, "n": 50}
        settings = {("none", "none"): None} if keep == 1.0 else {
            ("default", "default"): None,
            **{("guide rows", rows): -0.2 for rows in ("prompt", "prompt+response", "committed", "prompt+masked")},
            **{("step", f"step {step}"): 0.0 for step in (2, 4, 8, 12)},
            ("positions", "original"): 0.0, ("over rows", "max"): 0.0, ("protected", "newline"): 0.0,
        }  # fmt: skip
        for (factor, setting), difference in settings.items():
            told = dict.fromkeys(("difference", "difference_low", "difference_high"))
            told = told if difference is None else ends(difference=difference)
            numbers = ends(exact_match=1.0, from_unpruned=0.0)
            found.append(common | {"factor": factor, "setting": setting} | told | numbers)
    return found


def layer_attention(family: str, layers: int) -> list[dict]:
    return [
        {"host": host, "model": model, "family": family, "rows": rows, "layer": layer, "step": step, "n": 40}
        | ends(visual=0.5 if 2 * layer > layers - 1 and host == "llada_v" else 0.2)
        for host, model in (*(("llada_v", model) for model in MODELS), ("autoregressive", "llava_ar"))
        for rows in ("response", "writing") for layer in range(1, layers + 1) for step in (None, 1)
    ]  # fmt: skip


def layer_grid() -> list[dict]:
    found = []
    for family, keep in product(("doc", "info", "chart"), KEEPS):
        row = {"host": "llada_v", "model": "llada_v", "family": family, "keep": keep, "n": 60}
        for layer, rate in enumerate((0.4, 0.6, 0.9, 0.99, 0.9), start=1):
            numbers = ends(exact_match=rate, from_unpruned=rate - 1, over_fastv=rate - 0.4)
            found.append(row | {"method": "llada_fastv", "layer": layer} | numbers)
        found.append(row | {"method": "fastv", "layer": 2} | ends(exact_match=0.4, from_unpruned=-0.6, over_fastv=0.0))
        if keep == 0.75:
            told = dict.fromkeys(("over_fastv", "over_fastv_low", "over_fastv_high"))
            whole = {"method": "none", "layer": None, "keep": 1.0} | ends(exact_match=1.0, from_unpruned=0.0)
            found.append(row | whole | told)
    return found


def two_tokens() -> list[dict]:
    names = rows_of("model family committed", MODELS, ("scene", "choice"), ("step 1", "step 2"))
    return [row | {"method": "redvtp", "keep": 0.25, "n": 50} | ends(changed=0.1) for row in names]


def caches() -> list[dict]:
    names = rows_of("model family cache keep", MODELS, ("doc", "info"), ("prefix", "fast_dllm", "dllm_cache"), KEEPS)
    return [row | {"host": "llada_v", "method": "redvtp", "n": 100} | ends(difference=0.0) for row in names]


def rivals() -> list[dict]:
    origins = {"from_scratch": "llada_v", "autoregressive": "dream"}
    common = {"seed": 0, "keep": 0.25, "start": "half", "change": "none", "steps": 16, "comparison": "none", "n": 100}
    found = []
    for (origin, model), family in product(origins.items(), FAMILIES):
        row = common | {"origin": origin, "model": model, "family": family}
        redundant = origin == "from_scratch" and family in ("doc", "info")
        found.append(row | {"method": "divprune"} | ends(difference=0.0 if redundant else -0.2, exact_match=0.9))
        found.append(row | {"method": "fastv", "start": "first"} | ends(difference=-0.4, exact_match=0.6))
        vtw = row | {"method": "vtw", "share_8b": 0.5}
        told = {"difference": None, "difference_low": None, "difference_high": None}
        found.append(vtw | told | ends(exact_match=0.9))
        found.append(vtw | {"steps": 4} | told | ends(exact_match=0.5))
        found.append(vtw | {"change": "no answer attention"} | ends(difference=-0.3, exact_match=0.3))
        found.append(row | {"method": "none", "keep": 1.0, "start": None} | told | ends(exact_match=1.0))
        for method, better in (("late", "from_scratch"), ("layer_skipping", "autoregressive")):
            rate = 0.9 if origin == better else 0.5
            found.append(row | {"method": method, "comparison": "equal compute"} | told | ends(exact_match=rate))
    return found


def speed() -> list[dict]:
    found = []
    caches = ("none", "prefix_dlm", "fast_dllm", "dllm_cache")
    common = {"variant": "plain", "batch": 1, "image": "1024x1024", "response": 32, "steps": 16, "measured": True}
    for host, cache in product(("llada_v", "lavida"), caches):
        none = {"host": host, "cache": cache, "method": "none", "start": "none", "attention": "none", "keep": 1.0}
        alone = 1.0 if cache == "none" else 1.2
        found.append(common | none | ends(throughput_gain=0.0, latency_cut=0.0, speedup=alone))
    for host, cache, keep in product(("llada_v", "lavida"), caches, KEEPS):
        row = common | {"host": host, "cache": cache, "start": "after step 1", "keep": keep}
        best = keep == 0.25
        gain, cut = (190.0, 65.5) if host == "llada_v" else (29.0, 22.5)
        numbers = ends(throughput_gain=gain if best else 5.0, latency_cut=cut if best else 5.0, speedup=1.5)
        found.append(row | {"method": "redvtp", "attention": "probe", "later_share": None} | numbers)
        if best:  # rows that rules leave out, though they would decide otherwise, and one that was not measured
            none = dict.fromkeys(numbers)
            for other in ({"variant": "graphs"}, {"batch": 8}, {"attention": "maps"}, {"start": "half"}):
                found.append(row | {"method": "redvtp", "attention": "probe"} | other | ends(**dict.fromkeys(
                    ("throughput_gain", "latency_cut", "speedup"), 1.0)))
            if cache == "none":
                found.append(row | {"method": "redvtp", "attention": "probe", "steps": 2, "measured": False} | none)
        slow = ends(throughput_gain=0.0, latency_cut=0.0, speedup=0.9 if host == "llada_v" else 1.2)
        found.append(row | {"method": "fastv", "attention": "maps"} | slow)
        found.append(row | {"method": "llada_fastv", "attention": "probe"} | numbers | ends(later_share=0.5))
        found.append(row | {"method": "divprune", "attention": "none", "start": "half"} | numbers)
    return found


def paper_scores() -> list[dict]:
    found = []
    common = dict.fromkeys(("rows", "start", "layer", "comparison")) | {"cache": "none", "n": 900}
    for host, benchmark in product(("llada_v", "lavida", "lavida_dream"), BENCHMARKS):
        row = common | {"host": host, "benchmark": benchmark}
        found.append(row | {"method": "none", "keep": 1.0} | ends(score=80.0, visual_to_prompt=20.0))
        for keep in KEEPS:
            best = keep == 0.25 and benchmark == "docvqa"
            gain, cut = (190.0, 65.5) if host == "llada_v" else (29.0, 22.5)
            numbers = ends(throughput_gain=gain if best else 5.0, latency_cut=cut if best else 5.0)
            redvtp = row | {"method": "redvtp", "keep": keep, "rows": "masked", "evidence_recall": 0.96}
            found.append(redvtp | ends(score=79.5, share_of_unpruned=0.994) | numbers)
            for rows in ("prompt", "prompt+response", "committed"):
                found.append(redvtp | {"rows": rows} | ends(score=70.0))
            for layer, score in ((16, 75.0), (20, 79.0), (24, 75.0)):
                fastv = row | {"method": "llada_fastv", "keep": keep, "layer": layer}
                found.append(fastv | ends(score=score, share_of_unpruned=score / 80))
            found.append(row | {"method": "fastv", "keep": keep, "layer": 2} | ends(score=60.0))
            score = 60.0 if host == "lavida_dream" else 79.5
            found.append(row | {"method": "divprune", "keep": keep, "start": "half"} | ends(score=score))
        found.append(row | {"method": "vtw", "keep": 0.0, "start": "half"} | ends(score=70.0))
        for method, better in (("late", "llada_v"), ("layer_skipping", "lavida_dream")):
            score = 75.0 if host == better else 60.0
            found.append(row | {"method": method, "keep": 0.25, "comparison": "equal compute"} | ends(score=score))
    return found


BY = ("host", "model", "origin", "family", "benchmark", "cache", "split", "seed", "method", "rows", "factor", "setting",
      "rule", "layers", "layer", "variant", "batch", "image", "attention", "step", "place", "response", "steps",
      "start", "change", "comparison", "committed", "keep")  # fmt: skip

WORLD = {
    ("mini", "accuracy"): ("mini", accuracy()),
    ("mini", "main_table"): ("mini", main_table()),
    ("mini", "step_similarity"): ("mini", [*step_similarity("doc"), *step_similarity("info")]),
    ("mini", "compute"): ("flops", compute()),
    ("mini", "ablations"): ("mini", ablations()),
    ("mini", "layer_attention"): ("mini", layer_attention("doc", 6)),
    ("mini", "layer_grid"): ("mini", layer_grid()),
    ("mini", "two_tokens"): ("mini", two_tokens()),
    ("mini", "caches"): ("mini", caches()),
    ("mini", "rivals"): ("mini", rivals()),
    ("speed", "speed"): ("speed", speed()),
    ("paper", "paper_scores"): ("paper", paper_scores()),
    ("paper", "step_similarity"): ("paper", step_similarity("infovqa")),
    ("paper", "layer_attention"): ("paper", layer_attention("infovqa", 32)),
}
"""``{(profile, result): (link, rows)}``."""


def content(name: str, link: str, rows: list[dict]) -> dict:
    """A result file."""
    assert link in LINKS
    fields = {field for row in rows for field in row}
    provenance = {
        "link": link, "profile": "mini", "mode": "default", "n": 100, "seeds": [0], "params": {}, "inputs": {},
        "commit": "0123456789abcdef", "dirty": False, "versions": {"torch": "2"}, "device": "a machine", "threads": 2,
        "seconds": 1.5, "key": "k",
    }  # fmt: skip
    comparison = {"by": [field for field in BY if field in fields], "tolerances": {}}
    return {"schema": 1, "measurement": name, "provenance": provenance, "comparison": comparison, "rows": rows}


def write_results(folders: tuple[str, ...] = ("mini", "speed", "paper")) -> None:
    """Puts the results of these profiles among the runs of `analysis.paths`."""
    for (profile, name), (link, rows) in WORLD.items():
        if profile in folders:
            storage.write_json(paths.RUNS / profile / f"{name}.json", content(name, link, rows))


def furnish() -> None:
    """Puts rules, notebooks and drawings into the project of `analysis.paths`."""
    shutil.copytree(REPOSITORY / "data" / "papers", paths.PAPERS)
    shutil.copytree(REPOSITORY / "notebooks", paths.NOTEBOOKS)
    folder = paths.FIGURES / "mini"
    folder.mkdir(parents=True)
    for place, name in enumerate(FIGURES):
        Image.new("RGB", (320, 90), (20 * place, 90, 160)).save(folder / f"{name}.png")
