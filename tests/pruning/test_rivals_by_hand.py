"""Methods against slow computations of their own: votes, merging, values, guides, priors."""

from __future__ import annotations

import pytest
import torch

from redvtp import (
    SGL,
    Count,
    D3ToM,
    FastV,
    MaskKV,
    Mass,
    Model,
    Needs,
    Prompt,
    Recorder,
    RedVTP,
    Staged,
    VNorm,
    ZipVL,
    guidance,
)
from redvtp.attention import rotate
from redvtp.pruning.contender import less_prior, likeness_to_better
from redvtp.pruning.maskkv import shares_of_layers, votes
from redvtp.pruning.merging import absorbed, averaged
from redvtp.selection import Cut, Heads, Selection, View
from redvtp.sequence import PROMPT, VISUAL, even_cells, grid_layout
from tests.redvtp.runs import FAST, assert_same, extras, run
from tests.tiny import build_lavida, picture

LENGTH = FAST["length"]


class Onlooker(RedVTP):
    """Keeps everything, and notes what it is shown at its cuts."""

    def __init__(self, cuts, needs) -> None:
        object.__setattr__(self, "chosen", cuts)
        object.__setattr__(self, "wanted", needs)
        object.__setattr__(self, "seen", [])
        super().__init__(keep=Mass(1.0))

    def cuts(self, steps, layers):
        return self.chosen

    def needs(self, cut):
        return self.wanted

    def select(self, view):
        self.seen.append(view)
        n = view.visual.shape[1]
        place = torch.arange(n, device=view.visual.device).expand_as(view.visual)
        return Selection(torch.where(view.valid, place, -1))


