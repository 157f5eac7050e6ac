"""Cases of the sampler, pruned or not, with a cache or without."""

from __future__ import annotations

import torch

from redvtp import Decoding, DLLMCache, FastDLLM, PrefixDLM, Recorder, RedVTP, Settings
from redvtp.attention import AttentionProbe
from redvtp.caching import CachePolicy
from redvtp.models.base import State
from redvtp.models.keyvalues import split_heads
from redvtp.models.llava import LlavaHost
from redvtp.sequence import VISUAL
from tests.parity.cases import HEAD_ROW, Case, Hosts
from tests.parity.comparison import Comparison, Skipped
from tests.parity.recomputed_rows import rows_as_recorded

INPUTS = (
    "weights", "gen_length", "block_length", "steps", "temperature", "remasking", "cfg_scale", "suffix_ids",
    "stop_sequences", "keep_ratio", "image_position", "inputs_embeds_in", "pre", "nv", "post", "image", "images",
    "image_aspect_ratio", "max_new_tokens", "prefix_lm", "step_ratio", "step_per_block", "schedule", "schedule_kwargs",
    "draft_tokens", "prefix_refresh_interval", "threshold", "cache_config",
)  # fmt: skip
WORDS = (
    "source", "error", "api", "post_text", "stopping_criteria", "generation_suffix", "quirk", "note", "tensors",
)  # fmt: skip
MARGINS = ("min_conf_margin", "min_argmax_margin", "min_argmax_margin_transferred", "rel_importance_margin_at_cut")


def run(case: Case, found: Comparison, hosts: Hosts) -> None:
    """Repeat the run and compare all it left behind."""
    facts, tensors = case.facts, case.tensors
    if facts.get("temperature", 0) or facts.get("remasking") == "random":
        raise Skipped("random draws of another generator cannot be repeated")
    found.use(*INPUTS, *WORDS, *(name for name in facts if HEAD_ROW.fullmatch(name)))
    found.use(*MARGINS)
    found.leave("*_margin*", "say how near a tie the official run came, which is no output")
    host = hosts.of(case)
    found.same("mask_id", host.mask_id, facts.get("mask_id", host.mask_id))
    found.same("suppressed_ids", sorted(host.banned_ids), sorted(facts.get("suppressed_ids", host.banned_ids)))
    settings = settings_of(facts)
    state = begin(case, found, host, settings.length)
    keep = facts.get("keep_ratio")
    recorder = Recorder(attention=keep is not None, per_layer=True, logits=True)
    decoding = Decoding(
        host,
        state,
        settings,
        # The official code scores and prunes the first image only.
        None if keep is None else RedVTP(keep=float(keep), images=(0,)),
        cache=cache_of(case),
        stop_ids=facts.get("stop_sequences") or (),
        suffix_ids=facts.get("suffix_ids") or (),
        draft=tensors.get("draft_tokens"),
        recorder=recorder,
    )
    positions, drafted = [], decoding.canvas[:, : settings.length].clone()
    with rows_as_recorded(case.name, decoding):
        while len(decoding.active):
            place, taken = decoding.state.positions[0], decoding.fed.clone()
            decoding.step()
            positions.append(place[-round(float((decoding.fed - taken)[0])) :])
            if len(positions) == 1 and "prefix_k" in tensors:
                compare_prefix(case, found, decoding)
    results = decoding.results()
    result = results[0]
    if "output_x" in tensors:
        # Without a cache LaViDa's output begins with the prompt's columns, written as token 0.
        columns = 0 if facts["prefix_lm"] else result.layout.prompt_length
        found.same("output_x", [[0] * columns + r.canvas.tolist() for r in results], tensors["output_x"])
    else:
        found.same("output_ids", result.ids, tensors["output_ids"][0])
    compare_steps(case, found, recorder, state)
    compare_logits(case, found, host, recorder, drafted)
    span = [[int(p.min()), int(p.max()), len(p), bool((p.diff() == 1).all())] for p in positions]
    if "position_ids_per_forward" in facts:
        found.same("position_ids_per_forward", span, facts["position_ids_per_forward"])
    if "rope_positions_per_forward" in facts:
        found.same("rope_positions_per_forward", [s[:3] for s in span], facts["rope_positions_per_forward"])
    if "keep_local_idx" in tensors or "vis_start" in facts:
        compare_cut(case, found, state, recorder, result.kept)
    elif keep is not None:
        found.same("visual tokens, where the official run pruned nothing", len(result.kept), int(state.original[0]))
    if "step0_attn_mean_full" in tensors:
        maps = head_mean_maps(host, state, settings.length, ())
        found.close("step0_attn_mean_full", maps.mean(0), tensors["step0_attn_mean_full"])
    if "step0_layer_attn_headmean_full" in tensors:
        maps = head_mean_maps(host, state, settings.length, facts.get("suffix_ids") or ())
        found.close("step0_layer_attn_headmean_full", maps, tensors["step0_layer_attn_headmean_full"])


