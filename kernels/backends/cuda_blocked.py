"""Results in registers: each thread makes 8 x 8 of them, so that a number read from shared memory is used 8 times.

In: a (M, K), b (K, N), any strides; out: (M, N). Three ideas on top of shared tiles, each with its reason:

* Register blocks. 16 numbers read for 64 multiplications: the multipliers, not shared memory, are the limit.
* 16-byte accesses. A quarter of the load instructions, where the operand's layout allows it, which its strides tell:
  along k, or along the rows of a or columns of b (a transposed view is as good as a copy).
* Two buffers. While a tile is multiplied, the next one is on its way to registers, so nobody waits for memory.

Products with few columns (or rows) go to `cuda_skinny`. Source: NVIDIA CUTLASS, "Efficient GEMM in CUDA".
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numba import cuda, from_dtype
from torch import Tensor

from kernels.arrays import dtype_name, upcast_16bit
from kernels.backends import cuda_skinny
from kernels.backends.cuda_launch import SIMULATED, flat, kernel_for, launch, multiprocessors
from kernels.backends.cuda_memory import BYTES, copy16


@dataclass(frozen=True)
class Tile:
    """What a block of threads makes: `side` x `side` results, `depth` of k at a time, `each` x `each` by one thread."""

    side: int
    depth: int
    each: int
    resident: int = 2  # blocks of a multiprocessor: one multiplies while the other waits at its barrier

    @property
    def threads_across(self) -> int:
        return self.side // self.each

    @property
    def threads(self) -> int:
        return self.threads_across**2


# A double takes two registers, and 255 are all that a thread can have.
LEAST_SPAN = 64  # of k for one block: below, writing and adding up the parts costs more than it saves
TILES = {"float32": Tile(side=128, depth=8, each=8), "float64": Tile(side=64, depth=8, each=4)}


def layout(tensor: Tensor, k_dim: int) -> str:
    """The dimension along which 16 bytes of an operand lie together: "k", "side" (rows of a, columns of b) or "none"."""
    lanes = BYTES // tensor.element_size()
    for name, along, across in (("k", k_dim, 1 - k_dim), ("side", 1 - k_dim, k_dim)):
        whole = tensor.shape[along] % lanes == 0 and tensor.stride(across) % lanes == 0
        if tensor.stride(along) == 1 and whole and tensor.data_ptr() % BYTES == 0:
            return name
    return "none"


def make_fetch(tile: Tile, lanes: int, along: str, zero: Any) -> tuple[Any, Any]:
    """Two device functions: `fetch` a thread's share of an operand's tile into registers, and `put` it in shared memory.

    Shared memory holds the tile as [k][side], rows padded by 16 bytes so that `put` along k meets fewer bank conflicts.
    """
    side, depth, threads, step = tile.side, tile.depth, tile.threads, tile.side + lanes
    groups = side * depth // (threads * lanes)  # of `lanes` numbers, for each thread

    @cuda.jit(device=True)
    def where(thread, group):  # type: ignore[no-untyped-def]
        """First (side, k) of a thread's group in the tile: neighboring threads read neighboring memory."""
        i = group * threads + thread
        if along == "k":
            return i // (depth // lanes), i % (depth // lanes) * lanes
        return i % (side // lanes) * lanes, i // (side // lanes)

    @cuda.jit(device=True)
    def fetch(operand, side0, sides, side_step, k0, depths, k_step, thread, registers):  # type: ignore[no-untyped-def]
        for group in range(groups):
            s, k = where(thread, group)
            s, k = side0 + s, k0 + k
            if along != "none":  # whole groups lie inside or outside
                if s < sides and k < depths:
                    copy16(operand, s * side_step + k * k_step, registers, group * lanes)
                else:
                    for lane in range(lanes):
                        registers[group * lanes + lane] = zero
            else:
                for lane in range(lanes):
                    inside = s + lane < sides and k < depths
                    registers[group * lanes + lane] = operand[(s + lane) * side_step + k * k_step] if inside else zero

    @cuda.jit(device=True)
    def put(registers, shared, first, thread):  # type: ignore[no-untyped-def]
        for group in range(groups):
            s, k = where(thread, group)
            if along == "k":
                for lane in range(lanes):
                    shared[first + (k + lane) * step + s] = registers[group * lanes + lane]
            else:
                copy16(registers, group * lanes, shared, first + k * step + s)

    return fetch, put


@cache
def kernel_of(tile: Tile, dtype: str, a_along: str, b_along: str) -> Any:
    """The kernel for one dtype and the layouts of its operands."""
    number, zero, lanes = from_dtype(np.dtype(dtype)), np.dtype(dtype).type(0), BYTES // np.dtype(dtype).itemsize
    side, depth, each, across = tile.side, tile.depth, tile.each, tile.threads_across
    step = side + lanes  # from one k to the next in shared memory
    buffer = depth * step
    memory, results = 4 * buffer, each * each  # of the shared array: a and b, two buffers each
    share = side * depth // tile.threads  # numbers of a tile that one thread loads
    strips = each // lanes  # of 16 bytes in a thread's row; they lie side / strips apart, so that a warp reads in order
    fetch_a, put_a = make_fetch(tile, lanes, a_along, zero)
    fetch_b, put_b = make_fetch(tile, lanes, b_along, zero)

    @cuda.jit(device=True)
    def multiply(shared, a0, b0, tx, ty, sums):  # type: ignore[no-untyped-def]
        left, right = cuda.local.array(each, number), cuda.local.array(each, number)
        for k in range(depth):
            for strip in range(strips):
                copy16(shared, a0 + k * step + strip * across * lanes + ty * lanes, left, strip * lanes)
                copy16(shared, b0 + k * step + strip * across * lanes + tx * lanes, right, strip * lanes)
            for u in range(each):
                for v in range(each):
                    sums[u * each + v] += left[u] * right[v]

    @kernel_for(tile.threads, blocks=tile.resident)
    def product(a, a_row, a_k, b, b_k, b_column, c, rows, depths, columns, span):  # type: ignore[no-untyped-def]
        first_k = cuda.blockIdx.y * span  # blocks along y share out k, and write a result each
        depths = min(depths, first_k + span)
        tiles_down = (rows + side - 1) // side  # blocks that run together go down, and share columns of b in L2
        row0, column0 = cuda.blockIdx.x % tiles_down * side, cuda.blockIdx.x // tiles_down * side
        thread = cuda.threadIdx.x
        tx, ty = thread % across, thread // across
        if SIMULATED:  # it knows no alignment
            shared = cuda.shared.array(memory, number)
        else:
            shared = cuda.shared.array(memory, number, alignment=BYTES)
        next_a, next_b = cuda.local.array(share, number), cuda.local.array(share, number)
        sums = cuda.local.array(results, number)
        for i in range(results):
            sums[i] = zero
        fetch_a(a, row0, rows, a_row, first_k, depths, a_k, thread, next_a)
        fetch_b(b, column0, columns, b_column, first_k, depths, b_k, thread, next_b)
        put_a(next_a, shared, 0, thread)
        put_b(next_b, shared, 2 * buffer, thread)
        cuda.syncthreads()
        now = 0
        for k0 in range(first_k + depth, depths, depth):
            fetch_a(a, row0, rows, a_row, k0, depths, a_k, thread, next_a)
            fetch_b(b, column0, columns, b_column, k0, depths, b_k, thread, next_b)
            multiply(shared, now, 2 * buffer + now, tx, ty, sums)
            now = buffer - now  # the other buffer, which everybody has finished reading
            put_a(next_a, shared, now, thread)
            put_b(next_b, shared, 2 * buffer + now, thread)
            cuda.syncthreads()
        multiply(shared, now, 2 * buffer + now, tx, ty, sums)
        part = cuda.blockIdx.y * rows * columns
        for u in range(each):  # one number at a time: 16-byte stores here make the compiler spill registers above
            row = row0 + u // lanes * across * lanes + ty * lanes + u % lanes
            for v in range(each):
                column = column0 + v // lanes * across * lanes + tx * lanes + v % lanes
                if row < rows and column < columns:
                    c[part + row * columns + column] = sums[u * each + v]

    return product


def choose_splits(rows: int, depths: int, columns: int, tile: Tile, processors: int) -> int:
    """Into how many parts to share out k, so that every multiprocessor has its blocks; 1 where the result has tiles enough."""
    tiles = -(-rows // tile.side) * -(-columns // tile.side)
    return max(1, min(tile.resident * processors // tiles, depths // LEAST_SPAN))


def blocked(a: Tensor, b: Tensor, tile: Tile, splits: int = 1) -> Tensor:
    """a (M, K) times b (K, N), float32 or float64 on CUDA, in the given tiles, k shared out among so many blocks."""
    (rows, depths), columns = a.shape, b.shape[1]
    span = -(-depths // (splits * tile.depth)) * tile.depth
    splits = -(-depths // span)
    c = a.new_empty(splits, rows, columns)
    kernel = kernel_of(tile, dtype_name(c), layout(a, k_dim=1), layout(b, k_dim=0))
    blocks = -(-rows // tile.side) * -(-columns // tile.side)
    sizes = (rows, depths, columns, span)
    launch(kernel, (blocks, splits), tile.threads, flat(a), *a.stride(), flat(b), *b.stride(), c.view(-1), *sizes)
    return c[0] if splits == 1 else c.sum(0)


@upcast_16bit
def _matmul(a: Tensor, b: Tensor) -> Tensor:
    tile = TILES[dtype_name(a)]
    return blocked(a, b, tile, choose_splits(a.shape[0], a.shape[1], b.shape[1], tile, multiprocessors(a.device)))


def matmul(a: Tensor, b: Tensor) -> Tensor:
    """a (M, K) times b (K, N), any float dtype on CUDA."""
    product = cuda_skinny.matmul(a, b)
    return _matmul(a, b) if product is None else product
