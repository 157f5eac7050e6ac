"""What LLaDA-V and LaViDa have in common as hosts: stock LLaVA-OneVision around a Llama that looks both ways.

Source: official_code §2 and §4 (architecture, any-resolution tiling, prompt), checked against its tensors.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from PIL import Image
from torch import LongTensor, Tensor
from transformers import LlavaOnevisionConfig, LlavaOnevisionForConditionalGeneration
from transformers.models.llava_onevision.image_processing_pil_llava_onevision import LlavaOnevisionImageProcessorPil

from redvtp.attention import ATTENTION_NAME, AttentionProbe
from redvtp.images import read_image
from redvtp.models.anyres import padded_layout, squashed_layout
from redvtp.models.base import LayerCut, Output, Prompt, Span, State, compact_positions
from redvtp.models.checkpoint import load_saved, load_stored
from redvtp.models.config import image_processor
from redvtp.models.decoder import run_layers
from redvtp.models.files import CheckpointError
from redvtp.models.folder import Folder
from redvtp.models.fused import fuse
from redvtp.models.linear import use_onednn
from redvtp.models.placement import check_room, placed
from redvtp.models.prompts import LLADA_V_SYSTEM, render, tokenize, user_text
from redvtp.models.spans import run_span
from redvtp.rounding import Rounding
from redvtp.sequence import PROMPT, RESPONSE, SUFFIX, VISUAL, Layout, plain_layout

ASPECTS = ("anyres", "pad", "square")
LOG = logging.getLogger("redvtp")
IMAGE_TOKEN_ID = -200
MASK_TOKEN = "<|mdm_mask|>"


class LlavaHost(ABC):
    """A host of the denoising loop (see redvtp.models.base.Host); LladaV and Lavida say what is their own.

    Args:
        model: stock LLaVA-OneVision whose text model is a Llama with ``is_causal=False``.
        tokenizer: with LLaDA's special tokens; None where only ids and embeddings are used.
        processor: the image processor; None builds the official one.
        aspect: "anyres" tiles a single image, "pad" gives it one padded crop, "square" one crop that it is
            squashed to. Several images always take the padded path, 729 tokens each at the true shape and no newline.
        system_prompt: system message, None for none.
        keep_newline: keep the token behind an image marker that the official tokenisation drops.
        mask_id, banned_ids: override the tokenizer's.
        onednn: run fp32 products on a CPU through oneDNN (see redvtp.models.linear).
        fused: join each layer's products, for speed; outputs change by rounding (see redvtp.models.fused).

    Attributes:
        title: the model's name in messages.
        stop: texts that end a response unless the caller names others.
        banned_tokens: never predicted by the official sampler.
        true_shape: the published shape, as an official config.
        inferred: settings that the published ``config.json`` was taken to have.
        published_dtype: what the official evaluation runs in, where the caller names none.
        rounding: how the official code rounds importance.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    can: ClassVar[frozenset[str]] = frozenset(
        {"attention", "states", "in_layer", "rejoin", "merge", "batch", "guidance", "cache", "hide", "rounding"}
    )
    stop: ClassVar[tuple[str, ...]] = ()
    banned_tokens: ClassVar[tuple[str, ...]] = ()
    true_shape: ClassVar[Mapping]
    inferred: ClassVar[Mapping]
    published_dtype: ClassVar[torch.dtype]
    rounding: ClassVar[Rounding]

    def __init__(
        self,
        model: LlavaOnevisionForConditionalGeneration,
        tokenizer=None,
        processor: LlavaOnevisionImageProcessorPil | None = None,
        *,
        aspect: str = "anyres",
        system_prompt: str | None = LLADA_V_SYSTEM,
        keep_newline: bool = False,
        mask_id: int | None = None,
        banned_ids: Sequence[int] | None = None,
        onednn: bool = True,
        fused: bool = False,
    ) -> None:
        if aspect not in ASPECTS:
            raise ValueError(f"aspect={aspect!r}: expected one of {', '.join(ASPECTS)}")
        if getattr(model.config.text_config, "is_causal", True) is not False:
            raise ValueError("the text model is causal; LLaDA needs a Llama config with is_causal=False")
        self.model = model.eval().requires_grad_(False)
        self.model.set_attn_implementation({"text_config": ATTENTION_NAME})
        if onednn:
            use_onednn(self.model)
        if fused:
            fuse(self.decoder)
        self.tokenizer = tokenizer
        self.processor = processor or image_processor(model.config)
        self.aspect = aspect
        self.system_prompt = system_prompt
        self.keep_newline = keep_newline
        self.mask_id = self._special(MASK_TOKEN) if mask_id is None else mask_id
        self.banned_ids = (
            tuple(self._special(token) for token in self.banned_tokens) if banned_ids is None else tuple(banned_ids)
        )

    # ---- what each host says itself ----------------------------------------------------------------------

    @staticmethod
    @abstractmethod
    def translate(official: Mapping) -> LlavaOnevisionConfig:
        """transformers' config from an official ``config.json`` (as a dict)."""

    @staticmethod
    @abstractmethod
    def tensor_name(official: str) -> str:
        """The host's name of an official tensor; a name outside the map comes back unchanged."""

    @staticmethod
    @abstractmethod
    def trims_vocabulary(official: Mapping) -> bool:
        """Whether the official loader cuts embedding and head to the tokenizer's size."""

    @staticmethod
    def ties_head(official: Mapping) -> bool:
        """Whether the official loader takes the embedding for the head."""
        return False

    @staticmethod
    @abstractmethod
    def own_specials(official: Mapping) -> dict:
        """Mask and banned ids where a folder without tokenizer names them itself, as recorded test vectors do."""

    @abstractmethod
    def _encode_tiled(self, images: list[Image.Image]) -> list[tuple[Tensor, Layout]]:
        """Features ``[n, D]`` and layout of each image, cut into tiles."""

    # ---- loading -----------------------------------------------------------------------------------------

    @classmethod
    def from_folder(
        cls,
        folder: str | Path,
        dtype: torch.dtype | None = None,
        device: Any = "cpu",
        device_map: Any = None,
        **own_options: Any,
    ) -> Self:
        """A host from a local folder in official naming, or as transformers saves LLaVA-OneVision.

        The files are checked by their headers before any weight is read, and read one tensor at a time. What the
        official config says otherwise than expected is followed, and logged in one line.

        ``redvtp.json`` in the folder may set ``aspect``, ``system_prompt`` and ``keep_newline``, and, for a folder
        in official naming, ``trim_vocabulary`` (whether embedding and head are cut to the tokenizer's size).

        Args:
            dtype: of the weights; None is the ``published_dtype`` in official naming, else fp32.
            device, device_map: see redvtp.models.placement.placed.
            own_options: more of this class's options, e.g. ``fused=True``.

        Raises:
            CheckpointError: a missing or unreadable file; tensors missing, left over or misshapen.
            ValueError: a device that is not there, or too small.
        """
        place = placed(device, device_map)
        found = Folder.read(folder, cls)
        dtype = dtype or found.dtype
        check_room(found.numbers * dtype.itemsize, place)
        kind = LlavaOnevisionForConditionalGeneration
        if found.saved:
            model = load_saved(kind, found.path, dtype).to(place)
        else:
            model = load_stored(kind, found.config, found.stored, dtype, place)
        if found.notes:
            LOG.warning("%s: %s; followed", found.path / "config.json", "; ".join(found.notes))
        return cls(model, found.tokenizer, **found.options | own_options)

    @classmethod
    def on_meta(cls, official: Mapping | None = None) -> LlavaOnevisionForConditionalGeneration:
        """The model of an official config (None: the published one) without memory: names, shapes and FLOPs only."""
        with torch.device("meta"):
            return LlavaOnevisionForConditionalGeneration(cls.translate(official or cls.true_shape))

    @property
    def decoder(self):
        """transformers' LlamaModel."""
        return self.model.model.language_model

    @property
    def config(self) -> LlavaOnevisionConfig:
        """transformers' configuration of the whole model."""
        return self.model.config

    @property
    def layers(self) -> int:
        """Decoder layers."""
        return self.config.text_config.num_hidden_layers

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.model.device

    # ---- prompts -----------------------------------------------------------------------------------------

    def begin(self, prompts: Sequence[Prompt], length: int, suffix: int = 0) -> State:
        """Encode prompts into a batch, padded on the left (official_code §2.6 and §2.4).

        Raises:
            ImageError: an image that cannot be read.
            ValueError: markers and images that do not match; no prompt; no tokenizer.
        """
        if not prompts:
            raise ValueError("expected at least one prompt, got none")
        if self.tokenizer is None:
            raise ValueError("this host has no tokenizer; use begin_from_ids or begin_from_embeddings")
        pieces, images = [], []
        for prompt in prompts:
            text = render(self.system_prompt, user_text(prompt.question, len(prompt.images)))
            pieces.append(tokenize(self.tokenizer, text, self.keep_newline))
            images.append([read_image(source) for source in prompt.images])
        return self._assemble(pieces, images, length, suffix)

    def begin_from_ids(self, ids: Sequence[int], images: Sequence, length: int, suffix: int = 0) -> State:
        """One sample from token ids in which -200 marks each image, as the official ``generate`` takes them."""
        pieces: list[list[int]] = [[]]
        for token in map(int, ids):
            if token == IMAGE_TOKEN_ID:
                pieces.append([])
            else:
                pieces[-1].append(token)
        if len(pieces) - 1 != len(images):
            raise ValueError(f"the ids have {len(pieces) - 1} image markers, but {len(images)} images were given")
        return self._assemble([pieces], [[read_image(image) for image in images]], length, suffix)

    def begin_from_embeddings(
        self, embeds: Tensor, length: int, visual_start: int = 0, visual_count: int = 0, suffix: int = 0
    ) -> State:
        """Samples from ready embeddings ``[B, P, D]`` whose visual tokens are one contiguous range, the same in all."""
        total = embeds.shape[1]
        if not 0 <= visual_start <= visual_start + visual_count <= total:
            raise ValueError(
                f"visual_start={visual_start}, visual_count={visual_count}: expected a range inside {total} columns"
            )
        layout = plain_layout(PROMPT, total)
        layout.kind[0, visual_start : visual_start + visual_count] = VISUAL
        layout.image[0, visual_start : visual_start + visual_count] = 0
        return self._state(list(embeds.split(1)), [layout] * len(embeds), length, suffix)

    def _assemble(self, pieces, images, length: int, suffix: int) -> State:
        features = self._encode(images)
        embeds, layouts = [], []
        for sample, parts in enumerate(pieces):
            rows, columns = [], []
            for i, part in enumerate(parts):
                if part:
                    rows.append(self.decoder.embed_tokens(torch.tensor([part], device=self.device)))
                    columns.append(plain_layout(PROMPT, len(part)))
                if i < len(images[sample]):
                    feature, layout = features[sample][i]
                    rows.append(feature[None])
                    columns.append(layout)
            embeds.append(torch.cat(rows, 1))
            layouts.append(Layout.concatenate(columns))
        return self._state(embeds, layouts, length, suffix)

    def _state(self, embeds: list[Tensor], layouts: list[Layout], length: int, suffix: int) -> State:
        tail = [plain_layout(RESPONSE, length)] + ([plain_layout(SUFFIX, suffix)] if suffix else [])
        layout = Layout.stack([Layout.concatenate([prompt, *tail]) for prompt in layouts])
        width = max(e.shape[1] for e in embeds)
        padded = [torch.nn.functional.pad(e, (0, 0, width - e.shape[1], 0)) for e in embeds]
        batch = torch.cat(padded).to(self.device)
        layout = layout.to(self.device)
        return State(batch, layout, compact_positions(layout), layout.count(VISUAL))

    # ---- images ------------------------------------------------------------------------------------------

    def _encode(self, images: list[list[Image.Image]]) -> list[list[tuple[Tensor, Layout]]]:
        """Projected features and layout of every image: tiled ones in one batch, whole ones in another."""
        tiled = [(s, 0) for s, own in enumerate(images) if self.aspect == "anyres" and len(own) == 1]
        squashed = [(s, 0) for s, own in enumerate(images) if self.aspect == "square" and len(own) == 1]
        other = {*tiled, *squashed}
        padded = [(s, i) for s, own in enumerate(images) for i in range(len(own)) if (s, i) not in other]
        found = {}
        if tiled:
            found.update(zip(tiled, self._encode_tiled([images[s][i] for s, i in tiled]), strict=True))
        for places, squash in ((squashed, True), (padded, False)):
            if places:
                own = self._encode_whole([images[s][i] for s, i in places], [i for _, i in places], squash)
                found.update(zip(places, own, strict=True))
        return [[found[s, i] for i in range(len(own))] for s, own in enumerate(images)]

    def _encode_whole(self, images: list[Image.Image], index: list[int], squash: bool) -> list[tuple[Tensor, Layout]]:
        vision = self.config.vision_config
        pixels, layout = (self.crop_pixels, squashed_layout) if squash else (self.padded_pixels, padded_layout)
        features = self.crop_features(torch.cat([pixels(image) for image in images]))
        side = vision.image_size // vision.patch_size
        layouts = [layout(i, im.width, im.height, side) for i, im in zip(index, images, strict=True)]
        return list(zip(features, layouts, strict=True))

    def crop_features(self, pixels: Tensor) -> Tensor:
        """``[n, patches, D]`` projected features of the crops ``pixels [n, 3, S, S]``."""
        pixels = pixels.to(self.device, self.model.dtype)
        tower = self.model.model.vision_tower(pixels, output_hidden_states=True, return_dict=True)
        # The last encoder layer's output, before the post-layernorm that last_hidden_state has passed.
        return self.model.model.multi_modal_projector(tower.hidden_states[-1])

    def padded_pixels(self, image: Image.Image) -> Tensor:
        """``[1, 3, S, S]`` pixels of the image centred on a mean-grey square (official "pad" mode)."""
        grey = tuple(int(mean * 255) for mean in self.processor.image_mean)
        side = max(image.size)
        square = Image.new("RGB", (side, side), grey)
        square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
        return self.crop_pixels(square)

    def crop_pixels(self, image: Image.Image) -> Tensor:
        """``[1, 3, S, S]`` pixels of the whole image resized to one crop (official "square" mode)."""
        crop = self.config.vision_config.image_size
        # A candidate list of one crop makes the processor's thumbnail the plain resize of the image.
        batch = self.processor(images=[[image]], image_grid_pinpoints=[[crop, crop]], return_tensors="pt")
        return batch["pixel_values"][0, :1]

    # ---- forward -----------------------------------------------------------------------------------------

    @torch.no_grad()
    def forward(
        self,
        state: State,
        canvas: LongTensor,
        logit_rows: Tensor | slice,
        probe: AttentionProbe | None = None,
        at_layer: Mapping[int, LayerCut] | None = None,
        span: Span | None = None,
    ) -> Output:
        """One forward; logits in fp32 of the canvas rows that ``logit_rows`` marks (see redvtp.models.base.Host)."""
        rows, work = self.decoder.embed_tokens(canvas), None
        if span is None:
            hidden, lengths = run_layers(
                self.decoder,
                state.with_rows(rows),
                state.layout,
                state.positions,
                state.size,
                probe,
                at_layer,
                tail=canvas.shape[1],
                unseen=state.unseen,
            )
        else:
            hidden, lengths, work = run_span(self.decoder, state, rows, span, probe, at_layer)
            logit_rows = of_span(logit_rows, span)
        read = hidden[:, logit_rows].flatten(0, 1) if isinstance(logit_rows, slice) else hidden[logit_rows]
        return Output(self.model.lm_head(self.decoder.norm(read)).float(), lengths, work)

    def unconditional(self, state: State) -> State:
        """The same state with the mask embedding in every prompt and visual column (official_code §3)."""
        mask = self.decoder.embed_tokens(torch.tensor([[self.mask_id]], device=self.device))
        embeds = mask.expand_as(state.embeds).contiguous()
        return State(embeds, state.layout, state.positions, state.original, state.size)

    def _special(self, token: str) -> int:
        if self.tokenizer is None:
            raise ValueError(f"no tokenizer to look up {token}: give mask_id and banned_ids")
        found = self.tokenizer.convert_tokens_to_ids(token)
        if found is None or found == self.tokenizer.unk_token_id:
            raise CheckpointError(f"the tokenizer has no token {token}, which {self.title} needs")
        return found


def of_span(rows: Tensor | slice, span: Span) -> Tensor | slice:
    """Rows of the canvas, as rows of the span that holds them."""
    if isinstance(rows, slice):
        return slice(rows.start - span.start, rows.stop - span.start)
    return rows[:, span.start : span.stop]


def paired(images: Sequence[Image.Image], features: Sequence[Tensor], layouts: Sequence[Layout]) -> list[tuple]:
    """Features and layout of each image; ValueError where a layout does not describe the features."""
    for image, feature, layout in zip(images, features, layouts, strict=True):
        if layout.length != len(feature):
            raise ValueError(
                f"image of size {image.size}: {len(feature)} packed features, but a layout of {layout.length}"
            )
    return list(zip(features, layouts, strict=True))