@torch.no_grad()
def maps(host, prompt, layers, canvas=None):
    """Norms of the values and maps by head of a forward over the canvas (None: a first step's), from the stock layers:
    {layer: ([T], [H, T, T])}."""
    state = host.begin([prompt], LENGTH)
    canvas = torch.full((1, LENGTH), host.mask_id) if canvas is None else canvas
    hidden = state.with_rows(host.decoder.embed_tokens(canvas))
    rotary = host.decoder.rotary_emb(hidden, position_ids=state.positions)
    found = {}
    for number, layer in enumerate(host.decoder.layers, start=1):
        normed, attention = layer.input_layernorm(hidden), layer.self_attn
        value = attention.v_proj(normed)[0]
        heads = (1, hidden.shape[1], -1, attention.head_dim)
        projections = attention.q_proj, attention.k_proj
        query, key = (rotate(each(normed).view(heads).transpose(1, 2), rotary) for each in projections)
        key = key.repeat_interleave(query.shape[1] // key.shape[1], 1)
        weights = (query @ key.transpose(2, 3) * attention.scaling).softmax(-1)[0]
        found[number] = (value.norm(dim=-1), weights)
        hidden = layer(hidden, attention_mask=None, position_embeddings=rotary, is_causal=False)
    return state.layout, {layer: found[layer] for layer in layers}


def test_values_and_heads_are_those_of_the_layers(model, host, prompts):
    looking = Onlooker((Cut(1),), Needs(attention=frozenset({"response"}), heads=True, values=True, layers=(1, 3)))
    run(model, prompts[:3], looking, steps=3)
    view = looking.seen[0]
    for b, place in ((0, 0), (2, 2)):
        layout, by_layer = maps(host, prompts[b], (1, 3))
        visual = layout.columns_of(VISUAL)[0]
        n, first = len(visual), layout.prompt_length
        norms = torch.stack([by_layer[layer][0][visual] for layer in (1, 3)]).mean(0)
        torch.testing.assert_close(view.values[place, :n], norms, rtol=1e-4, atol=1e-5)
        for number, layer in enumerate((1, 3)):
            mass = by_layer[layer][1][:, first:].sum(1)  # all rows are masked before step 1
            torch.testing.assert_close(view.heads.mass[place, number, :, :n], mass[:, visual], rtol=1e-4, atol=1e-5)
            share = mass[:, :first].sum(1) / mass.sum(1)
            torch.testing.assert_close(view.heads.prompt[place, number], share, rtol=1e-4, atol=1e-5)
        assert view.index[place, :n].tolist() == list(range(n))


def test_vnorm_keeps_the_shortest_values(model, host, prompts):
    layout, by_layer = maps(host, prompts[0], (2,))
    norms = by_layer[2][0][layout.columns_of(VISUAL)[0]]
    count = 5
    shortest = sorted(norms.argsort(stable=True)[:count].tolist())
    longest = sorted((-norms).argsort(stable=True)[:count].tolist())
    assert run(model, prompts[:1], VNorm(keep=Count(count)))[0].kept.tolist() == shortest
    assert run(model, prompts[:1], VNorm(keep=Count(count), longest=True))[0].kept.tolist() == longest


def test_vnorm_asks_for_no_attention(model, prompts):
    recorder = Recorder()
    run(model, prompts[:1], VNorm(keep=0.5), recorder=recorder)
    assert not VNorm().needs(Cut(1, 2)).attention
    assert [record.cut for record in recorder.cuts] == [Cut(1, layer=2)]


# ---- MaskKV ------------------------------------------------------------------------------------------------


def test_votes_by_hand():
    mass = torch.tensor([[[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]], [[0.2, 0.2, 0.6], [0.0, 0.9, 0.1]]]).double()
    budgets = torch.tensor([[1, 2], [2, 1]])
    assert votes(mass, budgets).tolist() == [1 + 1 + 1 + 0, 0 + 0 + 0 + 1, 0 + 1 + 1 + 0]


def test_layer_shares_by_hand():
    torch.testing.assert_close(shares_of_layers((1.0,) * 8, 0.4), torch.full((8,), 1 / 8).double())
    shares = shares_of_layers((3.0, 1.0, 1.0, 3.0), 0.0)  # boundary 6 of 8
    torch.testing.assert_close(shares, torch.tensor([3, 1, 1, 3]).double() / 8)
    assert float(shares_of_layers((3.0, 0.0, 1.0), 0.4).sum()) == pytest.approx(1)


def test_budgets_go_by_the_prompts_part(model, prompts):
    method = MaskKV(keep=0.5, alpha=0.0)
    heads = Heads(torch.rand(2, 2, 10).double(), torch.tensor([[0.75, 0.25], [0.5, 0.5]]).double())
    assert method.budgets(4, heads, 10).tolist() == [[6, 2], [4, 4]]
    assert MaskKV(keep=0.5, alpha=1.0).budgets(4, heads, 10).tolist() == [[4, 4], [4, 4]]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MaskKV(alpha=2), "alpha=2"),
        (lambda: MaskKV(importance=()), "importance="),
        (lambda: D3ToM(keep=Count(3), adaptive=True), "adaptive=True"),
        (lambda: Staged(first=0.0), "keep ratio 0.0"),
        (lambda: Staged(window=0), "window=0"),
        (lambda: Staged(diversity=1.5), "diversity=1.5"),
        (lambda: Staged(merge=1), "merge=1"),
    ],
)
def test_bad_parameters_are_refused_when_written(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (MaskKV(importance=(1.0, 2.0)), "importance of 2 layers for a model of 3"),
        (SGL(), "needs the extra 'guide'"),
        (Staged(prior=True), "needs the extra 'prior'"),
    ],
)
def test_what_cannot_be_done_is_refused_before_any_forward(model, prompts, monkeypatch, method, message):
    monkeypatch.setattr(type(model.host), "forward", lambda *_, **__: pytest.fail("a forward ran"))
    with pytest.raises(ValueError, match=message):
        model.generate_batch(prompts[:1], prune=method, length=6, steps=3)


# ---- D3ToM and merging -------------------------------------------------------------------------------------


def test_d3tom_is_shown_the_rows_of_the_step_before(model, prompts):
    cuts = tuple(Cut(k, layer=1, lasting=False) for k in (1, 2, 3))
    looking, recorder = Onlooker(cuts, Needs(attention=frozenset({"response"}))), Recorder()
    run(model, prompts[:2], looking, recorder=recorder)
    assert not looking.seen[0].just_decided.any()
    for view, before in zip(looking.seen[1:], recorder.steps, strict=False):
        assert torch.equal(view.just_decided, before.transferred)


