"""Files that are written whole or not at all, and hashes of files."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

from analysis import paths


class StorageError(RuntimeError):
    """A file could not be written. Its old contents, if any, are untouched."""


def write_bytes(path: Path, content: bytes) -> None:
    """Puts `content` at `path` through a temporary file in the same folder, so that readers see the old file
    or the new one and nothing between.

    Raises StorageError, in one line, where the disk is full or the folder cannot be written.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)  # mkstemp's 0600 would travel into committed files
        os.replace(temporary, path)
    except BaseException as error:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise StorageError(reason(path, error)) from error
        raise


def reason(path: Path, error: OSError) -> str:
    """Why a file could not be written, in one line."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return (
            f"no space left to write {paths.shown(path)}: free some and run again, what was finished is kept"
        )
    return f"cannot write {paths.shown(path)}: {error.strerror or error}"


def write_text(path: Path, text: str) -> None:
    """As `write_bytes`, UTF-8."""
    write_bytes(path, text.encode())


def write_json(path: Path, content: object) -> None:
    """As `write_bytes`, indented JSON. Raises ValueError for NaN and infinity, which JSON does not have."""
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> dict:
    """The object in a JSON file. Raises ValueError naming the file where it holds anything else."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, UnicodeDecodeError) as error:
        raise ValueError(f"{paths.shown(path)} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{paths.shown(path)} holds a {type(content).__name__}, expected an object")
    return content


def digest(content: object) -> str:
    """A short hash of anything JSON can hold; the order of keys does not matter."""
    text = json.dumps(content, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def file_hash(path: Path) -> str:
    """A short hash of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def files_hash(*roots: Path) -> str:
    """A short hash of files and of all files below folders, by name and contents: for weights and data.

    Raises FileNotFoundError naming the first of `roots` that is missing.
    """
    entries = []
    for root in roots:
        if not root.exists():
            raise FileNotFoundError(f"{paths.shown(root)} is missing")
        entries += [[path.relative_to(root.parent).as_posix(), file_hash(path)] for path in _files(root)]
    return digest(entries)


def _files(root: Path) -> Iterable[Path]:
    if root.is_file():
        return [root]
    visible = (path for path in root.rglob("*") if path.is_file())
    return sorted(
        path
        for path in visible
        if not any(part.startswith(".") or part == "__pycache__" for part in path.relative_to(root).parts)
    )
