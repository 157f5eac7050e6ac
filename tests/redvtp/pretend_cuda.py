"""Tensors that say they are on a GPU, on a machine without one: shapes without values (torch's fake tensors).

Under PretendCuda an operation on such a tensor works out shape and device, mixing devices is an error, and reading a
value, or anything else for which the host would wait for a GPU, raises Waited. Tensors in the host's memory stay real.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves

READS = {torch.ops.aten._local_scalar_dense.default, torch.ops.aten.equal.default}
SIZES = {torch.ops.aten.nonzero.default, torch.ops.aten.masked_select.default, torch.ops.aten._unique2.default}
INDEXES = {torch.ops.aten.index, torch.ops.aten.index_put, torch.ops.aten.index_put_, torch.ops.aten._index_put_impl_}


class Waited(AssertionError):
    """The host would have waited for the GPU here."""


class PretendCuda(TorchDispatchMode):
    """See above; inside a FakeTensorMode.

    Attributes:
        strict: raise Waited; else such operations fail as torch's fake tensors have it.
    """

    strict = False

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        fakes = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, FakeTensor)]
        device = kwargs.get("device")
        if not fakes and (device is None or torch.device(device).type == "cpu"):
            with _disable_current_modes():
                return func(*args, **kwargs)
        if self.strict:
            self.check(func, args, kwargs, bool(fakes))
        return func(*args, **kwargs)

    def check(self, func, args, kwargs, from_gpu: bool) -> None:
        """Raise Waited for an operation that waits."""
        if func in READS or func in SIZES:
            raise Waited(f"{func} reads values")
        if func.overloadpacket in INDEXES:
            for index in args[1]:
                if index is not None and index.dtype in (torch.bool, torch.uint8):
                    raise Waited(f"{func} by a mask: how many places it marks only the device knows")
                if index is not None and index.device.type == "cpu" and from_gpu:
                    raise Waited(f"{func} by an index in the host's memory")
        if func is torch.ops.aten._to_copy.default:
            target = torch.device(kwargs.get("device") or args[0].device)
            if target.type != args[0].device.type and (target.type == "cpu" or not kwargs.get("non_blocking")):
                raise Waited(f"a copy from {args[0].device} to {target}")
        if func is torch.ops.aten.copy_.default and args[0].device.type != args[1].device.type:
            raise Waited(f"a copy from {args[1].device} to {args[0].device}")


def read(self: Tensor, index) -> Tensor:
    """``self[index]``."""
    parts = list(index) if isinstance(index, tuple) else [index]
    if Ellipsis in [part for part in parts if not isinstance(part, Tensor)]:
        place = next(i for i, part in enumerate(parts) if part is Ellipsis)
        named = sum(part is not None for part in parts) - 1
        parts[place : place + 1] = [slice(None)] * (self.dim() - named)
    made, dim, chosen = self, 0, []
    for part in parts:
        if part is None:
            made = made.unsqueeze(dim)
        elif isinstance(part, int):
            made = torch.ops.aten.select.int(made, dim, part)
            continue
        elif isinstance(part, slice):
            made = torch.ops.aten.slice.Tensor(made, dim, part.start, part.stop, part.step or 1)
        else:
            chosen.extend([None] * (dim - len(chosen)) + [part])
        dim += 1
    return torch.ops.aten.index.Tensor(made, chosen) if chosen else made


def put(self: Tensor, indices, value: Tensor) -> Tensor:
    """``index_put_``, whose result has the shape that the tensor had."""
    torch.ops.aten.index.Tensor(self, list(indices))  # the same checks
    return self


def write(self: Tensor, index, value) -> None:
    """``self[index] = value``."""
    parts = index if isinstance(index, tuple) else (index,)
    if any(isinstance(part, Tensor) for part in parts):
        read(self, index)
    else:
        torch.ops.aten.copy_.default(read(self, index), value)


# torch does these in C++, which asks for the device even where the tensor has no values.
METHODS = {
    "__getitem__": read,
    "__setitem__": write,
    "copy_": torch.ops.aten.copy_.default,
    "index_put_": put,
    "contiguous": lambda self: torch.ops.aten.clone.default(self, memory_format=torch.contiguous_format),
}


@contextlib.contextmanager
def pretending() -> Iterator[PretendCuda]:
    """Inside, tensors asked for on "cuda:0" are made, without values."""
    stock = {name: getattr(Tensor, name) for name in METHODS}

    def either(name: str):
        def call(self, *args):
            return (METHODS if isinstance(self, FakeTensor) else stock)[name](self, *args)

        return call

    try:
        for name in METHODS:
            setattr(Tensor, name, either(name))
        with FakeTensorMode(allow_non_fake_inputs=True), PretendCuda() as mode:
            yield mode
    finally:
        for name, method in stock.items():
            setattr(Tensor, name, method)


def plain_attention(seen: list[Tensor | None]):
    """Stands in for torch's attention, which chooses a kernel by asking the GPU; masks are put into ``seen``."""

    def attention(query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, enable_gqa=False):
        seen.append(attn_mask)
        if enable_gqa:
            key, value = (part.repeat_interleave(query.shape[1] // part.shape[1], 1) for part in (key, value))
        scores = query @ key.transpose(2, 3) * scale
        return torch.softmax(scores if attn_mask is None else scores + attn_mask, -1) @ value

    return attention
