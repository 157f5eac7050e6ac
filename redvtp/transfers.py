"""Small tensors on their way to the device, without making the host wait for it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def sent(values: Tensor | Sequence, device: torch.device, dtype: torch.dtype | None = None) -> Tensor:
    """Host values as a tensor on ``device``.

    An ordinary copy to a GPU waits until everything that was asked of the GPU before is done; one from pinned memory
    queues up behind it.
    """
    tensor = torch.as_tensor(values, dtype=dtype)
    if device.type == "cuda" and tensor.device.type == "cpu" and torch.cuda.is_available():
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)
