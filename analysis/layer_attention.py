"""LLaDA-FastV's analysis: where response rows attend, by decoder layer and by step.

Attention is the head mean in one layer. For a set of rows, averaged over them:

visual, prompt, response: the share that falls on columns of that kind.
visual_efficiency and so on: that share over the one that even attention to all columns in sight would give; 1 is even.
    The paper speaks of "attention efficiency" per token; its formula is not known to us.
concentration: of the attention to visual tokens (the layer's own S), what the most attended tenth of them holds.

Rows of the diffusion model, in runs through all steps, unpruned:

masked: still masked after the step's transfer, RedVTP's guide rows.
response: all response rows.
writing: masked before the step, and to hold the answer or its end token: what the autoregressive control's rows
    stand beside. That one's are the rows that wrote its own greedy answer and its end.

A row without a step is the mean of each sample's steps, then of the samples. Intervals are bootstrapped over
samples (95%, percentile, seeded).

Training shaped where attention gathers: auxiliary heads read the language model after layers 2 and 4, and in part
of one stage questions answered in two tokens did not see the image in the last two layers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

import redvtp
from analysis import answers, causal_control, subset
from analysis.benchmarks import Sample
from analysis.command import command
from analysis.profiles import RunContext
from analysis.results import Measurement, Result
from analysis.step_similarity import importance
from redvtp.attention import AttentionProbe
from redvtp.metrics import exact_match
from redvtp.models.prompts import END_OF_TURN
from redvtp.selection import Share
from redvtp.sequence import PADDING, PROMPT, RESPONSE, VISUAL

BY = ("host", "model", "family", "split", "seed", "rows", "layer", "step")
CONTROL = "mini/llava_ar"
FAMILIES = ("doc", "info", "chart", "scene")
MOST = 30  # samples a family and seed, where half of the run's are more
BATCH = 15
TOP = Share(0.1)
RESAMPLES = 2000
STEPWISE = ("masked", "response")  # row sets that are also told step by step
KINDS = {"visual": VISUAL, "prompt": PROMPT, "response": RESPONSE}
VALUES = (*KINDS, *(f"{kind}_efficiency" for kind in KINDS), "concentration")
BOUNDED = ("visual", "visual_efficiency", "concentration")

Place = tuple[str, int, int | None]  # rows, layer, step


class Looking:
    """A host with a probe from all response rows to all columns, by layer, in every forward."""

    def __init__(self, host) -> None:
        self._host, self.probe = host, None

    def __getattr__(self, name: str):
        return getattr(self._host, name)

    def forward(self, state, canvas, logit_rows, probe=None, at_layer=None):
        """The host's own forward, looked at. Raises ValueError where somebody else looks, too."""
        if probe is not None:
            raise ValueError("a forward has one probe; record no attention in a run that is looked at")
        batch, length = state.layout.kind.shape
        first = state.layout.prompt_length
        columns = torch.arange(length, device=state.layout.kind.device)
        rows = columns[first:]
        self.probe = AttentionProbe(rows.expand(batch, -1), columns.expand(batch, -1), per_layer=True)
        return self._host.forward(state, canvas, logit_rows, self.probe, at_layer)


def describe(attention: Tensor, even: Tensor, kind: Tensor) -> Tensor:
    """``[B, 7]`` the VALUES of attention ``[B, T]``.

    Args:
        attention: of some rows, averaged; NaN where there is no such row.
        even: the same of rows that attend evenly to all that they see.
        kind: ``[B, T]`` what each column is.
    """
    shares = split(attention, kind)
    return torch.cat([shares, shares / split(even, kind), concentration(attention, kind == VISUAL)[:, None]], 1)


def split(attention: Tensor, kind: Tensor) -> Tensor:
    """``[B, 3]`` the part of attention ``[B, T]`` on each of KINDS."""
    return torch.stack([(attention * (kind == code)).sum(1) for code in KINDS.values()], 1)


def concentration(attention: Tensor, visual: Tensor) -> Tensor:
    """``[B]`` share of the visual tokens' attention that the most attended tenth of them holds."""
    held = (attention * visual).sort(1, descending=True).values.cumsum(1)
    count = torch.tensor([TOP.count(n, attention) for n in visual.sum(1).tolist()])
    return held.gather(1, count[:, None] - 1)[:, 0] / held[:, -1]


def denoised(host: redvtp.Model, batch: Sequence[Sample]) -> tuple[dict[Place, Tensor], list[bool]]:
    """``{place: [B, 7]}`` of unpruned runs through all steps, and which answers were right."""
    looking = Looking(host.host)
    run = answers.start(redvtp.Model(looking), batch, stop=())
    mask, steps, more = host.host.mask_id, [], True
    while more:
        samples, kind = run.active, run.state.layout.kind
        before = run.canvas[samples] == mask
        more = run.step()
        seen = {layer: mass.float().cpu() for layer, mass in looking.probe.by_layer.items()}
        steps.append((samples.cpu(), kind.cpu(), before.cpu(), (run.canvas[samples] == mask).cpu(), seen))
    canvas = run.canvas.cpu()
    end = canvas == host.host.tokenizer.convert_tokens_to_ids(END_OF_TURN)
    needed = end.cumsum(1) - end.long() == 0  # up to the first end token
    found: dict[Place, Tensor] = {}
    for step, (samples, kind, before, after, by_layer) in enumerate(steps, start=1):
        even = (kind != PADDING) / (kind != PADDING).sum(1, keepdim=True)
        sets = {"masked": after, "response": torch.ones_like(after), "writing": before & needed[samples]}
        for rows, chosen in sets.items():
            for layer in by_layer:
                values = torch.full((len(batch), len(VALUES)), torch.nan)
                values[samples] = describe(importance(by_layer, (layer,), chosen), even, kind)
                found[rows, layer, step] = values
    texts = [host.host.tokenizer.decode(ids).split(END_OF_TURN)[0] for ids in canvas]
    return _with_means(found), [
        any(exact_match(text, answer) for answer in sample.accepted) for text, sample in zip(texts, batch)
    ]


