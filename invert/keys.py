"""Sequences of numbers as 64-bit keys, by which tensors of prompts are compared, looked up and made distinct.

A key is a polynomial in an odd base whose coefficients are the scrambled numbers, modulo 2^64: keys of parts, shifted by
a power each, add up to the key of the whole. Among the 10^5 prompts of a search two have one key with p < 10^-9.
"""

from __future__ import annotations

import torch
from torch import Tensor

BASE = 0x2545F4914F6CDD1D  # odd, so that no power loses bits


def mixed(numbers: Tensor) -> Tensor:
    """int64 numbers → 64 bits without a pattern (the finalizer of splitmix64: Steele et al., 2014)."""
    x = (numbers + 1) * -0x61C8864680B583EB
    x = (x ^ (x >> 30 & 0x3FFFFFFFF)) * -0x40A7B892E31B1A47
    x = (x ^ (x >> 27 & 0x1FFFFFFFFF)) * -0x6B2FB644ECCEEE15
    return x ^ (x >> 31 & 0x1FFFFFFFF)


def powers(n: int, device: torch.device | str = "cpu") -> Tensor:
    """(n,) int64: the base's powers from the zeroth on, modulo 2^64."""
    factors = torch.full((n,), BASE, dtype=torch.int64, device=device)
    factors[:1] = 1
    return factors.cumprod(0)


def sequence_keys(numbers: Tensor, inside: Tensor) -> Tensor:
    """Keys (N,) of the numbers (N, L) for which `inside` (N, L) holds, in their order, whatever stands between them."""
    place = (inside.cumsum(1) - 1).clamp(min=0)
    return (mixed(numbers) * powers(numbers.shape[1], numbers.device)[place] * inside).sum(1)


def first_of_each(keys: Tensor) -> Tensor:
    """Ascending indices of the first occurrence of every distinct key (N,)."""
    distinct, group = keys.unique(return_inverse=True)
    first = torch.full_like(distinct, len(keys))
    first.scatter_reduce_(0, group, torch.arange(len(keys), device=keys.device), "amin")
    return first.sort().values
