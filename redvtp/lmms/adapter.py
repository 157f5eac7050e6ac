"""The models as lmms-eval's classes: requests in, answers with what they cost out.

What an answer cost, and the code and data that it stands on, goes where lmms-eval puts token counts, and so into its
own files of samples, from all processes; analysis.paper_scores reads them back.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import metadata
from itertools import groupby
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import torch
import torch.distributed as dist
from accelerate import Accelerator
from lmms_eval.api.instance import GenerationResult, Instance, TokenCounts
from lmms_eval.api.model import lmms
from PIL import Image
from tqdm import tqdm

from redvtp.cli.shapes import unloaded
from redvtp.generation.cutting import check_pruner
from redvtp.generation.passes import check_cache
from redvtp.generation.settings import Settings
from redvtp.lmms.arguments import read
from redvtp.lmms.source import check_source
from redvtp.model import Answer, load, model_folder
from redvtp.models.base import Prompt
from redvtp.models.prompts import MARKER
from redvtp.sequence import PROMPT

DTYPES = ("float32", "bfloat16", "float16")
PADDING = "__padding_only__"  # lmms-eval's mark
PACKAGES = ("lmms-eval", "redvtp", "torch", "transformers")


@dataclass
class Cost(TokenCounts):
    """What one answer cost, as lmms-eval writes token counts.

    Attributes:
        more: numbers of this answer, and ``stands_on``, what it stands on.
    """

    more: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """All of it."""
        return super().to_dict() | self.more


@dataclass(frozen=True)
class Request:
    """One request of lmms-eval, read."""

    place: int
    context: str
    keywords: dict[str, Any]
    doc_to_visual: Any
    doc_id: int
    task: str
    split: str

    @property
    def kind(self) -> tuple[str, str, str]:
        """Requests of one kind are answered under the same settings."""
        return self.task, self.split, repr(sorted(self.keywords.items(), key=str))


class RedvtpModel(lmms):
    """A host with its method as lmms-eval sees it.

    Args:
        pretrained: a local folder, or a shipped model such as "mini/llada_v".
        device: as torch names it; by default this process's GPU, or the CPU where there is none.
        dtype: of the weights; None as `redvtp.load`.
        batch_size: requests at a time. Each gets what it would get alone.
        source: what redvtp.lmms.source.source_hash says; needed where lmms-eval caches responses.
        given: see redvtp.lmms.arguments.read.

    Raises:
        ValueError: naming the argument and what was expected, before any weight is read.
    """

    is_simple = True
    host: ClassVar[str]

    def __init__(
        self,
        pretrained: str,
        device: str | None = None,
        dtype: str | None = None,
        batch_size: int | str = 1,
        source: str | None = None,
        max_batch_size: int | None = None,
        **given: Any,
    ) -> None:
        super().__init__()
        self.arguments = read(self.host, given)
        if dtype is not None and dtype not in DTYPES:
            raise ValueError(f"dtype={dtype!r}: expected one of {', '.join(DTYPES)}")
        if not str(batch_size).isdecimal() or int(batch_size) < 1:
            raise ValueError(f"batch_size={batch_size!r}: expected a whole number, 1 or more")
        self.batch_size = int(batch_size)
        self.check(pretrained)
        self.source = check_source(source, pretrained)
        self.accelerator = Accelerator()  # joins the processes, where there are several
        self._rank, self._world_size = place_among_processes()
        self._device = torch.device(default_device() if device in (None, "cuda") else device)
        self.folder = Path(model_folder(pretrained)).name
        self.model = load(pretrained, getattr(torch, dtype) if dtype else None, str(self._device))

    @property
    def device(self) -> torch.device:
        """Where the model is, and what lmms-eval gathers on."""
        return self._device

    def check(self, pretrained: str) -> None:
        """Refuse another host's folder and a method that this host, in these settings, cannot run."""
        shape = unloaded(pretrained)
        if shape.name != self.host:
            raise ValueError(f"pretrained={pretrained!r}: expected a model of host {self.host}, found {shape.name}")
        host = SimpleNamespace(name=shape.name, can=shape.can, layers=shape.layers)
        settings, _ = self.arguments.decoding("docvqa_val")
        check_pruner(self.arguments.pruner, host, settings, {})
        check_cache(self.arguments.cache, host, self.arguments.pruner)

    def generate_until(self, requests: Sequence[Instance]) -> list[GenerationResult]:
        """Answer requests, in their order."""
        asked = [
            Request(place, *request.args)
            for place, request in enumerate(requests)
            if not request.metadata.get(PADDING)  # repeats a request, to give all processes as many
        ]
        # Everything is refused before the first forward.
        how = {one.kind: self.arguments.decoding(one.task, one.keywords) for one in asked}
        found = [GenerationResult("")] * len(requests)
        with tqdm(total=len(asked), disable=self.rank != 0, desc=self.arguments.method) as bar:
            for batch in self.batches(asked):
                settings, suffix = how[batch[0].kind]
                for one, result in zip(batch, self.answer(batch, settings, suffix), strict=True):
                    found[one.place] = result
                bar.update(len(batch))
        return found

    def batches(self, asked: Sequence[Request]) -> Iterator[list[Request]]:
        """Requests of one kind, at most `batch_size` at a time, in their order."""
        for _, group in groupby(sorted(asked, key=lambda one: one.kind), key=lambda one: one.kind):
            alike = list(group)
            for first in range(0, len(alike), self.batch_size):
                yield alike[first : first + self.batch_size]

    def answer(self, batch: Sequence[Request], settings: Settings, suffix: str) -> list[GenerationResult]:
        """One batch. Its seconds, reading the images included, are shared among its requests."""
        started = time.perf_counter()
        documents = self.task_dict[batch[0].task][batch[0].split]
        prompts = [prompt_of(one, documents[one.doc_id], suffix) for one in batch]
        answers = self.model.generate_batch(
            prompts,
            prune=self.arguments.pruner,
            cache=self.arguments.cache,
            # A seed of each document's own: what is random differs between documents, and not between batches.
            seeds=[settings.seed * 1_000_003 + one.doc_id for one in batch],
            **vars(settings) | {"stop": tuple(dict.fromkeys((*settings.stop, *self.model.host.stop)))},
        )
        seconds = (time.perf_counter() - started) / len(batch)
        stands_on = {"data": revision(documents), "source": self.source, "device": device_name(self._device)}
        return [self.result(answer, seconds, stands_on | versions()) for answer in answers]

    def result(self, answer: Answer, seconds: float, stands_on: dict[str, str | None]) -> GenerationResult:
        """The answer as the official evaluation reads it, and what it cost."""
        prompt = int((answer.layout.kind == PROMPT).sum())
        more = {
            "visual_tokens": answer.visual_tokens,
            "prompt_tokens": prompt,
            "kept": len(answer.kept),
            "steps": answer.steps,
            "tokens_fed": answer.tokens_fed,
            "flops": answer.flops,
            "seconds": seconds,
            "stands_on": stands_on,
        }
        tokens = self.written(answer.ids)
        return GenerationResult(
            self.text(answer), Cost(input_tokens=answer.visual_tokens + prompt, output_tokens=tokens, more=more)
        )

    def text(self, answer: Answer) -> str:
        """The response without special tokens."""
        return answer.text

    def written(self, ids: Sequence[int]) -> int:
        """Tokens of a response as the official evaluation counts them: up to the end of the text, without it."""
        return len(ids)

    def loglikelihood(self, requests: Sequence[Instance]) -> list[tuple[float, bool]]:
        """Refused: lmms-eval asks every model for it, and a masked diffusion model has none."""
        raise NotImplementedError("a masked diffusion model has no likelihood to give: expected tasks that generate")

    def generate_until_multi_round(self, requests: Sequence[Instance]) -> list[str]:
        """Refused: lmms-eval asks every model for it, and none of the papers' tasks has several turns."""
        raise NotImplementedError("multi-turn tasks are not supported: expected tasks with one question and answer")

    def clean(self) -> None:
        """Free the weights before scores are computed."""
        self.model = None
        super().clean()


