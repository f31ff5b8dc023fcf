"""A blocked product on the CPU: pack what is needed next into the caches, keep the results in registers.

In: a (M, K), b (K, N) on the CPU, any strides; out: (M, N). Three ideas, each with its reason:

* Tiles. 12 x 32 results live in 24 of AVX-512's 32 registers while K runs: each number loaded is used 12 or 32
  times, so the multipliers, not the loads, are the limit. Plain loops cannot say this: LLVM picks 256-bit vectors
  for them and keeps sums in memory; measured on one core 116 GFLOP/s, against 220 for `_add_product`.
* Packing. b is copied once into strips of 32 columns, a into strips of 12 rows, so that the inner loop reads
  memory in order, whatever the strides were; DEPTH makes one strip of each fit the 48 KiB of L1 together.
* Threads. Each takes whole row blocks of the result: no two write the same cache line's tile.

Source: Goto and van de Geijn, Anatomy of High-Performance Matrix Multiplication, 2008; Van Zee, BLIS, 2015.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numba
import numpy as np
import torch
from llvmlite import binding, ir
from numba import njit, prange, types
from numba.core import cgutils
from numba.extending import intrinsic
from torch import Tensor

from kernels.arrays import upcast_16bit
from kernels.forks import check_threads
from kernels.jit import cached_njit

WIDE = bool(binding.get_host_cpu_features().get("avx512f", False))
VECTOR_BYTES = 64 if WIDE else 32
ROWS = 12 if WIDE else 6  # of a tile; with 2 vectors across, 24 of 32 registers or 12 of 16
VECTORS = 2  # across a tile
DEPTH = 256  # of k in one pass
BLOCK_ROWS = 240  # of a packed at a time, at most: 240 KiB of float32, an eighth of L2


def columns_of(dtype: np.dtype[Any]) -> int:
    """Columns of a tile: two vector registers' worth."""
    return VECTORS * VECTOR_BYTES // dtype.itemsize


@intrinsic
def _add_product(typing: Any, a: Any, a0: Any, b: Any, b0: Any, depth: Any, c: Any, c0: Any, c_step: Any) -> Any:
    """Add the product of strips a[a0:] (depth, ROWS) and b[b0:] (depth, columns) to the tile c[c0:], c_step to a row.

    All three arrays are flat. Written in LLVM's own terms because Numba's Python has no vector type. The sums
    are stack slots that LLVM turns into registers, as every index into them is a constant.
    """

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        number, size = context.get_value_type(a.dtype), a.dtype.bitwidth // 8
        lanes = VECTOR_BYTES // size
        vector = ir.VectorType(number, lanes)
        undefined, to_all = ir.Constant(vector, ir.Undefined), ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes)

        def constant(value: int) -> Any:
            return ir.Constant(values[1].type, value)

        def start(argument: int) -> Any:  # of an array that is followed by its first index
            array = context.make_array(signature.args[argument])(context, builder, values[argument])
            return builder.gep(array.data, [values[argument + 1]])

        def vectors(base: Any) -> list[Any]:  # pointers to the vectors that lie side by side from base
            places = [builder.gep(base, [constant(v * lanes)]) for v in range(VECTORS)]
            return [builder.bitcast(place, vector.as_pointer()) for place in places]

        def spread(place: Any) -> Any:  # one number in every lane
            first = builder.insert_element(undefined, builder.load(place), ir.Constant(ir.IntType(32), 0))
            return builder.shuffle_vector(first, undefined, to_all)

        a_strip, b_strip, tile = start(0), start(2), start(5)
        places = [vectors(builder.gep(tile, [builder.mul(values[7], constant(row))])) for row in range(ROWS)]
        sums = [[cgutils.alloca_once_value(builder, builder.load(at, align=size)) for at in row] for row in places]
        with cgutils.for_range(builder, values[4]) as loop:
            a_row = builder.gep(a_strip, [builder.mul(loop.index, constant(ROWS))])
            b_row = builder.gep(b_strip, [builder.mul(loop.index, constant(VECTORS * lanes))])
            across = [builder.load(place, align=size) for place in vectors(b_row)]
            for row, row_sums in enumerate(sums):
                factor = spread(builder.gep(a_row, [constant(row)]))
                for total, factors in zip(row_sums, across, strict=True):
                    product = builder.fmul(factor, factors, flags=("contract",))  # contract: one fused instruction
                    builder.store(builder.fadd(product, builder.load(total), flags=("contract",)), total)
        for row_sums, row_places in zip(sums, places, strict=True):
            for total, place in zip(row_sums, row_places, strict=True):
                builder.store(builder.load(total), place, align=size)
        return context.get_dummy_value()

    return types.void(a, a0, b, b0, depth, c, c0, c_step), generate


@njit
def _pack(source: Any, first: int, k_step: int, step: int, used: int, depth: int, width: int, packed: Any, at: int) -> None:
    """packed[at:] = a (depth, width) strip: number (k, j) is source[first + k * k_step + j * step], zero from j = used."""
    if used < width:
        packed[at : at + depth * width] = 0
    if step == 1:  # its own branch, so that LLVM may copy whole vectors
        for k in range(depth):
            for j in range(used):
                packed[at + k * width + j] = source[first + k * k_step + j]
    else:
        for k in range(depth):
            for j in range(used):
                packed[at + k * width + j] = source[first + k * k_step + j * step]


