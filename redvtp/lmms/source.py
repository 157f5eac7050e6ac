"""A hash of everything but the question that an answer stands on: this code, the weights, torch and transformers.

lmms-eval's response cache knows a model by its arguments alone, and would answer for code that has changed since.
"""

from __future__ import annotations

import hashlib
import sys
from importlib import metadata
from pathlib import Path

import redvtp
from redvtp.model import model_folder

WHOLE = 64 * 2**20
"""Files up to this many bytes are hashed by content, larger ones by name, size and time of change."""

VERSIONS = ("torch", "transformers")


def source_hash(name: str | Path) -> str:
    """16 hex digits over every source file of redvtp, the model folder's files, and the versions that count.

    Large weights are not read, for that would take a minute in every process: a copy of them counts as others.

    Raises:
        CheckpointError: no such model folder.
    """
    state = hashlib.sha256()
    code = Path(redvtp.__file__).resolve().parent
    for path in sorted(code.rglob("*.py")):
        _add(state, path.relative_to(code).as_posix(), path.read_bytes())
    folder = model_folder(name)
    for path in sorted(one for one in folder.rglob("*") if one.is_file() and one.suffix != ".md"):
        about = path.stat()  # of what a link points to
        content = path.read_bytes() if about.st_size <= WHOLE else f"{about.st_size} {about.st_mtime_ns}".encode()
        _add(state, path.relative_to(folder).as_posix(), content)
    for package in VERSIONS:
        _add(state, package, metadata.version(package).encode())
    return state.hexdigest()[:16]


def _add(state: hashlib._Hash, name: str, content: bytes) -> None:
    state.update(f"{name}\0{len(content)}\0".encode())
    state.update(content)


def check_source(given: str | None, name: str | Path) -> str:
    """The hash, where it is that of the model argument ``source``, or none was given and nothing is cached.

    Raises:
        ValueError: the argument is of other code or weights, or lmms-eval caches responses and there is none.
    """
    now = source_hash(name)
    if given is None:
        if caches_responses():
            raise ValueError(
                f"--use_cache without source: lmms-eval's cache would answer for other code, too; add source={now} to "
                "the model arguments, or use python -m redvtp.lmms, which does"
            )
    elif str(given) != now:
        raise ValueError(f"source={given}: expected {now}, the hash of this code and these weights")
    return now


def caches_responses() -> bool:
    """Whether this call comes from an evaluation with a response cache. lmms-eval does not tell its models."""
    frame = sys._getframe()
    while frame is not None:
        if frame.f_code.co_name == "simple_evaluate" and "use_cache" in frame.f_locals:
            return frame.f_locals["use_cache"] is not None
        frame = frame.f_back
    return False
