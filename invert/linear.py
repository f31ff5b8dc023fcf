"""y = x Wᵀ + b for weights that never change: the product that nearly all of a text tower's time goes to.

In: activations (…, K). Out: (…, N), differentiable in x alone. On the CPU in float32 the weight is
repacked once for oneDNN, in each direction on its first use: a prompt is a handful of rows, and for so
few rows a BLAS spends about as long repacking the weight as multiplying with it. Elsewhere, F.linear.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


class FrozenLinear:
    """A linear layer whose weight (N, K) and bias (N,) or None are constants."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self.weight, self.bias = weight.detach(), None if bias is None else bias.detach()
        self._packed: Tensor | None = None
        self._packed_transposed: Tensor | None = None

    def __call__(self, x: Tensor) -> Tensor:
        if not _can_pack(self.weight):
            return F.linear(x, self.weight, self.bias)
        if torch.is_grad_enabled() and x.requires_grad:
            return _Packed.apply(x, self)
        return self.product(x)

    def product(self, x: Tensor) -> Tensor:
        """x (…, K) → x Wᵀ + b, packed."""
        if self._packed is None:
            self._packed = _pack(self.weight)
        return _multiply(x, self._packed, self.bias)

    def transposed_product(self, gradient: Tensor) -> Tensor:
        """gradient (…, N) → gradient W (…, K), packed."""
        if self._packed_transposed is None:
            self._packed_transposed = _pack(self.weight.T.contiguous())
        return _multiply(gradient, self._packed_transposed, None)


class _Packed(torch.autograd.Function):
    """The packed product with its gradient in x."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, linear: FrozenLinear) -> Tensor:
        ctx.linear = linear
        return linear.product(x)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return ctx.linear.transposed_product(gradient), None


def _can_pack(weight: Tensor) -> bool:
    return weight.device.type == "cpu" and weight.dtype == torch.float32 and torch.backends.mkldnn.is_available()


def _pack(weight: Tensor) -> Tensor:
    return torch.ops.mkldnn._reorder_linear_weight(weight)


def _multiply(x: Tensor, packed: Tensor, bias: Tensor | None) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(x, packed, bias, "none", [], "")
