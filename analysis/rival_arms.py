"""What the rivals' study runs: which method keeps how much, from when on, and what is changed besides.

`start` says when pruning begins: `first` as early as the method can (one that looks at attention after step 1), then
after a `quarter`, `half` and `three quarters` of the steps, or before the `last step`; a start that is not a whole
number of steps does not exist.

`change`, from `start` on: `no answer attention` hides the response tokens committed before it from the response's other
rows; `answers hidden` hides them from the prompt's and the visual rows as well, which could pass on what they saw.

`comparison: equal compute`: `late` prunes in the second half of the steps, `layer_skipping` lets visual tokens skip
half of the layers in every step, those from a third of the depth on; both rank by the attention of still-masked rows.
Their `keep` is late pruning's; layer skipping's own share is the one at which the visual tokens cost as much (see
skip_share). `equal compute, diverse` is the same with DivPrune's choice, `equal compute, early layers` with the layers
after the first.

`fastv`, `sparsevlm` and `vtw` cut once, inside one step, for good, as the study's code does; `fastv_each`,
`sparsevlm_each` and `vtw_each` in every step, for that step. What `keep` says differs: where a method cuts in stages of
layers in every step (`sparsevlm_each`, `pyramiddrop`) it is the mean over the layers, else what the cut leaves.

`comparison: original positions` is a method whose tokens stay where they were; all others but `staged` re-number the
tokens that stay, as the official code of RedVTP does. `staged` has the settings that analysis.contender chose.

`sgl` is guided by the autoregressive control, which is no smaller than the models here and costs a run of its own that
is not in the FLOPs. `oracle` knows where the evidence is, but not what the model is used to look at. `maskkv` has
layers of equal budgets and one set of tokens for all heads.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import redvtp
from analysis import benchmarks, contender
from redvtp.pruning import Pruner

RATIOS = (0.5, 0.25, 0.1)
KEEP = 0.25  # of what the claims and the default size are about
EARLY_LAYER = 2  # after which FastV cuts, and SparseVLM where it cuts once
WITHDRAWN = 0.5  # VTW's share of layers before the withdrawal
STARTS = {"quarter": 0.25, "half": 0.5, "three quarters": 0.75}
LAST = "last step"
FEW = 4  # steps, instead of 16
LONG = ("doc", "info")
SHORT = ("diagram", "scene", "perception", "choice")

NO_ANSWERS, HIDDEN = "no answer attention", "answers hidden"
EQUAL, DIVERSE, EARLY = "equal compute", "equal compute, diverse", "equal compute, early layers"
ORIGINAL = "original positions"

Make = Callable[[float], Pruner]

FIVE: dict[str, Make] = {
    "redvtp": lambda keep: redvtp.RedVTP(keep=keep),
    "tome": lambda keep: redvtp.ToMe(keep=keep, step=0),
    "fastv": lambda keep: redvtp.Scheduled(redvtp.FastV(keep=keep), start=0.0, lasting=True),
    "sparsevlm": lambda keep: redvtp.SparseVLM(keep=keep, layer=EARLY_LAYER),
    "divprune": lambda keep: redvtp.DivPrune(keep=keep),
}
"""The methods of every size of a run, by keep ratio."""

MORE: dict[str, Make] = {
    "trim_projector": lambda keep: redvtp.TrimProjector(keep=keep),
    "fastv_each": lambda keep: redvtp.FastV(keep=keep),
    "sparsevlm_each": lambda keep: redvtp.SparseVLM(keep=keep),
    "pyramiddrop": lambda keep: redvtp.PyramidDrop(keep=keep),
    "llada_fastv": lambda keep: redvtp.LladaFastV(keep=keep),
    "zipvl": lambda keep: redvtp.ZipVL(keep=keep),
    "maskkv": lambda keep: redvtp.MaskKV(keep=keep),
    "d3tom": lambda keep: redvtp.D3ToM(keep=keep),
    "vnorm": lambda keep: redvtp.VNorm(keep=keep),
    "staged": contender.staged,
    "sgl": lambda keep: redvtp.SGL(keep=keep),
    "oracle": lambda keep: redvtp.Oracle(keep=keep, step=0),
    "random": lambda keep: redvtp.Random(keep=keep, step=0),
    "uniform": lambda keep: redvtp.Uniform(keep=keep, step=0),
}
"""Those of a full run besides."""

LATE = ("redvtp", "fastv", "sparsevlm", "divprune", "random")
"""Those that a full run lets begin late, beside VTW: the study's, RedVTP and chance."""


@dataclass(frozen=True)
class Arm:
    """One way to answer; fields as the module says. `steps` is None for the family's own."""

    method: str
    keep: float
    start: str | None
    pruner: Pruner | None
    change: str = "none"
    comparison: str = "none"
    steps: int | None = None

    @property
    def fields(self) -> dict[str, str | float | None]:
        """What rows say of it, but for the steps."""
        names = ("method", "keep", "start", "change", "comparison")
        return {name: getattr(self, name) for name in names}

    def begins(self, steps: int) -> int:
        """How many steps are done, of ``steps``, when it first differs from the unpruned run."""
        return 0 if self.start is None else begins(self.start, steps)

    def leaves(self, steps: int, layers: int) -> int:
        """After which step a run of ``steps`` steps is its own; before it, it is the unpruned run."""
        if self.pruner is None:
            return self.begins(steps)
        cuts = self.pruner.cuts(steps, layers)
        return min((cut.step - (cut.layer is not None) for cut in cuts), default=self.begins(steps))


