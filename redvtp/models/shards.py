"""What the safetensors files of a folder hold, by their headers alone, and filling a model from them file by file."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from redvtp.models.files import CheckpointError, FileError, read_json

INDEX = "model.safetensors.index.json"


@dataclass(frozen=True)
class Stored:
    """A tensor in a file.

    Attributes:
        path: the safetensors file.
        name: there.
        shape: of what is read: all of it, or its first rows.
        bytes: a number takes in the file.
    """

    path: Path
    name: str
    shape: tuple[int, ...]
    bytes: int

    @property
    def numbers(self) -> int:
        """How many are read."""
        return torch.Size(self.shape).numel()


def shards_of(folder: Path) -> list[Path]:
    """The safetensors files of a folder, as its index or the plain name says.

    Raises:
        FileError: files that are not there.
    """
    names = sorted(set(weight_map(folder).values())) or ["model.safetensors"]
    lacking = [name for name in names if not (folder / name).is_file()]
    if lacking:
        of = f" ({len(lacking)} of {len(names)} files missing)" if len(names) > 1 else ""
        raise FileError(f"{folder / lacking[0]}: expected a safetensors file, found none{of}{other_weights(folder)}")
    return [folder / name for name in names]


def weight_map(folder: Path) -> dict[str, str]:
    """Each tensor's file, as the index says; empty without an index."""
    index = folder / INDEX
    if not index.is_file():
        return {}
    found = read_json(index).get("weight_map")
    if not isinstance(found, dict) or not all(isinstance(name, str) for name in found.values()) or not found:
        raise CheckpointError(f"{index}: expected a weight_map with a file's name for each tensor")
    return found


def other_weights(folder: Path) -> str:
    """What to say of weights in a format that is not read: pickled files can run code."""
    return "; *.bin files are not read" if any(folder.glob("*.bin")) else ""


@contextlib.contextmanager
def opened(path: Path) -> Iterator[safe_open]:
    """A safetensors file; FileError where it is missing, truncated or corrupt, which its header tells."""
    if not path.is_file():
        raise FileError(f"{path}: expected a safetensors file, found none")
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise FileError(f"{path}: the safetensors file is truncated or corrupt ({error})") from None


def check_readable(folder: Path) -> None:
    """Open each file's header, which says whether the file is whole; FileError names a bad one."""
    for path in shards_of(folder):
        with opened(path) as file:
            file.keys()


def stored_tensors(folder: Path) -> dict[str, Stored]:
    """All tensors of a folder by name, from the headers of its files.

    Raises:
        FileError: a file that is missing, truncated or corrupt.
        CheckpointError: files that are not those of the index.
    """
    found: dict[str, Stored] = {}
    for path in shards_of(folder):
        with opened(path) as file:
            for name in file.keys():
                if name in found:
                    raise CheckpointError(f"{path}: {name} is in {found[name].path.name}, too; expected it once")
                part = file.get_slice(name)
                found[name] = Stored(path, name, tuple(part.get_shape()), width_of(part.get_dtype()))
    listed = weight_map(folder)
    astray = sorted(name for name, file in listed.items() if name not in found or found[name].path.name != file)
    if astray:
        more = f" and {len(astray) - 1} more" if len(astray) > 1 else ""
        raise CheckpointError(f"{folder / INDEX}: it names {astray[0]}{more}, which {listed[astray[0]]} has not")
    return found


def width_of(kind: str) -> int:
    """Bytes of a number of a safetensors type such as BF16."""
    bits = "".join(letter for letter in kind.partition("_")[0] if letter.isdigit())
    return max(1, int(bits) // 8) if bits else 1


def fill(model: nn.Module, stored: Mapping[str, Stored], dtype: torch.dtype, device: torch.device) -> None:
    """Give a model on ``meta`` its parameters, each read, cast and moved alone, one file open at a time.

    So no more than the model itself and a mapped file are in memory at any time.
    """
    files: dict[Path, list[str]] = defaultdict(list)
    for name, one in stored.items():
        files[one.path].append(name)
    for path, names in files.items():
        with opened(path) as file:
            for name in names:
                rows = stored[name].shape[0] if stored[name].shape else None
                part = file.get_tensor(stored[name].name) if rows is None else file.get_slice(stored[name].name)[:rows]
                put(model, name, part.to(device, dtype, copy=True))


def put(model: nn.Module, name: str, value: Tensor) -> None:
    """Set one parameter or buffer."""
    parent, _, leaf = name.rpartition(".")
    module = model.get_submodule(parent)
    parameter = isinstance(getattr(module, leaf), nn.Parameter)
    setattr(module, leaf, nn.Parameter(value, requires_grad=False) if parameter else value)
