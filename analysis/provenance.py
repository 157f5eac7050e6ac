"""Where a result comes from: commit, versions, device. No host name and no path."""

from __future__ import annotations

import functools
import os
import platform
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

from analysis import paths


@functools.cache
def version(package: str) -> str | None:
    """The installed version of a package without importing it; the checkout's own for redvtp."""
    if package == "redvtp":
        with (paths.ROOT / "pyproject.toml").open("rb") as file:
            return tomllib.load(file)["project"]["version"]
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def versions() -> dict[str, str | None]:
    """Versions of Python, torch, transformers, numpy and redvtp; None where one is not installed."""
    found = {name: version(name) for name in ("torch", "transformers", "numpy", "redvtp")}
    return {"python": platform.python_version(), **found}


def commit() -> dict[str, str | bool | None]:
    """The checkout's git commit and whether tracked files differ from it; None outside a repository."""
    top = _git("rev-parse", "--show-toplevel")
    if top is None or Path(top).resolve() != paths.ROOT.resolve():
        return {"commit": None, "dirty": None}  # a plain copy, perhaps inside some other repository
    changed = _git("status", "--porcelain", "--untracked-files=no")
    return {"commit": _git("rev-parse", "--verify", "--quiet", "HEAD"), "dirty": bool(changed)}


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(paths.ROOT), *arguments], capture_output=True, text=True, timeout=30
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def device_model(device: str = "cpu") -> str:
    """The model name of the CPU, or of the GPU for `cuda` and `cuda:1`.

    Raises ValueError where a GPU is asked for and none is visible.
    """
    if device.split(":")[0] != "cuda":
        return _cpu_model()
    import torch

    if not torch.cuda.is_available():
        raise ValueError(f"device {device!r} asked for, but no CUDA GPU is visible")
    return torch.cuda.get_device_name(device)


@functools.cache
def _cpu_model() -> str:
    if sys.platform == "darwin":
        command = ["sysctl", "-n", "machdep.cpu.brand_string"]
        done = subprocess.run(command, capture_output=True, text=True)
        return done.stdout.strip() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def threads() -> int | None:
    """Threads that torch uses, or the machine's where torch is not loaded."""
    torch = sys.modules.get("torch")
    return torch.get_num_threads() if torch is not None else os.cpu_count()
