"""Tensor cores: a tile of the result at a time, written in Triton, which lays out registers and shared memory itself.

In: a (M, K), b (K, N), float16, bfloat16 or float32, any strides; out: (M, N), summed in float32. One instruction
multiplies whole 64 x 256 tiles, so the loads must run ahead (`stages` tiles in flight), and programs that run
together must share rows and columns in the L2 cache (`GROUP`). Source: Triton tutorial 03, matrix multiplication;
Tillet, Kung and Cox, 2019. float32 follows torch.set_float32_matmul_precision: "highest" is three TF32 products
for each float32 one (error as in float32), "high" and "medium" are one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.registry import BACKENDS, emulated

INTERPRETED = emulated(BACKENDS["triton"])
GROUP = 8  # rows of tiles that run together
SPARE = 20 * 1024  # bytes of shared memory that Triton may use beside the stages


@dataclass(frozen=True)
class Tile:
    """`rows` x `columns` of the result for one program, `depth` of k at a time; powers of two, at least 16."""

    rows: int
    columns: int
    depth: int
    stages: int
    warps: int

    def shared(self, itemsize: int) -> int:
        """Bytes of shared memory that its stages take."""
        return (self.rows + self.columns) * self.depth * itemsize * self.stages

    def count(self, rows: int, columns: int) -> int:
        """How many tiles cover a result."""
        return triton.cdiv(rows, self.rows) * triton.cdiv(columns, self.columns)


# Large tiles use each number loaded more often; small ones keep every multiprocessor busy when the result is small.
TILES = {  # by bytes of a number
    2: [Tile(128, 256, 64, 3, 8), Tile(128, 128, 64, 4, 4), Tile(64, 64, 64, 4, 4), Tile(64, 16, 64, 4, 4)],
    4: [Tile(128, 128, 32, 3, 8), Tile(64, 64, 32, 4, 4), Tile(64, 16, 64, 4, 4)],
}


def choose_tile(rows: int, columns: int, itemsize: int, multiprocessors: int, shared: int) -> Tile:
    """The largest tile that fits the shared memory, is not mostly outside the result and gives every multiprocessor one.

    Else the smallest, wide or narrow as the result is.
    """
    for tile in TILES[itemsize]:
        inside = columns > tile.columns // 2 and rows > tile.rows // 2
        if inside and tile.count(rows, columns) >= multiprocessors and tile.shared(itemsize) + SPARE <= shared:
            return tile
    return TILES[itemsize][-1] if columns <= 32 else TILES[itemsize][-2]


@triton.jit
def _place(ROWS: tl.constexpr, COLUMNS: tl.constexpr, rows, columns, GROUP: tl.constexpr):  # type: ignore[no-untyped-def]
    """First row and column of this program's tile; neighbours go down GROUP tiles before they move right."""
    down, across = tl.cdiv(rows, ROWS), tl.cdiv(columns, COLUMNS)
    program = tl.program_id(0)
    first = program // (GROUP * across) * GROUP
    height = min(down - first, GROUP)
    within = program % (GROUP * across)
    return (first + within % height) * ROWS, within // height * COLUMNS


@triton.jit
def multiply(left, right, total, PRECISION: tl.constexpr, WIDEN: tl.constexpr):  # type: ignore[no-untyped-def]
    """total + left right, on the tensor cores. WIDEN: Triton's interpreter multiplies the bits of bfloat16 as integers."""
    if WIDEN:
        left, right = left.to(tl.float32), right.to(tl.float32)
    return tl.dot(left, right, total, input_precision=PRECISION)


@triton.jit
def _product(  # type: ignore[no-untyped-def]
    a, b, c, rows, columns, depths, a_row, a_k, b_k, b_column, c_row,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr, GROUP: tl.constexpr, PRECISION: tl.constexpr,
    WIDEN: tl.constexpr,
):  # fmt: skip
    row0, column0 = _place(ROWS, COLUMNS, rows, columns, GROUP)
    row, column, k = row0 + tl.arange(0, ROWS), column0 + tl.arange(0, COLUMNS), tl.arange(0, DEPTH).to(tl.int64)
    step = tl.full((), DEPTH, tl.int64)  # like k and rows in 64 bits: a stride times an index may pass 2^31
    # Rows and columns outside wrap round to ones inside: loads need no mask but k's, and are not stored.
    a_at = a + (row % rows).to(tl.int64)[:, None] * a_row + k[None, :] * a_k
    b_at = b + k[:, None] * b_k + (column % columns).to(tl.int64)[None, :] * b_column
    total = tl.zeros((ROWS, COLUMNS), tl.float32)
    for k0 in range(0, depths, DEPTH):
        left = tl.load(a_at, mask=k[None, :] < depths - k0, other=0.0)
        right = tl.load(b_at, mask=k[:, None] < depths - k0, other=0.0)
        total = multiply(left, right, total, PRECISION, WIDEN)
        a_at += step * a_k
        b_at += step * b_k
    c_at = c + row.to(tl.int64)[:, None] * c_row + column[None, :]
    tl.store(c_at, total.to(c.dtype.element_ty), mask=(row < rows)[:, None] & (column < columns)[None, :])


def float32_precision() -> str:
    """How Triton multiplies float32, after torch's own setting."""
    return "tf32x3" if torch.get_float32_matmul_precision() == "highest" else "tf32"


def tiled(a: Tensor, b: Tensor, tile: Tile) -> Tensor:
    """a (M, K) times b (K, N), in the given tiles."""
    a, b = a.detach(), b.detach()
    (rows, depths), columns = a.shape, b.shape[1]
    c = a.new_empty(rows, columns)
    with torch.cuda.device_of(a):
        _product[(tile.count(rows, columns),)](
            a, b, c, rows, columns, depths, *a.stride(), *b.stride(), c.stride(0),
            ROWS=tile.rows, COLUMNS=tile.columns, DEPTH=tile.depth, GROUP=GROUP, PRECISION=float32_precision(),
            WIDEN=INTERPRETED,             num_warps=tile.warps, num_stages=tile.stages,
        )  # fmt: skip
    return c


def matmul(a: Tensor, b: Tensor) -> Tensor:
    """a (M, K) times b (K, N), float16, bfloat16 or float32 on CUDA."""
    multiprocessors, shared = 1, 1 << 30  # the interpreter has no limit
    if not INTERPRETED:
        device: Any = torch.cuda.get_device_properties(a.device)  # torch's annotations lack the second property
        multiprocessors, shared = device.multi_processor_count, device.shared_memory_per_block_optin
    return tiled(a, b, choose_tile(a.shape[0], b.shape[1], a.element_size(), multiprocessors, shared))
