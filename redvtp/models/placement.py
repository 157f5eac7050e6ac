"""Where a model's weights go: one device, named in torch's words or transformers'."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch


def placed(device: Any = "cpu", device_map: Any = None) -> torch.device:
    """The device that is meant, checked.

    Args:
        device: as torch names it.
        device_map: as transformers takes it, instead: a device or its number, "auto" (the GPU with the most free
            memory, else the CPU), or {"": device}.

    Raises:
        ValueError: no such device, or more than one: one model runs on one device.
    """
    if device_map is not None and device != "cpu":
        raise ValueError(f"device={device!r} and device_map={device_map!r}: expected one of them")
    wanted = device if device_map is None else device_map
    if isinstance(wanted, Mapping):
        places = list(dict.fromkeys(map(str, wanted.values())))
        if len(places) != 1:
            raise ValueError(
                f"device_map on {', '.join(places) or 'nothing'}: expected one device, for a model is not split; "
                "several GPUs take one process each"
            )
        wanted = next(iter(wanted.values()))
    if wanted == "auto":
        return roomiest()
    try:
        found = torch.device(f"cuda:{wanted}" if isinstance(wanted, int) else wanted)
    except (RuntimeError, TypeError, ValueError):
        raise ValueError(f"device {wanted!r}: expected a name such as cpu, cuda or cuda:1, or 'auto'") from None
    if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"device {str(found)!r}: torch finds {torch.cuda.device_count()} CUDA devices here")
    return found


def roomiest() -> torch.device:
    """The GPU with the most free memory, the CPU where there is none."""
    count = torch.cuda.device_count()
    if not count:
        return torch.device("cpu")
    return torch.device("cuda", max(range(count), key=lambda index: torch.cuda.mem_get_info(index)[0]))


def check_room(needed: int, device: torch.device) -> None:
    """Refuse weights of ``needed`` bytes that a GPU has no room for, before they are read.

    Raises:
        ValueError: says what is needed and what is free.
    """
    if device.type == "cuda" and needed > (free := torch.cuda.mem_get_info(device)[0]):
        raise ValueError(f"the weights need {needed / 1e9:.1f} GB on {device}, where {free / 1e9:.1f} GB are free")
