"""Reading a checkpoint folder: shards, the official names, the vocabulary trim, and what is wrong with it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from transformers import AutoTokenizer, PreTrainedConfig, PreTrainedModel
from transformers.utils import logging as transformers_logging


class CheckpointError(ValueError):
    """A checkpoint that does not fit; the message names the first offending tensors or file."""


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


def read_json(path: Path) -> dict:
    """A JSON file, or a CheckpointError that names it."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{path}: expected this file in a model folder, found none") from None
    except (ValueError, OSError) as error:
        raise CheckpointError(f"{path}: expected JSON ({error})") from None
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: expected a JSON object, found a {type(content).__name__}")
    return content


def shards_of(folder: Path) -> list[Path]:
    """The safetensors files of a folder, as its index or the plain name says."""
    index = folder / "model.safetensors.index.json"
    names = ["model.safetensors"]
    if index.is_file():
        names = sorted(set(read_json(index).get("weight_map", {}).values()))
    return [folder / name for name in names]


@contextlib.contextmanager
def opened(path: Path) -> Iterator[safe_open]:
    """A safetensors file; CheckpointError where it is missing, truncated or corrupt."""
    if not path.is_file():
        raise CheckpointError(f"{path}: expected a safetensors file, found none")
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: the safetensors file is truncated or corrupt ({error})") from None


def check_readable(folder: Path) -> None:
    """Open each shard's header, which says whether the file is whole; CheckpointError names a bad one."""
    for path in shards_of(folder):
        with opened(path) as file:
            file.keys()


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """All tensors of a folder, mapped from its files.

    Raises:
        CheckpointError: no such file, or one that is truncated or corrupt.
    """
    tensors: dict[str, Tensor] = {}
    for path in shards_of(folder):
        with opened(path) as file:
            tensors.update({name: file.get_tensor(name) for name in file.keys()})
    return tensors


def trim_vocabulary(tensors: dict[str, Tensor], size: int) -> dict[str, Tensor]:
    """Embedding and head cut to the tokenizer's ``size`` rows, as the official loader does (official_code §2.1)."""
    trimmed = dict(tensors)
    for name in ("model.language_model.embed_tokens.weight", "lm_head.weight"):
        rows = trimmed[name].shape[0] if name in trimmed else size
        if rows < size:
            raise CheckpointError(f"{name}: expected at least {size} rows (the tokenizer's size), got {rows}")
        if rows > size:
            trimmed[name] = trimmed[name][:size].clone()
    return trimmed


def read_tokenizer(folder: Path):
    """The folder's own tokenizer; CheckpointError where its files are not there or cannot be read."""
    if not any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer_config.json")):
        raise CheckpointError(f"{folder}: expected tokenizer.json and tokenizer_config.json, found neither")
    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # transformers raises whatever its parsers do
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CheckpointError(f"{folder}: the tokenizer cannot be read ({reason})") from None


def load_saved(
    kind: type[PreTrainedModel],
    folder: Path,
    dtype: torch.dtype,
    config: PreTrainedConfig | None = None,
    tensors: dict[str, Tensor] | None = None,
) -> PreTrainedModel:
    """A model from a folder that transformers' ``save_pretrained`` wrote, or from a config and tensors.

    Nothing is initialised at random first, and the tensors are not copied twice.

    Raises:
        CheckpointError: an unreadable file; names missing, left over, or of another shape.
    """
    source = {"pretrained_model_name_or_path": folder, "local_files_only": True}
    if tensors is None:
        check_readable(folder)  # a truncated file is named here, before transformers reports it its own way
    else:
        source = {"pretrained_model_name_or_path": None, "config": config, "state_dict": tensors}
    with quiet():
        model, found = kind.from_pretrained(
            **source, dtype=dtype, output_loading_info=True, ignore_mismatched_sizes=True
        )
    refuse_misfits(
        folder,
        sorted(found["missing_keys"]),
        sorted(found["unexpected_keys"]),
        [f"{name} {tuple(got)} instead of {tuple(wanted)}" for name, got, wanted in found["mismatched_keys"]],
    )
    return model


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


def check_fit(folder: Path, model: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Compare names and shapes with those of a model, which may be on ``meta``, before anything is built.

    Raises:
        CheckpointError: names missing, left over, or of another shape; names the first few.
    """
    wanted = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    misshapen = [
        f"{name} {tuple(tensors[name].shape)} instead of {wanted[name]}"
        for name in sorted(set(wanted) & set(tensors))
        if tuple(tensors[name].shape) != wanted[name]
    ]
    refuse_misfits(folder, sorted(set(wanted) - set(tensors)), sorted(set(tensors) - set(wanted)), misshapen)


def refuse_misfits(folder: Path, missing: list[str], surplus: list[str], misshapen: list[str]) -> None:
    """Raise CheckpointError where a checkpoint's tensors are not exactly the model's."""
    for problem, names in (("misshapen", misshapen), ("missing", missing), ("surplus", surplus)):
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            raise CheckpointError(f"{folder} has {len(names)} {problem} tensors: {', '.join(names[:3])}{more}")