def settings_of(facts: dict) -> Settings:
    """The settings in our words; LaViDa takes one step a token where nothing else is said."""
    if "gen_length" in facts:
        return Settings(
            length=facts["gen_length"],
            steps=facts["steps"],
            block_length=facts["block_length"],
            cfg_scale=facts.get("cfg_scale", 0.0),
            # The hook's "threshold" is the factor of Fast-dLLM's falling bar (official_code §3.1).
            factor=facts.get("threshold"),
        )
    length, ratio, per_block = facts["max_new_tokens"], facts.get("step_ratio"), facts.get("step_per_block")
    words = {"entrophy": "entropy"}  # as LaViDa writes it
    remasking = facts.get("remasking", "low_confidence")
    return Settings(
        length=length,
        steps=facts.get("steps", length) if ratio is None and per_block is None else None,
        block_length=facts.get("block_length", length),
        remasking=words.get(remasking, remasking),
        schedule=facts.get("schedule"),
        shift=(facts.get("schedule_kwargs") or {}).get("shift"),
        step_ratio=ratio,
        step_per_block=per_block,
    )


def cache_of(case: Case) -> CachePolicy | None:
    """The cache that the case ran with."""
    if case.kind == "fast_dllm":
        return FastDLLM(refresh=case.facts["prefix_refresh_interval"])
    if case.kind == "dllm_cache":
        own = case.facts["cache_config"]
        return DLLMCache(own["prompt_interval_steps"], own["gen_interval_steps"], own["transfer_ratio"])
    return PrefixDLM() if case.facts.get("prefix_lm") else None


def begin(case: Case, found: Comparison, host: LlavaHost, length: int) -> State:
    """The state before the first step, from images and ids or from ready embeddings."""
    facts, suffix = case.facts, len(case.facts.get("suffix_ids") or ())
    if "input_ids" in case.tensors:
        found.use("input_ids")
        images = case.images()
        if "image_sizes" in facts:
            found.same("image_sizes", [[i.shape[1], i.shape[0]] for i in images], facts["image_sizes"])
        state = host.begin_from_ids(case.tensors["input_ids"][0].tolist(), images, length, suffix)
        if "num_visual_tokens" in facts:
            found.same("num_visual_tokens", int(state.original[0]), facts["num_visual_tokens"])
        return state
    found.use("inputs_embeds", "num_visual_tokens")
    embeds = case.shared_tensor("inputs_embeds")
    start = facts.get("image_position", facts.get("pre", 0))
    count = facts.get("num_visual_tokens", facts.get("nv", 0))
    if "prompt_text_ids" in case.tensors:
        text = torch.cat([embeds[0, :start], embeds[0, start + count :]])
        found.close("prompt_text_ids", host.decoder.embed_tokens(case.tensors["prompt_text_ids"]), text)
    return host.begin_from_embeddings(embeds, length, start, count, suffix)


def compare_steps(case: Case, found: Comparison, recorder: Recorder, state: State) -> None:
    """Tokens, transfers, confidences and lengths of every step; LaViDa's tensors have an axis for the batch."""
    steps, tensors, facts = recorder.steps, case.tensors, case.facts
    fed = [float(s.fed[0]) for s in steps]
    moved = [int(s.transferred[0].sum()) for s in steps]
    unsure = [int((s.transferred & ~torch.isfinite(s.confidence)).sum()) for s in steps]
    found.same("n_steps", len(steps), facts["n_steps"])
    if case.kind == "dllm_cache":
        reason = "the hook counts the whole sequence in each step; ours counts the rows that are computed"
        found.leave("fed_per_step", reason)
        found.leave("step_fed", reason)
    else:
        compare_forwards(case, found, fed, state.layout.prompt_length)
        if facts.get("prefix_lm"):
            fed[0] -= state.layout.prompt_length  # officially fed in a forward of its own before the first step
        found.same("fed_per_step", fed, facts["fed_per_step"])
        found.same("step_fed", fed, tensors["step_fed"])
    found.same("transferred_per_step", moved, facts["transferred_per_step"])
    name = "transferred_with_nonfinite_confidence_per_step"
    if name in facts:
        found.same(name, unsure, facts[name])
    if len(steps) != facts["n_steps"]:
        return

    def stacked(part: str, like: str) -> torch.Tensor:
        return torch.stack([getattr(s, part) for s in steps]).reshape(tensors[like].shape)

    predicted = stacked("predicted", "step_x0")
    if case.kind == "fast_dllm":
        # The hook records 0 for the rows that it did not run.
        run = torch.tensor(fed).clamp(max=predicted.shape[1] + len(facts["suffix_ids"] or ()))
        rows = torch.arange(predicted.shape[1]) - len(facts["suffix_ids"] or ())
        predicted[(predicted.shape[1] - rows)[None] > run[:, None]] = 0
    found.same("step_tokens", stacked("tokens", "step_tokens"), tensors["step_tokens"])
    found.same("step_x0", predicted, tensors["step_x0"])
    found.same("step_transfer", stacked("transferred", "step_transfer"), tensors["step_transfer"])
    found.same("step_block", [int(s.block[0]) for s in steps], tensors["step_block"])
    found.same("step_i", [int(s.index[0]) for s in steps], tensors["step_i"])
    if "step_conf" in tensors:
        found.close("step_conf", stacked("confidence", "step_conf"), tensors["step_conf"])


