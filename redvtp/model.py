"""A loaded model: questions in, answers out, with or without pruning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import LongTensor

from redvtp.caching import CachePolicy
from redvtp.generation.cutting import check_pruner
from redvtp.generation.decoding import Decoding
from redvtp.generation.history import Recorder, Result
from redvtp.generation.passes import check_cache
from redvtp.generation.settings import Settings
from redvtp.graphs import Graphs, chosen_graphs
from redvtp.models.base import Host, Prompt
from redvtp.models.files import CheckpointError, read_json
from redvtp.models.hub import PUBLISHED, hub_folder, is_hub_name, with_command
from redvtp.models.lavida import Lavida
from redvtp.models.llada_v import LladaV
from redvtp.models.llava import LlavaHost
from redvtp.pruning.base import Pruner
from redvtp.sequence import Layout

HOSTS: dict[str, type[LlavaHost]] = {LladaV.name: LladaV, Lavida.name: Lavida}
DATA = Path(__file__).resolve().parent.parent / "data"


@dataclass(frozen=True)
class Answer:
    """What one question got.

    Attributes:
        text: the response up to its stop, without special tokens.
        ids: its token ids, the suffix included.
        visual_tokens: before any cut.
        kept: indices of the visual tokens left at the end, into the original ones.
        layout: of the last sequence; traces kept tokens back to pixels.
        steps: forwards (NFE).
        tokens_fed: sum over steps of the input length, averaged over layers.
        flops: of the language model over all steps.
    """

    text: str
    ids: list[int]
    visual_tokens: int
    kept: torch.Tensor
    layout: Layout
    steps: int
    tokens_fed: float
    flops: int


class Model:
    """A host with its tokenizer; calls leave nothing changed on it."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self._graphs: dict[str, Graphs] = {}

    def generate(
        self,
        image: Any,
        question: str,
        *,
        prune: Pruner | None = None,
        cache: CachePolicy | None = None,
        seed: int = 0,
        recorder: Recorder | None = None,
        extras: Mapping[str, Any] | None = None,
        draft: str | None = None,
        graphs: bool | str = False,
        **settings: Any,
    ) -> Answer:
        """Answer one question.

        Args:
            image: a path, PIL image or array; a list of them; or None for text only.
            prune: the method, e.g. ``RedVTP(keep=0.25)``.
            cache: which columns each step computes, e.g. ``FastDLLM(refresh=32)``; None for all.
            draft: text that the response starts with, ``<|mdm_mask|>`` at the tokens to fill in (infilling); what
                follows it is filled in, too.
            graphs: True replays the forwards that a run repeats as CUDA graphs; "eager" takes the same path without
                a GPU (see redvtp.graphs). Captured shapes and their buffers stay with this model.
            settings: fields of redvtp.generation.Settings (steps, length, ...).

        Raises:
            ValueError: bad settings, method, markers or image, before any forward.
        """
        images = [] if image is None else list(image) if isinstance(image, (list, tuple)) else [image]
        return self.generate_batch(
            [Prompt(question, images)],
            prune=prune,
            cache=cache,
            seeds=[seed],
            recorder=recorder,
            extras={name: [value] for name, value in (extras or {}).items()},
            drafts=None if draft is None else [draft],
            graphs=graphs,
            **settings,
        )[0]

    def generate_batch(
        self,
        prompts: Sequence[Prompt],
        *,
        prune: Pruner | None = None,
        cache: CachePolicy | None = None,
        seeds: Sequence[int] | None = None,
        recorder: Recorder | None = None,
        extras: Mapping[str, Sequence[Any]] | None = None,
        drafts: Sequence[str | None] | None = None,
        graphs: bool | str = False,
        **settings: Any,
    ) -> list[Answer]:
        """Answer a batch; each sample gets what it would get alone."""
        run = self.start(
            prompts,
            prune=prune,
            cache=cache,
            seeds=seeds,
            recorder=recorder,
            extras=extras,
            drafts=drafts,
            graphs=graphs,
            **settings,
        )
        return [self.answer(result) for result in run.run()]

    def start(
        self,
        prompts: Sequence[Prompt],
        *,
        prune: Pruner | None = None,
        cache: CachePolicy | None = None,
        seeds: Sequence[int] | None = None,
        recorder: Recorder | None = None,
        extras: Mapping[str, Sequence[Any]] | None = None,
        drafts: Sequence[str | None] | None = None,
        watch=None,
        graphs: bool | str = False,
        **settings: Any,
    ) -> Decoding:
        """A batch before its first step (see redvtp.generation.Decoding).

        ``stop`` defaults to the host's: ``("<|eot_id|>",)`` for LLaDA-V, to which the official evaluation always
        adds it (official_code §3.3), nothing for LaViDa (§4.3).
        """
        known = [field.name for field in fields(Settings)]
        unknown = sorted(set(settings) - set(known))
        if unknown:
            raise ValueError(f"unknown setting {unknown[0]!r}: expected one of {', '.join(known)}")
        settings.setdefault("stop", self.host.stop)
        chosen = Settings(**settings)
        check_pruner(prune, self.host, chosen, extras or {})
        check_cache(cache, self.host, prune)
        suffix = self.encode(chosen.suffix)
        state = self.host.begin(prompts, chosen.length, len(suffix))
        return Decoding(
            self.host,
            state,
            chosen,
            prune,
            cache=cache,
            seeds=seeds,
            extras=extras,
            stop_ids=[self.encode(text) for text in chosen.stop],
            suffix_ids=suffix,
            draft=None if drafts is None else self.draft_ids(drafts, len(prompts), chosen.length),
            recorder=recorder,
            watch=watch,
            graphs=chosen_graphs(self.host, graphs, self._graphs),
        )

    def encode(self, text: str) -> list[int]:
        """Token ids without special tokens around them."""
        return self.host.tokenizer(text, add_special_tokens=False).input_ids if text else []

    def draft_ids(self, drafts: Sequence[str | None], batch: int, length: int) -> LongTensor:
        """``[B, length]`` token ids of the drafts, filled up with masks.

        Raises:
            ValueError: not one a sample, or one that is longer than the response.
        """
        if len(drafts) != batch:
            raise ValueError(f"{len(drafts)} drafts for {batch} samples")
        ids = torch.full((batch, length), self.host.mask_id)
        for row, draft in zip(ids, drafts, strict=True):
            tokens = self.encode(draft or "")
            if len(tokens) > length:
                raise ValueError(f"draft {draft!r:.40}: {len(tokens)} tokens for a response of {length}")
            row[: len(tokens)] = torch.tensor(tokens, dtype=torch.long)
        return ids

    def answer(self, result: Result) -> Answer:
        """A finished sample with its text."""
        return Answer(
            text=self.host.tokenizer.decode(result.ids, skip_special_tokens=True).strip(),
            ids=result.ids,
            visual_tokens=result.visual_tokens,
            kept=result.kept,
            layout=result.layout,
            steps=result.steps,
            tokens_fed=result.tokens_fed,
            flops=result.flops,
        )


