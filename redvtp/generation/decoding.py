"""The denoising loop: masked response, step by step, with cuts where a pruning method asks for them.

Source: official_code §3 (sampler) and §5 (where RedVTP acts in it); every sample of a batch gets what it
would get alone.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import LongTensor, Tensor

from redvtp.attention import AttentionProbe
from redvtp.caching import CachePolicy, Moment
from redvtp.flops import Work, head_flops, layers_flops
from redvtp.generation.cutting import check_pruner, inputs_of, looks, present, thinned
from redvtp.generation.history import CutRecord, Recorder, Result, StepRecord
from redvtp.generation.passes import check_cache, choose_spans, own_cache, run_spans, with_cache, within
from redvtp.generation.progress import Progress
from redvtp.generation.sampling import (
    confidence,
    draw_noise,
    factor_rows,
    first_occurrence,
    pick_tokens,
    threshold_rows,
    transfer_rows,
)
from redvtp.generation.settings import Settings
from redvtp.graphs import Graphs
from redvtp.models.base import Host, LayerCut, Span, State, Unseen, take_columns
from redvtp.pruning.base import Pruner
from redvtp.rounding import RoundedProbe
from redvtp.selection import Cut, Heads, Needs, Selection, View, pad_rows
from redvtp.sequence import PROMPT, VISUAL, Layout
from redvtp.transfers import sent


class Decoding:
    """One batch being denoised. ``step`` advances it, ``run`` finishes it, ``fork`` tries another method from here.

    Args:
        host: the model.
        state: from ``host.begin``; its layout already holds the response (and suffix).
        settings: see Settings.
        pruner: the method, or None.
        cache: which columns each step computes, or None for all.
        seeds: one a sample (default: the settings' seed for each).
        extras: per-sample extras that a method asks for.
        stop_ids, suffix_ids: the settings' texts as token ids.
        draft: ``[B, G]`` tokens that the response starts with, the mask id at the rows to fill in; None masks all.
        recorder: collects the history.
        watch: attention rows to record in every step although no method asks, so that a fork may use them.
        fixed_rows: compute the logits of every response row that a step runs on, in place of those still masked. How
            many are masked only the device knows, so that a step which leaves rows out has to wait for it. None
            is True on a GPU, where a few rows of the output head cost nothing, and with graphs. Draws at random,
            which are made for the masked rows, take those alone.
        graphs: replays the forwards that repeat (see redvtp.graphs.Graphs); None runs each.
    """

    def __init__(
        self,
        host: Host,
        state: State,
        settings: Settings,
        pruner: Pruner | None = None,
        *,
        cache: CachePolicy | None = None,
        seeds: Sequence[int] | None = None,
        extras: Mapping[str, Sequence[Any]] | None = None,
        stop_ids: Sequence[Sequence[int]] = (),
        suffix_ids: Sequence[int] = (),
        draft: LongTensor | None = None,
        recorder: Recorder | None = None,
        watch: Needs | None = None,
        fixed_rows: bool | None = None,
        graphs: Graphs | None = None,
    ) -> None:
        self.host, self.settings, self.recorder, self.watch = host, settings, recorder, watch
        self.extras = dict(extras or {})
        check_pruner(pruner, host, settings, self.extras)
        check_cache(cache, host, pruner)
        if settings.cfg_scale and "guidance" not in host.can:
            raise ValueError(f"cfg_scale={settings.cfg_scale}: host {host.name} cannot do guidance")
        batch, g = state.layout.kind.shape[0], settings.length
        for name, values in self.extras.items():
            if len(values) != batch:
                raise ValueError(f"extra {name!r}: {len(values)} values for {batch} samples")
        if graphs is not None and graphs.host is not host:
            raise ValueError(f"graphs of another host, {graphs.host.name}, for a run of {host.name}")
        device = state.embeds.device
        self.batch = batch
        self.stop_ids = [list(ids) for ids in stop_ids]
        self._patterns: dict[tuple[int, ...], LongTensor] = {}  # the same where the response is
        self.suffix_ids = list(suffix_ids)
        if state.layout.length - state.layout.prompt_length != g + len(self.suffix_ids):
            raise ValueError(
                f"the state was begun for {state.layout.length - state.layout.prompt_length} response and suffix "
                f"tokens, the settings ask for {g} + {len(self.suffix_ids)}"
            )
        self.seeds = [settings.seed] * batch if seeds is None else list(map(int, seeds))
        if len(self.seeds) != batch:
            raise ValueError(f"{len(self.seeds)} seeds for {batch} samples")
        self.random = [torch.Generator().manual_seed(seed) for seed in self.seeds]
        canvas = torch.full((batch, g + len(self.suffix_ids)), host.mask_id)
        if draft is not None:
            canvas[:, :g] = checked_draft(draft.cpu(), batch, g, host.config.text_config.vocab_size)
        if self.suffix_ids:
            canvas[:, g:] = torch.tensor(self.suffix_ids)
        masked = (canvas[:, :g] == host.mask_id).view(batch, settings.blocks, settings.block)
        self.progress = Progress(settings, masked.sum(2).tolist(), certain=not any(map(len, stop_ids)))
        self.canvas = canvas.to(device)
        self.banned = torch.tensor(host.banned_ids, dtype=torch.long, device=device)
        self.stop_at = torch.full((batch,), g, device=device)
        self.stopped = torch.zeros(batch, dtype=torch.bool, device=device)
        self.noisy = settings.temperature > 0 or settings.remasking == "random"
        wide = device.type == "cuda" or graphs is not None
        self.fixed_rows = (wide if fixed_rows is None else fixed_rows) and not self.noisy
        self.graphs = graphs
        self.visual_tokens = state.original.tolist()
        self.kept = [torch.arange(n) for n in self.visual_tokens]
        self.layouts: list[Layout | None] = [None] * batch
        self.taken = [0] * batch
        self.fed = torch.zeros(batch, dtype=torch.float64)
        self.flops = [0] * batch
        self.head_rows = torch.zeros(batch, dtype=torch.long, device=device)
        self.done_steps = 0
        self.active = torch.arange(batch, device=device)
        self.samples = list(range(batch))  # the same, on the host
        self.cache = cache
        self.state = with_cache(state, cache)
        self.guide = with_cache(host.unconditional(state), cache) if settings.cfg_scale else None
        self._cut_since = False  # whether tokens were dropped after the last forward began
        self.attention: AttentionProbe | None = None
        self._decided: Tensor | None = None  # [B', G] rows committed in the last step
        self._before_release: tuple | None = None  # the last step's samples, those that it finished included
        self._set_pruner(pruner)
        self._advance()
        self._cut_between(0)

    # ---- the loop ----------------------------------------------------------------------------------------

    def run(self) -> list[Result]:
        """Take the steps that are left; one Result a sample."""
        while self.step():
            pass
        return self.results()

    def step(self) -> bool:
        """One forward for the samples that still run, its transfer, and the cuts that follow; False when over."""
        if not self.samples:
            return False
        step, settings, g = self.done_steps + 1, self.settings, self.settings.length
        active, samples, canvas = self.active, self.samples, self.canvas[self.active]
        masked = canvas[:, :g] == self.host.mask_id
        spans = self._spans(step)
        asked = within(spans, masked)
        rows = self._logit_rows(asked, spans, canvas.shape[1])
        probe = self._probe(step, masked)
        in_step: dict[int, tuple[Cut, Selection]] = {}
        cuts = self._layer_cuts(step, probe, masked, in_step)
        output = run_spans(self.host, self.state, canvas, rows, spans, probe, cuts, self.graphs)
        logits = output.logits
        if self.guide is not None:
            # Both branches keep the same tokens: the unconditional one replays the selections.
            replay = {
                layer: LayerCut(lambda hidden, layout, s=selection: s, cuts[layer].positions, cut.until)
                for layer, (cut, selection) in in_step.items()
            }
            free = run_spans(self.host, self.guide, canvas, rows, spans, None, replay, self.graphs, 1).logits
            logits = free + (settings.cfg_scale + 1) * (logits - free)
        logits.index_fill_(1, self.banned, float("-inf"))
        predicted, conf = self._predict(logits, canvas[:, :g], asked, rows)
        limit = torch.where(
            self.stopped[active],
            self.stop_at[active],
            sent([self.progress.end(sample) for sample in samples], conf.device),
        )
        conf.masked_fill_(torch.arange(g, device=conf.device)[None] >= limit[:, None], float("-inf"))
        moved = self._transfer(conf)
        canvas[:, :g] = torch.where(moved, predicted, canvas[:, :g])
        self.canvas[active] = canvas
        undecided = canvas[:, :g] == self.host.mask_id

        fed = output.lengths.double().mean(0)
        self.fed[samples] += fed
        work = output.work or Work.whole(output.lengths, canvas.shape[1])
        self.head_rows[active] += asked.sum(1) * self._branches
        for sample, flops in zip(samples, layers_flops(self.host.config.text_config, work), strict=True):
            self.taken[sample] += 1
            self.flops[sample] += flops * self._branches
        self._record(step, canvas[:, :g], predicted, moved, conf, undecided, fed, probe, logits, asked, rows)
        self.done_steps = step
        self.attention, self._decided, self._cut_since = probe, moved, False
        for cut, selection in in_step.values():
            if cut.lasting:
                self._apply(selection, cut.layer)
            else:
                self._empty_cache()
        self._cut_between(step)
        self._before_release = (self.active, self.samples, self.state, self.guide, self.attention, self._decided)
        self._scan_stops()
        for sample in samples:
            self.progress.index[sample] += 1
        self._advance()
        return bool(self.samples)

    def fork(self, pruner: Pruner | None, recorder: Recorder | None = None) -> Decoding:
        """A copy from here on under another method, whose cut after the last step taken is made at once.

        The steps so far are shared, so the method may have no cut in or before them but that one; what it
        needs to see there must have been watched. This object is not changed.
        """
        if self.pruner is not None:
            raise ValueError(f"fork from a run without a method; this one prunes with {self.pruner.name}")
        check_pruner(pruner, self.host, self.settings, self.extras)
        check_cache(self.cache, self.host, pruner)
        for cut in pruner.cuts(self.settings.most_steps, self.host.layers) if pruner else ():
            if cut.step < self.done_steps or (cut.layer is not None and cut.step <= self.done_steps):
                raise ValueError(f"{pruner.name} cuts at {cut}, but {self.done_steps} steps were already taken")
        twin = copy.copy(self)
        for name in ("canvas", "stop_at", "stopped", "fed", "head_rows"):
            setattr(twin, name, getattr(self, name).clone())
        for name in ("kept", "layouts", "taken", "flops"):
            setattr(twin, name, list(getattr(self, name)))
        twin.progress = self.progress.copy()
        twin.random = [g.clone_state() for g in self.random]
        twin.recorder = recorder
        if self._before_release is not None:
            # The cut comes before the stop scan, so it is made for samples that ended with the last step, too.
            (
                twin.active, twin.samples, twin.state, twin.guide, twin.attention, twin._decided
            ) = self._before_release  # fmt: skip
        twin.state, twin.guide = own_cache(twin.state), own_cache(twin.guide)
        twin._set_pruner(pruner)
        twin._cut_between(self.done_steps)
        twin._advance()
        return twin

    def hide_committed(self, everywhere: bool = False) -> None:
        """From here on, no response row attends to a response token committed so far, but for its own.

        An intervention, to see what such attention gives; no method asks for it.

        Args:
            everywhere: nor do the prompt's and the visual rows, which could pass on what they saw.

        Raises:
            ValueError: with a cache, whose keys and values know those tokens; or a host that cannot do it.
        """
        if self.cache is not None or "hide" not in self.host.can:
            what = self.host.name if self.cache is None else f"cache {self.cache.name}"
            raise ValueError(f"hide_committed: {what} cannot hide response tokens")

        def hiding(state: State | None, active: LongTensor) -> State | None:
            committed = self.canvas[active] != self.host.mask_id
            committed[:, self.settings.length :] = False
            return None if state is None else replace(state, unseen=Unseen(committed, everywhere))

        self.state, self.guide = (hiding(one, self.active) for one in (self.state, self.guide))
        if self._before_release is not None:  # what a fork goes on from
            active, samples, state, guide, *rest = self._before_release
            self._before_release = (active, samples, hiding(state, active), hiding(guide, active), *rest)

    def results(self) -> list[Result]:
        """What each sample has now."""
        g = self.settings.length
        for place, sample in enumerate(self.samples):
            self.layouts[sample] = self.state.layout.rows(torch.tensor([place], device=self.state.embeds.device))
        out, head = [], self.head_rows.tolist()
        for b in range(self.batch):
            end = int(self.stop_at[b]) if self.stopped[b] else g
            out.append(
                Result(
                    ids=self.canvas[b, :end].tolist() + self.suffix_ids,
                    canvas=self.canvas[b, :g].clone(),
                    visual_tokens=self.visual_tokens[b],
                    kept=self.kept[b],
                    layout=self.layouts[b],
                    steps=self.taken[b],
                    tokens_fed=float(self.fed[b]),
                    flops=self.flops[b] + head_flops(self.host.config.text_config, head[b]),
                )
            )
        return out

    def _transfer(self, conf: Tensor) -> Tensor:
        """``[B', G]`` rows that the step commits."""
        if self.settings.threshold is not None:
            return threshold_rows(conf, self.settings.threshold)
        if self.settings.factor is not None:
            return factor_rows(conf, self.settings.factor)
        quotas = [self.progress.quota(sample) for sample in self.samples]
        return transfer_rows(conf, sent(quotas, conf.device))

    @property
    def _branches(self) -> int:
        """Forwards that a step makes for each sample."""
        return 1 if self.guide is None else 2

    # ---- what is computed --------------------------------------------------------------------------------

    def _spans(self, step: int) -> list[Span] | None:
        """What the step computes for each sample; None without a cache."""
        if self.cache is None:
            return None
        size, rows = self.settings.block, self.canvas.shape[1]
        ends = [(self.progress.index[sample], self.progress.end(sample)) for sample in self.samples]
        moments = [Moment(self.done_steps, index, end - size, end, rows, self._cut_since) for index, end in ends]
        cuts = [(cut, self._layer_needs(cut)) for cut in self.cuts if cut.step == step]
        return choose_spans(self.cache, self.state, moments, self.settings.length, cuts)

    def _logit_rows(self, asked: Tensor, spans: list[Span] | None, rows: int) -> Tensor | slice:
        """Rows of the canvas whose logits are computed: ``[B', rows]`` those asked for, or a slice around them."""
        if self.fixed_rows and spans is None:
            return slice(0, asked.shape[1])
        if self.fixed_rows and len(set(spans)) == 1:
            return slice(spans[0].start, min(spans[0].stop, asked.shape[1]))
        return torch.nn.functional.pad(asked, (0, rows - asked.shape[1]))

    def _predict(
        self, logits: Tensor, response: LongTensor, asked: Tensor, rows: Tensor | slice
    ) -> tuple[LongTensor, Tensor]:
        """Token and fp64 confidence of each response row ``[B', G]``: the token there and -inf where none is asked."""
        settings, predicted = self.settings, response.clone()
        conf = torch.full(response.shape, float("-inf"), dtype=torch.float64, device=logits.device)
        if isinstance(rows, slice):
            tokens = pick_tokens(logits, settings.temperature, None)
            sure = confidence(logits, tokens, settings.remasking)
            here, part = asked[:, rows], (len(response), -1)
            predicted[:, rows] = torch.where(here, tokens.view(part), predicted[:, rows])
            conf[:, rows] = torch.where(here, sure.view(part), float("-inf"))
        elif len(logits):
            random = [self.random[sample] for sample in self.samples]
            noise = draw_noise(asked, logits.shape[-1], settings, random) if self.noisy else {}
            tokens = pick_tokens(logits, settings.temperature, noise.get("tokens"))
            predicted[asked] = tokens
            conf[asked] = confidence(logits, tokens, settings.remasking, noise.get("rows"))
        return predicted, conf

    def _empty_cache(self) -> None:
        """Forget keys and values of a forward in which tokens were dropped for that forward only."""
        for state in (self.state, self.guide):
            if state is not None and state.cache is not None:
                state.cache.layers.clear()

    # ---- blocks and stops --------------------------------------------------------------------------------

    def _advance(self) -> None:
        """Move each sample to its next step, block by block, and let go of those that are done."""
        seen: list[list[bool]] = []

        def look() -> list[list[bool]]:
            if not seen:
                seen.extend(self._look())
            return seen

        self._let_go(
            [place for place, sample in enumerate(self.samples) if self.progress.advance(sample, look)]
        )

    def _look(self) -> list[list[bool]]:
        """Of all samples whether a stop was reached with nothing masked before it, and which rows are masked."""
        self.progress.looks += 1
        masked = self.canvas[:, : self.settings.length] == self.host.mask_id
        position = torch.arange(masked.shape[1], device=masked.device)
        over = self.stopped & ~(masked & (position < self.stop_at[:, None])).any(1)
        return torch.cat([over[:, None], masked], 1).tolist()

    def _let_go(self, staying: list[int]) -> None:
        """Go on with the samples at these places of the batch; the others are done."""
        if len(staying) == len(self.samples):
            return
        device = self.active.device
        for place in sorted(set(range(len(self.samples))) - set(staying)):
            self.layouts[self.samples[place]] = self.state.layout.rows(sent([place], device))
        keep = sent(staying, device, torch.long)
        self.samples = [self.samples[place] for place in staying]
        self.active = self.active[keep]
        if staying:
            self.state = self.state.rows(keep)
            self.guide = None if self.guide is None else self.guide.rows(keep)
            self._decided = None if self._decided is None else self._decided[keep]
            self.attention = None if self.attention is None else thinned(self.attention, keep)

    def _scan_stops(self) -> None:
        """Find stop texts; once one was found only the first of the list is looked for (official)."""
        response = self.canvas[:, : self.settings.length]
        newly = torch.zeros_like(self.stopped)
        for number, ids in enumerate(map(tuple, self.stop_ids)):
            if ids not in self._patterns:
                self._patterns[ids] = sent(ids, response.device, torch.long)
            found = first_occurrence(response, self._patterns[ids])
            hit = found < self.settings.length
            if number:
                hit = hit & ~self.stopped
            self.stop_at = torch.where(hit, torch.minimum(self.stop_at, found), self.stop_at)
            newly = newly | hit
        self.stopped = self.stopped | newly

    # ---- pruning -----------------------------------------------------------------------------------------

    def _set_pruner(self, pruner: Pruner | None) -> None:
        if hasattr(pruner, "check"):
            pruner.check(self.state.layout)
        self.pruner = pruner
        self.cuts: tuple[Cut, ...] = ()
        # A method that keeps everything is the unpruned run, bit for bit: it makes no cut.
        if pruner is not None and not getattr(pruner, "keeps_all", False):
            self.cuts = pruner.cuts(self.settings.most_steps, self.host.layers)

    def _asked(self, step: int) -> list[Needs]:
        asked = [self._layer_needs(cut) for cut in self.cuts if cut.step == step]
        if self.watch is not None:
            asked.append(self.watch)
        if self.recorder is not None and self.recorder.attention:
            asked.append(Needs(attention=frozenset({"response"})))
        return [needs for needs in asked if looks(needs)]

    def _layer_needs(self, cut: Cut) -> Needs:
        needs = self.pruner.needs(cut)
        if cut.layer is not None and looks(needs) and needs.layers is None:
            return replace(needs, layers=(cut.layer,))
        return needs

    def _probe(self, step: int, masked: Tensor) -> AttentionProbe | None:
        """A probe that sees what the cuts of this step, a fork and the recorder ask for, or None.

        Args:
            masked: ``[B', G]`` rows masked before the step.
        """
        asked = self._asked(step)
        if not asked:
            return None
        layout = self.state.layout
        first = layout.prompt_length
        rows = torch.arange(first, first + self.settings.length, device=layout.kind.device)
        heads = any(needs.heads for needs in asked)
        watched = None if heads or any(needs.attention for needs in asked) else 0
        rows = rows.expand(len(self.samples), -1)[:, :watched]
        if any("prompt" in needs.attention for needs in asked):
            rows = torch.cat([rows, layout.columns_of(PROMPT)], 1)
        layers = None
        if all(needs.layers is not None for needs in asked):
            layers = {layer for needs in asked for layer in needs.layers}
        detailed = any(needs.layers is not None for needs in asked)
        detailed |= self.recorder is not None and self.recorder.per_layer
        visual = layout.columns_of(VISUAL)
        if any(needs.rounding == "official" for needs in asked):
            return RoundedProbe(rows, visual, layers, per_layer=detailed, rounding=self.host.rounding)
        guide = torch.nn.functional.pad(masked, (0, rows.shape[1] - masked.shape[1])) if heads else None
        values = any(needs.values for needs in asked)
        probe = AttentionProbe(rows, visual, layers, detailed, values, guide)
        probe.starts = first if rows.shape[1] == self.settings.length else None
        return probe

    def _view(
        self,
        cut: Cut,
        probe: AttentionProbe | None,
        layout: Layout,
        undecided: Tensor,
        decided: Tensor,
        states: Tensor | None,
        size: Tensor | None,
        made: Sequence[Selection] = (),
    ) -> View:
        """What the method sees; ``made`` are the selections of earlier cuts inside the same step."""
        needs = self._layer_needs(cut)
        visual = layout.columns_of(VISUAL)
        attention = prompt_attention = prompt_rows = None
        if needs.attention:
            if probe is None:
                raise ValueError(f"{self.pruner.name} needs attention that was not watched in step {cut.step}")
            if needs.layers is None:
                mass = probe.mean()
            else:
                mass = torch.stack([probe.by_layer[layer] for layer in needs.layers]).mean(0)
            mass = present(mass, probe.columns)
            g = self.settings.length
            if cut.layer is None and bool((probe.rows[:, :g] < 0).any()):
                raise ValueError(f"{self.pruner.name} needs attention of rows that step {cut.step} did not compute")
            attention = mass[:, :g]
            if "prompt" in needs.attention:
                prompt_attention, prompt_rows = mass[:, g:], probe.rows[:, g:] >= 0
        values = heads = None
        if needs.values or needs.heads:
            layers = (probe.seen_layers() if probe else ()) if needs.layers is None else needs.layers
            kinds = [probe.norms] * needs.values + [probe.by_head] * needs.heads if probe else [{}]
            if not layers or not all(kind.keys() >= set(layers) for kind in kinds):
                raise ValueError(f"{self.pruner.name} needs values or heads that were not watched in step {cut.step}")
            if needs.values:
                norms = torch.stack([probe.norms[layer] for layer in layers]).mean(0)
                values = present(norms[:, None], probe.columns)[:, 0]
            if needs.heads:
                mass = torch.stack([probe.by_head[layer] for layer in layers], 1)
                mass = present(mass.flatten(1, 2), probe.columns).unflatten(1, mass.shape[1:3])
                prompt, config = torch.stack([probe.to_prompt[layer] for layer in layers], 1), self.host.config
                groups = config.text_config.num_attention_heads // config.text_config.num_key_value_heads
                gone = None if self.state.cache is None else self.state.cache.forgotten
                heads = Heads(mass, prompt, groups, None if gone is None else gone.held(visual))
        index = sent(pad_rows([self.kept[sample] for sample in self.samples]), visual.device)
        for selection in made:
            index = index.gather(1, selection.keep.clamp(min=0)).masked_fill(selection.keep < 0, -1)
        return View(
            cut=cut,
            layout=layout,
            visual=visual,
            original=self.state.original,
            undecided=undecided,
            just_decided=decided,
            seeds=[self.seeds[sample] for sample in self.samples],
            attention=attention,
            prompt_attention=prompt_attention,
            prompt_rows=prompt_rows,
            states=take_columns(states, visual) if needs.states and states is not None else None,
            inputs=inputs_of(self.state) if needs.inputs else None,
            values=values,
            heads=heads,
            size=None if size is None else size.gather(1, visual.clamp(min=0)),
            index=index,
            extras={name: [given[sample] for sample in self.samples] for name, given in self.extras.items()},
        )

    def _layer_cuts(
        self, step: int, probe: AttentionProbe | None, masked: Tensor, made: dict[int, tuple[Cut, Selection]]
    ) -> dict[int, LayerCut]:
        def cutter(cut: Cut) -> LayerCut:
            def select(hidden: Tensor, layout: Layout) -> Selection:
                before = torch.zeros_like(masked) if self._decided is None else self._decided
                earlier = [chosen for one, chosen in made.values() if one.until is None or one.until > cut.layer]
                view = self._view(cut, probe, layout, masked, before, hidden, None, earlier)
                selection = self.pruner.select(view)
                made[cut.layer] = (cut, selection)
                self._record_cut(cut, selection, layout)
                return selection

            return LayerCut(select, self.pruner.positions, cut.until)

        return {cut.layer: cutter(cut) for cut in self.cuts if cut.step == step and cut.layer is not None}

    def _cut_between(self, step: int) -> None:
        """The cut after ``step``'s transfer, for the samples that have something left to decide."""
        for cut in self.cuts:
            if cut.step != step or cut.layer is not None:
                continue
            if step == 0 or not all(map(self.progress.surely_undecided, self.samples)):
                # Nothing left to guide or to speed up (official_code §5.2); such a sample is done.
                undecided = self.canvas[self.active, : self.settings.length] == self.host.mask_id
                self._let_go([place for place, open_ in enumerate(undecided.any(1).tolist()) if open_])
            if not self.samples:
                continue
            undecided = self.canvas[self.active, : self.settings.length] == self.host.mask_id
            decided = torch.zeros_like(undecided) if self._decided is None else self._decided
            layout = self.state.layout
            view = self._view(cut, self.attention, layout, undecided, decided, self.state.embeds, self.state.size)
            selection = self.pruner.select(view)
            self._record_cut(cut, selection, layout)
            self._apply(selection)

    def _apply(self, selection: Selection, layer: int | None = None) -> None:
        """Make a selection last: shorten the state, and both branches under guidance; ``layer`` as in the cut."""
        self._cut_since = True
        for sample, keep in zip(self.samples, selection.keep.cpu(), strict=True):
            self.kept[sample] = self.kept[sample][keep[keep >= 0]]
        self.state = self.state.apply(selection, self.pruner.positions, layer)
        if self.guide is not None:
            self.guide = self.guide.apply(selection, self.pruner.positions, layer)

    # ---- history -----------------------------------------------------------------------------------------

    def _record(
        self, step, tokens, predicted, moved, conf, undecided, fed, probe, logits, asked, rows
    ) -> None:
        if self.recorder is None:
            return
        if isinstance(rows, slice):
            logits = logits[asked[:, rows].flatten()] if self.recorder.logits else None
        self.recorder.steps.append(
            StepRecord(
                step=step,
                samples=self.active.clone(),
                tokens=tokens.clone(),
                predicted=predicted,
                transferred=moved,
                confidence=conf,
                undecided=undecided,
                block=torch.tensor([self.progress.block[sample] for sample in self.samples]),
                index=torch.tensor([self.progress.index[sample] for sample in self.samples]),
                fed=fed,
                logits=logits.clone() if self.recorder.logits else None,
                **self.recorder.seen_by(probe, self.settings.length),
            )
        )

    def _record_cut(self, cut: Cut, selection: Selection, layout: Layout) -> None:
        if self.recorder is not None:
            self.recorder.cuts.append(CutRecord(cut, self.active.clone(), selection, layout))


def checked_draft(draft: LongTensor, batch: int, length: int, vocabulary: int) -> LongTensor:
    """The draft itself; ValueError where it does not fit the responses."""
    if tuple(draft.shape) != (batch, length):
        raise ValueError(f"draft of shape {tuple(draft.shape)}: expected {batch} samples of {length} tokens")
    strange = draft[(draft < 0) | (draft >= vocabulary)]
    if len(strange):
        raise ValueError(f"draft: expected token ids 0..{vocabulary - 1}, got {int(strange[0])}")
    return draft