def test_d3tom_scores_and_sums(model, prompts):
    recorder = Recorder()
    run(model, prompts[:1], D3ToM(keep=0.4, layer=1), recorder=recorder)
    assert [record.cut.step for record in recorder.cuts] == [2, 3]
    for record in recorder.cuts:
        merge, keep = record.selection.merge[0], record.selection.keep[0]
        assert set(merge.unique().tolist()) == {0, 1}
        assert merge.sum(0).tolist() == [1.0] * merge.shape[1]  # each token goes to one kept token, whole
        assert all(merge[row, column] == 1 for row, column in enumerate(keep.tolist()))
        assert record.selection.size is None


def test_d3tom_lets_the_share_grow(model):
    cuts = D3ToM(keep=0.25, adaptive=True).cuts(4, 6)
    assert [cut.keep.ratio for cut in cuts] == pytest.approx([0.125, 0.25, 0.375])  # 2 keep (step - 1) / steps
    assert {cut.layer for cut in cuts} == {4}


def shown(states, size=None, valid=None):
    """A view of one sample with these states."""
    n = len(states)
    visual = torch.arange(n)[None]
    if valid is not None:
        visual = visual.masked_fill(~torch.tensor(valid)[None], -1)
    no = torch.zeros(1, 2, dtype=torch.bool)
    return View(Cut(1), None, visual, torch.tensor([n]), no, no, [0], states=states[None], size=size)


def test_dropped_tokens_go_to_the_most_similar():
    states = torch.tensor([[1.0, 0], [0, 1], [0.9, 0.1], [0.1, 2.0], [0.5, 0.5]])
    selection = Selection(torch.tensor([[0, 1]]))
    made = absorbed(shown(states), selection)[0]
    assert made.tolist() == [[1, 0, 1, 0, 1], [0, 1, 0, 1, 0]]
    mean = averaged(shown(states, size=torch.tensor([[1.0, 1, 3, 1, 1]])), selection)
    torch.testing.assert_close(mean.merge[0, 0], torch.tensor([0.2, 0, 0.6, 0, 0.2]))
    assert mean.size.tolist() == [[5, 2]]
    padded = absorbed(shown(states, valid=[True] * 4 + [False]), selection)[0]
    assert padded[:, 4].tolist() == [0, 0]


# ---- ZipVL and SGL -----------------------------------------------------------------------------------------


def test_zipvl_keeps_fewer_for_less_mass(model, prompts):
    counts = [len(run(model, prompts[:1], ZipVL(keep=Mass(p)))[0].kept) for p in (0.3, 0.6, 0.9)]
    assert counts == sorted(counts) and counts[0] < counts[-1]
    assert_same(run(model, prompts[:1], ZipVL(keep=0.4))[0],
                run(model, prompts[:1], RedVTP(keep=0.4, rows="prompt+response"))[0])


def test_sgl_follows_the_guide(model, prompts):
    n = model.host.begin(prompts[:1], 1).original.item()
    wish = torch.zeros(n)
    wish[[1, 4, n - 1]] = 1.0
    for layer in (0, None):
        method = SGL(keep=Count(3), layer=layer)
        result = model.start(prompts[:1], prune=method, extras={"guide": [wish]}, **FAST).run()[0]
        assert result.kept.tolist() == [1, 4, n - 1]
    with pytest.raises(ValueError, match=f"'guide' of shape .2,.: expected one number for each of {n}"):
        model.start(prompts[:1], prune=SGL(keep=0.5, layer=0), extras={"guide": [wish[:2]]}, **FAST)


