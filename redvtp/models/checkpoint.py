"""Reading a checkpoint folder: shards, the official LLaDA-V names, the vocabulary trim, and what is wrong with it."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from transformers import PreTrainedModel


class CheckpointError(ValueError):
    """A checkpoint that does not fit; the message names the first offending tensors or file."""


# Official name -> name in transformers' LlavaOnevisionForConditionalGeneration; first match wins (official_code §2.2).
LLADA_V_NAMES = (
    ("model.vision_tower.vision_tower.vision_model.", "model.vision_tower."),
    ("model.mm_projector.0.", "model.multi_modal_projector.linear_1."),
    ("model.mm_projector.2.", "model.multi_modal_projector.linear_2."),
    ("model.image_newline", "model.image_newline"),
    ("lm_head.", "lm_head."),
    ("model.", "model.language_model."),
)


def host_name(official: str) -> str:
    """The host's name of an official LLaDA-V tensor; a name outside the map comes back unchanged."""
    for old, new in LLADA_V_NAMES:
        if official.startswith(old):
            return new + official[len(old) :]
    return official


def read_json(path: Path) -> dict:
    """A JSON file, or a CheckpointError that names it."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{path}: expected this file in a model folder, found none") from None
    except (ValueError, OSError) as error:
        raise CheckpointError(f"{path}: expected JSON ({error})") from None


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """All tensors of a folder's ``model.safetensors`` or sharded ``model.safetensors.index.json``.

    Raises:
        CheckpointError: no such file, or one that is truncated or corrupt.
    """
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        shards = sorted(set(read_json(index).get("weight_map", {}).values()))
    else:
        shards = ["model.safetensors"]
    tensors: dict[str, Tensor] = {}
    for shard in shards:
        path = folder / shard
        if not path.is_file():
            raise CheckpointError(f"{path}: expected a safetensors file, found none")
        try:
            with safe_open(path, framework="pt") as opened:
                tensors.update({name: opened.get_tensor(name) for name in opened.keys()})
        except (SafetensorError, OSError, ValueError) as error:
            raise CheckpointError(f"{path}: the safetensors file is truncated or corrupt ({error})") from None
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


def load_saved(kind: type[PreTrainedModel], folder: Path, dtype: torch.dtype) -> PreTrainedModel:
    """A model from a folder that transformers' ``save_pretrained`` wrote.

    Raises:
        CheckpointError: an unreadable file; names missing, left over, or of another shape.
    """
    read_tensors(folder)  # a truncated file is named here, before transformers reports it its own way
    model, found = kind.from_pretrained(
        folder, dtype=dtype, output_loading_info=True, ignore_mismatched_sizes=True, local_files_only=True
    )
    refuse_misfits(
        sorted(found["missing_keys"]),
        sorted(found["unexpected_keys"]),
        [f"{name} {tuple(got)} instead of {tuple(wanted)}" for name, got, wanted in found["mismatched_keys"]],
    )
    return model


def load_into(model: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Copy ``tensors`` (host names) into the model, in the model's dtype.

    Raises:
        CheckpointError: names missing, left over, or of another shape; names the first few.
    """
    wanted = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    misshapen = [
        f"{name} {tuple(tensors[name].shape)} instead of {wanted[name]}"
        for name in sorted(set(wanted) & set(tensors))
        if tuple(tensors[name].shape) != wanted[name]
    ]
    refuse_misfits(sorted(set(wanted) - set(tensors)), sorted(set(tensors) - set(wanted)), misshapen)
    with torch.no_grad():
        model.load_state_dict(tensors)


def refuse_misfits(missing: list[str], surplus: list[str], misshapen: list[str]) -> None:
    """Raise CheckpointError where a checkpoint's tensors are not exactly the model's."""
    for problem, names in (("misshapen", misshapen), ("missing", missing), ("surplus", surplus)):
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            raise CheckpointError(f"checkpoint has {len(names)} {problem} tensors: {', '.join(names[:3])}{more}")
