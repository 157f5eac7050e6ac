"""The model card: what a mini model is, what it scores, how it was trained, and what it is not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from analysis.benchmarks import FAMILIES
from redvtp.models.lavida import Lavida
from redvtp.models.llada_v import LladaV

CARD = """# {title}

{what}

## Scores
Exact match on the test split, fp16 weights run in fp32, nothing pruned, {decoding}.
Test pages come from other seeds than training pages; no test value (doc, info, chart) and no test scene (the others)
occurs in training.

{scores}

By kind of question{which}:
{kinds}

With a blank image the score must not be above chance, which for the families with few answers is not zero.

Data hash (sha256 over these test samples):

{hashes}

## Training
- Command: `{command}`
- {steps} steps in {minutes:.0f} minutes on {machine} ({speed}), dev scores included.
{origin}{notes}- Every choice was made on the development split; the test split was scored for this card only.
- Curve, exact match on {dev_n} development samples a family{which}:

| step | minutes | {names} |
|---|---|{dashes}
{curve}

## What it is not
It has read nothing but these pages: thirty keys, six colours, seven shapes, 24 letters and digits, DejaVu faces. It
knows no language, follows no other instruction, and its accuracy says nothing about the 8B models. {limits} \
Training seed {seed}.
"""


@dataclass(frozen=True)
class Kind:
    """What the cards of one kind of model say. what holds {parameters}; origin: lines of the training section."""

    title: str
    what: str
    decoding: str
    limits: str
    origin: str = ""
    speed: str = "bf16 autocast, torch.compile"


_FROM_NOTHING = """Auxiliary losses in
training named glyphs, places, fields, objects, neighbours and numbers at visual tokens, what is asked for and what the
image gives at response tokens, and letter and meaning at options; in part of stage `all`, questions answered in two
tokens did not see the image in the last two layers. No attention map was ever a target, but both shape where attention
gathers."""
_WHAT = """{opening}
It exists so that pruning can be measured on a laptop with the code path of the 8B models: a SigLIP tower (4 layers),
anyres crops of 96 px with patch 8, a GELU projector, newline embeddings, and
{decoder}. {{parameters:.2f}} M parameters."""

DIFFUSION = Kind(
    "Mini LLaDA-V",
    _WHAT.format(
        opening="A masked-diffusion vision-language model, trained from nothing, that answers questions about small\n"
                "rendered pages.",
        decoder="a bidirectional Llama (6 layers x 128, RoPE) that fills masked response tokens"),
    "plain full attention, greedy, under each\nfamily's protocol", _FROM_NOTHING)
CAUSAL = Kind(
    "Mini LLaVA, the autoregressive control",
    _WHAT.format(
        opening="An autoregressive vision-language model, the same network as the mini LLaDA-V with causal attention,\n"
                "trained on the same data, that answers questions about small rendered pages.",
        decoder="a causal Llama (6 layers x 128, RoPE), run by transformers alone"),
    "greedy `generate`", _FROM_NOTHING)
ADAPTED = Kind(
    "Mini LLaDA-V, derived from the autoregressive control",
    _WHAT.format(
        opening="A masked-diffusion vision-language model that goes on from the autoregressive control's weights,\n"
                "and answers questions about small rendered pages.",
        decoder="a bidirectional Llama (6 layers x 128, RoPE) that fills masked response tokens") + """

It stands for the published diffusion models that were made from autoregressive ones. Its network is that of the mini
LLaDA-V; what differs is where the weights come from: next-token prediction under causal attention first, then the
diffusion loss under full attention, without a step between them.""",
    "plain full attention, greedy, under each\nfamily's protocol",
    _FROM_NOTHING + """ Most of that was the control's training; here the
auxiliary losses had small weights.""",
    "- All of the control's weights were taken over; its tower stayed as it was. From the first step on all tokens\n"
    "  see all, and each masked token is predicted in its own place.\n")
TAUGHT = Kind(
    "Mini LaViDa",
    """A masked-diffusion vision-language model with LaViDa's visual tokens and prompt cache, which answers questions
