"""Cases of the sampler, pruned or not, with a cache or without."""

from __future__ import annotations

import torch

from redvtp import Decoding, DLLMCache, FastDLLM, Recorder, RedVTP, Settings
from redvtp.attention import AttentionProbe
from redvtp.models.base import State
from redvtp.models.llada_v import LladaV
from redvtp.sequence import VISUAL
from tests.parity.cases import Case, Hosts
from tests.parity.comparison import Comparison, Skipped
from tests.parity.recomputed_rows import rows_as_recorded

INPUTS = (
    "weights", "gen_length", "block_length", "steps", "temperature", "remasking", "cfg_scale", "suffix_ids",
    "stop_sequences", "keep_ratio", "image_position", "inputs_embeds_in", "pre", "nv", "post", "image", "images",
    "image_aspect_ratio", "prefix_refresh_interval", "threshold", "cache_config",
)  # fmt: skip
WORDS = ("source", "error", "api", "post_text", "stopping_criteria", "generation_suffix", "quirk", "tensors")
MARGINS = ("min_conf_margin", "min_argmax_margin", "min_argmax_margin_transferred", "rel_importance_margin_at_cut")


def run(case: Case, found: Comparison, hosts: Hosts) -> None:
    """Repeat the run and compare all it left behind."""
    facts, tensors = case.facts, case.tensors
    if facts.get("temperature", 0) or facts.get("remasking", "low_confidence") != "low_confidence":
        raise Skipped("random draws of another generator cannot be repeated")
    found.use(*INPUTS, *WORDS, *(name for name in facts if name.startswith("lm_head_row_")))
    found.use(*MARGINS)
    found.leave("*_margin*", "say how near a tie the official run came, which is no output")
    host = hosts.of(case)
    found.same("mask_id", host.mask_id, facts.get("mask_id", host.mask_id))
    found.same("suppressed_ids", sorted(host.banned_ids), sorted(facts.get("suppressed_ids", host.banned_ids)))
    state = begin(case, found, host)
    settings = Settings(
        length=facts["gen_length"],
        steps=facts["steps"],
        block_length=facts["block_length"],
        cfg_scale=facts.get("cfg_scale", 0.0),
        # The hook's "threshold" is the factor of Fast-dLLM's falling bar (official_code §3.1).
        factor=facts.get("threshold"),
    )
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
        recorder=recorder,
    )
    positions = []
    with rows_as_recorded(case.name, decoding):
        while len(decoding.active):
            place, taken = decoding.state.positions[0], decoding.fed.clone()
            decoding.step()
            positions.append(place[-round(float(decoding.fed - taken)) :])
    result = decoding.results()[0]
    found.same("output_ids", result.ids, tensors["output_ids"][0])
    compare_steps(case, found, recorder)
    compare_logits(case, found, host, recorder)
    span = [[int(p.min()), int(p.max()), len(p), bool((p.diff() == 1).all())] for p in positions]
    if "position_ids_per_forward" in facts:
        found.same("position_ids_per_forward", span, facts["position_ids_per_forward"])
    if "rope_positions_per_forward" in facts:
        found.same("rope_positions_per_forward", [s[:3] for s in span], facts["rope_positions_per_forward"])
    if "keep_local_idx" in tensors or "vis_start" in facts:
        compare_cut(case, found, state, recorder, result.kept)
    elif keep is not None:
        found.same("visual tokens, where the official run pruned nothing", len(result.kept), int(state.original[0]))
    if "step0_layer_attn_headmean_full" in tensors:
        maps = head_mean_maps(host, state, settings.length, facts.get("suffix_ids") or ())
        found.close("step0_layer_attn_headmean_full", maps, tensors["step0_layer_attn_headmean_full"])


def cache_of(case: Case) -> FastDLLM | DLLMCache | None:
    """The cache that the case ran with."""
    if case.kind == "fast_dllm":
        return FastDLLM(refresh=case.facts["prefix_refresh_interval"])
    if case.kind == "dllm_cache":
        own = case.facts["cache_config"]
        return DLLMCache(own["prompt_interval_steps"], own["gen_interval_steps"], own["transfer_ratio"])
    return None


