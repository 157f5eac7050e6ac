"""Rival methods and schedules on equal terms: the redundancy study's Tables 1 to 3 in kind, and what it explains.

Every method answers the same samples in all steps of the family's protocol, from the first step on or later (see
analysis.rival_arms). Runs go on after the end of turn is found: with the official stop rule the mini models' runs end
before half of the steps, and a late start would prune nothing. `open` tells how much of the answer was still masked
when pruning began, in the unpruned run: where that is all, a late start is as early for the answer as the first step.

`difference` is the paired difference in exact match to the unpruned run in as many steps; of a row with a `change` to
the same row without it. It has Tango's interval (95%), for this difference alone; `gained` and `lost` answers are what
the tables adjust for the number of methods. `score` is the family's own metric. `after` is the step after which the run
is its own; `evidence_recall` is of tokens that are gone for good. `flops_ratio` is of the mini model's FLOPs, to
unpruned; `tflops_8b` and `share_8b` are of the published 8B LLaDA-V's in as many steps (see analysis.main_table), under
the same arm for 32 layers.

`origin` says how a model came about: from_scratch, or autoregressive: taught to read from left to right first.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

import torch

import redvtp
from analysis import answers, benchmarks, compute, guides, hosts, paths, rival_arms, storage, subset
from analysis.benchmarks import Sample
from analysis.command import command
from analysis.comparisons import difference, named, rate, turned
from analysis.profiles import RunContext
from analysis.results import Measurement, Result, Row
from analysis.rival_arms import Arm
from redvtp.flops import LanguageFormula
from redvtp.generation import Decoding
from redvtp.metrics import exact_match
from redvtp.models.published import true_config
from redvtp.plans import forwards, planned, stages
from redvtp.sequence import evidence_recall

EACH = ("host", "model", "origin", "family", "split", "seed", "index", "method", "keep", "start", "change", "steps",
        "comparison")  # fmt: skip
BY = tuple(name for name in EACH if name != "index")
MEANS = ("score", "evidence_recall", "open", "tokens_fed")
AUTOREGRESSIVE = hosts.ADAPTED
PUBLISHED = "llada_v"
UNPRUNED = {"method": "none", "keep": 1.0, "start": None, "change": "none", "comparison": "none"}
MOST = {"default": 50, "quick": 6, "full": 100}  # samples a family, of the run's first seed


def origins(run: RunContext) -> tuple[dict[str, str], list[str]]:
    """({model: origin} of those to run, those left out because their folder is not there)."""
    found = {run.profile.models[0]: "from_scratch", AUTOREGRESSIVE: "autoregressive"}
    skipped = [name for name in found if not (paths.DATA / name / "config.json").is_file()]
    return {name: origin for name, origin in found.items() if name not in skipped}, skipped


def is_wide(run: RunContext) -> bool:
    """Whether everything is run (see rival_arms.arms)."""
    return run.mode == "full"


def answer_batch(host: redvtp.Model, batch: Sequence[Sample], wide: bool) -> Iterator[Row]:
    """A row for each sample and arm. Arms of as many steps go on from one unpruned run, each from where it differs."""
    groups: dict[int, list[Arm]] = defaultdict(list)
    protocol = benchmarks.get(batch[0].family).protocol
    for arm in rival_arms.arms(batch[0].family, host.host.layers, wide):
        groups[arm.steps or protocol.steps].append(arm)
    for steps, chosen in groups.items():
        extras = {"guide": guides.scores(batch)} if any(is_guided(arm) for arm in chosen) else None
        trunk = answers.start(host, batch, steps=steps, stop=(), extras=extras)
        leaves = {arm: arm.leaves(steps, host.host.layers) for arm in chosen if not is_plain(arm)}
        told: dict[Arm, list[Row]] = {}
        for done in range(max(leaves.values()) + 1):
            for arm in (arm for arm, after in leaves.items() if after == done):
                told[arm] = _rows(host, batch, arm, steps, _fork(trunk, arm))
            trunk.watch = _watched(host, [arm for arm, after in leaves.items() if after == done + 1], steps)
            trunk.step()
        trunk.watch = None
        plain = _rows(host, batch, next(arm for arm in chosen if is_plain(arm)), steps, trunk)
        shown = open_shares(host, trunk)
        for arm in chosen:
            for row, share in zip(told.get(arm, plain), shown[arm.begins(steps)], strict=True):
                yield row | {"open": share}


def is_plain(arm: Arm) -> bool:
    """Whether it is the unpruned run itself."""
    return arm.pruner is None and arm.change == "none"


def is_guided(arm: Arm) -> bool:
    """Whether the arm needs another model's scores."""
    return isinstance(arm.pruner, redvtp.SGL)


