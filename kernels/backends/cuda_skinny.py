"""A tall matrix times a narrow one, such as (50000 x 784)(784 x 10), and its transpose: the large one is read once.

In: one operand tall (or wide) and read in 16-byte pieces, the other at most 16 numbers across and small enough for
shared memory; out: (M, N). There is too little arithmetic to hide the loads behind, so everything serves them: the
next 16 bytes of every row are on their way while these are multiplied, the small operand waits in shared memory.
Tall: a few lanes share a row and meet by shuffles. Wide: each lane has columns of its own, the warps share out k.
16-bit numbers are widened in registers. Source: NVIDIA, "Faster Parallel Reductions on Kepler"; the roofline,
Williams, Waterman and Patterson, 2009.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import torch
from numba import cuda, from_dtype
from torch import Tensor

from kernels.arrays import dtype_name
from kernels.backends.cuda_launch import SIMULATED, flat, kernel_for, launch, multiprocessors
from kernels.backends.cuda_memory import BYTES, copy16, make_widen

MOST_BYTES = 64  # of sums for a row: 16 float32 or 8 float64, which fit the registers for several rows
SHARED_BYTES = 48 * 1024  # for the small operand; what a block may hold on every CUDA device
WARP, ALL_LANES = 32, 0xFFFFFFFF
HALVES = (torch.float16, torch.bfloat16)


@dataclass(frozen=True)
class Tall:
    """lanes: that share a row. rows: of each lane at once, so that the small operand is read once for all of them.

    warps: of a block. blocks: of a multiprocessor, all resident: each loads the small operand once, then walks over rows.
    """

    lanes: int
    rows: int
    warps: int
    blocks: int


@dataclass(frozen=True)
class Wide:
    """warps: of a block, at most, which share out k. blocks: of a multiprocessor. ahead: steps of k whose loads are under way."""

    warps: int
    blocks: int
    ahead: int


# By numbers in 4 bytes, 2 for 16-bit ones; the best of seven and of five on an H200: 70 us (cuBLAS 80) and 75 us (96). With
# 16-bit numbers 69 and 85 us, where cuBLAS has tensor cores (55 and 30): take backend "triton" for those.
TALL = {1: Tall(16, 4, 8, 2), 2: Tall(8, 4, 8, 2)}
WIDE = {1: Wide(8, 3, 4), 2: Wide(4, 3, 4)}


def sums_dtype(tensor: Tensor) -> torch.dtype:
    """The dtype in which products of a tensor's numbers are summed."""
    return torch.float32 if tensor.dtype in HALVES else tensor.dtype


def _is_read_in_pieces(large: Tensor, along: int) -> bool:
    """Whether the numbers along a dimension lie together and can be read 16 bytes at a time."""
    numbers = BYTES // large.element_size()
    whole = large.shape[along] % numbers == 0 and large.stride(1 - along) % numbers == 0
    return large.stride(along) == 1 and whole and large.data_ptr() % BYTES == 0


def _is_small(across: int, depths: int, along: int, itemsize: int) -> bool:
    return across * itemsize <= MOST_BYTES and depths * across * itemsize <= SHARED_BYTES and along > across


def is_applicable(a: Tensor, b: Tensor) -> bool:
    """Whether a (M, K) is tall, b (K, N) narrow and small, and rows of a can be read in 16-byte pieces."""
    return _is_small(b.shape[1], a.shape[1], a.shape[0], sums_dtype(a).itemsize) and _is_read_in_pieces(a, 1)


def is_wide(a: Tensor, b: Tensor) -> bool:
    """Whether a (M, K) has few rows and is small, b (K, N) wide, and rows of b can be read in 16-byte pieces."""
    return _is_small(a.shape[0], a.shape[1], b.shape[1], sums_dtype(a).itemsize) and _is_read_in_pieces(b, 1)


def make_add_lanes(results: int, number: Any, threads: int) -> Any:
    """A device function: each lane adds to its sums those of the lane `distance` away, by shuffles between registers.

    The simulator has no shuffles; there the sums cross through shared memory.
    """
    slots = results * threads

    def simulated(sums, distance):  # type: ignore[no-untyped-def]
        exchange, thread = cuda.shared.array(slots, number), cuda.threadIdx.x
        exchange[thread * results : (thread + 1) * results] = sums
        cuda.syncthreads()
        other = thread ^ distance
        sums += exchange[other * results : (other + 1) * results]
        cuda.syncthreads()

    @cuda.jit(device=True)
    def add_lanes(sums, distance):  # type: ignore[no-untyped-def]
        for i in range(results):
            sums[i] += cuda.shfl_xor_sync(ALL_LANES, sums[i], distance)

    return simulated if SIMULATED else add_lanes


