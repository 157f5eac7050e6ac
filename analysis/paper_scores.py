"""Scores and times on the published benchmarks, read back from what lmms-eval wrote.

    python -m redvtp.lmms --model redvtp_llada_v --model_args pretrained=FOLDER,method=none --tasks ... \\
        --output_path runs --log_samples                       (once for each method and ratio)
    python -m analysis.paper_scores runs                       (to data/runs/paper/)

`score` is lmms-eval's own number in the papers' scale. Where it is a mean of what the samples scored (which is
checked), it has a percentile bootstrap interval over samples, MME over images within categories. `share_of_unpruned`
is relative to the unpruned run with the same model, cache and questions, in pairs; `latency_cut` (%, of seconds a
question, reading the image included) and `throughput_gain` (%, of response tokens a second) only where device, dtype
and batch size are the same, too. `visual_to_prompt` is the mean number of visual tokens by that of text tokens.

Runs with the methods' and caches' defaults, the official settings and all documents are `paper_scores`; others are
`paper_variants`, where `params` says what is different. Of two runs of the same the later one counts. Shipped mini
models are refused: they are no evidence about published weights.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from analysis import paths, storage
from analysis.comparisons import RESAMPLES, Interval, named
from analysis.lmms_files import Evaluation, evaluations
from analysis.profiles import PROFILES, RunContext
from analysis.results import Measurement, Result, Row
from redvtp.metrics import option_match
from redvtp.selection import Share

NAMES = ("paper_scores", "paper_variants")
BY = ("host", "model", "benchmark", "cache", "method", "rows", "layer", "start", "comparison", "keep", "params")
PER_SAMPLE = ("visual_tokens", "prompt_tokens", "kept", "steps", "tokens_fed", "flops")
IN_ROWS = ("rows", "layer", "start")
"""Parameters of methods that have a field of their own."""

MME, MMSTAR = "mme", "mmstar"
Unknown: Interval = (None, None, None)


@dataclass(frozen=True)
class Read(RunContext):
    """The run of profile `paper` that results read back belong to; its size is theirs."""

    number: int = 0

    @property
    def n(self) -> int:
        return self.number


@dataclass(frozen=True)
class Scored:
    """A score as a sum of strata's means of units, times `factor`.

    units: (stratum, unit) -> what it scored. A unit is a document, in MME an image with its two questions; there
    and in MMStar strata are categories.
    """

    units: Mapping[tuple[str, Any], float]
    factor: float

    @property
    def strata(self) -> dict[str, list[tuple[str, Any]]]:
        found: dict[str, list[tuple[str, Any]]] = {}
        for key in sorted(self.units, key=str):
            found.setdefault(key[0], []).append(key)
        return found

    @property
    def score(self) -> float:
        return self.factor * sum(np.mean([self.units[key] for key in keys]) for keys in self.strata.values())

    def resampled(self, seed: int = 0) -> np.ndarray:
        """``[RESAMPLES]`` scores of units drawn again within their strata. Those of another run on the same
        documents are of the same draws."""
        draw, total = np.random.default_rng(seed), np.zeros(RESAMPLES)
        for keys in self.strata.values():
            values = np.array([self.units[key] for key in keys])
            total += [values[draw.integers(0, len(values), len(values))].mean() for _ in range(RESAMPLES)]
        return self.factor * total


def scored(one: Evaluation) -> Scored | None:
    """The samples' scores, or None where lmms-eval's number is not made of them."""
    found: dict[tuple[str, Any], list[float]] = {}
    for place, sample in one.samples.items():
        for entry in (sample[metric] for metric in one.task.metrics if metric in sample):
            value = value_of(entry)
            if value is None:
                return None
            stratum, unit = "", place
            if one.task.benchmark == MME:
                stratum, unit = entry["category"], entry["question_id"]
            elif one.task.benchmark == MMSTAR:
                stratum = entry["l2_category"]
            found.setdefault((stratum, unit), []).append(value)
    strata = {stratum for stratum, _ in found}
    if one.task.benchmark == MME:  # accuracy and, for both questions of an image, accuracy+, each in percent
        made = Scored({key: 100 * (np.mean(values) + float(all(values))) for key, values in found.items()}, 1.0)
    else:
        made = Scored({key: float(np.mean(values)) for key, values in found.items()}, 100 / max(len(strata), 1))
    return made if found and math.isclose(made.score, one.score, rel_tol=1e-6, abs_tol=1e-6) else None


def value_of(entry: Any) -> float | None:
    """What one sample scored: a number, a field `score`, or whether the option given is the answer."""
    if isinstance(entry, int | float):
        return float(entry)
    if not isinstance(entry, Mapping):
        return None
    if isinstance(entry.get("score"), int | float):
        return float(entry["score"])
    given = entry.get("prediction", entry.get("parsed_pred"))
    while isinstance(given, list) and given:
        given = given[0]
    if isinstance(given, str) and isinstance(entry.get("answer"), str):
        return float(option_match(given, entry["answer"]))
    return None


def interval(value: float, draws: np.ndarray) -> Interval:
    """A value with the middle 95% of its draws."""
    low, high = np.quantile(draws, [0.025, 0.975])
    return float(value), float(low), float(high)


def share(one: Scored | None, base: Scored | None) -> Interval:
    """The score by the unpruned one, on the same units."""
    if one is None or base is None or set(one.units) != set(base.units) or base.score <= 0:
        return Unknown
    bottom = base.resampled()
    if (bottom <= 0).any():
        return Unknown
    return interval(one.score / base.score, one.resampled() / bottom)


def column(costs: Mapping[int, Mapping[str, Any]], name: str) -> np.ndarray:
    """One number of every answer, by document."""
    return np.array([costs[place][name] for place in sorted(costs)], dtype=float)


def draws_of(n: int) -> np.ndarray:
    """``[RESAMPLES, n]`` places drawn again, seeded."""
    return np.random.default_rng(0).integers(0, n, (RESAMPLES, n))


def cost_fields(one: Evaluation) -> dict[str, float | None]:
    """Means of what the answers cost, seconds and tokens a second; None where not all of them were generated."""
    costs = one.costs
    if set(costs) != set(one.samples):
        empty = (*PER_SAMPLE, "latency", "throughput")
        return dict.fromkeys(empty) | named("visual_to_prompt", Unknown)
    visual, prompt = column(costs, "visual_tokens"), column(costs, "prompt_tokens")
    drawn = [(visual[at].mean(), prompt[at].mean()) for at in draws_of(len(costs))]
    return {name: float(column(costs, name).mean()) for name in PER_SAMPLE} | {
        "latency": float(column(costs, "seconds").mean()),
        "throughput": float(column(costs, "output_tokens").sum() / column(costs, "seconds").sum()),
        **named("visual_to_prompt", interval(visual.mean() / prompt.mean(), np.array([v / p for v, p in drawn]))),
    }


def gains(one: Evaluation, base: Evaluation | None) -> dict[str, float | None]:
    """Cut in latency and gain in throughput over the unpruned run, in percent."""
    same = base is not None and all(
        (run.about["device"], run.dtype, run.batch_size) == (one.about["device"], one.dtype, one.batch_size)
        and set(run.costs) == set(one.samples)
        for run in (base, one)
    )
    if not same:
        return named("latency_cut", Unknown) | named("throughput_gain", Unknown)
    time, before = column(one.costs, "seconds"), column(base.costs, "seconds")
    tokens, tokens_before = column(one.costs, "output_tokens"), column(base.costs, "output_tokens")

    def cut(at: Any) -> float:
        return 100 * (1 - time[at].sum() / before[at].sum())

    def gain(at: Any) -> float:
        rate = tokens_before[at].sum() / before[at].sum()
        return 100 * (tokens[at].sum() / time[at].sum() / rate - 1) if rate else math.nan

    drawn = draws_of(len(time))
    found = {}
    for name, of in (("latency_cut", cut), ("throughput_gain", gain)):
        draws = np.array([of(at) for at in drawn])
        # Where a draw has no tokens at all there is nothing to compare.
        found |= named(name, interval(of(slice(None)), draws) if np.isfinite(draws).all() else Unknown)
    return found


def unusual(one: Evaluation) -> dict[str, Any]:
    """What is not as in the official evaluation, apart from what rows have fields for."""
    found = {name: value for name, value in one.arguments.unusual(one.name, one.given).items() if name not in IN_ROWS}
    if not one.whole:
        found["documents"] = len(one.samples)
    if one.name != one.task.name:
        found["task"] = one.name
    keep = getattr(one.arguments.pruner, "keep", None)
    if keep is not None and not isinstance(keep, Share):
        found["keep"] = str(keep)
    return found


def identity(one: Evaluation) -> dict[str, Any]:
    """The fields that tell a row apart."""
    pruner, cache = one.arguments.pruner, one.arguments.cache
    keep = getattr(pruner, "keep", None)
    return {
        "host": one.arguments.host,
        "model": one.model,
        "benchmark": one.task.benchmark,
        "cache": cache.name if cache else "none",
        "method": one.arguments.method,
        **{name: getattr(pruner, name, None) for name in IN_ROWS},
        "comparison": None,
        "keep": 1.0 if pruner is None else keep.ratio if isinstance(keep, Share) else None,
        "params": json.dumps(unusual(one), sort_keys=True, default=list),
    }


def base_of(one: Evaluation, runs: Sequence[Evaluation]) -> Evaluation | None:
    """The unpruned run that a run is compared with: the same but for the method."""
    own = {"method", "keep", "rows", "layer", "start", "params"}
    wanted = {name: value for name, value in identity(one).items() if name not in own}
    for run in runs:
        alike = {name: value for name, value in identity(run).items() if name not in own} == wanted
        if run.arguments.pruner is None and alike and run.about["questions_hash"] == one.about["questions_hash"]:
            if run.arguments.decoding(run.name, run.given) == one.arguments.decoding(one.name, one.given):
                return run
    return None


def row_of(one: Evaluation, runs: Sequence[Evaluation]) -> Row:
    """One run's score, cost and comparison with the unpruned run."""
    made, base = scored(one), base_of(one, runs)
    compared = base is not None and base is not one
    score = interval(one.score, made.resampled()) if made else (one.score, None, None)
    return {
        **identity(one),
        "n": len(one.samples),
        "task": one.name,
        "metrics": "+".join(one.task.metrics),
        **named("score", score),
        **named("share_of_unpruned", share(made, scored(base)) if compared else Unknown),
        **gains(one, base if compared else None),
        **cost_fields(one),
        "evidence_recall": None,  # no benchmark says which region an answer needs
        "dtype": one.dtype,
        "batch_size": one.batch_size,
        **one.about,
    }


