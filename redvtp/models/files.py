"""Reading small files of a model folder, and the errors that name what is wrong with it."""

from __future__ import annotations

import json
from pathlib import Path


class CheckpointError(ValueError):
    """A checkpoint that does not fit; the message names the first offending tensors or file."""


class FileError(CheckpointError):
    """A file that is missing or not whole: fetching it again may help."""


def read_json(path: Path) -> dict:
    """A JSON file, or a CheckpointError that names it."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileError(f"{path}: expected this file in a model folder, found none") from None
    except (ValueError, OSError) as error:
        raise CheckpointError(f"{path}: expected JSON ({error})") from None
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: expected a JSON object, found a {type(content).__name__}")
    return content