class RedvtpLladaV(RedvtpModel):
    """LLaDA-V."""

    host = "llada_v"

    def text(self, answer: Answer) -> str:
        """One full stop at the end is dropped, before spaces are (official_code §3.3)."""
        text = self.model.host.tokenizer.decode(answer.ids, skip_special_tokens=True)
        return text.removesuffix(".").strip()


class RedvtpLavida(RedvtpModel):
    """LaViDa, whose whole response is generated: it has no stop texts."""

    host = "lavida"

    def written(self, ids: Sequence[int]) -> int:
        """Tokens before the first end of text, ends of turns left out (official_code §5.6)."""
        host = self.model.host
        end, turn = host.tokenizer.convert_tokens_to_ids(["<|endoftext|>", "<|eot_id|>"])
        before = list(ids)[: list(ids).index(end)] if end in ids else list(ids)
        return sum(one != turn for one in before)


def prompt_of(one: Request, document: dict, suffix: str) -> Prompt:
    """A request's question and images, with what the official evaluation puts behind the question.

    It does so only where there are images and no markers for them (official_code §2.6).

    Raises:
        ValueError: video.
    """
    images = one.doc_to_visual(document) or []
    if any(not isinstance(image, Image.Image) for image in images):
        kinds = ", ".join(sorted({type(image).__name__ for image in images}))
        raise ValueError(f"task {one.task}, document {one.doc_id}: expected PIL images, got {kinds}; video is not read")
    plain = bool(images) and MARKER not in one.context
    return Prompt(one.context + suffix if plain else one.context, list(images))


def default_device() -> str:
    """This process's GPU, or the CPU."""
    return f"cuda:{int(os.environ.get('LOCAL_RANK', 0))}" if torch.cuda.is_available() else "cpu"


def place_among_processes() -> tuple[int, int]:
    """(rank, world size)."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))


def revision(documents: Any) -> str | None:
    """Which data these are: the hub's commit where they come from there, else what datasets calls the fingerprint."""
    sums = getattr(documents.info, "download_checksums", None) or {}
    for address in sorted(sums):
        if address.startswith("hf://") and "@" in address:
            return address.partition("@")[2].partition("/")[0]
    return getattr(documents, "_fingerprint", None)


@cache
def versions() -> dict[str, str]:
    """Versions of what an answer and its score depend on."""
    return {name: metadata.version(name) for name in PACKAGES}


@cache
def device_name(device: torch.device) -> str:
    """The GPU's model, or "cpu"."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