def test_a_guide_of_the_same_layout_gives_its_own_attention(model, prompts):
    """The scores are those of one forward over the finished answer, by the stock layers; a batch gives what each sample
    gives alone."""
    found = guidance.guide_scores(model, prompts, model, **FAST)
    plain = model.start(prompts, **FAST).run()
    assert all(flops > result.flops for flops, result in zip(found.flops, plain, strict=True))
    for prompt, score, flops in zip(prompts, found.scores, found.flops, strict=True):
        alone = guidance.guide_scores(model, [prompt], model, **FAST)
        torch.testing.assert_close(score, alone.scores[0], rtol=1e-4, atol=1e-5)
        assert flops == alone.flops[0]
        assert len(score) == model.host.begin([prompt], 1).original.item()
    for prompt, score, result in zip(prompts, found.scores, plain, strict=True):
        layout, by_layer = maps(model.host, prompt, range(1, 4), result.canvas[None])
        rows = layout.kind[0] == PROMPT
        rows[layout.prompt_length : layout.prompt_length + len(result.ids)] = True
        mean = torch.stack([weights.mean(0) for _, weights in by_layer.values()]).mean(0)
        torch.testing.assert_close(score, mean[rows][:, layout.kind[0] == VISUAL].sum(0), rtol=1e-4, atol=1e-5)
    result = model.start(prompts, prune=SGL(keep=0.4), extras={"guide": found.scores}, **FAST).run()[0]
    best = found.scores[0].argsort(descending=True, stable=True)[: len(result.kept)].sort().values
    assert result.kept.tolist() == best.tolist()


def test_a_guide_with_other_tokens_is_mapped_by_area(model):
    """LaViDa's cells are not LLaDA-V's; the mapped scores still fit, and a flat score stays flat."""
    other = Model(build_lavida())
    prompts = [Prompt("What?", [picture(100, 40, 1)]), Prompt("And?", [picture(60, 90, 2)])]
    found = guidance.guide_scores(other, prompts, model, **FAST)
    layouts = [one.host.begin(prompts, 1).layout for one in (other, model)]
    assert [len(score) for score in found.scores] == layouts[1].count(VISUAL).tolist()
    assert all(bool(score.isfinite().all()) for score in found.scores)
    first = torch.tensor([0])
    flat = guidance.moved(torch.ones(int(layouts[0].count(VISUAL)[0])), *(layout.rows(first) for layout in layouts))
    torch.testing.assert_close(flat, torch.ones_like(flat))


def test_scores_move_to_cells_by_the_area_they_share():
    def grid(side):
        return grid_layout(0, torch.ones(side, side, dtype=torch.int32), even_cells(0, 0, 8, 8, side, side), False)

    moved = guidance.moved(torch.tensor([1.0, 2.0, 3.0, 4.0]), grid(2), grid(4))
    assert moved.view(4, 4)[0].tolist() == [1, 1, 2, 2] and moved.view(4, 4)[3].tolist() == [3, 3, 4, 4]
    back = guidance.moved(torch.arange(16.0), grid(4), grid(2))
    assert back.tolist() == [(0 + 1 + 4 + 5) / 4, (2 + 3 + 6 + 7) / 4, (8 + 9 + 12 + 13) / 4, (10 + 11 + 14 + 15) / 4]


def test_layer_importance_is_how_far_attention_turns_the_states(model, prompts):
    """Against the stock layers, whose attention is caught by a hook; padding has no say."""
    found = guidance.layer_importance(model, prompts, LENGTH)
    given, added = ([[] for _ in model.host.decoder.layers] for _ in range(2))
    for prompt in prompts:
        state = model.host.begin([prompt], LENGTH)
        hidden = state.with_rows(model.host.decoder.embed_tokens(torch.full((1, LENGTH), model.host.mask_id)))
        rotary = model.host.decoder.rotary_emb(hidden, position_ids=state.positions)
        for number, layer in enumerate(model.host.decoder.layers):
            hook = layer.self_attn.register_forward_hook(lambda *seen, at=added[number]: at.append(seen[-1][0][0]))
            given[number].append(hidden[0])
            hidden = layer(hidden, attention_mask=None, position_embeddings=rotary, is_causal=False)
            hook.remove()
    for number, one in enumerate(found):
        before, after = torch.cat(given[number]), torch.cat(given[number]) + torch.cat(added[number])
        expected = 1 - torch.nn.functional.cosine_similarity(before, after, dim=-1).mean()
        assert one == pytest.approx(float(expected), rel=1e-3, abs=1e-6)
    run(model, prompts[:1], MaskKV(keep=0.4, importance=found))


