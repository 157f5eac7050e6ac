"""What the profiles that ship nothing need: models, benchmarks, lmms-eval, a GPU; what of it is not here, and the
command that fetches it. `python -m analysis.needs PROFILE`.

Only the standard library is imported, so that it can be said before anything is installed. A model or benchmark is
here where the Hugging Face cache has a snapshot of it; `python -m redvtp doctor MODEL` looks into its files.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

LMMS_EVAL = "lmms-eval==0.7.3"
GPU_BYTES = 24_000_000_000
"""Memory of a GPU that holds an 8B model in 16 bits and a run on it (see analysis.costs)."""


@dataclass(frozen=True)
class Download:
    """Something to fetch from the Hugging Face hub.

    Attributes:
        repository: there.
        megabytes: to fetch, as its pages say.
        kind: "model" or "dataset".
        files: pattern of the files that are needed; "" for all.
        what: its name in messages.
    """

    repository: str
    megabytes: int
    kind: str
    files: str = ""
    what: str = ""

    @property
    def command(self) -> str:
        """What fetches it."""
        kind = " --repo-type dataset" if self.kind == "dataset" else ""
        return f"hf download {self.repository}{kind}" + (f' --include "{self.files}"' if self.files else "")

    def is_here(self) -> bool:
        """Whether the cache has a snapshot with weights or tables of it."""
        folder = cache() / f"{self.kind}s--{self.repository.replace('/', '--')}" / "snapshots"
        wanted = self.files.replace("*", "*.parquet") if self.files else "**/*"
        found = (path for path in folder.glob(f"*/{wanted}") if path.suffix in (".safetensors", ".parquet"))
        return next(found, None) is not None


MODELS = (
    Download("GSAI-ML/LLaDA-V", 16_870, "model"),
    Download("jacklishufan/lavida-llada-v1.0-instruct", 16_870, "model"),
)
BENCHMARKS = (
    Download("lmms-lab-encoder/DocVQA", 2_530, "dataset", "DocVQA/validation-*", "docvqa"),
    Download("lmms-lab-encoder/DocVQA", 1_860, "dataset", "InfographicVQA/validation-*", "infovqa"),
    Download("lmms-lab-encoder/ChartQA", 73, "dataset", what="chartqa"),
    Download("lmms-lab-encoder/ai2d", 140, "dataset", what="ai2d"),
    Download("lmms-lab-encoder/MME", 865, "dataset", what="mme"),
    Download("lmms-lab-encoder/MMBench", 240, "dataset", "en/*", "mmbench"),
    Download("lmms-lab-encoder/RealWorldQA", 678, "dataset", what="realworldqa"),
)
DOWNLOADS = {"paper": (*MODELS, *BENCHMARKS)}
PROFILES = ("speed", "paper")


def cache() -> Path:
    """The Hugging Face cache, as its own variables name it."""
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "huggingface")
    given = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE")
    return Path(given or Path(home, "hub")).expanduser()


def gpu_bytes() -> int:
    """Memory of the largest CUDA GPU, as its driver says; 0 for none."""
    command = shutil.which("nvidia-smi")
    if command is None or os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return 0
    query = [command, "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        told = subprocess.run(query, capture_output=True, text=True, timeout=5).stdout.split()
    except (OSError, subprocess.SubprocessError):
        return 0
    return max((int(word) for word in told if word.isdigit()), default=0) * 2**20


def lacking(profile: str) -> list[str]:
    """What is not here, a line each, with the command that fetches it; empty where nothing is needed or lacking."""
    if profile not in PROFILES:
        return []
    lines = []
    for one in DOWNLOADS.get(profile, ()):
        if not one.is_here():
            what = f"benchmark {one.what}" if one.what else f"model {one.repository}"
            lines.append(f"{what}, {size(one.megabytes)}: {one.command}")
    if profile == "paper" and importlib.util.find_spec("lmms_eval") is None:
        lines.append(f"lmms-eval, which scores the benchmarks: .venv/bin/python -m pip install {LMMS_EVAL}")
    found = gpu_bytes()
    if found < GPU_BYTES:
        here = f"the largest here has {found / 1e9:.0f} GB" if found else "none is here"
        lines.append(f"a CUDA GPU with {GPU_BYTES / 1e9:.0f} GB of memory: {here}")
    return lines


def size(megabytes: int) -> str:
    """Megabytes in words."""
    return f"{megabytes / 1000:.1f} GB" if megabytes >= 1000 else f"{megabytes} MB"


def told(profile: str, lines: Sequence[str]) -> str:
    """The lines under a head that says the whole, and what to do meanwhile."""
    total = sum(one.megabytes for one in DOWNLOADS.get(profile, ()) if not one.is_here())
    fetch = f", {size(total)} to fetch" if total else ""
    head = f"reproduce: profile {profile} needs what is not here{fetch}; nothing was run or changed:"
    tail = ["  (hf comes with huggingface_hub: .venv/bin/hf once ./reproduce.sh has installed)"] if total else []
    return "\n".join([head, *(f"  {line}" for line in lines), *tail])


def main(argv: Sequence[str]) -> int:
    """Say what a profile lacks; 1 where it lacks anything, 2 for a profile that is not known here."""
    if len(argv) != 1 or argv[0] not in PROFILES:
        print(f"expected one of: {', '.join(PROFILES)}", file=sys.stderr)
        return 2
    lines = lacking(argv[0])
    if lines:
        print(told(argv[0], lines), file=sys.stderr)
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