def compare_forwards(case: Case, found: Comparison, fed: list[float], prompt: int) -> None:
    """The length of every forward, where the official run recorded it; the fork makes two of each."""
    name = "seq_len_of_every_transformer_forward"
    if name not in case.facts:
        return
    if case.facts.get("prefix_lm"):
        found.same(name, [prompt, fed[0] - prompt, *fed[1:]], case.facts[name])
    elif case.facts.get("keep_ratio") is not None:
        found.same(name, [length for length in fed for _ in range(2)], case.facts[name])
    else:
        found.same(name, fed, case.facts[name])


def compare_prefix(case: Case, found: Comparison, decoding: Decoding) -> None:
    """Keys before the rotary embedding, and values, of the prompt in every layer's cache."""
    stored = [layer for _, layer in sorted(decoding.state.cache.layers.items())]
    for name, part in (("prefix_k", "keys"), ("prefix_v", "values")):
        theirs = case.tensors[name]
        ours = [split_heads(getattr(layer, part), theirs.shape[-1])[:, :, : theirs.shape[3]] for layer in stored]
        found.close(name, torch.stack(ours), theirs)


def compare_logits(case: Case, found: Comparison, host: LlavaHost, recorder: Recorder, drafted: torch.Tensor) -> None:
    """Every fourth response row of the first two steps, where the row was masked before the step.

    Args:
        drafted: ``[B, G]`` the response before the first step.
    """
    for number in (0, 1):
        name = f"step{number}_logits_resp_sub4"
        if name not in case.tensors:
            continue
        if number >= len(recorder.steps):
            found.same(name, "no such step", "a step")
            continue
        step = recorder.steps[number]
        masked = (drafted if number == 0 else recorder.steps[number - 1].tokens) == host.mask_id
        ours = step.logits.new_full((*masked.shape, step.logits.shape[1]), float("nan"))
        ours[masked] = step.logits
        ours, there = ours[:, ::4], masked[:, ::4]
        found.close(name, ours[there], case.tensors[name].reshape(ours.shape)[there])
        rest = sorted(set((4 * torch.nonzero(~there)[:, 1]).tolist()))
        if rest:
            found.leave(f"{name}, response rows {rest}", "committed before the step; logits there are not computed")


def compare_cut(case: Case, found: Comparison, state: State, recorder: Recorder, kept: torch.Tensor) -> None:
    """What the cut saw and kept; indices count from the first image's first token, as the official ones do."""
    facts, tensors, step = case.facts, case.tensors, recorder.steps[0]
    layout = state.layout
    visual = layout.columns_of(VISUAL)[0]
    first = layout.image[0, visual] == 0
    count, start = int(first.sum()), int(visual[0])
    undecided = step.undecided[0]
    attention = torch.stack([step.by_layer[layer][0] for layer in sorted(step.by_layer)])[:, undecided][:, :, first]
    own = kept[kept < count]
    found.same("vis_start", start, facts["vis_start"])
    found.same("vis_end", start + count, facts["vis_end"])
    found.same("keep_n", len(own), facts["keep_n"])
    found.same("T_before_prune", layout.length, facts["T_before_prune"])
    found.same("n_query_rows", int(undecided.sum()), facts["n_query_rows"])
    found.same("keep_local_idx", own, tensors["keep_local_idx"])
    rows = torch.nonzero(undecided).flatten() + layout.prompt_length
    if "remask_mask" in tensors:
        found.same("remask_mask", torch.isin(torch.arange(layout.length), rows), tensors["remask_mask"])
    else:
        found.same("remask_indices", rows, tensors["remask_indices"])
    stays = torch.ones(layout.length, dtype=torch.bool)
    stays[visual] = False
    stays[visual[kept]] = True
    found.same("global_keep", stays, tensors["global_keep"])
    theirs = tensors["importance"]
    found.close("importance", step.attention[0, undecided][:, first].mean(0), theirs, 1e-5 * float(theirs.max()))
    name = "step0_attn_headmean_remask_rows_vis_cols"
    if name in tensors:
        found.close(name, attention, tensors[name])
    name = "step0_attn_mean_remask_rows_vis_cols"
    if name in tensors:
        found.close(name, attention.mean(0), tensors[name])


def head_mean_maps(host: LlavaHost, state: State, length: int, suffix: tuple[int, ...] | list[int]) -> torch.Tensor:
    """``[L, T, T]`` head-mean attention of the first step, by a probe that watches every row and column."""
    canvas = torch.tensor([[host.mask_id] * length + list(suffix)])
    everything = torch.arange(state.layout.length)[None]
    probe = AttentionProbe(everything, everything, per_layer=True)
    host.forward(state, canvas, torch.zeros_like(canvas, dtype=torch.bool), probe)
    return torch.cat([probe.by_layer[layer] for layer in sorted(probe.by_layer)])
