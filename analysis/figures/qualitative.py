"""RedVTP Figure 5: question, evidence, kept tokens, and the answer as it formed with all tokens and with few."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import pandas as pd

from analysis import answers, benchmarks, plots
from analysis.examples import CASES, kept_of, sample_of
from analysis.figures import token_maps
from analysis.profiles import RunContext
from analysis.qualitative import FAMILIES, KEEP
from analysis.results import Result
from analysis.trace import Token, from_json, spelled


def examples(result: Result) -> list[pd.DataFrame]:
    """The rows of each sample, all tokens first."""
    rows = pd.DataFrame(result.rows)
    if rows.empty:
        return []
    rows = rows.sort_values("keep", ascending=False, kind="stable")
    order = [(family, case) for family in FAMILIES for case in CASES]
    found = {key: part for key, part in rows.groupby(["family", "case"], sort=False)}
    return [found[key] for key in order if key in found]


def draw(result: Result, run: RunContext) -> Any:
    """A row for each sample: image with the evidence, kept tokens, and both answers token by token.

    Raises ValueError where there is no sample to show.
    """
    plots.use_style()
    shown = examples(result)
    if not shown:
        raise ValueError("no doc or info sample was answered rightly without pruning, so there is none to show")
    host = answers.model(run.profile.models[0])
    samples = [sample_of(part.iloc[0]) for part in shown]
    heights = [0.55 + 1.75 * min(1.0, max(0.45, sample.image.height / sample.image.width)) for sample in samples]
    figure = plt.figure(figsize=(plots.WIDTH["page"], sum(heights) + 0.4))
    # A single subfigure comes without its list.
    bands = figure.subfigures(len(shown), 1, height_ratios=heights, squeeze=False)[:, 0]
    for band, sample, part in zip(bands, samples, shown):
        layout = token_maps.layout_of(host, sample.image)
        _draw_example(band, sample, layout, part)
    note = (
        f"model {shown[0].iloc[0]['model']}; orange box: evidence; dimmed: dropped tile tokens; recall: share of the "
        "evidence still covered; small numbers and blue: the step in which a token was committed; red: another token "
        "than expected"
    )
    plots.add_caption(figure, plots.caption(run, result.provenance, note))
    return figure


def _draw_example(figure: Any, sample: benchmarks.Sample, layout: Any, part: pd.DataFrame) -> None:
    full, pruned = part.iloc[0], part.iloc[-1]
    left, middle, right = figure.subplots(1, 3, width_ratios=(1, 1, 1.25))
    token_maps.draw_image(left, sample.image, sample.evidence)
    asked = sample.question.partition("\n")[0]
    left.set_title(f"{sample.family} {sample.index}, {full['case']}\n{asked}", fontsize=8)
    kept = kept_of(pruned)
    there = token_maps.kept_cells(layout, kept, sample.image.size)
    token_maps.draw_kept(middle, sample.image, there, sample.evidence)
    middle.set_title(f"r = {pruned['keep']:.0%}: {len(kept)} of {pruned['visual_tokens']} tokens\nevidence recall "
                     f"{pruned['evidence_recall']:.2f}", fontsize=8)  # fmt: skip
    lines = {f"r = {row['keep']:.0%}": from_json(row["formed"]) for _, row in part.iterrows()}
    places = max(len(sample.answer) + 1, *(len(read(tokens)) + 1 for tokens in lines.values()))
    wrong = {label: differing(tokens, sample.answer) for label, tokens in lines.items()}
    token_maps.draw_formed(right, lines, places, wrong)
    mark = "✓" if pruned["right"] else "✗"
    right.set_title(f"expected {sample.answer}; r = {pruned['keep']:.0%}: {mark} {pruned['prediction']}\n"
                    f"{full['steps']} and {pruned['steps']} steps, {full['tokens_fed']:.0f} and "
                    f"{pruned['tokens_fed']:.0f} tokens fed", fontsize=8,
                    color=plots.BLACK if pruned["right"] else plots.RED)  # fmt: skip


def whole(tokens: tuple[Token, ...]) -> str:
    """The response as it stood at the end, up to the last place that was committed."""
    there = {token.place: token for token in tokens}
    return spelled(there, max(there, default=-1) + 1)


def read(tokens: tuple[Token, ...]) -> str:
    """The response up to the end of the turn, a character a token."""
    return whole(tokens).partition("∎")[0]


def differing(tokens: tuple[Token, ...], answer: str) -> set[int]:
    """Places whose token is not the expected answer's, which is spelled a letter a token and then ends."""
    expected = [*answer, "∎"]
    found = [*read(tokens), "∎"]
    return {place for place in range(len(found)) if place >= len(expected) or found[place] != expected[place]}


def table(result: Result) -> pd.DataFrame:
    """Both answers of every sample, with the response as it stood when the run ended."""
    rows = pd.DataFrame(result.rows)
    rows["response"] = [whole(from_json(formed)) for formed in rows["formed"]]
    return rows[
        ["family", "index", "case", "question", "answer", "keep", "prediction", "right", "evidence_recall",
         "visual_tokens", "steps", "tokens_fed", "response"]
    ]  # fmt: skip


def sentence(result: Result) -> str:
    """What the figure shows, in numbers, and which cases there were none of."""
    shown = {(part.iloc[0]["family"], part.iloc[0]["case"]): part.iloc[-1] for part in examples(result)}
    parts, missing = [], []
    for family in FAMILIES:
        for case in CASES:
            row = shown.get((family, case))
            if row is None:
                missing.append(f"{family} sample that {case} at {KEEP:.0%} or less")
                continue
            parts.append(
                f"{family} {row['index']} {case} at {row['keep']:.0%} ({row['prediction']!r} for {row['answer']!r}, "
                f"evidence recall {row['evidence_recall']:.2f})"
            )
    none = f" There was no {' and no '.join(missing)}." if missing else ""
    return (
        f"Samples chosen by the rule (n = {len(shown)}): {'; '.join(parts)}.{none} "
        "How often each case comes is in the accuracy table. "
        f"The paper shows two answers on LLaDA-V 8B, both right at {KEEP:.0%}."
    )
