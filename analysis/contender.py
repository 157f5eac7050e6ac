"""The search for staged pruning's options: a fixed grid on development samples, at RedVTP's FLOPs.

Every setting of the grid gets the budget at which its planned FLOPs (redvtp.plans: layers, head and scoring, and the
forward that a prior takes) are those of RedVTP at `ratio`, on the same samples and over the steps that the unpruned run
takes until its stop text; a budget by score mass gets the share of the score at which that holds. `flops_to_redvtp` has
the counted ones, which differ where answers do.

The best setting of a ratio is the one with the most right answers over all models and families, of equal ones the
first. Nothing here looks at the test split; analysis.contender_test reports the best settings there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial

import redvtp
from analysis import answers, benchmarks, hosts, subset
from analysis.benchmarks import Sample
from analysis.command import command
from analysis.comparisons import named, paired, rate, turned
from analysis.profiles import RunContext
from analysis.results import Measurement, Result, Row
from redvtp.flops import LanguageFormula
from redvtp.generation.history import Result as Answered
from redvtp.guidance import blank_scores
from redvtp.metrics import exact_match
from redvtp.plans import Task, forwards, planned, stages
from redvtp.pruning import Pruner
from redvtp.sequence import PROMPT

SPLIT = "dev"
FAMILIES = ("doc", "info", "chart")
RATIOS = (0.25, 0.1)
MOST = 48  # development samples a family
BY = ("model", "family", "split", "setting", "ratio")
HALVINGS = 12  # of the interval that a budget is looked for in
NONE, BASELINE = "none", "redvtp"
STAGED = redvtp.Staged()
MIDDLE, INNER = (3, 4), (2, 3, 4, 5)  # of the mini models' six layers


def grid() -> dict[str, Pruner]:
    """Every setting by name, the budget aside; RedVTP as the official code has it comes first."""
    once = replace(STAGED, first=None)
    return {
        BASELINE: redvtp.RedVTP(),
        "once": once,
        "early": STAGED,
        "early, compact": replace(STAGED, positions="compact"),
        "early, 30%": replace(STAGED, first=0.3),
        "early, 70%": replace(STAGED, first=0.7),
        "early, layer 3": replace(STAGED, layer=3),
        "early, last layer but one": replace(STAGED, layer=5, window=3),
        "early, second at 2": replace(STAGED, second=2),
        "early, 30%, second at 4": replace(STAGED, first=0.3, second=4),
        "early, 30%, second at 8": replace(STAGED, first=0.3, second=8),
        "early, middle layers": replace(STAGED, layers=MIDDLE),
        "early, inner layers": replace(STAGED, layers=INNER),
        "once, middle layers": replace(once, layers=MIDDLE),
        "once, inner layers": replace(once, layers=INNER),
        "once, newlines stay": replace(once, protect=("newline",)),
        "early, mass": replace(STAGED, keep=redvtp.Mass(0.5)),
        "once, mass": replace(once, keep=redvtp.Mass(0.5)),
        "early, diverse 0.3": replace(STAGED, diversity=0.3),
        "once, merge": replace(once, merge=True),
        "once, prior": replace(once, prior=True),
    }


CHOSEN = {0.25: "once, newlines stay", 0.1: "early, 70%"}
"""What the committed search chose for each ratio; a test holds it to that."""


def staged(keep: float) -> Pruner:
    """The chosen setting of the nearest ratio, as a method that keeps this share of the tokens."""
    ratio = min(CHOSEN, key=lambda ratio: abs(ratio - keep))
    return replace(grid()[CHOSEN[ratio]], keep=keep)


def describe(pruner: Pruner | None) -> str:
    """Its parameters as rows tell them, budget aside."""
    return answers.parameters(pruner)


@dataclass(frozen=True)
class Batch:
    """Samples of one family, how their answers are decoded, and what the prior takes.

    Attributes:
        tasks: of each sample, in tokens.
        taken: steps that each sample takes unpruned.
        full: a row for each sample (see rows_of), unpruned.
        priors: FLOPs of each sample's blank image.
    """

    host: redvtp.Model
    samples: Sequence[Sample]
    extras: dict[str, list]
    tasks: Sequence[Task]
    priors: Sequence[int]
    taken: Sequence[int] = ()
    full: Sequence[Row] = ()

    @classmethod
    def of(cls, host: redvtp.Model, samples: Sequence[Sample]) -> Batch:
        """Answer the samples unpruned, and look at blank images."""
        prompts = [redvtp.Prompt(sample.question, [sample.image]) for sample in samples]
        protocol = benchmarks.get(samples[0].family).protocol
        layout = host.host.begin(prompts, protocol.length).layout
        texts = layout.count(PROMPT).tolist()
        visual = host.host.begin(prompts, protocol.length).original.tolist()
        tasks = [Task(v, t, protocol.length, protocol.steps) for v, t in zip(visual, texts, strict=True)]
        prior = blank_scores(host, prompts, protocol.length)
        batch = cls(host, samples, {"prior": prior.scores}, tasks, prior.flops)
        results = batch.start(None).run()
        return replace(batch, taken=[result.steps for result in results], full=batch.rows_of(None, results))

    def start(self, pruner: Pruner | None) -> redvtp.Decoding:
        """The samples before their first step."""
        protocol = asdict(benchmarks.get(self.samples[0].family).protocol)
        prompts = [redvtp.Prompt(sample.question, [sample.image]) for sample in self.samples]
        seeds = [answers.seed_of(sample) for sample in self.samples]
        return self.host.start(prompts, prune=pruner, seeds=seeds, extras=self.extras, **protocol)

    def cost(self, pruner: Pruner) -> int:
        """Planned FLOPs of all samples; a Mass counts as the tokens that it leaves of each."""
        budgets = [pruner.keep] * len(self.tasks)
        if isinstance(pruner.keep, redvtp.Mass):
            run = self.start(pruner)
            for _ in range(pruner.second):  # up to the last cut; the steps behind it do not matter
                run.step()
            budgets = [redvtp.Count(len(kept)) for kept in run.kept]
        layers, parts = self.host.host.layers, LanguageFormula(self.host.host.config.text_config)
        total = 0
        for task, budget, prior, taken in zip(self.tasks, budgets, self.priors, self.taken, strict=True):
            plan = planned(replace(pruner, keep=budget), task.steps, layers)
            total += stages(parts, task, forwards(task, plan, layers)[:taken]).total
            total += prior if getattr(pruner, "prior", False) else 0
        return total

    def rows_of(self, pruner: Pruner | None, results: Sequence[Answered]) -> list[Row]:
        """A row for each sample's result, what the prior cost included."""
        rows = []
        for sample, result, prior in zip(self.samples, results, self.priors, strict=True):
            right = exact_match(self.host.answer(result).text, sample.answer)
            extra = prior if getattr(pruner, "prior", False) else 0
            kept = len(result.kept) / max(1, result.visual_tokens)
            rows.append({"right": bool(right), "kept": kept, "flops": result.flops + extra})
        return rows


