"""Reading a checkpoint folder: the official names, the vocabulary trim, and what is wrong with it."""

from __future__ import annotations

import contextlib
import copy
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn
from transformers import AutoTokenizer, LlavaOnevisionConfig, PreTrainedModel
from transformers.utils import logging as transformers_logging

from redvtp.models.files import CheckpointError, FileError
from redvtp.models.shards import Stored, check_readable, fill

# Official name -> name in transformers' LlavaOnevisionForConditionalGeneration; first match wins (official_code §2.2).
VISION_NAMES = (
    ("model.vision_tower.vision_tower.vision_model.", "model.vision_tower."),
    ("model.mm_projector.0.", "model.multi_modal_projector.linear_1."),
    ("model.mm_projector.2.", "model.multi_modal_projector.linear_2."),
    ("model.image_newline", "model.image_newline"),
)
LLADA_V_NAMES = (*VISION_NAMES, ("lm_head.", "lm_head."), ("model.", "model.language_model."))


def host_name(official: str, names: Sequence[tuple[str, str]] = LLADA_V_NAMES) -> str:
    """The host's name of an official tensor; a name outside the map comes back unchanged."""
    for old, new in names:
        if official.startswith(old):
            return new + official[len(old) :]
    return official


# In official files, and not in the network: buffers that are computed, and parts that the official tower deletes.
UNUSED = re.compile(r".*\.rotary_emb\.inv_freq|.*\.embeddings\.position_ids|.*\.vision_model\.head\..*")
TOWER_LAYER = re.compile(r".*\.vision_model\.encoder\.layers\.(\d+)\..*")


def is_used(official: str, tower_layers: int) -> bool:
    """Whether an official tensor is one of the network's, whose tower has so many layers (official_code §2.3)."""
    layer = TOWER_LAYER.fullmatch(official)
    return not UNUSED.fullmatch(official) and (layer is None or int(layer[1]) < tower_layers)


def trim_vocabulary(stored: Mapping[str, Stored], size: int) -> dict[str, Stored]:
    """Embedding and head cut to the tokenizer's ``size`` rows, as the official loader does (official_code §2.1)."""
    trimmed = dict(stored)
    for name in ("model.language_model.embed_tokens.weight", "lm_head.weight"):
        rows = trimmed[name].shape[0] if name in trimmed else size
        if rows < size:
            raise CheckpointError(f"{name}: expected at least {size} rows (the tokenizer's size), got {rows}")
        if rows > size:
            trimmed[name] = replace(trimmed[name], shape=(size, *trimmed[name].shape[1:]))
    return trimmed


def read_tokenizer(folder: Path):
    """The folder's own tokenizer; CheckpointError where its files are not there or cannot be read."""
    if not any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer_config.json")):
        raise FileError(f"{folder}: expected tokenizer.json and tokenizer_config.json, found neither")
    try:
        with quiet():
            return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # transformers raises whatever its parsers do
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CheckpointError(f"{folder}: the tokenizer cannot be read ({reason})") from None


def load_saved(kind: type[PreTrainedModel], folder: Path, dtype: torch.dtype) -> PreTrainedModel:
    """A model from a folder that transformers' ``save_pretrained`` wrote.

    Raises:
        CheckpointError: an unreadable file; names missing, left over, or of another shape.
    """
    check_readable(folder)  # a truncated file is named here, before transformers reports it its own way
    with quiet():
        model, found = kind.from_pretrained(
            folder, local_files_only=True, dtype=dtype, output_loading_info=True, ignore_mismatched_sizes=True
        )
    refuse_misfits(
        folder,
        sorted(found["missing_keys"]),
        sorted(found["unexpected_keys"]),
        [f"{name} {tuple(got)} instead of {tuple(wanted)}" for name, got, wanted in found["mismatched_keys"]],
    )
    return model


def load_stored(
    kind: type[PreTrainedModel],
    config: LlavaOnevisionConfig,
    stored: Mapping[str, Stored],
    dtype: torch.dtype,
    device: torch.device,
) -> PreTrainedModel:
    """A model of that config from tensors in files, by the model's names; they must fit (see check_fit).

    It is built on ``meta``: nothing is initialised at random, and each tensor is in memory once.
    """
    with torch.device("meta"):
        model = kind(config)
    fill(model, stored, dtype, device)
    fill_buffers(model, kind, config, device)
    model.config.dtype = dtype
    return model


def fill_buffers(
    model: PreTrainedModel, kind: type[PreTrainedModel], config: LlavaOnevisionConfig, device: torch.device
) -> None:
    """The buffers that no checkpoint holds: those of the same model without layers, which is built for them."""
    small = copy.deepcopy(config)
    small.text_config.num_hidden_layers = small.vision_config.num_hidden_layers = 0
    small.text_config.vocab_size = 1
    made = dict(kind(small).named_buffers())
    for name, value in list(model.named_buffers()):
        if value.is_meta:
            module = model.get_submodule(name.rpartition(".")[0])
            setattr(module, name.rpartition(".")[2], made[name].to(device))


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without transformers' progress bar and load report; what is wrong is raised as one line."""
    level, bar = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity(transformers_logging.CRITICAL)
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)
        if bar:
            transformers_logging.enable_progress_bar()


def check_fit(folder: Path, model: nn.Module, stored: Mapping[str, Stored]) -> None:
    """Compare names and shapes with those of a model, which may be on ``meta``, before anything is read.

    Raises:
        CheckpointError: names missing, left over, or of another shape; names the first few.
    """
    wanted = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    misshapen = [
        f"{stored[name].name} {stored[name].shape} instead of {wanted[name]}"
        for name in sorted(set(wanted) & set(stored))
        if stored[name].shape != wanted[name]
    ]
    refuse_misfits(folder, sorted(set(wanted) - set(stored)), sorted(set(stored) - set(wanted)), misshapen)


def refuse_misfits(folder: Path, missing: list[str], surplus: list[str], misshapen: list[str]) -> None:
    """Raise CheckpointError where a checkpoint's tensors are not exactly the model's."""
    found = []
    for problem, names in (("misshapen", misshapen), ("missing", missing), ("surplus", surplus)):
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            found.append(f"{len(names)} {problem} tensors: {', '.join(names[:3])}{more}")
    if found:
        raise CheckpointError(f"{folder} has {'; '.join(found)}")
