"""What comes into a product and what goes out: checks, NumPy to torch and back, 16-bit numbers.

In: two NumPy arrays or two tensors; out: two tensors that a backend can trust, and one clear error otherwise.
Nothing is copied unless torch cannot describe the memory (negative strides, foreign byte order).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

Result = TypeVar("Result")
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def as_tensor(array: Any, name: str) -> Tensor:
    """A tensor over the memory of `array` (NumPy array or tensor); TypeError for any other kind."""
    if isinstance(array, Tensor):
        return array.resolve_neg()  # NumPy and DLPack read no negated views
    if not isinstance(array, np.ndarray):
        raise TypeError(f"{name} must be a NumPy array or a torch tensor, not {type(array).__name__}")
    if isinstance(array, np.ma.MaskedArray):
        raise TypeError(f"{name} is a masked array, whose mask a product would ignore: fill it first, by its method filled")
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    if any(stride < 0 or stride % (array.itemsize or 1) for stride in array.strides):
        array = array.copy()  # torch counts strides in numbers, from zero
    try:
        return torch.from_numpy(array if array.flags.writeable else np.asarray(_Memory(array)))
    except TypeError:
        raise TypeError(f"{name} has dtype {array.dtype}, which matmul does not take: use {_float_names()}") from None


class _Memory:
    """The memory of a read-only array, which we only read: torch would warn, and hiding a warning is not safe among threads."""

    def __init__(self, array: np.ndarray) -> None:
        described = array.__array_interface__
        self.array = array  # kept alive
        self.__array_interface__ = {**described, "data": (described["data"][0], False)}


def check_pair(a: Tensor, b: Tensor) -> None:
    """Raise ValueError for shapes that cannot be multiplied and TypeError for dtypes or devices that do not match."""
    for name, tensor in (("a", a), ("b", b)):
        if tensor.ndim != 2:
            raise ValueError(f"{name} must have 2 dimensions, not {tensor.ndim} (shape {tuple(tensor.shape)})")
        if tensor.dtype not in FLOATS:
            raise TypeError(f"{name} has dtype {dtype_name(tensor)}, which matmul does not take: use {_float_names()}")
        if tensor.layout != torch.strided:
            raise TypeError(f"{name} is a sparse tensor ({tensor.layout}): make it dense first")
    if a.shape[1] != b.shape[0]:
        raise ValueError(f"cannot multiply {tuple(a.shape)} by {tuple(b.shape)}: {a.shape[1]} columns meet {b.shape[0]} rows")
    if a.dtype != b.dtype:
        raise TypeError(f"a and b must have one dtype, not {dtype_name(a)} and {dtype_name(b)}")
    if a.device != b.device:
        raise TypeError(f"a and b must be on one device, not {a.device} and {b.device}")


def check_dense(*given: Any) -> None:
    """Raise TypeError for points or centers that are no dense tensors."""
    for tensor in given:
        if not isinstance(tensor, Tensor):
            raise TypeError(
                f"points and centers must be torch tensors, not {type(tensor).__name__}: use torch.from_numpy for arrays"
            )
        if tensor.layout != torch.strided:
            raise TypeError(f"points and centers must be dense tensors, not {tensor.layout}: make them dense first")


def dtype_name(tensor: Tensor) -> str:
    """The dtype of a tensor without torch's prefix, such as "float32"."""
    return str(tensor.dtype).removeprefix("torch.")


def upcast_16bit(matmul: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Let a float32 and float64 product take 16-bit floats too: float32 inside, rounded once at the end.

    The extra pass over the operands is what a backend without 16-bit arithmetic would pay in every inner loop.
    """

    @wraps(matmul)
    def wider(a: Tensor, b: Tensor, **options: Any) -> Tensor:
        if a.dtype in (torch.float16, torch.bfloat16):
            return matmul(a.float(), b.float(), **options).to(a.dtype)
        return matmul(a, b, **options)

    return wider


def without_autocast(product: Callable[..., Result]) -> Callable[..., Result]:
    """Let a function of tensors compute in their own dtype within `torch.autocast`, which would round them to 16 bits."""

    @wraps(product)
    def exact(*args: Any, **options: Any) -> Result:
        kind = next(one for one in args if isinstance(one, Tensor)).device.type
        if not torch.is_autocast_enabled(kind):
            return product(*args, **options)
        with torch.autocast(kind, enabled=False):
            return product(*args, **options)

    return exact


def centering(x: Tensor, centers: Tensor) -> Tensor:
    """(D,): what the fused kernels take from points and centers alike before |c|^2 - 2 x.c, which loses digits far out.

    The centers' mean; nothing for 16-bit numbers, which the kernels multiply as they are.
    """
    exact = x.dtype in (torch.float16, torch.bfloat16)
    return torch.zeros_like(centers[0], dtype=torch.float32) if exact else centers.mean(0)


def _float_names() -> str:
    return ", ".join(str(dtype).removeprefix("torch.") for dtype in FLOATS)