def _fork(trunk: Decoding, arm: Arm) -> Decoding:
    """The arm's run, begun."""
    fork = trunk.fork(arm.pruner)
    if arm.change != "none":
        fork.hide_committed(everywhere=arm.change == rival_arms.HIDDEN)
    return fork


def _watched(host: redvtp.Model, arms: Sequence[Arm], steps: int) -> redvtp.Needs | None:
    """What the cuts of these arms that come right after the next step need to see in it."""
    needs = []
    for arm in arms:
        for cut in arm.pruner.cuts(steps, host.host.layers)[:1] if arm.pruner else ():
            needs += [arm.pruner.needs(cut)] if cut.layer is None else []
    asked = {"attention": frozenset().union(*(one.attention for one in needs))}
    asked |= {name: any(getattr(one, name) for one in needs) for name in ("values", "heads")}
    if not any(asked.values()):
        return None
    detailed = any(one.layers is not None for one in needs)
    return redvtp.Needs(**asked, layers=tuple(range(1, host.host.layers + 1)) if detailed else None)


def open_shares(host: redvtp.Model, run: Decoding) -> list[list[float | None]]:
    """``[step][sample]``: the share of the answer's tokens, those before the end of turn, masked after so many steps.

    None for an empty answer.
    """
    length, stops = run.settings.length, {host.encode(text)[0] for text in host.host.stop}
    committed = torch.full((run.batch, length), run.done_steps + 1)
    for record in run.recorder.steps:
        for place, sample in enumerate(record.samples.tolist()):
            committed[sample, record.transferred[place] & ~record.undecided[place]] = record.step
    written = run.canvas[:, :length].tolist()
    ends = [next((place for place, token in enumerate(ids) if token in stops), length) for ids in written]
    return [
        [float((own[:end] > step).float().mean()) if end else None for own, end in zip(committed, ends)]
        for step in range(run.done_steps + 1)
    ]


def _rows(host: redvtp.Model, batch: Sequence[Sample], arm: Arm, steps: int, run: Decoding) -> list[Row]:
    """Finish a run; one row a sample."""
    metric, rows = answers.METRICS[benchmarks.get(batch[0].family).metric], []
    lasts = arm.pruner is None or all(cut.lasting for cut in arm.pruner.cuts(steps, host.host.layers))
    for sample, result in zip(batch, run.run(), strict=True):
        answer = host.answer(result)
        rows.append({
            "host": host.host.name, "family": sample.family, "split": sample.split, "seed": sample.seed,
            "index": sample.index, **arm.fields, "steps": steps, "after": arm.leaves(steps, host.host.layers),
            "prediction": answer.text, "exact_match": exact_match(answer.text, sample.answer),
            "score": float(metric(answer.text, sample.answer)),
            "evidence_recall": evidence_recall(answer.layout, sample.evidence) if lasts else None,
            "visual_tokens": answer.visual_tokens, "tokens_fed": answer.tokens_fed, "flops": answer.flops,
        })  # fmt: skip
    return rows


def measure_answers(run: RunContext, name: str, origin: str, drawn: subset.Chosen) -> Result:
    """One model's answers under every arm, sample by sample."""
    wide = is_wide(run)
    cells = {
        (family, seed, first): samples[first : first + answers.BATCH]
        for (family, seed), samples in drawn.items()
        for first in range(0, len(samples), answers.BATCH)
    }

    def answered(cell: Mapping) -> Iterator[Row]:
        host, batch = answers.model(name), cells[cell["family"], cell["seed"], cell["first"]]
        for row in answer_batch(host, batch, wide):
            yield {"model": answers.folder(name), "origin": origin} | row

    with Measurement(
        f"rival_answers_{answers.folder(name)}",
        run,
        by=EACH,
        link="mini",
        params=parameters(run),
        inputs=subset.inputs([name, *([guides.CONTROL] if wide else [])], drawn),
        tolerances={"flops": None, "tokens_fed": None, "open": None},
        module="analysis.rivals",
    ) as m:
        m.each([dict(zip(("family", "seed", "first"), cell)) for cell in cells], answered)
    return m.result


def parameters(run: RunContext) -> dict:
    """What the run's answers have in common."""
    return {
        "methods": list(rival_arms.methods(is_wide(run))), "ratios": list(rival_arms.RATIOS), "keep": rival_arms.KEEP,
        "wide": is_wide(run), "most": MOST[run.mode], "batch": answers.BATCH, "split": answers.SPLIT, "stop": [],
    }  # fmt: skip


