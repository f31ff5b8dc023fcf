"""How far a product may be from the exact one: the rounding of its own dtype, and no more.

In: a product and its operands; out: the largest error as a share of the bound, at most 1 for a right kernel.
Source: Higham, Accuracy and Stability of Numerical Algorithms, section 3.1.
"""

from __future__ import annotations

import torch
from torch import Tensor

TF32_ROUNDING = 2.0**-11  # of an operand, when float32 goes through the tensor cores once


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
