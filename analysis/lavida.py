"""The small LaViDa, repaired and as published, unpruned, under RedVTP and under random pruning, on the same samples.

`published` is what the released RedVTP code runs: the lines that insert image and question are commented out, so every
column before the response holds one and the same embedding (see redvtp.models.lavida.Lavida, `blind_prompt`).
`repaired` has them back in. `difference` is the paired difference in exact match from the repaired state at the same
method and ratio, `from_unpruned` that from the same state unpruned; both with Tango's interval. `changed` is the share
of unpruned answers that change when the image of another sample is shown, of equal size where there is one, the
question left as it was.
`tflops_8b` and `share_8b` are of LaViDa's published 8B shape at the family's protocol (see analysis.cached_flops),
one forward a step; the released code runs two. No cache is used, for the released code never prunes with one; the
small model was trained with and without (analysis.caches has both).
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace

import redvtp
from analysis import answers, benchmarks, hosts, subset
from analysis.benchmarks import Sample
from analysis.cached_flops import true_flops
from analysis.command import command
from analysis.comparisons import named, paired, rate
from analysis.profiles import RunContext
from analysis.results import Measurement, Result, Row
from analysis.subset import right
from redvtp.model import model_folder
from redvtp.pruning import Pruner

BY = ("host", "model", "family", "split", "seed", "state", "method", "keep")
MEANS = ("score", "evidence_recall", "kept", "tokens_fed")
RATIOS = (0.75, 0.5, 0.25)
METHODS = {"repaired": ("redvtp", "random"), "published": ("redvtp",)}
STATES = tuple(METHODS)
MOST = 100  # samples a family and seed, where half of the run's are more


def in_state(model: redvtp.Model, state: str) -> redvtp.Model:
    """The model in that state; weights are shared, and the one given is not changed."""
    host = copy.copy(model.host)
    host.blind_prompt = state == "published"
    return redvtp.Model(host)


def other_images(samples: Sequence[Sample]) -> list[Sample]:
    """Each sample with the image of the next one of its size, or of the next at all where its size is the only one.

    Another size would be another number of columns, which changes answers by itself.
    """
    out = []
    for place, sample in enumerate(samples):
        order = [*samples[place + 1 :], *samples[:place]]
        alike = [other for other in order if other.image.size == sample.image.size]
        out.append(replace(sample, image=(alike or order or [sample])[0].image))
    return out


def pruners(state: str) -> list[Pruner | None]:
    """What a state is run under: nothing first, then each method at each ratio."""
    return [None, *(redvtp.pruning.get(method)(keep=keep) for method in METHODS[state] for keep in RATIOS)]


def answer_batch(model: redvtp.Model, batch: Sequence[Sample], under: Sequence[Pruner | None]) -> Iterator[Row]:
    """A row for each sample, method and ratio of a model in one state. All methods go on from one first step."""
    trunk = answers.start(model, batch, watch=answers.ATTENTION)
    trunk.step()
    trunk.watch = None  # no fork asks for the attention of a later step
    for pruner in under:
        fork = trunk.fork(pruner, redvtp.Recorder(steps=[*trunk.recorder.steps]))
        yield from answers.rows_of(model, batch, pruner.name if pruner else "none", pruner, fork)


def answered(model: redvtp.Model, samples: Sequence[Sample]) -> Iterator[Row]:
    """`answer_batch` of all samples in both states; `other` is the unpruned answer with another image."""
    shown = other_images(samples)
    for state in STATES:
        host = in_state(model, state)
        others = {row["index"]: row["prediction"] for row in batched(host, shown, [None])}
        for row in batched(host, samples, pruners(state)):
            yield row | {"state": state, "other": others[row["index"]] if row["method"] == "none" else None}


def batched(model: redvtp.Model, samples: Sequence[Sample], under: Sequence[Pruner | None]) -> list[Row]:
    """`answer_batch` of batch after batch."""
    found = subset.in_batches(lambda batch: list(answer_batch(model, batch, under)), samples, answers.BATCH)
    return [row for rows in found for row in rows]


def summarise(rows: Sequence[Row]) -> list[Row]:
    """One row for each state, method and ratio from one model's answers to one family and seed, in their order."""
    groups: dict[tuple, list[Row]] = defaultdict(list)
    for row in rows:
        groups[row["state"], row["method"], row["keep"]].append(row)
    out = []
    for (state, method, keep), group in groups.items():
        whole, repaired, n = groups[state, "none", 1.0], groups["repaired", method, keep], len(group)
        protocol = benchmarks.get(group[0]["family"]).protocol
        cost, full = (
            true_flops("lavida", protocol.length, protocol.steps, ratio, scored=method == "redvtp")
            for ratio in (keep, 1.0)
        )
        out.append(
            {name: group[0][name] for name in BY} | {"n": n}
            | named("exact_match", rate(sum(row["exact_match"] for row in group), n))
            | named("difference", (None,) * 3 if group is repaired else paired(right(repaired), right(group)))
            | named("from_unpruned", (None,) * 3 if group is whole else paired(right(whole), right(group)))
            | named("changed", rate(sum(row["prediction"] != row["other"] for row in group), n) if group is whole
                    else (None,) * 3)
            | {name: sum(row[name] for row in group) / n for name in MEANS}
            | {"flops_ratio": sum(row["flops"] for row in group) / sum(row["flops"] for row in whole),
               "tflops_8b": cost / 1e12, "share_8b": cost / full}
        )  # fmt: skip
    return out


def compute(name: str, samples: Sequence[Sample]) -> list[Row]:
    """Both states on one family and seed."""
    common = subset.fields_of(name, samples)
    return summarise([common | row for row in answered(answers.model(name), samples)])


def measure(run: RunContext) -> Result:
    """Both states, all methods and ratios of the small LaViDa.

    Raises:
        CheckpointError: its folder is not there.
    """
    name = hosts.LAVIDA
    model_folder(name)
    drawn = subset.draw(run, run.profile.families, MOST)
    with Measurement(
        "lavida",
        run,
        by=BY,
        link="mini",
        params={"ratios": RATIOS, "methods": METHODS, "most": MOST, "batch": answers.BATCH, "split": answers.SPLIT},
        inputs=subset.inputs([name], drawn),
        # A token more or less of one answer moves these a little; the rates have their intervals.
        tolerances=dict.fromkeys((*MEANS, "flops_ratio"), 0.05),
    ) as m:
        m.each(
            [{"family": family, "seed": seed} for family, seed in drawn],
            lambda cell: compute(name, drawn[cell["family"], cell["seed"]]),
        )
    return m.result


if __name__ == "__main__":
    raise SystemExit(command("lavida", measure, __doc__))
