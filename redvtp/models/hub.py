"""Models of the Hugging Face hub that were fetched before: where they lie, and the command that fetches one."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

from redvtp.models.files import CheckpointError, FileError


@dataclass(frozen=True)
class Published:
    """A published checkpoint: its host, and bytes to fetch."""

    host: str
    bytes: int


# 2 bytes a parameter (official_code §2.2 and §4.1); the small files beside them are about 10 MB.
PUBLISHED = {
    "GSAI-ML/LLaDA-V": Published("llada_v", 16_869_674_048),
    "jacklishufan/lavida-llada-v1.0-instruct": Published("lavida", 16_869_674_048),
}


def is_hub_name(name: str) -> bool:
    """Whether a name is written like one of the hub, OWNER/MODEL."""
    return re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", name) is not None


def fetch_command(name: str) -> str:
    """The command that fetches a model, with its size where it is known."""
    size = f" ({PUBLISHED[name].bytes / 1e9:.1f} GB)" if name in PUBLISHED else ""
    return f"`hf download {name}`{size}"


def hub_folder(name: str) -> Path:
    """The folder of a model that was fetched before; nothing is fetched here.

    Raises:
        FileError: it was not; names the command.
    """
    try:
        return Path(snapshot_download(name, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError, OSError):
        raise FileError(f"model {name!r} is not on this machine: {fetch_command(name)} fetches it") from None


def with_command(name: str, error: CheckpointError) -> CheckpointError:
    """The error, with the command where fetching again may help."""
    if isinstance(error, FileError) and "hf download" not in str(error):
        return FileError(f"{error}; {fetch_command(name)} fetches what is missing")
    return error
