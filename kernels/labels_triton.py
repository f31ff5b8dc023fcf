"""Triton kernels that find the nearest center of every point: distances live in registers and die there.

In: points (N, D) and centers (K, D), prepared by `sums_triton`; out: labels (N,), and squared distances (N,) where asked for.
A program loads its points once and walks the centers on the tensor cores. The running minimum is kept
column by column and reduced once, at the end: a reduction between threads for every tile of centers would cost as much as
the product. Memory sees N x D in and N out, instead of N x K twice. Source: Yang et al., Flash-KMeans, 2026.
"""

from __future__ import annotations

import triton
import triton.language as tl

from kernels.backends.triton_tiles import multiply


@triton.jit
def round_to_tf32(value):  # type: ignore[no-untyped-def]
    """value (float32) with the 10 bits of mantissa that TF32 has, rounded to nearest."""
    bits = (value.to(tl.int32, bitcast=True) + 0x1000) & -0x2000
    return bits.to(tl.float32, bitcast=True)


@triton.jit
def _lesser(value1, index1, value2, index2):  # type: ignore[no-untyped-def]
    """The lesser value with its index; of equal values the first operand's, which has the smaller index."""
    second = value2 < value1
    return tl.where(second, value2, value1), tl.where(second, index2, index1)


@triton.jit
def _points(x, offset, row, inside, first, dims, x_row, x_dim, DEPTH: tl.constexpr, SPLIT: tl.constexpr, WHOLE: tl.constexpr):  # type: ignore[no-untyped-def]
    """Features first to first + DEPTH of the points, less `offset` where they are split into two TF32 halves."""
    dim = first + tl.arange(0, DEPTH).to(tl.int64)
    at = x + row[:, None] * x_row + dim[None, :] * x_dim
    if WHOLE:
        points = tl.load(at, mask=inside[:, None], other=0.0)
    else:
        points = tl.load(at, mask=inside[:, None] & (dim < dims)[None, :], other=0.0)
    if SPLIT:
        points -= tl.load(offset + dim, mask=dim < dims, other=0.0)[None, :]
    return points


