"""A CUDA graph's rules on a CPU: the first run of a forward is written down operation by operation, and replayed.

A replay runs no Python of the forward, only the recorded operations on the recorded tensors. So it fails, as a graph
would, where a forward decides by values, keeps state in Python, or reads a tensor that is not a fixed buffer.
"""

from __future__ import annotations

import torch
from torch.utils._python_dispatch import TorchDispatchMode


class Recording(TorchDispatchMode):
    """Writes down every operation with the tensors that it read and made."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[tuple] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        self.steps.append((func, args, kwargs or {}, made))
        return made


class Tape:
    """A runner for redvtp.graphs: runs once, records the second time, then replays what was recorded."""

    replays = 0

    def __init__(self, call, device) -> None:
        self.call, self.warm, self.recording, self.output = call, False, None, None

    def __call__(self):
        if not self.warm:
            self.warm = True
            return self.call()
        if self.recording is None:
            with Recording() as self.recording:
                self.output = self.call()
        type(self).replays += 1
        self.replay()
        return self.output

    def replay(self) -> None:
        """The recorded operations again; what one made anew goes where it went."""
        with torch.no_grad():
            for func, args, kwargs, made in self.recording.steps:
                results = func._schema.returns
                if any(result.alias_info is not None and not result.alias_info.is_write for result in results):
                    continue  # a view: it shows what its base holds by now
                again = func(*args, **kwargs)
                if any(argument.alias_info is not None for argument in func._schema.arguments):
                    continue  # in place
                for old, new in zip(tensors(made), tensors(again), strict=True):
                    old.copy_(new)


def tensors(made) -> list[torch.Tensor]:
    """The tensors among what an operation returned."""
    parts = made if isinstance(made, (tuple, list)) else [made]
    return [part for part in parts if isinstance(part, torch.Tensor)]
