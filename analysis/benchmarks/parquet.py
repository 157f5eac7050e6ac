"""Rows of parquet files by number, read a row group at a time, so that a part of a data set does not load all of it.

The files lie in a folder, or on the hub. The libraries for it are an extra: `pip install "redvtp[paper]"`.
"""

from __future__ import annotations

import bisect
import importlib
import itertools
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from PIL import Image

from analysis import storage

INSTALL = 'pip install "redvtp[paper]"'
HUB = "hf://datasets/"


class DataError(ValueError):
    """A published data set that is not there, or is not what its name says."""


def library(name: str) -> ModuleType:
    """`datasets` or a module of `pyarrow`. Raises DataError with the command that installs it."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise DataError(f"published data sets need the library {name.split('.')[0]} ({error}): {INSTALL}") from None


class Table:
    """The rows of some parquet files, one behind the other.

    Args:
        files: local paths, or addresses on the hub (``hf://...``).
        columns: those that are read.
        name: of the data set, for messages.

    Raises DataError for a file that cannot be read or lacks one of the columns.
    """

    def __init__(self, files: Sequence[str], columns: Sequence[str], name: str) -> None:
        self.files, self.columns, self.name = list(files), list(columns), name
        self._open = [self._opened(file) for file in self.files]
        self._groups = [(file, group) for file, one in enumerate(self._open) for group in range(one.num_row_groups)]
        sizes = [self._open[file].metadata.row_group(group).num_rows for file, group in self._groups]
        self._ends = list(itertools.accumulate(sizes))
        self._held: tuple[int, Any] | None = None  # the last row group, for the next row is mostly in it
        self.groups_read = 0

    def _opened(self, file: str) -> Any:
        parquet, fsspec = library("pyarrow.parquet"), library("fsspec.core")
        try:
            system, path = fsspec.url_to_fs(file)
            found = parquet.ParquetFile(system.open(path, "rb"))
        except Exception as error:  # each file system and parser has its own
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise DataError(f"{self.name}: {file} cannot be read as parquet ({reason})") from None
        there = found.schema_arrow.names
        lacking = [column for column in self.columns if column not in there]
        if lacking:
            raise DataError(
                f"{self.name}: {file} has no column {', '.join(lacking)}; its columns are {', '.join(there)}"
            )
        return found

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def row(self, index: int) -> dict[str, Any]:
        """Row `index` as plain values; an image as its bytes. Raises IndexError outside the table."""
        if not 0 <= index < len(self):
            raise IndexError(f"{self.name}: row {index} of {len(self)}")
        group = bisect.bisect_right(self._ends, index)
        if self._held is None or self._held[0] != group:
            file, place = self._groups[group]
            self._held = None  # two row groups of page images at once would be half a gigabyte
            self._held = group, self._open[file].read_row_group(place, columns=self.columns)
            self.groups_read += 1
        start = self._ends[group - 1] if group else 0
        return self._held[1].slice(index - start, 1).to_pylist()[0]


def picture(value: Any) -> Image.Image:
    """RGB from an image column's value, turned as its EXIF data asks."""
    return library("datasets").Image().decode_example(value).convert("RGB")


def files_in(folder: Path, places: Sequence[str], split: str) -> list[str]:
    """The files of a split in the first of `places` below `folder` that has some; none where there is no such place."""
    for place in places:
        for pattern in (f"{split}-*.parquet", f"{split}.parquet"):
            if found := sorted(map(str, (folder / place).glob(pattern))):
                return found
    return []


def files_on_hub(repository: str, config: str, split: str) -> list[str]:
    """The addresses of a split's files, each with the commit that it is read at. Raises DataError."""
    datasets = library("datasets")
    try:
        builder = datasets.load_dataset_builder(repository, config)
        found = builder.config.data_files[split]
    except Exception as error:  # offline, unknown, gated: each has its own
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise DataError(
            f"{repository} cannot be read from the hub ({reason}); give a folder with its files: "
            f"hf download {repository} --repo-type dataset --local-dir FOLDER/{repository.split('/')[1]}, "
            "then --data FOLDER"
        ) from None
    return [str(file) for file in found]


def content_of(files: Sequence[str]) -> str:
    """What tells these files apart: repository and commit on the hub, else a hash of their contents."""
    if files[0].startswith(HUB):
        return "/".join(files[0].removeprefix(HUB).split("/")[:2])  # lmms-lab/DocVQA@commit
    return "files " + storage.digest([[Path(file).name, storage.file_hash(Path(file))] for file in files])
