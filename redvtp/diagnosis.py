"""What stands between a model and its first answer: each check by itself, in plain words."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from huggingface_hub import constants
from PIL import Image

from redvtp.model import Model, host_class, is_on_hub, model_folder
from redvtp.models.base import Prompt
from redvtp.models.checkpoint import read_tokenizer
from redvtp.models.files import CheckpointError, read_json
from redvtp.models.folder import LLADA_TOKENS, Folder, Opening
from redvtp.models.hub import PUBLISHED, with_command
from redvtp.models.llava import MASK_TOKEN
from redvtp.models.placement import placed
from redvtp.models.prompts import END_OF_TURN
from redvtp.models.shards import stored_tensors
from redvtp.pruning import RedVTP

LARGE = 1_000_000_000
"""Parameters from which a GPU is needed for more than a look."""

ROOM = 1.25
"""Memory for a run over that of its weights (see `python -m analysis.costs`)."""

PUBLISHED_IDS = {
    "<|startoftext|>": 126080, "<|endoftext|>": 126081, MASK_TOKEN: 126336, "<|start_header_id|>": 126346,
    "<|end_header_id|>": 126347, END_OF_TURN: 126348,
}  # fmt: skip
"""Of LLaDA's tokenizer (official_code §2.1)."""


@dataclass(frozen=True)
class Finding:
    """What one check found.

    Attributes:
        name: of the check.
        ok: False where something is missing or wrong; None where it was not checked.
        text: one line, with the command that helps where there is one.
        note: what is fine, but other than expected.
    """

    name: str
    ok: bool | None
    text: str
    note: str = ""


def examine(name: str, device: str = "auto", forward: bool = True) -> Iterator[Finding]:
    """Check a model by name or folder, one finding after the other, the heavy ones last.

    Args:
        device: where it would run.
        forward: also load it and take one step.
    """
    try:
        place = placed(device)
    except ValueError as error:
        yield Finding("device", False, str(error))
        return
    try:
        folder = model_folder(name)
    except CheckpointError as error:
        yield Finding("model", False, str(error))
        published = PUBLISHED.get(name)
        if published is not None:
            yield disk(published.bytes)
            yield memory(published.bytes, place)
            yield gpu(published.bytes // 2, place)
        return
    yield Finding("model", True, str(folder))
    found = yield from whole(name, folder)
    if found is None:
        return
    needed = found.numbers * found.dtype.itemsize
    yield memory(needed, place)
    yield gpu(found.numbers, place)
    if not forward:
        yield Finding("forward", None, "not run (--no-forward)")
    elif needed * ROOM > room_on(place):
        yield Finding("forward", False, f"not run: {needed * ROOM / 1e9:.1f} GB are needed on {place}")
    else:
        yield one_step(folder, place)


def whole(name: str, folder: Path) -> Generator[Finding, None, Folder | None]:
    """Config, files, tokenizer, tensors and prompt; returns the folder's contents where it can be loaded."""

    def look(check: str, act: Callable[[], Finding]) -> Finding:
        try:
            return act()
        except CheckpointError as error:
            helped = with_command(name, error) if is_on_hub(name) else error
            return Finding(check, False, " ".join(str(helped).split()))

    fine, found = True, None
    for check in (config_of, files_of, tokenizer_of):
        one = look(check.__name__.removesuffix("_of"), lambda check=check: check(folder))
        fine &= bool(one.ok)
        yield one
    if fine:
        host = host_class(folder)

        def tensors() -> Finding:
            nonlocal found
            found = Folder.read(folder, host)
            rule = "as transformers names them" if found.saved else f"by the official names of {host.title}"
            count = f"{len(found.stored)} tensors, {found.numbers / 1e6:,.1f} million parameters, {rule}"
            return Finding("tensors", True, count, "; ".join(found.notes))

        yield look("tensors", tensors)
    if found is not None and found.tokenizer is not None:
        yield look("prompt", lambda: prompt_of(found))
    return found


def config_of(folder: Path) -> Finding:
    """Whose model it is, and whether its config can be built."""
    host, official = host_class(folder), read_json(folder / "config.json")
    if official.get("model_type") != "llava_onevision":
        host.translate(official)
    return Finding("config", True, f"{host.title}")


def files_of(folder: Path) -> Finding:
    """Weights, by their headers."""
    stored = stored_tensors(folder)
    paths = {one.path for one in stored.values()}
    size = sum(path.stat().st_size for path in paths)
    return Finding("files", True, f"{len(paths)} safetensors file{'s' * (len(paths) > 1)}, {amount(size)}, all whole")


def tokenizer_of(folder: Path) -> Finding:
    """The special tokens that generation looks up, and their ids."""
    host = host_class(folder)
    if host.own_specials(read_json(folder / "config.json")):
        return Finding("tokenizer", True, "none; the config names the special ids itself")
    tokenizer = read_tokenizer(folder)
    wanted = tuple(dict.fromkeys((MASK_TOKEN, *host.banned_tokens, *host.stop)))
    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in wanted}
    lacking = [token for token, number in ids.items() if number is None or number == tokenizer.unk_token_id]
    if lacking:
        raise CheckpointError(f"the tokenizer has no token {', '.join(lacking)}, which {host.title} needs")
    other = [f"{token} is {n}, not {PUBLISHED_IDS[token]}" for token, n in ids.items() if n != PUBLISHED_IDS.get(token)]
    large = len(tokenizer) >= LLADA_TOKENS
    listed = ", ".join(f"{token} {number}" for token, number in ids.items())
    return Finding("tokenizer", True, f"{len(tokenizer)} tokens; {listed}", "; ".join(other) if large else "")


