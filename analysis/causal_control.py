"""The autoregressive control: the mini network with causal attention, run by stock transformers alone.

It answers greedily; then one eager forward over prompt, image and its own answer gives the attention of the rows
that wrote that answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
from torch import LongTensor, Tensor
from transformers import LlavaOnevisionForConditionalGeneration

from analysis import benchmarks, paths
from analysis.benchmarks import Sample
from redvtp.models.checkpoint import load_saved, read_tokenizer
from redvtp.models.config import image_processor
from redvtp.models.prompts import END_OF_TURN, render, tokenize, user_text
from redvtp.sequence import PROMPT, RESPONSE, VISUAL


@dataclass(frozen=True)
class Control:
    """A causal model with its tokenizer and image processor."""

    model: LlavaOnevisionForConditionalGeneration
    tokenizer: object
    processor: object


@dataclass(frozen=True)
class Reading:
    """How one answer was written.

    Attributes:
        text: the answer.
        kind: ``[1, T]`` what each column is (see redvtp.sequence), the end token left out, for it is never read.
        writing: ``[1, T]`` rows that wrote a token of the answer or its end: from the last prompt token on.
        by_layer: ``{layer: [1, T, T]}`` head-mean attention.
    """

    text: str
    kind: Tensor
    writing: Tensor
    by_layer: dict[int, Tensor]


def is_there(name: str) -> bool:
    """Whether the control's folder is shipped."""
    return (paths.DATA / name / "config.json").is_file()


@cache
def load(name: str) -> Control:
    """The control of that name in data/, loaded once a process."""
    folder = paths.DATA / name
    model = load_saved(LlavaOnevisionForConditionalGeneration, folder, torch.float32)
    return control(model, read_tokenizer(folder))


def control(model: LlavaOnevisionForConditionalGeneration, tokenizer) -> Control:
    """A control from a model and its tokenizer; eager attention is set. Raises ValueError for a model of both ways."""
    if not model.config.text_config.is_causal:
        raise ValueError("the control is autoregressive: its config must say is_causal=True")
    model.set_attn_implementation("eager")
    return Control(model.eval(), tokenizer, image_processor(model.config))


@torch.no_grad()
def read(of: Control, sample: Sample) -> Reading:
    """The control's own answer to a sample, and the attention of one forward over all of it."""
    prompt, kind = _prompt(of, sample)
    end = of.tokenizer.convert_tokens_to_ids(END_OF_TURN)
    ids = of.model.generate(
        inputs_embeds=prompt, attention_mask=torch.ones(prompt.shape[:2], dtype=torch.long), do_sample=False,
        max_new_tokens=benchmarks.get(sample.family).protocol.length, eos_token_id=end, pad_token_id=end,
    )  # fmt: skip
    fed = ids[:, :-1]  # what the last token was written from; the last itself is never read
    whole = torch.cat((prompt, of.model.get_input_embeddings()(fed)), 1)
    found = of.model(inputs_embeds=whole, output_attentions=True, use_cache=False).attentions
    kind = torch.cat((kind, torch.full_like(fed, RESPONSE)), 1)
    writing = (torch.arange(kind.shape[1]) >= prompt.shape[1] - 1)[None]
    by_layer = {layer: mass.mean(1) for layer, mass in enumerate(found, start=1)}
    return Reading(of.tokenizer.decode(ids[0]).split(END_OF_TURN)[0], kind, writing, by_layer)


def _prompt(of: Control, sample: Sample) -> tuple[Tensor, LongTensor]:
    """Embeddings ``[1, P, D]`` of the question around the image, as LLaDA-V's prompt, and what they are ``[1, P]``."""
    batch = of.processor(images=[[sample.image]], return_tensors="pt")
    features = of.model.model.get_image_features(
        batch["pixel_values"], batch["image_sizes"], return_dict=True
    ).pooler_output[0][None]
    parts, kinds = [], []
    for place, ids in enumerate(tokenize(of.tokenizer, render(None, user_text(sample.question, 1)))):
        if place:
            parts.append(features)
            kinds += [VISUAL] * features.shape[1]
        parts.append(of.model.get_input_embeddings()(torch.tensor([ids])))
        kinds += [PROMPT] * len(ids)
    return torch.cat(parts, 1), torch.tensor([kinds])
