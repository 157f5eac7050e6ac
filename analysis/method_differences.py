"""Differences between methods on the same samples, and how many of them would show by chance.

Each pair of methods at each ratio in each family: `gained` and `lost` answers of the second over the first,
`difference` in exact match with its interval (Tango's, 95%, for this pair alone), the exact sign test's `p`
(McNemar) and `p_holm`, adjusted by Holm for all `tests` pairs of the model. `layer` is the one that the first method
cuts after, None where it does not cut inside a step. Seeds are pooled.
"""

from __future__ import annotations

from collections.abc import Sequence

from analysis import answers
from analysis.command import command
from analysis.comparisons import difference, holm, named, sign_test, turned
from analysis.profiles import RunContext
from analysis.results import Measurement, Result, Row

BY = ("model", "family", "first", "second", "keep")
PAIRS = (("none", "redvtp"), ("random", "redvtp"), ("uniform", "redvtp"), ("llada_fastv", "redvtp"),
         ("redvtp", "oracle"), ("random", "shuffled"))  # fmt: skip


def outcomes(rows: Sequence[Row]) -> dict[tuple[str, str, float], dict[tuple[int, int], bool]]:
    """``{(family, method, ratio): {(seed, index): right}}``."""
    found: dict[tuple, dict[tuple[int, int], bool]] = {}
    for row in rows:
        cell = found.setdefault((row["family"], row["method"], row["keep"]), {})
        cell[row["seed"], row["index"]] = bool(row["exact_match"])
    return found


def compare(rows: Sequence[Row]) -> list[Row]:
    """All pairs on one model's answers. Samples that only one of a pair answered are left out."""
    found: list[Row] = []
    right = outcomes(rows)
    layers = {row["method"]: row["layer"] for row in rows}
    ratios = sorted({row["keep"] for row in rows if row["method"] == "redvtp"}, reverse=True)
    for family in dict.fromkeys(row["family"] for row in rows):
        for first, second in PAIRS:
            for keep in ratios:
                before = right.get((family, first, 1.0 if first == "none" else keep), {})
                after = right.get((family, second, keep), {})
                both = sorted(before.keys() & after.keys())
                if not both:
                    continue
                gained, lost = turned([before[one] for one in both], [after[one] for one in both])
                found.append(
                    {
                        "model": rows[0]["model"], "family": family, "first": first, "second": second, "keep": keep,
                        "layer": layers[first], "n": len(both), "gained": gained, "lost": lost,
                        **named("difference", difference(gained, lost, len(both))), "p": sign_test(gained, lost),
                    }  # fmt: skip
                )
    adjusted = holm([row["p"] for row in found])
    return [row | {"p_holm": p, "tests": len(found)} for row, p in zip(found, adjusted)]


def measure(run: RunContext) -> Result:
    """The differences in this run's answers, which are computed where they are missing."""
    each = answers.measure(run)
    with Measurement(
        "method_differences",
        run,
        by=BY,
        link="mini",
        params=each.provenance["params"] | {"pairs": PAIRS},
        inputs=answers.inputs(each),
        # One answer more or less moves these; the difference has its interval.
        tolerances=dict.fromkeys(("gained", "lost", "p", "p_holm")),
    ) as m:
        m.each(
            answers.models(run),
            lambda cell: compare(answers.having(each.rows, cell)),
        )
    return m.result


if __name__ == "__main__":
    raise SystemExit(command("method_differences", measure, __doc__))
