"""How far a product may be from the exact one: the rounding of its own dtype, and no more.

In: a product and its operands; out: the largest error as a share of the bound, at most 1 for a right kernel.
And operands that lie in memory in every way they may. The tests and `kernels.checks` judge by these.
Source: Higham, Accuracy and Stability of Numerical Algorithms, section 3.1.
"""

from __future__ import annotations

import torch
from torch import Tensor

TF32_ROUNDING = 2.0**-11  # of an operand, when float32 goes through the tensor cores once


LAYOUTS = ("rows", "columns", "gaps", "shifted")


def laid_out(layout: str, rows: int, columns: int, dtype: torch.dtype, seed: int, device: torch.device | str = "cpu") -> Tensor:
    """A random matrix (rows, columns) in row order, in column order, with gaps between numbers, or off by one number.

    The memory around the last two is NaN: a kernel that reads what is not its own is found out.
    """
    numbers = torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed), device="cpu").to(device, dtype)
    if layout == "rows":
        return numbers
    if layout == "columns":
        return numbers.T.contiguous().T
    around = torch.full((2 * rows + 1, 2 * columns + 2), torch.nan, dtype=dtype, device=device)
    inside = around[1::2, 2::2] if layout == "gaps" else around.flatten()[1 : rows * columns + 1].view(rows, columns)
    return inside.copy_(numbers)


def error_share(c: Tensor, a: Tensor, b: Tensor, tf32: bool = False) -> float:
    """The largest |c - a b| of all elements, divided by its bound; infinity where c is not a number.

    K sums each round by at most u of the sum of magnitudes |a| |b|, in float32 or float64; the result rounds once
    more to its own dtype, or to zero where that dtype's least number is larger.
    """
    exact, magnitudes = a.double() @ b.double(), a.double().abs() @ b.double().abs()
    summing = torch.finfo(torch.promote_types(a.dtype, torch.float32))
    own = torch.finfo(a.dtype)
    # one operation more than K for the second rounding's second-order part, and for blocks that are added up
    bound = (a.shape[1] + 2) * summing.eps / 2 * magnitudes + own.eps / 2 * exact.abs() + own.smallest_normal * own.eps
    if tf32:
        bound += 2 * TF32_ROUNDING * magnitudes
    share = (c.double() - exact).abs() / bound
    return float(share.nan_to_num(nan=torch.inf).max()) if share.numel() else 0.0