def is_on_hub(name: str | Path) -> bool:
    """Whether a name is meant as one of the Hugging Face hub: no folder, and not one of ``data/``."""
    return is_hub_name(str(name)) and not Path(name).is_dir() and not (DATA / name).parent.is_dir()


def model_folder(name: str | Path) -> Path:
    """A folder, the one of that name in ``data/``, e.g. "mini/llada_v", or that of a model of the Hugging Face hub
    which was fetched before, e.g. "GSAI-ML/LLaDA-V".

    Raises:
        CheckpointError: no such folder; FileError names the command that fetches a model.
    """
    for folder in (Path(name), DATA / name):
        if str(name) and folder.is_dir():
            return folder
    if is_on_hub(name):
        return hub_folder(str(name))
    shipped = sorted(str(path.parent.relative_to(DATA)) for path in DATA.glob("mini/*/config.json"))
    raise CheckpointError(
        f"model {str(name)!r}: expected a folder, a name of the hub such as {next(iter(PUBLISHED))}, "
        f"or one of {', '.join(shipped) or 'none'}"
    )


def host_class(folder: Path) -> type[LlavaHost]:
    """The host of a model folder: that of its ``redvtp.json``, else what an official ``config.json`` shows.

    Raises:
        CheckpointError: an unknown host.
    """
    own = folder / "redvtp.json"
    host = read_json(own).get("host") if own.is_file() else official_host(folder)
    if host not in HOSTS:
        raise CheckpointError(f"{own}: unknown host {host!r}, expected one of {', '.join(HOSTS)}")
    return HOSTS[host]


def official_host(folder: Path) -> str:
    """The host whose official ``config.json`` a folder holds; LLaDA-V's where it does not say."""
    config = folder / "config.json"
    return Lavida.name if config.is_file() and Lavida.recognises(read_json(config)) else LladaV.name


def load(
    name: str | Path,
    dtype: torch.dtype | None = None,
    device: Any = "cpu",
    *,
    device_map: Any = None,
    fused: bool = False,
) -> Model:
    """A model by folder, by its name in ``data/``, e.g. "mini/llada_v", or by its name on the Hugging Face hub, e.g.
    "GSAI-ML/LLaDA-V", where it was fetched before. Nothing is fetched, and no code of a model's is run.

    Its host is what ``redvtp.json`` in the folder names, else what the official ``config.json`` shows. Files are
    checked before any weight is read; ``python -m redvtp doctor NAME`` checks more.

    Args:
        dtype: of the weights; None is what the official evaluation runs in for a published checkpoint (fp16 for
            LLaDA-V, bf16 for LaViDa), else fp32.
        device: as torch names it.
        device_map: as transformers takes it, instead: a device, "auto", or {"": device}.
        fused: join each layer's products, for speed; outputs change by rounding (see redvtp.models.fused).

    Raises:
        CheckpointError: no such folder, or one that does not hold a model of a known host.
        ValueError: a device that is not there or has no room.
    """
    try:
        folder = model_folder(name)
        return Model(host_class(folder).from_folder(folder, dtype, device, device_map, fused=fused))
    except CheckpointError as error:
        raise with_command(str(name), error) if is_on_hub(name) else error from None