def prompt_of(found: Folder) -> Finding:
    """Where the image stands in the prompt, and which token behind its marker is dropped."""
    one = Opening.of(found.tokenizer, found.options)
    return Finding("prompt", True, f"the image begins at token {one.index}; behind it comes {one.dropped!r}")


def disk(needed: int) -> Finding:
    """Room for a model that is yet to be fetched."""
    folder = Path(constants.HF_HUB_CACHE)
    there = next(parent for parent in (folder, *folder.parents) if parent.exists())
    free = shutil.disk_usage(there).free
    fine = free > needed
    return Finding("disk", fine, f"{amount(free)} free for {amount(needed)} in {folder}"
                   + ("" if fine else "; HF_HOME names another place"))  # fmt: skip


def memory(needed: int, place: torch.device) -> Finding:
    """Room for the weights and a run on them."""
    free = room_on(place)
    where = "memory" if place.type == "cpu" else f"memory of {place}"
    if free == float("inf"):
        return Finding("memory", None, f"{amount(needed * ROOM)} are needed; how much is free cannot be read here")
    return Finding("memory", free > needed * ROOM, f"{amount(free)} of {where} free for {amount(needed * ROOM)}")


def gpu(numbers: int, place: torch.device) -> Finding:
    """Whether there is a GPU where one is needed."""
    if place.type == "cuda":
        return Finding("gpu", True, f"{torch.cuda.get_device_name(place)} ({place})")
    if numbers < LARGE:
        return Finding("gpu", True, "none needed for a model of this size")
    return Finding("gpu", False, f"none in use: {numbers / 1e9:.1f} billion parameters take minutes a step on a CPU; "
                   "a CUDA GPU with 24 GB holds them")  # fmt: skip


def one_step(folder: Path, place: torch.device) -> Finding:
    """Load the model and take one step with pruning on a small image."""
    started = time.perf_counter()
    try:
        model = Model(host_class(folder).from_folder(folder, device=place))
        loaded = time.perf_counter()
        if model.host.tokenizer is None:
            return Finding("forward", None, "loaded; without a tokenizer no prompt can be asked")
        noise = np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8)
        run = model.start([Prompt("What?", [Image.fromarray(noise)])], prune=RedVTP(keep=0.5), length=4, steps=2)
        run.step()
        kept, visual = len(run.kept[0]), run.visual_tokens[0]
        finite = bool((run.canvas != model.host.mask_id).any())
    except CheckpointError as error:
        return Finding("forward", False, " ".join(str(error).split()))
    except (RuntimeError, ValueError) as error:
        return Finding("forward", False, f"{type(error).__name__}: {' '.join(str(error).split())[:200]}")
    took = f"loaded in {loaded - started:.1f} s, one step in {time.perf_counter() - loaded:.1f} s"
    text = f"{took} on {place}; {kept} of {visual} visual tokens kept"
    return Finding("forward", finite, text if finite else f"{text}, but no token was committed")


def room_on(place: torch.device) -> float:
    """Bytes free on a device; infinite where that cannot be read."""
    if place.type == "cuda":
        return torch.cuda.mem_get_info(place)[0]
    try:
        found = re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text())
    except OSError:
        return float("inf")
    return int(found[1]) * 1024 if found else float("inf")


def amount(count: float) -> str:
    """Bytes in words."""
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"