@dataclass(frozen=True)
class Numbers:
    """How 16 bytes of the large operand become numbers: `words` registers of `word`, `count` numbers of `kind` to sum."""

    dtype: str

    @property
    def halves(self) -> bool:
        return self.dtype in ("float16", "bfloat16")

    @property
    def kind(self) -> np.dtype:
        return np.dtype("float32" if self.halves else self.dtype)

    @property
    def word(self) -> np.dtype:
        return np.dtype("int32") if self.halves else self.kind

    @property
    def words(self) -> int:
        return BYTES // self.word.itemsize

    @property
    def count(self) -> int:
        return self.words * (2 if self.halves else 1)


@cache
def tall_kernel(dtype: str, depths: int, columns: int, plan: Tall) -> Any:
    """The kernel for one shape of b: N sums in registers for each row, so N must be a constant of the machine code."""
    numbers = Numbers(dtype)
    number, word, zero, none = from_dtype(numbers.kind), from_dtype(numbers.word), numbers.kind.type(0), numbers.word.type(0)
    words, count, lanes = numbers.words, numbers.count, BYTES // numbers.kind.itemsize
    across, rows_each, threads = plan.lanes, plan.rows, WARP * plan.warps
    size, held, part, results = depths * columns, rows_each * words, rows_each * count, rows_each * columns
    step, pieces = across * count, count // lanes
    steps, sets, warps = -(-depths // step), WARP // across, plan.warps
    scale = count // words  # numbers of a word
    add_lanes = make_add_lanes(results, number, threads)
    widen = make_widen(dtype, held)

    @cuda.jit(device=True)
    def fetch(a, a_row, row0, rows, k, registers):  # type: ignore[no-untyped-def]
        for r in range(rows_each):
            row = min(row0 + r, rows - 1)  # the last rows are read twice rather than tested for
            if k < depths:
                copy16(a, (row * a_row + k) // scale, registers, r * words)
            else:
                for i in range(words):
                    registers[r * words + i] = none

    @kernel_for(threads, plan.blocks)
    def product(a, a_row, b, b_k, b_column, c, rows):  # type: ignore[no-untyped-def]
        if SIMULATED:  # it knows no alignment
            b_shared = cuda.shared.array(size, number)
        else:
            b_shared = cuda.shared.array(size, number, alignment=BYTES)
        for i in range(cuda.threadIdx.x, size, threads):
            k, column = i // columns, i % columns
            b_shared[column * depths + k] = b[k * b_k + column * b_column]
        cuda.syncthreads()
        lane = cuda.threadIdx.x % WARP
        inner, mine = lane % across, lane // across
        coming, a_part = cuda.local.array(held, word), cuda.local.array(part, number)
        b_part, sums = cuda.local.array(count, number), cuda.local.array(results, number)
        stride = cuda.gridDim.x * warps * sets * rows_each
        row0 = ((cuda.blockIdx.x * warps + cuda.threadIdx.x // WARP) * sets + mine) * rows_each
        turns = (rows - row0 + mine * rows_each + stride - 1) // stride  # as many for all lanes of a warp
        fetch(a, a_row, row0, rows, inner * count, coming)
        for _ in range(turns):
            for i in range(results):
                sums[i] = zero
            for turn in range(steps):
                k = turn * step + inner * count
                widen(coming, 0, a_part)
                if turn + 1 < steps:
                    fetch(a, a_row, row0, rows, k + step, coming)
                else:
                    fetch(a, a_row, row0 + stride, rows, inner * count, coming)
                k = min(k, depths - count)  # beyond the depth a_part is zero
                for column in range(columns):
                    for piece in range(pieces):
                        copy16(b_shared, column * depths + k + piece * lanes, b_part, piece * lanes)
                    for r in range(rows_each):
                        for i in range(count):
                            sums[r * columns + column] += a_part[r * count + i] * b_part[i]
            distance = across // 2
            while distance:
                add_lanes(sums, distance)
                distance //= 2
            for i in range(results):
                if inner == i % across and row0 + i // columns < rows:
                    c[row0 * columns + i] = sums[i]
            row0 += stride

    return product


@cache
def wide_kernel(dtype: str, depths: int, rows: int, plan: Wide) -> Any:
    """The kernel for one shape of a: M sums in registers for each column of 16 bytes of b."""
    numbers = Numbers(dtype)
    number, word, zero, none = from_dtype(numbers.kind), from_dtype(numbers.word), numbers.kind.type(0), numbers.word.type(0)
    words, count, warps, ahead = numbers.words, numbers.count, plan.warps, plan.ahead
    threads, size, results, scale = WARP * warps, rows * depths, rows * count, count // words
    held, coming_words, across = max(size, threads * results), ahead * words, WARP * count
    turns = -(-depths // (warps * ahead))
    widen = make_widen(dtype, words)

    @kernel_for(threads, plan.blocks)
    def product(a, a_row, a_k, b, b_k, c, columns):  # type: ignore[no-untyped-def]
        if SIMULATED:
            shared = cuda.shared.array(held, number)
        else:
            shared = cuda.shared.array(held, number, alignment=BYTES)
        for i in range(cuda.threadIdx.x, size, threads):
            shared[i] = a[i % rows * a_row + i // rows * a_k]
        cuda.syncthreads()
        lane, warp = cuda.threadIdx.x % WARP, cuda.threadIdx.x // WARP
        coming = cuda.local.array(coming_words, word)
        b_part, sums = cuda.local.array(count, number), cuda.local.array(results, number)
        column = (cuda.blockIdx.x * WARP + lane) * count
        for i in range(results):
            sums[i] = zero
        for turn in range(turns):
            for u in range(ahead):
                k = (turn * ahead + u) * warps + warp
                if k < depths and column < columns:
                    copy16(b, (k * b_k + column) // scale, coming, u * words)
                else:
                    for i in range(words):
                        coming[u * words + i] = none
            for u in range(ahead):
                k = min((turn * ahead + u) * warps + warp, depths - 1)
                widen(coming, u * words, b_part)
                for row in range(rows):
                    factor = shared[k * rows + row]
                    for i in range(count):
                        sums[row * count + i] += factor * b_part[i]
        cuda.syncthreads()  # the warps' sums meet in the memory where a was
        for i in range(results):
            shared[(i * warps + warp) * WARP + lane] = sums[i]
        cuda.syncthreads()
        for place in range(cuda.threadIdx.x, WARP * results, threads):
            row, beside = place // across, place % across
            first = ((row * count + beside % count) * warps) * WARP + beside // count
            total = zero
            for w in range(warps):
                total += shared[first + w * WARP]
            out = cuda.blockIdx.x * across + beside
            if out < columns:
                c[row * columns + out] = total

    return product


def _words(large: Tensor) -> Tensor:
    """The memory of the large operand as the kernels read it: 16-bit numbers two at a time."""
    return flat(large).view(torch.int32) if large.dtype in HALVES else flat(large)


def tall(a: Tensor, b: Tensor, plan: Tall) -> Tensor:
    """a (M, K) times b (K, N); only for operands that `is_applicable` approves."""
    (rows, depths), columns = a.shape, b.shape[1]
    small = b.to(sums_dtype(b))
    c = a.new_empty(rows, columns, dtype=small.dtype)
    each = plan.rows * plan.warps * (WARP // plan.lanes)
    blocks = min(-(-rows // each), multiprocessors(a.device) * plan.blocks)
    kernel = tall_kernel(dtype_name(a), depths, columns, plan)
    launch(kernel, blocks, WARP * plan.warps, _words(a), a.stride(0), flat(small), *small.stride(), flat(c), rows)
    return c.to(a.dtype)


def wide(a: Tensor, b: Tensor, plan: Wide) -> Tensor:
    """a (M, K) times b (K, N); only for operands that `is_wide` approves."""
    (rows, depths), columns = a.shape, b.shape[1]
    small = a.to(sums_dtype(a))
    c = a.new_empty(rows, columns, dtype=small.dtype)
    count = BYTES // b.element_size()
    blocks = -(-columns // (WARP * count))
    while WARP * plan.warps * rows * count * small.element_size() > SHARED_BYTES:  # the block's sums, when they meet
        plan = replace(plan, warps=plan.warps // 2, blocks=plan.blocks * 2)
    kernel = wide_kernel(dtype_name(a), depths, rows, plan)
    launch(kernel, blocks, WARP * plan.warps, flat(small), *small.stride(), _words(b), b.stride(0), flat(c), columns)
    return c.to(a.dtype)


def matmul(a: Tensor, b: Tensor) -> Tensor | None:
    """a (M, K) times b (K, N) on CUDA, any float dtype; None where neither operand is skinny as these kernels need it."""
    numbers = 4 // min(4, a.element_size())
    if is_applicable(a, b):
        return tall(a, b, TALL[numbers])
    if is_wide(a, b):
        return wide(a, b, WIDE[numbers])
    if is_applicable(b.T, a.T):
        return tall(b.T, a.T, TALL[numbers]).T
    if is_wide(b.T, a.T):
        return wide(b.T, a.T, WIDE[numbers]).T
    return None