class TooDear(ValueError):
    """No budget costs as little as the baseline."""


def meets_protected(batches: Sequence[Batch], pruner: Pruner) -> bool:
    """Whether the budget leaves room for the tokens that are always kept, in every sample."""
    try:
        for batch in batches:
            batch.start(pruner)
    except ValueError:
        return False
    return True


def matched(pruner: Pruner, cost: Callable[[Pruner], int], target: int) -> Pruner:
    """The pruner with the largest budget whose cost is at most ``target``.

    Raises:
        TooDear: where even the smallest costs more.
    """
    kind = type(pruner.keep)
    low, high = 0.005, 1.0
    if cost(replace(pruner, keep=kind(low))) > target:
        raise TooDear(f"{pruner}: costs more than the baseline at any budget")
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if cost(replace(pruner, keep=kind(middle))) <= target else (low, middle)
    return replace(pruner, keep=kind(low))


def settle(batches: Sequence[Batch], settings: dict[str, Pruner], ratio: float) -> dict[str, Pruner]:
    """Every setting with its budget at the baseline's FLOPs; those that no budget fits are left out."""

    def cost(pruner: Pruner) -> int:
        return sum(batch.cost(pruner) for batch in batches)

    baseline = replace(settings[BASELINE], keep=redvtp.Share(ratio))
    target, made = cost(baseline), {BASELINE: baseline}
    for name, pruner in settings.items():
        if name != BASELINE:
            try:
                found = matched(pruner, cost, target)
            except TooDear:
                continue
            if not pruner.protect or meets_protected(batches, found):
                made[name] = found
    return made


def answered(batches: Sequence[Batch], pruner: Pruner | None) -> list[Row]:
    """A row for each sample (see Batch.rows_of)."""
    if pruner is None:
        return [row for batch in batches for row in batch.full]
    return [row for batch in batches for row in batch.rows_of(pruner, batch.start(pruner).run())]


def batches_of(host: redvtp.Model, samples: Sequence[Sample]) -> list[Batch]:
    """The samples in batches, those of equal size next to each other."""
    ordered = sorted(samples, key=lambda sample: (sample.image.size, sample.index))
    return subset.in_batches(partial(Batch.of, host), ordered, answers.BATCH)


