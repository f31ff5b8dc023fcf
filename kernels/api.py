"""`matmul`: one call over the whole ladder.

In: two matrices of one kind, dtype and device, and a backend's name; out: their product, of that kind, dtype
and device. "auto" picks the backend that measurement says is the fastest for the operands.
"""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from kernels.arrays import as_tensor, check_pair, dtype_name, without_autocast
from kernels.choice import FEW, choose
from kernels.registry import BACKENDS, BackendUnavailable, load, unavailable_reason

Matrix = TypeVar("Matrix", np.ndarray, Tensor)
_REAL = frozenset((torch.float16, torch.bfloat16, torch.float32, torch.float64))


def matmul(a: Matrix, b: Matrix, backend: str = "auto", *, block: tuple[int, int] | None = None) -> Matrix:
    """The product a @ b, shape (M, N).

    Args:
        a: (M, K) NumPy array or torch tensor of float16, bfloat16 (tensors), float32 or float64; any strides.
        b: (K, N), of the same kind, dtype and device.
        backend: a name in `kernels.BACKENDS`, or "auto".
        block: (x, y) threads of a block, at most 1,024 together, for the backends that let it be chosen:
            "numba-cuda-naive" (x runs over rows) and "numba-cuda-tiled" (x runs over columns).

    Raises:
        ValueError: shapes that do not fit, an unknown backend, a block out of range.
        TypeError: kinds, dtypes or devices that do not match or that the backend does not take.
        BackendUnavailable: the backend cannot run here; the sentence says what to install.

    Examples:
        >>> import numpy as np
        >>> matmul(np.eye(2), np.array([[1.0, 2.0], [3.0, 4.0]]))
        array([[1., 2.],
               [3., 4.]])
    """
    if (
        backend == "auto"
        and block is None
        and type(a) is Tensor
        and type(b) is Tensor
        and (kind := a.dtype) in _REAL
        and not _skinny(a, b)
    ):
        # A 64 x 64 product takes a few microseconds, as long as our checks: let torch refuse, then say why.
        # It refuses all that we do but sparse operands, which it multiplies, and memory without a device.
        try:
            product: Any = torch.mm(a, b)
            if product.dtype is kind is b.dtype:  # torch.autocast rounds: cheaper to see afterwards than to ask before
                return product
        except RuntimeError:
            check_pair(a, b)
            raise
    return _matmul(a, b, backend, block)


def _skinny(a: Tensor, b: Tensor) -> bool:
    """Whether the table of measured backends may have a row for these."""
    return a.is_cuda and a.ndim == b.ndim == 2 and (a.shape[0] <= FEW or b.shape[1] <= FEW)


def _matmul(a: Matrix, b: Matrix, name: str, block: tuple[int, int] | None) -> Matrix:
    left: Tensor
    right: Tensor
    left, right = as_tensor(a, "a"), as_tensor(b, "b")
    if isinstance(a, np.ndarray) != isinstance(b, np.ndarray):
        raise TypeError("a and b must both be NumPy arrays or both be torch tensors")
    check_pair(left, right)
    if not isinstance(name, str):
        raise TypeError(f"backend must be a name, not {type(name).__name__}: choose auto, {', '.join(BACKENDS)}")
    name = choose(left, right) if name == "auto" else name
    _check_backend(left, right, name, block)
    if 0 in (*left.shape, *right.shape):
        result = left.new_zeros(left.shape[0], right.shape[1])  # an empty sum is zero: no kernel needs to know
    else:
        result = _product(left, right, name, block)
    return result.numpy() if isinstance(a, np.ndarray) else result


@without_autocast
def _product(a: Tensor, b: Tensor, name: str, block: tuple[int, int] | None) -> Tensor:
    product: Tensor = load(name)(a, b, **({} if block is None else {"block": block}))
    return product


def _check_backend(a: Tensor, b: Tensor, name: str, block: tuple[int, int] | None) -> None:
    if name not in BACKENDS:
        raise ValueError(f"unknown backend {name!r}: choose auto, {', '.join(BACKENDS)}")
    backend = BACKENDS[name]
    if dtype_name(a) not in backend.dtypes:
        raise TypeError(f"backend {name!r} takes {', '.join(backend.dtypes)}, not {dtype_name(a)}")
    if block is not None and not backend.takes_block:
        choices = ", ".join(other for other, step in BACKENDS.items() if step.takes_block)
        raise ValueError(f"backend {name!r} has no block to choose: {choices} have")
    if torch.is_grad_enabled() and (a.requires_grad or b.requires_grad) and not backend.differentiable:
        raise ValueError(f"backend {name!r} has no gradient: use backend 'torch', or detach a and b")
    if (reason := unavailable_reason(name, a.device.type)) is not None:
        raise BackendUnavailable(reason)