# ---- staged ------------------------------------------------------------------------------------------------


def test_staged_without_its_parts_is_redvtp(model, prompts):
    for one, other in zip(run(model, prompts, Staged(keep=0.4, first=None, positions="compact")),
                          run(model, prompts, RedVTP(keep=0.4)), strict=True):
        assert_same(one, other)


def test_staged_cuts_twice(model, prompts):
    recorder = Recorder()
    result = run(model, prompts[:1], Staged(keep=0.2, first=0.5, layer=1, second=2), recorder=recorder)[0]
    n = result.visual_tokens
    assert [(record.cut.step, record.cut.layer) for record in recorder.cuts] == [(1, 1), (2, None)]
    assert [record.selection.keep.shape[1] for record in recorder.cuts] == [n // 2, int(0.2 * n)]
    single = run(model, prompts[:1], FastV(keep=0.5, layer=1), recorder=(fast := Recorder()), steps=1)
    assert single and fast.cuts[0].selection.keep.tolist() == recorder.cuts[0].selection.keep.tolist()


def test_the_prior_is_subtracted_where_the_tokens_are(model, prompts):
    """A prior that is all on the tokens that plain scoring keeps drives them out."""
    plain = run(model, prompts[:1], Staged(keep=0.3, first=None))[0]
    prior = torch.full((plain.visual_tokens,), 1e-9)
    prior[plain.kept] = 1.0
    method = Staged(keep=0.3, first=None, prior=True)
    driven = model.start(prompts[:1], prune=method, extras={"prior": [prior]}, **FAST).run()[0]
    assert set(driven.kept.tolist()) != set(plain.kept.tolist())
    flat = [torch.ones(plain.visual_tokens)]
    staged = Staged(keep=0.3, first=0.6, layer=1, prior=True)
    assert len(model.start(prompts[:1], prune=staged, extras={"prior": flat}, **FAST).run()[0].kept) == len(plain.kept)


def test_less_prior_by_hand():
    score, prior = torch.tensor([[4.0, 4.0, 2.0, 9.0]]), torch.tensor([[1.0, 0.0, 1.0, 5.0]])
    made = less_prior(score, prior, torch.tensor([[True, True, True, False]]))
    torch.testing.assert_close(made, torch.tensor([[0.0, 0.4, 0.0, 0.0]]), atol=1e-5, rtol=0)
    assert made[0, 0] > made[0, 2] > 0


def test_likeness_to_better_by_hand():
    states = torch.tensor([[[1.0, 0], [1, 0], [0, 1], [-1, 0], [9, 9]]])
    score = torch.tensor([[0.2, 0.5, 0.4, 0.1, 9.0]])
    valid = torch.tensor([[True] * 4 + [False]])
    assert likeness_to_better(score, states, valid).tolist() == [[1, 0, 0, 0, 0]]


def test_blank_scores_are_of_a_blank_image(model, prompts):
    grey = [Prompt(prompt.question, [guidance.blank(image) for image in prompt.images]) for prompt in prompts]
    first, second = (guidance.blank_scores(model, each, LENGTH) for each in (prompts, grey))
    for one, other in zip(first.scores, second.scores, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    recorder = Recorder(attention=True)
    model.start(grey[:1], recorder=recorder, **FAST).step()
    torch.testing.assert_close(first.scores[0], recorder.steps[0].attention[0].sum(0), rtol=1e-4, atol=1e-5)
    assert extras(model, prompts)["prior"][0].shape == first.scores[0].shape


def test_a_fork_needs_what_its_method_looks_at(model, prompts):
    plain = model.start(prompts[:1], watch=Needs(attention=frozenset({"response"})), **FAST)
    plain.step()
    with pytest.raises(ValueError, match="maskkv needs values or heads that were not watched in step 1"):
        plain.fork(MaskKV(keep=0.4))
    watched = model.start(prompts[:1], watch=Needs(attention=frozenset({"response"}), heads=True), **FAST)
    watched.step()
    watched.watch = None
    assert_same(watched.fork(MaskKV(keep=0.4)).run()[0], run(model, prompts[:1], MaskKV(keep=0.4))[0])