def begin(case: Case, found: Comparison, host: LladaV) -> State:
    """The state before the first step, from images and ids or from ready embeddings."""
    facts, suffix = case.facts, len(case.facts.get("suffix_ids") or ())
    if "input_ids" in case.tensors:
        found.use("input_ids")
        images = case.images()
        if "image_sizes" in facts:
            found.same("image_sizes", [[i.shape[1], i.shape[0]] for i in images], facts["image_sizes"])
        state = host.begin_from_ids(case.tensors["input_ids"][0].tolist(), images, facts["gen_length"], suffix)
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
    return host.begin_from_embeddings(embeds, facts["gen_length"], start, count, suffix)


def compare_steps(case: Case, found: Comparison, recorder: Recorder) -> None:
    """Tokens, transfers, confidences and lengths of every step."""
    steps, tensors, facts = recorder.steps, case.tensors, case.facts
    fed = [float(s.fed[0]) for s in steps]
    moved = [int(s.transferred.sum()) for s in steps]
    unsure = [int((s.transferred & ~torch.isfinite(s.confidence)).sum()) for s in steps]
    found.same("n_steps", len(steps), facts["n_steps"])
    if case.kind == "dllm_cache":
        reason = "the hook counts the whole sequence in each step; ours counts the rows that are computed"
        found.leave("fed_per_step", reason)
        found.leave("step_fed", reason)
    else:
        found.same("fed_per_step", fed, facts["fed_per_step"])
        found.same("step_fed", fed, tensors["step_fed"])
    found.same("transferred_per_step", moved, facts["transferred_per_step"])
    name = "transferred_with_nonfinite_confidence_per_step"
    if name in facts:
        found.same(name, unsure, facts[name])
    if len(steps) != facts["n_steps"]:
        return
    found.same("step_tokens", torch.cat([s.tokens for s in steps]), tensors["step_tokens"])
    predicted = torch.cat([s.predicted for s in steps])
    if case.kind == "fast_dllm":
        # The hook records 0 for the rows that it did not run.
        run = torch.tensor(fed).clamp(max=predicted.shape[1] + len(facts["suffix_ids"] or ()))
        rows = torch.arange(predicted.shape[1]) - len(facts["suffix_ids"] or ())
        predicted[(predicted.shape[1] - rows)[None] > run[:, None]] = 0
    found.same("step_x0", predicted, tensors["step_x0"])
    found.same("step_transfer", torch.cat([s.transferred for s in steps]), tensors["step_transfer"])
    found.same("step_block", torch.cat([s.block for s in steps]), tensors["step_block"])
    found.same("step_i", torch.cat([s.index for s in steps]), tensors["step_i"])
    if "step_conf" in tensors:
        found.close("step_conf", torch.cat([s.confidence for s in steps]), tensors["step_conf"])


def compare_logits(case: Case, found: Comparison, host: LladaV, recorder: Recorder) -> None:
    """Every fourth response row of the first two steps, where the row was masked before the step."""
    for number in (0, 1):
        name = f"step{number}_logits_resp_sub4"
        if name not in case.tensors:
            continue
        theirs = case.tensors[name]
        if number >= len(recorder.steps):
            found.same(name, "no such step", "a step")
            continue
        step = recorder.steps[number]
        before = torch.full_like(step.tokens, host.mask_id) if number == 0 else recorder.steps[number - 1].tokens
        masked = before[0] == host.mask_id
        ours = step.logits.new_full((len(masked), step.logits.shape[1]), float("nan"))
        ours[masked] = step.logits
        rows = torch.nonzero(masked[::4]).flatten()
        found.close(name, ours[::4][rows], theirs[rows])
        rest = sorted(set(range(0, len(masked), 4)) - set((rows * 4).tolist()))
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


def head_mean_maps(host: LladaV, state: State, length: int, suffix: tuple[int, ...] | list[int]) -> torch.Tensor:
    """``[L, T, T]`` head-mean attention of the first step, by a probe that watches every row and column."""
    canvas = torch.tensor([[host.mask_id] * length + list(suffix)])
    everything = torch.arange(state.layout.length)[None]
    probe = AttentionProbe(everything, everything, per_layer=True)
    host.forward(state, canvas, torch.zeros_like(canvas, dtype=torch.bool), probe)
    return torch.cat([probe.by_layer[layer] for layer in sorted(probe.by_layer)])