about small rendered pages.
It exists so that pruning can be measured on a laptop with the code path of the 8B model: a SigLIP tower (5 layers),
anyres crops of 96 px with patch 4, a GELU projector, 24 x 24 patches pooled to 12 x 12 tokens a crop by LaViDa's
bilinear resize, newline embeddings, and a bidirectional Llama (6 layers x 128, RoPE) that fills masked response tokens,
with the prompt (image and question) seeing the response or, cached, not. {parameters:.2f} M parameters.

It was not trained independently: the tower's first layer learned to give the mini LLaDA-V's embedding of each 8 px cell
from the cell's four patches, the four layers behind it are that model's tower, and projector and language model started
from its weights. So what the two have in common says little about LaViDa and LLaDA-V, and since the four patches of a
cell end up nearly alike, nothing is learned here about what pooling costs. Canvases are LaViDa's five at the scale of
the crop, and a single crop: LaViDa's images are larger than a crop, many of these pages are not.""",
    "greedy, under each family's\nprotocol; with the prefix-DLM cache (keys and values of the prompt computed once, "
    "without sight of the response)\nand without any",
    """The pooling is
redvtp's: transformers' own class loads these weights, but does not pool. Auxiliary losses in training named glyphs,
places, fields, objects, neighbours and numbers at visual tokens, what is asked for and what the image gives at response
tokens, and letter and meaning at options. No attention map was ever a target, but these losses, and those that the
teacher was trained with, shape where attention gathers.""",
    "- Stage `distil` trains the patch embedding and the tower's first layer, `prefix` and `finish` all but the\n"
    "  tower. In two of three of their steps the prompt did not see the response, in the third it did.\n",
    "bf16 autocast")
KINDS = {LladaV.name: DIFFUSION, Lavida.name: TAUGHT}


def table(scores: Mapping[str, Mapping]) -> str:
    """Scores by family (see export.export), two pairs of columns where they were taken with and without a cache."""
    both = any("uncached" in found for found in scores.values())
    heads = ["exact match, cached", "95% interval", "without cache", "95% interval"] if both else [
        "exact match", "95% interval"]
    lines = [["family", "mirrors", "n", *heads, "blank image"]]
    lines.append(["---"] * len(lines[0]))
    for name, found in scores.items():
        pairs = [f"{each['exact']:.1%} | {each['low']:.1%} to {each['high']:.1%}"
                 for each in (found, *([found["uncached"]] if both else ()))]
        lines.append([name, FAMILIES[name].mirrors, str(found["n"]), *pairs, f"{found['blank']:.1%}"])
    rows = [f"| {' | '.join(line)} |" for line in lines]
    return "\n".join([rows[0], rows[1].replace(" ", ""), *rows[2:]])


def kinds(scores: Mapping[str, Mapping]) -> str:
    """One line for each family with several kinds of question."""
    return "\n".join(f"- {name}: " + ", ".join(f"{kind} {rate:.0%}" for kind, rate in found["kinds"].items())
                     for name, found in scores.items() if len(found["kinds"]) > 1) or "- one only"


def card(kind: Kind, scores: Mapping[str, Mapping], hashes: Mapping[str, str], curve: Sequence[Mapping],
         parameters: int, **facts) -> str:
    """The card's text. curve: lines of the curve file that hold dev scores. facts: the template's other words."""
    return CARD.format(
        title=kind.title, what=kind.what.format(parameters=parameters / 1e6), decoding=kind.decoding,
        limits=kind.limits, origin=kind.origin, speed=kind.speed, scores=table(scores), kinds=kinds(scores),
        which=" (cached)" if any("uncached" in found for found in scores.values()) else "",
        hashes="\n".join(f"- {name} `{digest}`" for name, digest in hashes.items()),
        names=" | ".join(scores), dashes="---|" * len(scores),
        curve="\n".join(f"| {line['step']} | {line['seconds'] / 60:.0f} | "
                        + " | ".join(f"{line['dev_' + name]:.0%}" for name in scores) + " |" for line in curve),
        **facts)
