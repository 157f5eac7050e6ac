"""Does the evidence that is left tell which right answers stay right? AUC, logistic slope and correlation.

For each set of samples at risk (see analysis.survival), method and ratio: `auc` is the chance that an answer that
stayed right had more of its evidence kept than one that turned wrong (ties half; 0.5: recall tells nothing), with its
bootstrap interval (95%, percentile, seeded). Pairs are taken within a family and seed, so that a family that is both
easier and better covered does not pass for an effect. `odds` is by how much the odds to stay right rise for a tenth
more of the evidence, from a logistic regression with an intercept for each family and seed, and `p` its two-sided
Wald p value; `correlation` is the point-biserial one within family and seed. None where there are fewer than
`MINIMUM` of an outcome, or no spread of the recall; an interval is None where all draws are alike.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from scipy import stats

from analysis import answers
from analysis.command import command
from analysis.failures import of_model
from analysis.profiles import RunContext
from analysis.results import Measurement, Result, Row
from analysis.survival import Case, by_method, sets

BY = ("model", "family", "method", "keep")
METHODS = ("redvtp", "random", "uniform", "llada_fastv")
RESAMPLES = 2000
STEP = 0.1  # of evidence recall, that the odds ratio is for
ROUNDS = 50
FLAT = 20.0  # a slope beyond it means that recall parts the outcomes, or nearly
MINIMUM = 5  # of each outcome, below which nothing is told of a set


def strata(found: Sequence[Case]) -> list[tuple[np.ndarray, np.ndarray]]:
    """(recall, right) of each family and seed."""
    groups: dict[tuple, list[Case]] = {}
    for case in found:
        groups.setdefault((case.family, case.seed), []).append(case)
    return [(np.array([case.recall for case in part], dtype=float), np.array([case.right for case in part]))
            for part in groups.values()]  # fmt: skip


def wins(recall: np.ndarray, right: np.ndarray) -> np.ndarray:
    """``[right, wrong]`` 1 where the right one had more, 0.5 where as much."""
    upper, lower = recall[right][:, None], recall[~right][None]
    return (upper > lower) + 0.5 * (upper == lower)


def auc(groups: Sequence[tuple[np.ndarray, np.ndarray]]) -> float | None:
    """The area under the curve over pairs within a group; None without a pair."""
    found = [wins(*group) for group in groups]
    pairs = sum(one.size for one in found)
    return float(sum(one.sum() for one in found) / pairs) if pairs else None


def auc_interval(groups: Sequence[tuple[np.ndarray, np.ndarray]], seed: int = 0) -> tuple[float, float] | None:
    """The AUC's bootstrap interval: samples are drawn again within their group; draws without a pair are left out."""
    generator = np.random.default_rng(seed)
    won, pairs = np.zeros(RESAMPLES), np.zeros(RESAMPLES)
    for recall, right in groups:
        times = generator.multinomial(len(right), np.full(len(right), 1 / len(right)), RESAMPLES)
        upper, lower = times[:, right], times[:, ~right]
        won += ((upper @ wins(recall, right)) * lower).sum(1)
        pairs += upper.sum(1) * lower.sum(1)
    drawn = won[pairs > 0] / pairs[pairs > 0]
    return tuple(map(float, np.quantile(drawn, (0.025, 0.975)))) if len(drawn) and np.ptp(drawn) > 0 else None


def slope(groups: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[float, float] | None:
    """The logistic slope over recall and its standard error, with an intercept a group, by Newton's method.

    None where it does not converge, as where recall parts the outcomes without overlap.
    """
    groups = [(recall, right) for recall, right in groups if 0 < right.sum() < len(right)]
    if not groups:
        return None
    recall = np.concatenate([part for part, _ in groups])
    right = np.concatenate([part for _, part in groups])
    if np.ptp(recall) == 0:
        return None
    member = np.repeat(np.eye(len(groups)), [len(part) for part, _ in groups], 0)
    design, weight = np.column_stack([recall, member]), np.zeros(1 + len(groups))
    for _ in range(ROUNDS):
        chance = 1 / (1 + np.exp(-np.clip(design @ weight, -FLAT, FLAT)))
        curvature = (design * (chance * (1 - chance))[:, None]).T @ design
        if np.linalg.cond(curvature) > 1e12:
            return None
        change = np.linalg.solve(curvature, design.T @ (right - chance))
        weight = weight + change
        if abs(weight[0]) > FLAT:
            return None
        if np.abs(change).max() < 1e-8:
            return float(weight[0]), float(np.sqrt(np.linalg.inv(curvature)[0, 0]))
    return None


def correlation(groups: Sequence[tuple[np.ndarray, np.ndarray]]) -> float | None:
    """Point-biserial correlation of recall and survival, both without their group's mean."""
    recall = np.concatenate([part - part.mean() for part, _ in groups])
    right = np.concatenate([part - part.mean() for _, part in groups])
    if recall.std() < 1e-12 or right.std() < 1e-12:
        return None
    return float(stats.pearsonr(recall, right).statistic)


def compute(found: Sequence[Case]) -> Iterator[Row]:
    """Rows of every set, method and ratio, from one model's cases."""
    for family, part in sets(found).items():
        for (method, keep), here in by_method(part).items():
            right = sum(case.right for case in here)
            row = {"model": here[0].model, "family": family, "method": method, "keep": keep, "n": len(here)}
            yield row | {"right": right} | effect(strata(here) if MINIMUM <= right <= len(here) - MINIMUM else [])


def effect(groups: Sequence[tuple[np.ndarray, np.ndarray]]) -> Row:
    """AUC, odds ratio and correlation of these groups; all None without a group."""
    row: Row = dict.fromkeys(("auc", "auc_low", "auc_high", "odds", "odds_low", "odds_high", "p", "correlation"))
    if not groups:
        return row
    row |= {"auc": auc(groups), "correlation": correlation(groups)}
    bounds, fitted = auc_interval(groups), slope(groups)
    if bounds is not None:
        row["auc_low"], row["auc_high"] = bounds
    if fitted is not None:
        for name, spread in (("odds", 0.0), ("odds_low", -1.96), ("odds_high", 1.96)):
            row[name] = float(np.exp(STEP * (fitted[0] + spread * fitted[1])))
        row["p"] = float(2 * stats.norm.sf(abs(fitted[0] / fitted[1])))
    return row


def measure(run: RunContext) -> Result:
    """What recall tells in this run's answers, which are computed where they are missing."""
    each = answers.measure(run)
    with Measurement(
        "recall_effect",
        run,
        by=BY,
        link="mini",
        params=each.provenance["params"] | {"resamples": RESAMPLES},
        inputs=answers.inputs(each),
        tolerances={"p": None, "correlation": None, "right": None},
    ) as m:
        m.each(answers.models(run), lambda cell: compute(of_model(each.rows, cell["model"], METHODS)))
    return m.result


if __name__ == "__main__":
    raise SystemExit(command("recall_effect", measure, __doc__))