def begins(start: str, steps: int) -> int:
    """Steps done before a start. Raises ValueError for one that ``steps`` steps do not have."""
    done = 0 if start == "first" else steps - 1 if start == LAST else STARTS[start] * steps
    if done != int(done) or (start != "first" and done < 1):
        raise ValueError(f"start {start!r}: {steps} steps have none")
    return int(done)


def has(start: str, steps: int) -> bool:
    """Whether runs of so many steps have this start."""
    try:
        return begins(start, steps) >= 0
    except ValueError:
        return False


def from_on(pruner: Pruner, start: str, steps: int) -> Pruner:
    """The method, which begins there."""
    first = begins(start, steps) / steps
    if isinstance(pruner, redvtp.Scheduled):
        return replace(pruner, start=first)
    return redvtp.Scheduled(pruner, start=first)


@functools.cache
def arms(family: str, layers: int, wide: bool) -> tuple[Arm, ...]:
    """What a family is answered under by a model of so many layers, the unpruned run first.

    Args:
        wide: all of it; else the five methods at 25% on doc and info, and what the claims need.

    What a model of so few layers cannot do at a ratio is left out: SparseVLM and PyramidDrop prune after layers, the
    first of which sees all tokens.
    """
    steps = benchmarks.get(family).protocol.steps
    found = [Arm("none", 1.0, None, None)]
    if wide or family in LONG:
        found += _from_the_first(steps, layers, wide)
    found += _late(family, steps, layers, wide)
    if family in LONG:
        found += _interventions(steps, wide)
        found += _equal_compute(layers, wide)
    if wide and family not in SHORT:
        found += _original_positions()
    return tuple(dict.fromkeys(found))


def methods(wide: bool) -> dict[str, Make]:
    """The methods of a run, by keep ratio."""
    return FIVE | MORE if wide else FIVE


def _vtw() -> Pruner:
    return redvtp.Scheduled(redvtp.VTW(keep=WITHDRAWN), start=0.0, lasting=True)


def _from_the_first(steps: int, layers: int, wide: bool) -> Iterator[Arm]:
    for name, make in methods(wide).items():
        for keep in RATIOS if wide else (KEEP,):
            pruner = make(keep)
            if possible(pruner, steps, layers):
                yield Arm(name, keep, "first", pruner)
    if wide:
        yield Arm("vtw", 0.0, "first", _vtw())
        yield Arm("vtw_each", 0.0, "first", redvtp.VTW(keep=WITHDRAWN))


def _late(family: str, steps: int, layers: int, wide: bool) -> Iterator[Arm]:
    starts = [start for start in (*STARTS, LAST) if has(start, steps)] if wide else ["half"]
    starts = [start for start in starts if start != LAST or begins(LAST, steps) != begins("half", steps)]
    for start in starts:
        if wide and family not in SHORT:
            pruners = {name: make(KEEP) for name, make in methods(wide).items() if name in LATE}
        else:
            pruners = {"divprune": redvtp.DivPrune(keep=KEEP)}
        for name, pruner in pruners.items():
            late = from_on(pruner, start, steps)
            if possible(late, steps, layers):
                yield Arm(name, KEEP, start, late)
        if wide or family in LONG:
            yield Arm("vtw", 0.0, start, from_on(_vtw(), start, steps))


def _interventions(steps: int, wide: bool) -> Iterator[Arm]:
    withdrawn = from_on(_vtw(), "half", steps)
    for change in (NO_ANSWERS, HIDDEN) if wide else (NO_ANSWERS,):
        yield Arm("vtw", 0.0, "half", withdrawn, change)
        yield Arm("none", 1.0, "half", None, change)
    yield Arm("none", 1.0, None, None, steps=FEW)
    yield Arm("vtw", 0.0, "half", from_on(_vtw(), "half", FEW), steps=FEW)


def _equal_compute(layers: int, wide: bool) -> Iterator[Arm]:
    guided, diverse = redvtp.RedVTP(keep=KEEP), redvtp.DivPrune(keep=KEEP)
    third = max(1, round(layers / 3))
    chosen = [(EQUAL, guided, third)]
    if wide:
        chosen += [(DIVERSE, diverse, third), (EARLY, guided, 1)]
    for comparison, method, after in chosen:
        own = replace(method, keep=skip_share(layers))
        skipping = redvtp.Scheduled(own, layer=after, until=after + layers // 2 + 1)
        yield Arm("late", KEEP, "half", redvtp.Scheduled(method, start=STARTS["half"]), comparison=comparison)
        yield Arm("layer_skipping", KEEP, "first", skipping, comparison=comparison)


def skip_share(layers: int) -> float:
    """The share of visual tokens that does not skip half of the layers in every step, where that costs as much as
    pruning to KEEP after half of the steps. The last layer is not counted: hardly any of its rows are computed."""
    full, skipped = layers - 1, layers // 2
    return ((1 + KEEP) / 2 * full - (full - skipped)) / skipped


def _original_positions() -> Iterator[Arm]:
    for name, make in FIVE.items():
        yield Arm(name, KEEP, "first", unmoved(make(KEEP)), comparison=ORIGINAL)


def unmoved(pruner: Pruner) -> Pruner:
    """The method, whose tokens stay at their positions."""
    if isinstance(pruner, redvtp.Scheduled):
        return replace(pruner, method=replace(pruner.method, positions="original"))
    return replace(pruner, positions="original")


def possible(pruner: Pruner, steps: int, layers: int) -> bool:
    """Whether a model of so many layers can keep as few tokens as that."""
    try:
        pruner.cuts(steps, layers)
    except ValueError:
        return False
    return True