def compare(
    batches: Sequence[Batch],
    chosen: dict[str, Pruner],
    ratio: float,
    full: Sequence[Row],
    pairs: Mapping[str, str] | None = None,
) -> list[Row]:
    """One row for each setting, beside the baseline and the unpruned answers `full`.

    Args:
        pairs: ``{setting: name}``: each is compared with these settings, too, as `from_name` with the answers that
            are `gained_name` and `lost_name`.
    """
    found = {name: answered(batches, pruner) for name, pruner in chosen.items()}
    right = {name: [row["right"] for row in rows] for name, rows in found.items()}
    base, made = found[BASELINE], []
    for name, rows in found.items():
        row = {"setting": name, "ratio": ratio, "params": describe(chosen[name]), "positions": chosen[name].positions}
        row |= {"budget": budget_of(chosen[name]), "n": len(rows)}
        row |= named("exact_match", rate(sum(right[name]), len(rows)))
        row |= named("from_redvtp", paired(right[BASELINE], right[name]))
        for other, told in (pairs or {}).items():
            gained, lost = turned(right[other], right[name])
            row |= named(f"from_{told}", paired(right[other], right[name]))
            row |= {f"gained_{told}": gained, f"lost_{told}": lost}
        row |= {"kept": sum(row["kept"] for row in rows) / len(rows)}
        made.append(row | {"flops_ratio": total(rows) / total(full), "flops_to_redvtp": total(rows) / total(base)})
    return made


def unpruned(full: Sequence[Row]) -> Row:
    """The row of the unpruned run."""
    return (
        {"setting": NONE, "ratio": 1.0, "params": "{}", "positions": None, "budget": 1.0, "n": len(full)}
        | named("exact_match", rate(sum(row["right"] for row in full), len(full)))
        | dict.fromkeys(("from_redvtp", "from_redvtp_low", "from_redvtp_high"))
        | {"kept": 1.0, "flops_ratio": 1.0, "flops_to_redvtp": None}
    )


def total(rows: Iterable[Row]) -> int:
    """FLOPs of all of them."""
    return sum(row["flops"] for row in rows)


def budget_of(pruner: Pruner) -> float:
    """The share of tokens, or of the score, that the pruner keeps."""
    return getattr(pruner.keep, "ratio", None) or pruner.keep.p


def compute(name: str, samples: Sequence[Sample]) -> list[Row]:
    """All settings on one family."""
    batches, rows = batches_of(answers.model(name), samples), []
    full = answered(batches, None)
    rows.append(unpruned(full))
    for ratio in RATIOS:
        rows += compare(batches, settle(batches, grid(), ratio), ratio, full)
    common = {name: value for name, value in subset.fields_of(name, samples).items() if name != "seed"}
    return [common | row for row in rows]


def best(rows: Sequence[Row], ratio: float) -> str:
    """The setting with the most right answers of those that every model and family has a row for."""
    cells = {(row["model"], row["family"]) for row in rows}
    scores = {}
    for name in grid():
        own = [row for row in rows if (row["setting"], row["ratio"]) == (name, ratio)]
        if name != BASELINE and {(row["model"], row["family"]) for row in own} == cells:
            scores[name] = sum(round(row["exact_match"] * row["n"]) for row in own)
    if not scores:
        raise ValueError(f"no setting has a row for every model and family at {ratio}")
    return max(scores, key=scores.__getitem__)


def models(run: RunContext) -> list[str]:
    """The profile's, and the one that was autoregressive before where it is there."""
    return hosts.beside(run.profile.models, [hosts.ADAPTED])[0]


def draw(run: RunContext) -> dict[str, list[Sample]]:
    """The development samples of each family."""
    return {
        family: benchmarks.get(family).samples(SPLIT, min(run.n, MOST), 0)
        for family in run.profile.families if family in FAMILIES
    }  # fmt: skip


def measure(run: RunContext) -> Result:
    """The grid on the development samples of every model and family; `best(rows, ratio)` says which setting won."""
    drawn = draw(run)
    weights = {f"weights {answers.folder(name)}": answers.weights_hash(name) for name in models(run)}
    with Measurement(
        "contender",
        run,
        by=BY,
        link="mini",
        params={"ratios": RATIOS, "most": MOST, "batch": answers.BATCH, "split": SPLIT, "grid": list(grid())},
        inputs=weights | answers.data_hashes(sample for samples in drawn.values() for sample in samples),
        tolerances={"budget": 0.05, "kept": 0.05, "flops_ratio": 0.05, "flops_to_redvtp": 0.05},
    ) as m:
        m.each(
            [{"model": name, "family": family} for name in models(run) for family in drawn],
            lambda cell: compute(cell["model"], drawn[cell["family"]]),
        )
    return m.result


if __name__ == "__main__":
    raise SystemExit(command("contender", measure, __doc__))
