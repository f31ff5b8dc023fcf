"""The fused kernel behind `kernels.nearest_centres` on CUDA: distances live in registers and die there.

In: points (N, D), centres (K, D); out: labels and squared distances (N,). Each program takes POINTS points,
multiplies them with CENTRES centres at a time on the tensor cores, and keeps only the least value and its index:
memory sees N x D in and 2 N out, instead of N x K twice. Source: Yang et al., Flash-KMeans, 2026.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.backends.triton_tiles import INTERPRETED, multiply
from kernels.pairwise import centring


class Tile(NamedTuple):
    """Points, centres and dimensions that a program multiplies at a time; powers of two, at least 16."""

    points: int
    centres: int
    depth: int


TILES = {2: Tile(128, 128, 64), 4: Tile(128, 64, 32)}  # by bytes of a number; compiled for sm_90, neither spills registers
STAGES, WARPS = 3, 8
PRECISION = "tf32x3"  # of float32: three TF32 products, as exact as float32's own


@triton.jit
def _labels(  # type: ignore[no-untyped-def]
    x, offset, centres, half_norms, row, inside, points, number, dims, x_row, x_dim, c_row,
    POINTS: tl.constexpr, CENTRES: tl.constexpr, DEPTH: tl.constexpr,
    PRECISION: tl.constexpr, WIDEN: tl.constexpr,
):  # fmt: skip
    """Of each point the centre with the least |c|^2 / 2 - x.c, both less `offset`."""
    least = tl.full((POINTS,), float("inf"), tl.float32)
    label = tl.zeros((POINTS,), tl.int32)
    dim = tl.arange(0, DEPTH).to(tl.int64)  # a stride times an index may pass 2^31
    for centre0 in range(0, number, CENTRES):
        centre = centre0 + tl.arange(0, CENTRES)
        product = tl.zeros((POINTS, CENTRES), tl.float32)
        for dim0 in range(0, dims, DEPTH):
            d = dim0 + dim
            left = tl.load(x + row[:, None] * x_row + d[None, :] * x_dim, mask=inside[:, None] & (d < dims)[None, :], other=0.0)
            if left.dtype == tl.float32:
                left -= tl.load(offset + d, mask=d < dims, other=0.0)[None, :]
            right_mask = (d < dims)[:, None] & (centre < number)[None, :]
            right = tl.load(centres + centre.to(tl.int64)[None, :] * c_row + d[:, None], mask=right_mask, other=0.0)
            product = multiply(left, right, product, PRECISION, WIDEN)
        value = tl.load(half_norms + centre, mask=centre < number, other=float("inf"))[None, :] - product
        here, index = tl.min(value, axis=1, return_indices=True)  # of equal values the first
        closer = here < least
        least = tl.where(closer, here, least)
        label = tl.where(closer, centre0 + index, label)
    return label


@triton.jit
def _nearest(  # type: ignore[no-untyped-def]
    x, offset, centres, shifted, half_norms, labels, distances, points, number, dims, x_row, x_dim, c_row, c_dim, s_row,
    POINTS: tl.constexpr, CENTRES: tl.constexpr, DEPTH: tl.constexpr,
    PRECISION: tl.constexpr, WIDEN: tl.constexpr,
):  # fmt: skip
    point = tl.program_id(0) * POINTS + tl.arange(0, POINTS)
    inside, row = point < points, point.to(tl.int64)
    label = _labels(
        x, offset, shifted, half_norms, row, inside, points, number, dims, x_row, x_dim, s_row, POINTS, CENTRES, DEPTH,
        PRECISION, WIDEN,
    )  # fmt: skip
    total = tl.zeros((POINTS,), tl.float32)
    for dim0 in range(0, dims, DEPTH):  # the distance by its definition; this program's points are still in the caches
        d = dim0 + tl.arange(0, DEPTH).to(tl.int64)
        mask = inside[:, None] & (d < dims)[None, :]
        difference = tl.load(x + row[:, None] * x_row + d[None, :] * x_dim, mask=mask, other=0.0).to(tl.float32)
        difference -= tl.load(centres + label.to(tl.int64)[:, None] * c_row + d[None, :] * c_dim, mask=mask, other=0.0)
        total += tl.sum(difference * difference, axis=1)
    tl.store(labels + point, label.to(tl.int64), mask=inside)
    tl.store(distances + point, total, mask=inside)


def nearest_centres(x: Tensor, centres: Tensor, tile: Tile | None = None) -> tuple[Tensor, Tensor]:
    """`kernels.nearest_centres` for non-empty float16, bfloat16 or float32 points on CUDA."""
    tile = TILES[x.element_size()] if tile is None else tile
    offset = centring(x, centres)
    shifted = (centres - offset).to(x.dtype).contiguous()
    half_norms = shifted.float().square().sum(1) / 2
    labels = torch.empty(len(x), dtype=torch.int64, device=x.device)
    distances = torch.empty(len(x), dtype=torch.float32, device=x.device)
    with torch.cuda.device_of(x):
        _nearest[(triton.cdiv(len(x), tile.points),)](
            x, offset, centres, shifted, half_norms, labels, distances, len(x), len(centres), x.shape[1],
            *x.stride(), *centres.stride(), shifted.stride(0),
            POINTS=tile.points, CENTRES=tile.centres, DEPTH=tile.depth, PRECISION=PRECISION, WIDEN=INTERPRETED,
            num_warps=WARPS, num_stages=STAGES,
        )  # fmt: skip
    return labels, distances
