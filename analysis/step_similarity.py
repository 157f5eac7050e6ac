"""RedVTP Figure 4: how much importance scores change over the steps, Sim_k = cosine(S_1, S_k).

S_k is the mean attention that each visual token gets from the response tokens still masked after step k. Runs
are unpruned and go through all steps (rule "none"); beside them runs that end at the stop text (rule "stop").
Families answered in two steps have no k between the first and the last, so they are left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from scipy import stats
from torch import Tensor

import redvtp
from analysis import answers, benchmarks, subset
from analysis.benchmarks import Sample
from analysis.command import command
from analysis.profiles import RunContext
from analysis.results import Measurement, Result
from redvtp.models.prompts import END_OF_TURN

BY = ("host", "model", "family", "split", "seed", "rule", "layers", "step")
RULES = {"none": (), "stop": (END_OF_TURN,)}
RESAMPLES = 2000


def families(run: RunContext) -> list[str]:
    """The profile's families that take more than two steps."""
    return [family for family in run.profile.families if answers.is_long(family)]


def layer_groups(layers: int) -> dict[str, tuple[int, ...]]:
    """All layers, and their first, second and last third."""
    third = layers / 3
    every = range(1, layers + 1)
    return {
        "all": tuple(every),
        "early": tuple(k for k in every if k <= third),
        "middle": tuple(k for k in every if third < k <= 2 * third),
        "late": tuple(k for k in every if k > 2 * third),
    }


def importance(by_layer: dict[int, Tensor], layers: Sequence[int], undecided: Tensor) -> Tensor:
    """``[B, n]`` scores: mean over layers and over the rows still masked; NaN without such a row.

    Args:
        by_layer: ``{layer: [B, G, n]}`` head-mean attention of one step.
        undecided: ``[B, G]`` rows masked after the step's transfer.
    """
    mass = torch.stack([by_layer[layer] for layer in layers]).mean(0)
    count = undecided.sum(1, keepdim=True)
    return (mass * undecided[..., None]).sum(1) / torch.where(count > 0, count, torch.nan)


def similarities(recorder: redvtp.Recorder, layers: Sequence[int]) -> dict[int, list[tuple[int, float]]]:
    """``{k: [(sample, Sim_k)]}`` for k from 2; NaN where nothing was masked any more."""
    first = importance(recorder.steps[0].by_layer, layers, recorder.steps[0].undecided)
    found = {}
    for record in recorder.steps[1:]:
        now = importance(record.by_layer, layers, record.undecided)
        # Padding differs between steps where samples have left the batch; it reads 0 on both sides.
        width = min(now.shape[1], first.shape[1])
        cosine = torch.nn.functional.cosine_similarity(first[record.samples, :width], now[:, :width], dim=1)
        found[record.step] = list(zip(record.samples.tolist(), cosine.tolist(), strict=True))
    return found


def recorded(host: redvtp.Model, samples: Sequence[Sample], stop: tuple[str, ...]) -> Iterator[redvtp.Recorder]:
    """Unpruned runs, batch by batch, with the attention of every step and layer."""
    for place in range(0, len(samples), answers.BATCH):
        recorder = redvtp.Recorder(attention=True, per_layer=True)
        answers.start(host, samples[place : place + answers.BATCH], recorder=recorder, stop=stop).run()
        yield recorder


def mean_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean and its bootstrap interval (95%, percentile, seeded)."""
    mean = sum(values) / len(values)
    if len(values) < 2 or max(values) == min(values):
        return mean, mean, mean
    found = stats.bootstrap(
        (values,), lambda x, axis: x.mean(axis), n_resamples=RESAMPLES, method="percentile", rng=0
    ).confidence_interval
    return mean, float(found.low), float(found.high)


def compute(name: str, samples: Sequence[Sample], rule: str) -> Iterator[dict]:
    """Rows for one family and seed under one rule."""
    host = answers.model(name)
    groups = layer_groups(host.host.layers)
    values: dict[tuple[str, int], list[float]] = {}
    for recorder in recorded(host, samples, RULES[rule]):
        for group, layers in groups.items():
            for step, found in similarities(recorder, layers).items():
                values.setdefault((group, step), []).extend(value for _, value in found)
    last = benchmarks.get(samples[0].family).protocol.steps - 1
    for (group, step), found in sorted(values.items(), key=lambda item: (list(groups).index(item[0][0]), item[0][1])):
        defined = [value for value in found if value == value]
        if step > last or not defined:
            continue
        mean, low, high = mean_interval(defined)
        yield {
            "host": host.host.name,
            "model": answers.folder(name),
            "family": samples[0].family,
            "split": samples[0].split,
            "seed": samples[0].seed,
            "rule": rule,
            "layers": group,
            "step": step,
            "n": len(defined),
            "ended": len(samples) - len(found),
            "undefined": len(found) - len(defined),
            "similarity": mean,
            "similarity_low": low,
            "similarity_high": high,
        }


def measure(run: RunContext) -> Result:
    """Sim_k of the run's samples on the profile's first model, for every family of more than two steps."""
    name = run.profile.models[0]
    cells = {(family, seed): answers.samples_of(run, family, seed) for family in families(run) for seed in run.seeds}
    with Measurement(
        "step_similarity",
        run,
        by=BY,
        link="mini",
        params={"split": answers.SPLIT, "resamples": RESAMPLES},
        inputs=subset.inputs([name], cells),
        # Where runs have ended depends on how many there are.
        tolerances={"ended": None, "undefined": None},
    ) as m:
        m.each(
            [{"family": family, "seed": seed, "rule": rule} for family, seed in cells for rule in RULES],
            lambda cell: compute(name, cells[cell["family"], cell["seed"]], cell["rule"]),
        )
    return m.result


if __name__ == "__main__":
    raise SystemExit(command("step_similarity", measure, __doc__))