def all_answers(run: RunContext) -> dict[str, Result]:
    """Every model's answers (see measure_answers), computed where they are missing."""
    models, _ = origins(run)
    families = (*rival_arms.LONG, *rival_arms.SHORT, *(["chart"] if is_wide(run) else []))
    drawn = subset.draw(run, families, MOST[run.mode])
    drawn = {(family, seed): samples for (family, seed), samples in drawn.items() if seed == run.seeds[0]}
    return {name: measure_answers(run, name, origin, drawn) for name, origin in models.items()}


def summarise(rows: Sequence[Row], wide: bool) -> Iterator[Row]:
    """One row for each arm from one model's answers to one family and seed, in the order they came."""
    groups: dict[tuple, dict[int, Row]] = defaultdict(dict)
    for row in rows:
        groups[tuple(row[name] for name in BY)][row["index"]] = row
    for key, group in groups.items():
        told = dict(zip(BY, key, strict=True))
        full = groups[_key(told, UNPRUNED)]
        unchanged = told["change"] == "none" or told["method"] == "none"
        base = full if unchanged else groups[_key(told, {"change": "none"})]
        right = [subset.right(part.values()) for part in (base, group)]
        gained, lost = (None, None) if base is group else turned(*right)
        apart = (None,) * 3 if base is group else difference(gained, lost, len(group))
        yield (
            told | {"n": len(group), "after": next(iter(group.values()))["after"]}
            | named("exact_match", rate(sum(right[1]), len(group)))
            | named("difference", apart) | {"gained": gained, "lost": lost}
            | {name: _mean(group, name) for name in MEANS}
            | {"flops_ratio": _mean(group, "flops") / _mean(full, "flops")}
            | _published(told, wide)
        )  # fmt: skip


def _key(told: Row, changed: Row) -> tuple:
    return tuple((told | changed)[name] for name in BY)


def _mean(rows: Mapping[int, Row], name: str) -> float | None:
    values = [row[name] for row in rows.values() if row[name] is not None]
    return sum(values) / len(values) if values else None


def _published(told: Row, wide: bool) -> dict[str, float | None]:
    """FLOPs of the arm at the published shape; None where the method's budget follows from its scores."""
    own, full = (true_flops(told["family"], told["steps"], tuple(named_as.items()), wide)
                 for named_as in ({name: told[name] for name in UNPRUNED}, UNPRUNED))  # fmt: skip
    return {"tflops_8b": own and own / 1e12, "share_8b": own and own / full}


@functools.cache
def true_flops(family: str, steps: int, fields: tuple[tuple[str, str | float | None], ...], wide: bool) -> int | None:
    """FLOPs of one answer of the published LLaDA-V under the arm with these fields, as the official code runs.

    None for a budget that follows from scores, and for an arm that so many layers do not have.
    """
    config, protocol = true_config(PUBLISHED).text_config, benchmarks.get(family).protocol
    layers, task = config.num_hidden_layers, compute.answer_of(PUBLISHED, protocol.length, steps)
    alike = [arm for arm in rival_arms.arms(family, layers, wide)
             if arm.fields == dict(fields) and (arm.steps or protocol.steps) == steps]  # fmt: skip
    if not alike:
        return None
    try:
        plan = planned(alike[0].pruner, steps, layers)
    except ValueError:
        return None
    return stages(LanguageFormula(config), task, forwards(task, plan, layers), official=True).total


def measure(run: RunContext) -> Result:
    """The study on the profile's first model and on the one that was autoregressive before.

    `skipped` names a model whose folder is not there.
    """
    each, (_, skipped) = all_answers(run), origins(run)
    inputs = {name: digest for one in each.values() for name, digest in one.provenance["inputs"].items()}
    inputs |= {f"answers {answers.folder(name)}": storage.digest(one.rows) for name, one in each.items()}
    with Measurement(
        "rivals",
        run,
        by=BY,
        link="mini",
        params=parameters(run) | {"skipped": skipped},
        inputs=inputs,
        # A token more or less of one answer moves these a little; the rates have their intervals.
        tolerances=dict.fromkeys((*MEANS, "flops_ratio"), 0.05) | {"gained": None, "lost": None},
    ) as m:
        for name, one in each.items():
            pairs = dict.fromkeys((row["family"], row["seed"]) for row in one.rows)
            m.each(
                [{"model": answers.folder(name), "family": family, "seed": seed} for family, seed in pairs],
                lambda cell, rows=one.rows: summarise(answers.having(rows, cell), is_wide(run)),
            )
    return m.result


if __name__ == "__main__":
    raise SystemExit(command("rivals", measure, __doc__))