def latest(runs: Sequence[Evaluation]) -> list[Evaluation]:
    """Of runs that cannot be told apart, the last, and the one that a language model judged before one it did not."""
    ordered = sorted(runs, key=lambda run: (run.task.judge, run.date))
    return list({tuple(identity(run).items()): run for run in ordered}.values())


def write(runs: Sequence[Evaluation]) -> dict[str, Result]:
    """Results `paper_scores` and `paper_variants` under data/runs/paper/, with link paper.

    Raises:
        ValueError: a shipped mini model among the runs.
    """
    for run in runs:
        if (paths.DATA / run.pretrained).is_dir() or paths.MINI in Path(run.pretrained).resolve().parents:
            raise ValueError(f"{run.pretrained}: a shipped mini model is no evidence about published weights")
    runs = latest(runs)
    parts = {name: [run for run in runs if bool(unusual(run)) is (name == NAMES[1])] for name in NAMES}
    return {name: _write(name, part, runs) for name, part in parts.items() if part}


def contents(one: Evaluation) -> str:
    """A hash of all that was read."""
    more = [identity(one), one.score, one.batch_size, one.dtype, one.whole, one.about, list(one.samples.values())]
    return storage.digest(json.loads(json.dumps(more, default=list)))


def _write(name: str, part: Sequence[Evaluation], runs: Sequence[Evaluation]) -> Result:
    context = Read(PROFILES["paper"], number=max(len(run.samples) for run in part))
    devices = sorted({run.about["device"] or "unknown" for run in part})
    with Measurement(
        name,
        context,
        by=BY,
        link="paper",
        params={key: sorted({str(run.about[key]) for run in part}) for key in ("lmms_eval", "torch", "transformers")},
        inputs={f"{run.name} {run.arguments.method} {run.date}": contents(run) for run in runs},
        tolerances=dict.fromkeys(("latency", "throughput", "batch_size"), None),
        module="analysis.paper_scores",
    ) as m:
        m.device_model = ", ".join(devices)  # where the answers were generated, not where they are read
        m.each([{"run": place} for place in range(len(part))], lambda cell: [row_of(part[cell["run"]], runs)])
    return m.result


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m analysis.paper_scores", description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help="lmms-eval's --output_path")
    try:
        found = write(list(evaluations(parser.parse_args(argv).folders)))
    except (ValueError, OSError, storage.StorageError) as error:
        print(f"python -m analysis.paper_scores: {error}", file=sys.stderr)
        return 1
    for name, result in found.items():
        print(f"{paths.shown(paths.RUNS / 'paper' / f'{name}.json')}: {len(result.rows)} rows")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
