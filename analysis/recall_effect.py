"""Does evidence recall tell which right answers stay right? AUC, logistic slope and correlation.

For each set of samples at risk (see analysis.survival), method and ratio: `auc` is the chance that an answer that
stayed right had a higher evidence recall than one that turned wrong (ties half; 0.5: recall tells nothing), with its
95% interval (see `auc_interval`) and `p`, the Mann-Whitney test's two-sided p value. Pairs are taken within a family
and seed, so that a family that is both easier and better covered does not pass for an effect. `p_holm` is adjusted by
Holm for all `tests` of the method: those of single families; those of all long and all short answers, which are made
of the same samples, apart. `odds` is by how much the odds to stay right rise for a tenth more of the evidence, from a
logistic regression with an intercept for each family and seed, and `odds_p` its two-sided Wald p value; `correlation`
is the point-biserial one within family and seed. All are None where there are fewer than `MINIMUM` of an outcome; the
interval and `p` also where recall does not differ within any pair.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from scipy import optimize, stats

from analysis import answers
from analysis.command import command
from analysis.comparisons import holm
from analysis.failures import of_model
from analysis.profiles import RunContext
from analysis.results import Measurement, Result, Row
from analysis.survival import LONG, SHORT, Case, by_method, sets

BY = ("model", "family", "method", "keep")
METHODS = ("redvtp", "random", "uniform", "llada_fastv")
STEP = 0.1  # of evidence recall, that the odds ratio is for
ROUNDS = 50
FLAT = 20.0  # a slope beyond it means that recall parts the outcomes, or nearly
MINIMUM = 10  # of each outcome, below which nothing is told of a set
NORMAL = float(stats.norm.isf(0.025))  # standard errors that a two-sided 95% interval reaches to either side


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


def sizes(groups: Sequence[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """``[groups, 2]`` how many of each group are right and wrong, of groups that have both."""
    counts = np.array([(right.sum(), (~right).sum()) for _, right in groups], dtype=float).reshape(-1, 2)
    return counts[counts.all(1)]


def auc_interval(groups: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[float, float] | None:
    """The AUC's 95% interval: all values that it lies less than NORMAL of their own standard errors away from.

    It is the score form of Hanley and McNeil's interval (Newcombe 2006, Statistics in Medicine 25:559, method 5), for
    several groups with one AUC. The variance follows from the AUC and the counts alone. One that is estimated from the
    placements of the samples (DeLong's, the bootstrap's) is too small where one outcome has few samples, all alike.
    Ties are not allowed for, which makes the interval wider than it need be. None where no pair differs.
    """
    middle = auc(groups)
    if middle is None or not any(np.any(wins(*group) != 0.5) for group in groups):
        return None
    counts = sizes(groups)
    pairs, mean = counts.prod(1), counts.mean(1)

    def error(value: float) -> float:
        variance = value * (1 - value) * pairs * (1 + (mean - 1) * ((1 - value) / (2 - value) + value / (1 + value)))
        return float(np.sqrt(variance.sum())) / pairs.sum()

    def bound(sign: int, end: float) -> float:
        # At the AUC itself both sides are 0 where it is 0 or 1; the root looked for is not that one.
        near = middle + sign * 1e-9
        if not 0 < near < 1:
            return end
        return float(optimize.brentq(lambda value: sign * (value - middle) - NORMAL * error(value), near, end))

    return bound(-1, 0.0), bound(1, 1.0)


def mann_whitney(groups: Sequence[tuple[np.ndarray, np.ndarray]]) -> float | None:
    """Two-sided p value of recall being alike in both outcomes: U summed over groups, normal, corrected for ties and
    for continuity. None where no two values of a group differ."""
    distance = variance = 0.0
    for recall, right in groups:
        count, of_right = len(right), int(right.sum())
        pairs = of_right * (count - of_right)
        if not pairs:
            continue
        ties = np.unique(recall, return_counts=True)[1].astype(float)
        distance += wins(recall, right).sum() - pairs / 2
        variance += pairs / 12 * (count + 1 - (ties**3 - ties).sum() / (count * (count - 1)))
    if variance < 1e-12:
        return None
    return float(min(1.0, 2 * stats.norm.sf(max(0.0, abs(distance) - 0.5) / np.sqrt(variance))))


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


def compute(found: Sequence[Case]) -> list[Row]:
    """Rows of every set, method and ratio, from one model's cases."""
    rows: list[Row] = []
    for family, part in sets(found).items():
        for (method, keep), here in by_method(part).items():
            right = sum(case.right for case in here)
            row = {"model": here[0].model, "family": family, "method": method, "keep": keep, "n": len(here)}
            row |= {"right": right} | effect(strata(here) if MINIMUM <= right <= len(here) - MINIMUM else [])
            rows.append(row)
    return adjusted(rows)


def adjusted(rows: Sequence[Row]) -> list[Row]:
    """The rows with `p_holm` and `tests`: None where nothing was tested."""
    tested = defaultdict(list)
    for place, row in enumerate(rows):
        if row["p"] is not None:
            tested[row["method"], row["family"] in (LONG, SHORT)].append(place)
    added: dict[int, Row] = {}
    for places in tested.values():
        for place, p in zip(places, holm([rows[place]["p"] for place in places])):
            added[place] = {"p_holm": p, "tests": len(places)}
    return [row | added.get(place, {"p_holm": None, "tests": None}) for place, row in enumerate(rows)]


def effect(groups: Sequence[tuple[np.ndarray, np.ndarray]]) -> Row:
    """AUC, odds ratio and correlation of these groups; all None without a group."""
    names = ("auc", "auc_low", "auc_high", "p", "odds", "odds_low", "odds_high", "odds_p", "correlation")
    row: Row = dict.fromkeys(names)
    if not groups:
        return row
    row |= {"auc": auc(groups), "p": mann_whitney(groups), "correlation": correlation(groups)}
    bounds, fitted = auc_interval(groups), slope(groups)
    if bounds is not None:
        row["auc_low"], row["auc_high"] = bounds
    if fitted is not None:
        for name, spread in (("odds", 0.0), ("odds_low", -1.96), ("odds_high", 1.96)):
            row[name] = float(np.exp(STEP * (fitted[0] + spread * fitted[1])))
        row["odds_p"] = float(2 * stats.norm.sf(abs(fitted[0] / fitted[1])))
    return row


def measure(run: RunContext) -> Result:
    """What recall tells in this run's answers, which are computed where they are missing."""
    each = answers.measure(run)
    with Measurement(
        "recall_effect",
        run,
        by=BY,
        link="mini",
        params=each.provenance["params"] | {"minimum": MINIMUM},
        inputs=answers.inputs(each),
        tolerances=dict.fromkeys(("p", "p_holm", "tests", "odds_p", "correlation", "right")),
    ) as m:
        m.each(answers.models(run), lambda cell: compute(of_model(each.rows, cell["model"], METHODS)))
    return m.result


if __name__ == "__main__":
    raise SystemExit(command("recall_effect", measure, __doc__))
