"""RedVTP Figure 4: how much importance scores change over the steps, Sim_k = cosine(S_1, S_k).

S_k is the mean attention that each visual token gets from the response tokens still masked after step k. Runs
are unpruned and go through all steps (rule "none"); beside them runs that end at the stop text (rule "stop").
Families answered in two steps have no k between the first and the last, so they are left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from scipy import stats
from torch import Tensor

import redvtp
from analysis import answers, benchmarks, drawn, subset
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


def recorded(host: redvtp.Model, batch: Sequence[Sample], stop: tuple[str, ...]) -> redvtp.Recorder:
    """An unpruned run with the attention of every step and layer."""
    recorder = redvtp.Recorder(attention=True, per_layer=True)
    answers.start(host, batch, recorder=recorder, stop=stop).run()
    return recorder


def mean_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean and its bootstrap interval (95%, percentile, seeded)."""
    mean = sum(values) / len(values)
    if len(values) < 2 or max(values) == min(values):
        return mean, mean, mean
    found = stats.bootstrap(
        (values,), lambda x, axis: x.mean(axis), n_resamples=RESAMPLES, method="percentile", rng=0
    ).confidence_interval
    return mean, float(found.low), float(found.high)


def compute(name: str, samples: Sequence[Sample], rule: str) -> dict:
    """What `summarise` makes rows of: Sim_k of one batch under one rule, None where it is not defined."""
    host, batch = answers.model(name), list(samples)
    stop = (*RULES[rule], *benchmarks.get(batch[0].family).stop) if RULES[rule] else ()
    recorder, found = recorded(host, batch, stop), []
    for group, layers in layer_groups(host.host.layers).items():
        for step, values in similarities(recorder, layers).items():
            told = [value if value == value else None for _, value in values]
            found.append({"layers": group, "step": step, "values": told})
    return {"fields": {"host": host.host.name} | subset.fields_of(name, batch), "n": len(batch), "found": found}


def summarise(rule: str, batches: Sequence[Mapping]) -> Iterator[dict]:
    """Rows for one family and seed under one rule."""
    values: dict[tuple[str, int], list[float | None]] = {}
    for batch in batches:
        for one in batch["found"]:
            values.setdefault((one["layers"], one["step"]), []).extend(one["values"])
    fields, n = batches[0]["fields"], sum(batch["n"] for batch in batches)
    groups = list(layer_groups(1))
    last = benchmarks.get(fields["family"]).protocol.steps - 1
    for (group, step), found in sorted(values.items(), key=lambda item: (groups.index(item[0][0]), item[0][1])):
        defined = [value for value in found if value is not None]
        if step > last or not defined:
            continue
        mean, low, high = mean_interval(defined)
        yield dict(fields) | {
            "rule": rule,
            "layers": group,
            "step": step,
            "n": len(defined),
            "ended": n - len(found),
            "undefined": len(found) - len(defined),
            "similarity": mean,
            "similarity_low": low,
            "similarity_high": high,
        }


def measure(run: RunContext) -> Result:
    """Sim_k of the run's samples for every family of more than two steps: of the profile's first model, and of all
    models on published data sets."""
    names = run.profile.models if run.draw else run.profile.models[:1]
    if run.draw:
        chosen = drawn.samples(run, tuple(families(run)))
    else:
        pairs = [(family, seed) for family in families(run) for seed in run.seeds]
        chosen = {(family, seed): answers.samples_of(run, family, seed) for family, seed in pairs}
    with Measurement(
        "step_similarity",
        run,
        by=BY,
        link="paper" if run.draw else "mini",
        params={"resamples": RESAMPLES} | ({} if run.draw else {"split": answers.SPLIT}),
        inputs=subset.inputs(names, chosen),
        # Where runs have ended depends on how many there are.
        tolerances={"ended": None, "undefined": None},
    ) as m:
        m.each_piece(
            [
                {"family": family, "seed": seed, "rule": rule} | ({"model": name} if run.draw else {})
                for name in names for family, seed in chosen for rule in RULES
            ],
            lambda cell: subset.batches(chosen[cell["family"], cell["seed"]], answers.BATCH),
            lambda cell, batch: compute(cell.get("model", names[0]), batch, cell["rule"]),
            lambda cell, batches: summarise(cell["rule"], batches),
        )  # fmt: skip
    return m.result


if __name__ == "__main__":
    raise SystemExit(command("step_similarity", measure, __doc__, published=True))