@triton.jit
def label_kernel(  # type: ignore[no-untyped-def]
    x, offset, high, low, halves, labels, state, points, padded, dims, x_row, x_dim,
    POINTS: tl.constexpr, CENTERS: tl.constexpr, DEPTH: tl.constexpr, CHUNKS: tl.constexpr, LANES: tl.constexpr,
    SPLIT: tl.constexpr, WHOLE: tl.constexpr, WIDEN: tl.constexpr, TENSOR: tl.constexpr, LONG: tl.constexpr,
):  # fmt: skip
    """Of each point the center with the least |c|^2 / 2 - x.c, both less `offset`; of equal ones the first.

    high, low: (padded, CHUNKS * DEPTH) rows of centers, padded with zeros to whole tiles; halves (padded,): |c|^2 / 2,
    infinite for the padding; TENSOR: tensor descriptors of CENTERS x DEPTH tiles, which Hopper's copy engine loads without a
    thread's help. CHUNKS: of DEPTH features; 1 keeps the points in registers or shared memory throughout.
    SPLIT: float32 by three TF32 products of the halves of both, as exact as float32's own.
    """
    if tl.load(state) != 0:
        return
    point = tl.program_id(0) * POINTS + tl.arange(0, POINTS)
    inside, row = point < points, point.to(tl.int64)
    best = tl.full((POINTS, LANES), float("inf"), tl.float32)
    place = tl.zeros((POINTS, LANES), tl.int32)
    group = tl.arange(0, CENTERS // LANES)[None, :, None]
    wide: tl.constexpr = DEPTH * CHUNKS
    if CHUNKS == 1:
        whole = _points(x, offset, row, inside, 0, dims, x_row, x_dim, DEPTH, SPLIT, WHOLE)
        if SPLIT:
            big = round_to_tf32(whole)
            small = whole - big
    for center0 in range(0, padded, CENTERS):
        center = center0 + tl.arange(0, CENTERS)
        product = tl.zeros((POINTS, CENTERS), tl.float32)
        if LONG:
            at = center.to(tl.int64)[None, :] * wide + tl.arange(0, DEPTH)[:, None]
        else:
            at = center[None, :] * wide + tl.arange(0, DEPTH)[:, None]
        if CHUNKS == 1:
            right = tl.trans(high.load([center0, 0])) if TENSOR else tl.load(high + at)
            if SPLIT:
                rest = tl.trans(low.load([center0, 0])) if TENSOR else tl.load(low + at)
                product = multiply(small, right, product, "tf32", WIDEN)
                product = multiply(big, rest, product, "tf32", WIDEN)
                product = multiply(big, right, product, "tf32", WIDEN)
            else:
                product = multiply(whole, right, product, "tf32", WIDEN)
        else:
            for chunk in range(CHUNKS):
                left = _points(x, offset, row, inside, chunk * DEPTH, dims, x_row, x_dim, DEPTH, SPLIT, WHOLE)
                right = tl.trans(high.load([center0, chunk * DEPTH])) if TENSOR else tl.load(high + at + chunk * DEPTH)
                if SPLIT:
                    rest = tl.trans(low.load([center0, chunk * DEPTH])) if TENSOR else tl.load(low + at + chunk * DEPTH)
                    large = round_to_tf32(left)
                    product = multiply(left - large, right, product, "tf32", WIDEN)
                    product = multiply(large, rest, product, "tf32", WIDEN)
                    product = multiply(large, right, product, "tf32", WIDEN)
                else:
                    product = multiply(left, right, product, "tf32", WIDEN)
        value = tl.load(halves + center)[None, :] - product
        value = tl.reshape(value, (POINTS, CENTERS // LANES, LANES))
        if WIDEN:
            least, index = tl.min(value, axis=1, return_indices=True)
        else:
            least, index = tl.reduce((value, tl.broadcast_to(group, value.shape)), 1, _lesser)
        closer = least < best
        best = tl.where(closer, least, best)
        place = tl.where(closer, index + center0 // LANES, place)
    least = tl.min(best, axis=1)
    column = place * LANES + tl.arange(0, LANES)[None, :]
    label = tl.min(tl.where(best == least[:, None], column, 2147483647), axis=1)
    tl.store(labels + point, label.to(labels.dtype.element_ty), mask=inside)


@triton.jit
def coordinates(x, first, points, x_row, x_dim, D: tl.constexpr, BLOCK: tl.constexpr, PAIRS: tl.constexpr):  # type: ignore[no-untyped-def]
    """The first four coordinates of BLOCK points; of fewer than four the last is repeated."""
    if PAIRS:
        start = first.to(tl.int64) * 2
        flat = tl.arange(0, 2 * BLOCK)
        both = tl.load(x + start + flat, mask=flat < points * 2 - start, other=0.0).to(tl.float32)
        x0, x1 = tl.split(tl.reshape(both, (BLOCK, 2)))
        return x0, x1, x1, x1
    row = first + tl.arange(0, BLOCK)
    inside, at = row < points, x + row.to(tl.int64) * x_row
    x0 = tl.load(at, mask=inside, other=0.0).to(tl.float32)
    x1 = x0
    if D > 1:
        x1 = tl.load(at + x_dim, mask=inside, other=0.0).to(tl.float32)
    x2 = x1
    if D > 2:
        x2 = tl.load(at + 2 * x_dim, mask=inside, other=0.0).to(tl.float32)
    x3 = x2
    if D > 3:
        x3 = tl.load(at + 3 * x_dim, mask=inside, other=0.0).to(tl.float32)
    return x0, x1, x2, x3


@triton.jit
def direct_kernel(  # type: ignore[no-untyped-def]
    x, centers, labels, state, points, k, x_row, x_dim,
    D: tl.constexpr, POINTS: tl.constexpr, CENTERS: tl.constexpr, PAIRS: tl.constexpr,
):  # fmt: skip
    """Labels for at most four features, where distances by their definition cost no more than a product."""
    if tl.load(state) != 0:
        return
    first = tl.program_id(0) * POINTS
    x0, x1, x2, x3 = coordinates(x, first, points, x_row, x_dim, D, POINTS, PAIRS)
    best = tl.full((CENTERS, POINTS), float("inf"), tl.float32)  # a thread holds all centers of its points
    place = tl.zeros((CENTERS, POINTS), tl.int32)
    for center0 in range(0, k, CENTERS):
        center = center0 + tl.arange(0, CENTERS)
        at, real = centers + center.to(tl.int64) * D, center < k
        away = x0[None, :] - tl.load(at, mask=real, other=3e38)[:, None]
        value = away * away
        if D > 1:
            away = x1[None, :] - tl.load(at + 1, mask=real, other=0.0)[:, None]
            value += away * away
        if D > 2:
            away = x2[None, :] - tl.load(at + 2, mask=real, other=0.0)[:, None]
            value += away * away
        if D > 3:
            away = x3[None, :] - tl.load(at + 3, mask=real, other=0.0)[:, None]
            value += away * away
        closer = value < best
        best = tl.where(closer, value, best)
        place = tl.where(closer, center0, place)
    least = tl.min(best, axis=0)
    label = tl.min(tl.where(best == least[None, :], place + tl.arange(0, CENTERS)[:, None], 2147483647), axis=0)
    point = first + tl.arange(0, POINTS)
    tl.store(labels + point, label.to(labels.dtype.element_ty), mask=point < points)


@triton.jit
def distance_kernel(  # type: ignore[no-untyped-def]
    x, centers, labels, distances, points, dims, x_row, x_dim, POINTS: tl.constexpr, DEPTH: tl.constexpr,
):  # fmt: skip
    """Squared distance of each point to the center of its label, by the definition: exact where |x| is large beside |x - c|."""
    point = tl.program_id(0) * POINTS + tl.arange(0, POINTS)
    inside, row = point < points, point.to(tl.int64)
    label = tl.load(labels + point, mask=inside, other=0).to(tl.int64)
    total = tl.zeros((POINTS,), tl.float32)
    for dim0 in range(0, dims, DEPTH):
        dim = dim0 + tl.arange(0, DEPTH).to(tl.int64)
        mask = inside[:, None] & (dim < dims)[None, :]
        difference = tl.load(x + row[:, None] * x_row + dim[None, :] * x_dim, mask=mask, other=0.0).to(tl.float32)
        difference -= tl.load(centers + label[:, None] * dims + dim[None, :], mask=mask, other=0.0)
        total += tl.sum(difference * difference, axis=1)
    tl.store(distances + point, total, mask=inside)