def _with_means(found: Mapping[Place, Tensor]) -> dict[Place, Tensor]:
    """The means over each sample's steps, then those of the steps that are told."""
    means = {}
    for rows, layer in dict.fromkeys((rows, layer) for rows, layer, _ in found):
        own = [values for (r, n, _), values in found.items() if (r, n) == (rows, layer)]
        means[rows, layer, None] = torch.stack(own).nanmean(0)
    return means | {place: values for place, values in found.items() if place[0] in STEPWISE}


def written(control: causal_control.Control, batch: Sequence[Sample]) -> tuple[dict[Place, Tensor], list[bool]]:
    """``{place: [B, 7]}`` of the control's rows, and which answers were right."""
    found: dict[Place, list[Tensor]] = {}
    right = []
    for sample in batch:
        reading = causal_control.read(control, sample)
        length = reading.kind.shape[1]
        sees = torch.ones(length, length).tril()
        even = importance({1: (sees / sees.sum(1, keepdim=True))[None]}, (1,), reading.writing)
        for layer in reading.by_layer:
            values = describe(importance(reading.by_layer, (layer,), reading.writing), even, reading.kind)
            found.setdefault(("writing", layer, None), []).append(values)
        right.append(exact_match(reading.text, sample.answer))
    return {place: torch.cat(values) for place, values in found.items()}, right


def mean_intervals(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean, low and high of each column of ``[n, m]``; NaN where a column has no value."""
    drawn = np.random.default_rng(0).integers(len(values), size=(RESAMPLES, len(values)))
    means = values[drawn].mean(1)  # NaN stays NaN: a bound of what is not always defined is not told
    known = ~np.isnan(values)
    mean = np.where(known.any(0), np.where(known, values, 0).sum(0) / np.maximum(known.sum(0), 1), np.nan)
    return mean, np.quantile(means, 0.025, axis=0), np.quantile(means, 0.975, axis=0)


def summarise(batches: Sequence[Mapping]) -> Iterator[dict]:
    """A row for each place from the batches of one family; samples without such a row are left out."""
    right = [one for batch in batches for one in batch["right"]]
    tables: dict[Place, list[Tensor]] = {}
    for batch in batches:
        for place, values in zip(batch["places"], batch["values"], strict=True):
            tables.setdefault(tuple(place), []).append(_tensor(values))
    for place, parts in tables.items():
        values = torch.cat(parts).double()
        values = values[~values[:, 0].isnan()].numpy()
        if not len(values):
            continue
        row = dict(batches[0]["fields"]) | dict(zip(("rows", "layer", "step"), place)) | {"n": len(values)}
        for name, mean, low, high in zip(VALUES, *mean_intervals(values)):
            row[name] = None if np.isnan(mean) else round(float(mean), 6)
            if name in BOUNDED:
                row |= {f"{name}_low": round(float(low), 6), f"{name}_high": round(float(high), 6)}
        yield row | {"right": sum(right) / len(right)}


def compute(name: str, samples: Sequence[Sample]) -> dict:
    """What `summarise` makes rows of: one batch of one model's, or of the control's."""
    batch = list(samples)
    if name == CONTROL:
        host, (found, right) = "autoregressive", written(causal_control.load(name), batch)
    else:
        model = answers.model(name)
        host, (found, right) = model.host.name, denoised(model, batch)
    return {
        "fields": {"host": host} | subset.fields_of(name, batch),
        "right": right,
        "places": list(found),
        "values": [_plain(values) for values in found.values()],
    }


def _plain(values: Tensor) -> list[list[float | None]]:
    """fp32 numbers as JSON holds them, exactly and without digits that they do not have; None for NaN."""
    return [[None if x != x else float(f"{x:.9g}") for x in row] for row in values.tolist()]


def _tensor(values: Sequence[Sequence[float | None]]) -> Tensor:
    """`_plain`, read back."""
    return torch.tensor([[torch.nan if x is None else x for x in row] for row in values])


def measure(run: RunContext) -> Result:
    """Attention of the profile's diffusion models, and of the autoregressive control where it is shipped.

    Where it is not, the result's parameter `control` says so; it was trained on generated samples and reads no others.
    """
    there = causal_control.is_there(CONTROL) and not run.draw
    names = [*run.profile.models, *([CONTROL] if there else [])]
    chosen = subset.draw(run, FAMILIES, MOST)
    params = {"top": TOP.ratio, "resamples": RESAMPLES}
    if not run.draw:
        params = {"most": MOST} | params | {
            "split": answers.SPLIT, "control": CONTROL if there else f"data/{CONTROL} is missing: it was not measured"
        }  # fmt: skip
    with Measurement(
        "layer_attention",
        run,
        by=BY,
        link="paper" if run.draw else "mini",
        params=params,
        inputs=subset.inputs(names, chosen),
        tolerances=dict.fromkeys(set(VALUES) - set(BOUNDED), 0.05) | {"right": 0.05, "n": None},
    ) as m:
        m.each_piece(
            subset.cells(names, chosen),
            lambda cell: subset.batches(chosen[cell["family"], cell["seed"]], BATCH),
            lambda cell, batch: compute(cell["model"], batch),
            lambda cell, batches: summarise(batches),
        )
    return m.result


if __name__ == "__main__":
    raise SystemExit(command("layer_attention", measure, __doc__, published=True))
