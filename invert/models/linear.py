"""y = x Wᵀ + b for weights that never change: the product that nearly all of a text tower's time goes to.

In: activations (…, K). Out: (…, N), differentiable in x alone. On the CPU in float32 a large weight is
repacked for oneDNN, in each direction on its first use: a prompt is a handful of rows, and for so
few rows a BLAS spends about as long repacking the weight as multiplying with it. Elsewhere, F.linear.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Elements. From here on a packed product is the faster one for 4 to 256 rows: by 1.1 to 1.4 times for 512 x 512,
# 1.4 to 2.4 for 768 x 3072. Below, it gains nothing, and oneDNN compiles and keeps code for every shape it meets.
PACKED_FROM = 1 << 18


class FrozenLinear:
    """A linear layer whose weight (N, K) and bias (N,) or None are constants."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self.bias = None if bias is None else bias.detach()
        plain_float = weight.device.type == "cpu" and weight.dtype == torch.float32
        self.packs = plain_float and weight.numel() >= PACKED_FROM and torch.backends.mkldnn.is_available()
        self._weight: Tensor | None = weight.detach()  # None once it is packed: it need not be kept twice
        self._packed: Tensor | None = None
        self._packed_transposed: Tensor | None = None

    @property
    def weight(self) -> Tensor:
        """(N, K), unpacked where need be."""
        if self._weight is not None:
            return self._weight
        assert self._packed is not None
        return self._packed.to_dense()

    def __call__(self, x: Tensor) -> Tensor:
        if not self.packs:
            return F.linear(x, self.weight, self.bias)
        if torch.is_grad_enabled() and x.requires_grad:
            return _PackedProduct.apply(x, self)
        return self.packed_product(x)

    def packed_product(self, x: Tensor) -> Tensor:
        """x (…, K) → x Wᵀ + b (…, N)."""
        if self._packed is None:
            self._packed = _pack(self.weight)
            self._weight = None
        return _multiply(x, self._packed, self.bias)

    def packed_transposed_product(self, gradient: Tensor) -> Tensor:
        """gradient (…, N) → gradient W (…, K)."""
        if self._packed_transposed is None:
            self._packed_transposed = _pack(self.weight.T.contiguous())
        return _multiply(gradient, self._packed_transposed, None)


def frozen_projection(projection: Any) -> Callable[[Tensor], Tensor]:
    """An output projection as a product: open_clip keeps a matrix (D, E), a Linear or nothing."""
    if projection is None:
        return nn.Identity()
    if isinstance(projection, nn.Linear):
        return FrozenLinear(projection.weight, projection.bias)
    return FrozenLinear(projection.T.contiguous(), None)


class _PackedProduct(torch.autograd.Function):
    """The packed product with its gradient in x."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, linear: FrozenLinear) -> Tensor:
        ctx.linear = linear
        return linear.packed_product(x)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return ctx.linear.packed_transposed_product(gradient), None


def _pack(weight: Tensor) -> Tensor:
    return torch.ops.mkldnn._reorder_linear_weight(weight)


def _multiply(x: Tensor, packed: Tensor, bias: Tensor | None) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(x, packed, bias, "none", [], "")
