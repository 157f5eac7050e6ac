"""What notebooks/explore.ipynb shows of one question: maps at a step, kept tokens, tables, a sentence."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
import torch

from analysis import explore, plots
from analysis.explore import Compared
from analysis.figures import token_maps
from analysis.trace import Trace
from redvtp.metrics import exact_match
from redvtp.overlay import drawn_scores
from redvtp.sequence import THUMBNAIL, VISUAL

SIDE = 2.0  # height of a line of maps, at most, in inches


def draw(found: Compared, step: int = 1) -> Any:
    """A line a run: scores of the tiles and of the thumbnail at a step, and the tokens that it ended with."""
    plots.use_style()
    image = found.asked.image
    height = min(SIDE, max(0.8, plots.WIDTH["page"] / 3 * image.height / image.width)) + 0.45
    figure, axes = plt.subplots(2, 3, figsize=(plots.WIDTH["page"], 2 * height + 0.3), squeeze=False)
    for line, (name, one) in zip(axes, (("unpruned", found.full), (label(found), found.pruned))):
        _draw_run(line, found, one, name, explore.at_step(one, step))
    plots.add_caption(figure, f"{found.asked.title}; scores: mean attention of the rows still masked after the step")
    return figure


def label(found: Compared) -> str:
    """The method with what it keeps."""
    return f"{plots.look(found.pruner.name).label}, r = {found.pruner.keep.ratio:.0%}"


def _draw_run(axes: Any, found: Compared, one: Trace, name: str, step: int) -> None:
    image, evidence = found.asked.image, found.asked.evidence
    at = one.steps[step - 1]
    scores = drawn_scores(at.attention, at.undecided)
    top = float(scores.max())
    for axis, thumbnail, what in ((axes[0], False, "tiles"), (axes[1], True, "thumbnail")):
        if not token_maps.cells(at.layout, thumbnail):
            token_maps.bare(axis)
            axis.set_title(f"no {what} left", fontsize=8)
            continue
        token_maps.draw_scores(axis, image, token_maps.cell_values(at.layout, scores, image.size, thumbnail), top)
        token_maps.outline(axis, evidence)
        axis.set_title(f"{name}: step {step}, {what}", fontsize=8)
    layout = one.answer.layout
    everything = range(int((layout.kind[0] == VISUAL).sum()))
    there = token_maps.kept_cells(layout, everything, image.size)
    token_maps.draw_kept(axes[2], image, there, evidence)
    axes[2].set_title(f"kept {len(one.answer.kept)} of {one.answer.visual_tokens}: {one.answer.text}", fontsize=8)


def draw_answers(found: Compared) -> Any:
    """Both answers up to the end of the turn, with the step of every token."""
    plots.use_style()
    places = 1 + max(explore.end(found.full), explore.end(found.pruned))
    width = min(plots.WIDTH["page"], 1.6 + 0.42 * places)
    figure, axis = plt.subplots(figsize=(width, 1.2))
    lines = {"unpruned": found.full.tokens, label(found): found.pruned.tokens}
    full = {token.place: token.text for token in found.full.tokens}
    other = {token.place for token in found.pruned.tokens if full.get(token.place) != token.text}
    token_maps.draw_formed(axis, lines, places, {label(found): other})
    return figure


def step_table(found: Trace) -> pd.DataFrame:
    """A line a step."""
    return pd.DataFrame(explore.steps(found))


def change_table(found: Compared) -> pd.DataFrame:
    """What changed against the unpruned run."""
    names = [f"{run}{what}" for run in ("unpruned", "pruned") for what in ("", " step", " confidence")]
    return pd.DataFrame(explore.changes(found), columns=["place", *names])


def score_table(found: Compared, step: int = 1, most: int = 10) -> pd.DataFrame:
    """The visual tokens with the highest scores at a step of the unpruned run, and whether the pruned one kept them."""
    number = explore.at_step(found.full, step)
    at = found.full.steps[number - 1]
    scores = drawn_scores(at.attention, at.undecided)
    columns = at.layout.columns_of(VISUAL)[0]
    kept = set(found.pruned.answer.kept.tolist())
    rows = []
    for rank, index in enumerate(torch.sort(scores, descending=True, stable=True).indices[:most].tolist(), 1):
        column = int(columns[index])
        whole = at.layout.tile[0, column] == THUMBNAIL
        kind = "newline" if at.layout.newline[0, column] else "thumbnail" if whole else "tile"
        box = [round(edge) for edge in at.layout.box[0, column].nan_to_num().tolist()]
        rows.append({"rank": rank, "token": index, "kind": kind, "score": float(scores[index]),
                     "pixels": "" if kind == "newline" else str(tuple(box)), "kept": index in kept})  # fmt: skip
    return pd.DataFrame(rows)


def sentence(found: Compared) -> str:
    """What pruning changed, in numbers."""
    asked, full, pruned = found.asked, found.full.answer, found.pruned.answer
    known = ""
    if asked.answer is not None:
        marks = ["right" if exact_match(one.text, asked.answer) else "wrong" for one in (full, pruned)]
        known = f", expected {asked.answer!r}: {marks[0]} and {marks[1]}"
    covered = explore.recall(found)
    evidence = "" if covered is None else f", {covered:.0%} of the evidence's area"
    changed = explore.changes(found)
    other = [row for row in changed if row["unpruned"] != row["pruned"]]
    moved = len(changed) - len(other)
    return (
        f"Unpruned {full.text!r}, pruned {pruned.text!r}{known}. {label(found)} kept {len(pruned.kept)} of "
        f"{pruned.visual_tokens} visual tokens{evidence}; {pruned.tokens_fed / full.tokens_fed:.0%} of the tokens were "
        f"fed. Up to the end of the turn: {len(other)} other tokens, {moved} the same from another step. One sample of "
        "a small model."
    )