@njit
def _tiles(a: Any, a_rows: int, b: Any, b0: int, depth: int, c: Any, c0: int, shape: Any, width: int, edge: Any) -> None:
    """Add a's packed rows times one strip of b to the columns of c (flat, `shape`) that start at index c0."""
    inside = min(width, shape[1] - c0 % shape[1])
    for i in range(0, a_rows, ROWS):
        if inside == width and i + ROWS <= a_rows:
            _add_product(a, i * depth, b, b0, depth, c, c0 + i * shape[1], shape[1])
            continue
        edge[:] = 0  # a tile that hangs over the edge is made aside, and what lies inside is added
        _add_product(a, i * depth, b, b0, depth, edge, 0, width)
        for row in range(min(ROWS, a_rows - i)):
            for column in range(inside):
                c[c0 + (i + row) * shape[1] + column] += edge[row * width + column]


def _blocked(a: Any, a_steps: Any, b: Any, b_steps: Any, c: Any, shape: Any, k: int, width: int, block: int) -> None:
    """c (zeros, flat, shape (M, N)) += a b, each flat with its strides; `block` rows at a time, tiles `width` wide."""
    strips = (shape[1] + width - 1) // width
    packed_b = np.empty(k * strips * width, b.dtype)
    for strip in prange(strips):
        used = min(width, shape[1] - strip * width)
        for k0 in range(0, k, DEPTH):
            depth = min(DEPTH, k - k0)
            first = k0 * b_steps[0] + strip * width * b_steps[1]
            _pack(b, first, b_steps[0], b_steps[1], used, depth, width, packed_b, (k0 * strips + strip * depth) * width)
    for job in prange((shape[0] + block - 1) // block):
        row0 = job * block
        rows = min(block, shape[0] - row0)
        packed_a = np.empty((block + ROWS) * DEPTH, a.dtype)
        edge = np.empty(ROWS * width, a.dtype)
        for k0 in range(0, k, DEPTH):
            depth = min(DEPTH, k - k0)
            for i in range(0, rows, ROWS):
                first = (row0 + i) * a_steps[0] + k0 * a_steps[1]
                _pack(a, first, a_steps[1], a_steps[0], min(ROWS, rows - i), depth, ROWS, packed_a, i * depth)
            for strip in range(strips):  # one strip of b stays in L1 while the block of a passes by
                here = (k0 * strips + strip * depth) * width
                _tiles(packed_a, rows, packed_b, here, depth, c, row0 * shape[1] + strip * width, shape, width, edge)


@cache
def _compiled(name: str) -> Callable[..., None]:
    """`_blocked` for one dtype; it sees flat memory and strides, so one machine code serves every layout."""
    flat, pair = types.Array(numba.from_dtype(np.dtype(name)), 1, "C"), types.UniTuple(types.intp, 2)
    signature = types.void(flat, pair, flat, pair, flat, pair, types.intp, types.intp, types.intp)
    # Not fastmath: it assumes that no number is infinite or missing, and the tiles need no more than "contract".
    compiled: Callable[..., None] = cached_njit(signature, parallel=True)(_blocked)
    return compiled


@contextmanager
def _as_many_threads_as_torch() -> Iterator[int]:
    """One setting, torch's, decides how many threads a product takes; the product does not change it."""
    of_torch = torch.get_num_threads()
    before = numba.get_num_threads()
    if torch.get_num_threads() != of_torch:  # the first call starts numba's pool, which sets OpenMP's own number
        torch.set_num_threads(of_torch)
    threads = min(of_torch, numba.config.NUMBA_NUM_THREADS)
    numba.set_num_threads(threads)
    try:
        yield threads
    finally:
        numba.set_num_threads(before)


def block_rows(m: int, threads: int) -> int:
    """Rows of a block: at most BLOCK_ROWS, whole tiles, and as many blocks for one thread as for another."""
    rounds = -(-m // (BLOCK_ROWS * threads))
    return -(-m // (rounds * threads * ROWS)) * ROWS


def _flat(tensor: Tensor) -> np.ndarray:
    """The memory that a strided matrix spans, as one contiguous vector; no copy."""
    span = 1 + sum((size - 1) * step for size, step in zip(tensor.shape, tensor.stride(), strict=True))
    flat: np.ndarray = tensor.detach().as_strided((span,), (1,)).numpy()
    return flat


@upcast_16bit
def matmul(a: Tensor, b: Tensor) -> Tensor:
    """a (M, K) times b (K, N), float32 or float64 on the CPU; the first call in a process loads or compiles (seconds).

    Raises:
        BackendUnavailable: the process was forked after numba had used GNU's OpenMP.
    """
    check_threads()
    if a.shape[0] < b.shape[1]:
        return matmul(b.T, a.T).T  # threads share out rows, so let the longer side be the rows
    shape = (a.shape[0], b.shape[1])
    result = a.new_zeros(shape)
    c = result.view(-1).numpy()
    width = VECTORS * VECTOR_BYTES // c.itemsize
    with _as_many_threads_as_torch() as threads:
        block = block_rows(shape[0], threads)
        _compiled(c.dtype.name)(_flat(a), a.stride(), _flat(b), b.stride(), c, shape, a.shape[1], width, block)
    return result
