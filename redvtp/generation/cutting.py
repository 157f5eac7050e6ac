"""Around a cut: refusing methods that cannot be served, and attention as a method is shown it."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import LongTensor, Tensor

from redvtp.attention import AttentionProbe
from redvtp.generation.settings import Settings
from redvtp.models.base import Host, State, take_columns
from redvtp.pruning.base import Pruner
from redvtp.selection import Count, Cut, Inputs, Needs, is_whole
from redvtp.sequence import PROMPT, VISUAL

BY_LAYER = ("by_layer", "norms", "by_head", "to_prompt")  # what a probe keeps layer by layer


def check_pruner(pruner: Pruner | None, host: Host, settings: Settings, extras: Mapping[str, Sequence[Any]]) -> None:
    """Refuse, before any work, a method that this host, these settings or these inputs cannot serve.

    Raises:
        ValueError: naming the method and what is missing.
    """
    if pruner is None:
        return
    if isinstance(pruner, type) or not callable(getattr(pruner, "select", None)):
        raise ValueError(f"prune={pruner!r}: expected a method with its parameters, e.g. RedVTP(keep=0.25), or None")
    cuts = pruner.cuts(settings.most_steps, host.layers)
    for step in sorted({cut.step for cut in cuts}):
        if len({cut.lasting for cut in cuts if cut.step == step and cut.layer is not None}) > 1:
            raise ValueError(f"{pruner.name}: the cuts inside step {step} must be all lasting or all for the step only")
        passing = any(cut.step == step and not cut.lasting for cut in cuts)
        if passing and any(cut.step == step and cut.layer is None and looks(pruner.needs(cut)) for cut in cuts):
            raise ValueError(f"{pruner.name}: after step {step} the attention to tokens dropped within it is not known")
    for cut in cuts:
        cut.check(settings.most_steps, host.layers)
        if cut.layer is not None and getattr(pruner, "per_head", False):
            raise ValueError(f"{pruner.name}, per_head=True: heads forget between two forwards, not inside; {cut}")
        check_nesting(pruner.name, cut, [other for other in cuts if other.step == cut.step and other.layer is not None])
        if cut.layer is None and Count(0) in (getattr(pruner, "keep", None), cut.keep):
            raise ValueError(f"{pruner.name}, Count(0): dropping every visual token is possible only inside a layer")
        needs = pruner.needs(cut)
        wanted = {"attention"} if looks(needs) else set()
        wanted |= {"states"} if needs.states or needs.inputs else set()
        wanted |= {"in_layer"} if cut.layer is not None else set()
        wanted |= {"rejoin"} if cut.until is not None else set()
        wanted |= {"rounding"} if needs.rounding == "official" else set()
        if not wanted <= host.can:
            raise ValueError(f"{pruner.name} needs {sorted(wanted - host.can)}, which host {host.name} cannot do")
        if looks(needs) and cut.step == 0:
            raise ValueError(f"{pruner.name}: a cut before the first forward (step 0) has no attention to look at")
        for layer in needs.layers or ():
            top = host.layers if cut.layer is None else cut.layer
            if not is_whole(layer) or not 1 <= layer <= top:
                raise ValueError(f"{pruner.name}: layer {layer} is out of range, expected 1..{top}")
        for name in needs.extras:
            if name not in extras:
                raise ValueError(f"{pruner.name} needs the extra {name!r} for each sample; got {sorted(extras)}")


def check_nesting(name: str, cut: Cut, others: Sequence[Cut]) -> None:
    """Refuse a cut inside a step that does not go with the ``others`` there: a second one after its layer, or one
    within the layers that its tokens skip, whose own tokens do not rejoin by then."""
    if sum(other.layer == cut.layer for other in others) > 1:
        raise ValueError(f"{name}: two cuts after layer {cut.layer} of step {cut.step}")
    for other in others if cut.until is not None else ():
        if cut.layer < other.layer < cut.until and (other.until is None or other.until > cut.until):
            raise ValueError(
                f"{name}: tokens dropped after layer {cut.layer} rejoin before layer {cut.until}, so those dropped "
                f"after layer {other.layer} must rejoin by then; until={other.until}"
            )


def inputs_of(state: State) -> Inputs:
    """The embeddings that a state's forward starts from."""
    visual, text = state.layout.columns_of(VISUAL), state.layout.columns_of(PROMPT)
    behind = text > visual.max(1, keepdim=True).values if visual.shape[1] else text >= 0
    question = torch.where(behind.any(1, keepdim=True), behind, text >= 0)
    return Inputs(take_columns(state.embeds, visual), visual >= 0, take_columns(state.embeds, text), question)


def looks(needs: Needs) -> bool:
    """Whether a forward has to be watched for it."""
    return bool(needs.attention or needs.values or needs.heads)


def present(mass: Tensor, columns: LongTensor) -> Tensor:
    """``[B, R, n']`` the attention to the columns that are still there (a cut inside the step may have
    dropped some), in order, padded on the right with zeros."""
    if bool((columns >= 0).all()):
        return mass
    there = [torch.nonzero(c >= 0).flatten() for c in columns]
    width = max(len(t) for t in there)
    out = mass.new_zeros(*mass.shape[:2], width)
    for b, index in enumerate(there):
        out[b, :, : len(index)] = mass[b][:, index]
    return out


def thinned(probe: AttentionProbe, keep: LongTensor) -> AttentionProbe:
    """The probe of the samples ``keep``."""
    fewer = copy.copy(probe)
    fewer.rows, fewer.columns = probe.rows[keep], probe.columns[keep]
    fewer.total = None if probe.total is None else probe.total[keep]
    fewer.guide = None if probe.guide is None else probe.guide[keep]
    for name in BY_LAYER:
        setattr(fewer, name, {layer: mass[keep] for layer, mass in getattr(probe, name).items()})
    return fewer
