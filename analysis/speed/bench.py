"""A host of some size with random weights on a device, and encoded prompts about images of some size."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator

import numpy as np
import torch
from PIL import Image
from torch import LongTensor
from transformers import LlavaOnevisionForConditionalGeneration

from analysis.flop_pieces import Formula
from analysis.speed.cases import TEXT_BEFORE, TEXT_BEHIND, NotAvailable, Run, Scale
from analysis.speed.variants import VARIANTS, Prepared
from redvtp.model import HOSTS
from redvtp.models.base import State
from redvtp.models.llava import IMAGE_TOKEN_ID, LlavaHost

BANNED = 4
"""LLaDA-V's banned tokens; LaViDa has none."""


class Bench:
    """A host and what runs on it.

    Args:
        host: name. scale: its size. device: as torch names it.
    """

    def __init__(self, host: str, scale: Scale, device: str = "cpu") -> None:
        self.name, self.scale, self.device = host, scale, device
        self.host = build(host, scale, device)
        self.weights = sum(value.numel() * value.element_size() for value in self.host.model.parameters())
        self.formula = Formula(self.host.config)
        self._pixels: dict[str, object] = {}
        self._states: dict[tuple, State] = {}
        self._prepared: dict[str, Prepared] = {}
        self._own: tuple[str, LlavaHost] | None = None

    def prepared(self, variant: str) -> Prepared:
        """A host for a variant, and what the denoising loop is told; NotAvailable says why there is none."""
        if variant not in VARIANTS:
            raise ValueError(f"unknown variant {variant!r}: expected one of {', '.join(VARIANTS)}")
        if variant not in self._prepared:
            try:
                self._prepared[variant] = VARIANTS[variant](self)
            except (NotAvailable, torch.OutOfMemoryError):
                raise
            except Exception as error:  # whatever a library says, the rest of the grid goes on
                raise NotAvailable(f"{type(error).__name__}: {str(error).strip().splitlines()[0][:200]}") from error
        return self._prepared[variant]

    def own(self, name: str, **options: object) -> LlavaHost:
        """A host beside the plain one for variants that change theirs; the one before it, of another name, goes."""
        if self._own is None or self._own[0] != name:
            if self._own is not None:
                gone = self._own[1]
                self._prepared = {key: value for key, value in self._prepared.items() if value[0] is not gone}
                self._own = gone = None
                gc.collect()
            self._own = name, build(self.name, self.scale, self.device, **options)
        return self._own[1]

    def process(self, size: str):
        """Crops of an image as the host's processor makes them, once more each time."""
        return processed(self.host, picture(size))

    @torch.no_grad()
    def encode(self, size: str, length: int) -> State:
        """Vision tower, projector and prompt of one image whose crops are there already."""
        if size not in self._pixels:
            self._pixels[size] = self.process(size)
        ids = [1] * TEXT_BEFORE + [IMAGE_TOKEN_ID] + [1] * TEXT_BEHIND
        with crops_ready(self.host, self._pixels[size]):
            return self.host.begin_from_ids(ids, [picture(size)], length)

    def state(self, run: Run) -> State:
        """The prompt of a run, encoded once."""
        key = run.image, run.response
        if key not in self._states:
            self._states[key] = self.encode(*key)
        one = self._states[key]
        return one if run.batch == 1 else one.rows(torch.zeros(run.batch, dtype=torch.long, device=self.device))

    def crops(self, size: str) -> int:
        """Crops that the tower sees of such an image."""
        if size not in self._pixels:
            self._pixels[size] = self.process(size)
        return self._pixels[size]["pixel_values"].shape[1]

    def canvas(self, run: Run, masked: int | None = None) -> LongTensor:
        """``[B, G]`` a response whose last ``masked`` rows (None: all) are masked."""
        canvas = torch.full((run.batch, run.response), self.host.mask_id, device=self.device)
        if masked is not None:
            canvas[:, : run.response - masked] = 1
        return canvas


def build(host: str, scale: Scale, device: str, **options: object) -> LlavaHost:
    """The host, with options of its class, and transformers' own random initial weights, made on the device in their
    dtype."""
    kind, official = HOSTS[host], scale.official(host)
    torch.manual_seed(0)
    with default_dtype(getattr(torch, scale.dtype)), torch.device(device):
        model = LlavaOnevisionForConditionalGeneration(kind.translate(official))
    last = model.config.text_config.vocab_size - 1
    banned = tuple(range(last - BANNED, last)) if kind.banned_tokens else ()
    made = kind(model, mask_id=last, banned_ids=banned, **options)
    for name, value in model.named_parameters():
        if value.dim() > 1 and "embed" not in name and value.std() == 0:
            raise ValueError(f"{name} is constant: time may depend on that")
    return made


@contextlib.contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """New tensors of that type inside the block."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextlib.contextmanager
def crops_ready(host: LlavaHost, batch: object) -> Iterator[None]:
    """The host with a processor that hands out crops made before."""
    processor = host.processor
    host.processor = lambda **_: batch
    try:
        yield
    finally:
        host.processor = processor


def processed(host: LlavaHost, image: Image.Image):
    """What the host's processor makes of an image."""
    return host.processor(images=[[image]], return_tensors="pt")


def picture(size: str) -> Image.Image:
    """An image "WIDTHxHEIGHT" of soft noise, the same each time."""
    width, height = map(int, size.split("x"))
    noise = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((width, height))
