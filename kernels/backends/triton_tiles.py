"""Tensor cores: a tile of the result at a time, written in Triton, which lays out registers and shared memory itself.

In: a (M, K), b (K, N), float16, bfloat16 or float32, any strides; out: (M, N), summed in float32. One instruction
multiplies whole 64 x 256 tiles, so the loads must run ahead (`stages` tiles in flight), and programs that run
together must share rows and columns in the L2 cache (`GROUP`). Source: Triton tutorial 03, matrix multiplication;
Tillet, Kung and Cox, 2019. float32 follows torch.set_float32_matmul_precision: "highest" is three TF32 products
for each float32 one (error as in float32; infinite operands give NaN), "high" and "medium" are one.

Hopper multiplies TF32 from shared memory only where k runs along both operands. Where b lies row by row, three
products take the transposed result, whose left operand may come from registers; one product takes b from a transposed
copy, which costs less than it brings. Both were measured, as all tiles here: `experiments/results/gpu-h200.json` and
`tune-products-h200.json`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

from kernels.registry import BACKENDS, emulated

INTERPRETED = emulated(BACKENDS["triton"])
GROUP = 8  # rows of tiles that run together
SPARE = 20 * 1024  # bytes of shared memory that Triton may use beside the stages


@dataclass(frozen=True)
class Tile:
    """`rows` x `columns` of the result for one program, `depth` of k at a time; powers of two, at least 16.

    described: loads go by Hopper's tensor descriptors, which want rows that begin at multiples of 16 bytes.
    """

    rows: int
    columns: int
    depth: int
    stages: int
    warps: int
    described: bool = False

    def shared(self, itemsize: int) -> int:
        """Bytes of shared memory that its stages take."""
        return (self.rows + self.columns) * self.depth * itemsize * self.stages

    def count(self, rows: int, columns: int) -> int:
        """How many tiles cover a result."""
        return triton.cdiv(rows, self.rows) * triton.cdiv(columns, self.columns)


# Large tiles use each number loaded more often; small ones keep every multiprocessor busy when the result is small.
# By bytes of a number and what is done with them; the times beside them were measured on an H200 (cuBLAS's in brackets).
TILES = {
    "16-bit": [Tile(128, 256, 64, 3, 8), Tile(128, 128, 64, 4, 4), Tile(64, 64, 64, 4, 4), Tile(64, 16, 64, 3, 2)],
    "tf32x3": [Tile(128, 128, 32, 3, 8), Tile(64, 64, 64, 3, 4), Tile(32, 16, 64, 3, 2)],  # 4096: 1.93 ms (2.77)
    "tf32": [Tile(128, 256, 32, 3, 8), Tile(128, 128, 32, 4, 4), Tile(64, 64, 32, 5, 4), Tile(64, 16, 64, 3, 2)],
}
# The same by tensor descriptors. Of 16-bit numbers where one round of programs makes the result: 1024: 9.9 us (9.1 to 9.7),
# 2048: 27.7 (27.8). Of TF32 always, with b along k: 2048: 66 us for 67, 4096: 433 for 444, 8192: 3.29 ms for 3.83 (3.20).
DESCRIBED = {
    "16-bit": [Tile(128, 256, 64, 3, 8, described=True), Tile(64, 128, 64, 6, 4, described=True)],
    "tf32": [Tile(128, 128, 32, 4, 4, described=True)],
}
WIDE = {"16-bit": Tile(16, 128, 32, 4, 4), "tf32x3": Tile(16, 128, 32, 3, 4), "tf32": Tile(16, 128, 32, 3, 4)}  # few rows
TRANSPOSE_ABOVE = 256  # rows and columns of a TF32 product: below, its time is the launches'
NEARLY = 0.95  # of the multiprocessors with a tile is as good as all
FEW = 32  # rows or columns of a result that is mostly a tile's width


def choose_tile(rows: int, columns: int, kind: str, multiprocessors: int, shared: int, describable: bool = False) -> Tile:
    """The largest tile that fits the shared memory, is not mostly outside the result and gives every multiprocessor one.

    Else the smallest, wide or narrow as the result is. describable: whether the operands suit tensor descriptors.
    """
    itemsize = 2 if kind == "16-bit" else 4
    tiles = TILES[kind]
    if columns <= FEW:
        return tiles[-1]
    if rows <= FEW // 2:
        return WIDE[kind]
    for tile in DESCRIBED.get(kind, []) if describable else []:
        enough = multiprocessors // 2 < tile.count(rows, columns)
        in_one_round = tile.count(rows, columns) <= multiprocessors
        if enough and (in_one_round or kind == "tf32") and tile.shared(itemsize) + SPARE <= shared:
            return tile
    for tile in tiles[:-1]:
        inside = columns > tile.columns // 2 and rows > tile.rows // 2
        if inside and tile.count(rows, columns) >= NEARLY * multiprocessors and tile.shared(itemsize) + SPARE <= shared:
            return tile
    return tiles[-2]


@triton.jit
def _place(ROWS: tl.constexpr, COLUMNS: tl.constexpr, rows, columns, GROUP: tl.constexpr):  # type: ignore[no-untyped-def]
    """First row and column of this program's tile; neighbors go down GROUP tiles before they move right."""
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
    WIDEN: tl.constexpr, TURNED: tl.constexpr,
):  # fmt: skip
    """TURNED: the transposed result is summed, so that b's tile is the left operand."""
    row0, column0 = _place(ROWS, COLUMNS, rows, columns, GROUP)
    row, column, k = row0 + tl.arange(0, ROWS), column0 + tl.arange(0, COLUMNS), tl.arange(0, DEPTH).to(tl.int64)
    step = tl.full((), DEPTH, tl.int64)  # like k and rows in 64 bits: a stride times an index may pass 2^31
    # Rows and columns outside wrap round to ones inside: loads need no mask but k's, and are not stored.
    a_at = a + (row % rows).to(tl.int64)[:, None] * a_row + k[None, :] * a_k
    b_at = b + k[:, None] * b_k + (column % columns).to(tl.int64)[None, :] * b_column
    total = tl.zeros((COLUMNS, ROWS) if TURNED else (ROWS, COLUMNS), tl.float32)
    for k0 in range(0, depths, DEPTH):
        left = tl.load(a_at, mask=k[None, :] < depths - k0, other=0.0)
        right = tl.load(b_at, mask=k[:, None] < depths - k0, other=0.0)
        if TURNED:
            total = multiply(tl.trans(right), tl.trans(left), total, PRECISION, WIDEN)
        else:
            total = multiply(left, right, total, PRECISION, WIDEN)
        a_at += step * a_k
        b_at += step * b_k
    if TURNED:
        total = tl.trans(total)
    c_at = c + row.to(tl.int64)[:, None] * c_row + column[None, :]
    tl.store(c_at, total.to(c.dtype.element_ty), mask=(row < rows)[:, None] & (column < columns)[None, :])


@triton.jit
def _described(  # type: ignore[no-untyped-def]
    a, b, c, rows, columns, depths,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr, GROUP: tl.constexpr, PRECISION: tl.constexpr,
    ALONG_K: tl.constexpr,
):  # fmt: skip
    """The same from tensor descriptors: the copy engine fills the tiles, and what lies outside is zero.

    ALONG_K: b lies column by column, and its descriptor is that of b transposed.
    """
    row0, column0 = _place(ROWS, COLUMNS, rows, columns, GROUP)
    total = tl.zeros((ROWS, COLUMNS), tl.float32)
    for k0 in range(0, depths, DEPTH):
        if ALONG_K:
            right = tl.trans(b.load([column0, k0]))
        else:
            right = b.load([k0, column0])
        total = tl.dot(a.load([row0, k0]), right, total, input_precision=PRECISION)
    c.store([row0, column0], total.to(c.dtype))


@triton.jit
def _transpose(source, target, rows, columns, row_step, SIDE: tl.constexpr):  # type: ignore[no-untyped-def]
    """target (columns, rows) = source (rows, columns)."""
    row, column = tl.program_id(0) * SIDE + tl.arange(0, SIDE), tl.program_id(1) * SIDE + tl.arange(0, SIDE)
    inside = (row < rows)[:, None] & (column < columns)[None, :]
    tile = tl.load(source + row.to(tl.int64)[:, None] * row_step + column[None, :], mask=inside)
    tl.store(target + column.to(tl.int64)[:, None] * rows + row[None, :], tl.trans(tile), mask=tl.trans(inside))


def along_k(b: Tensor) -> Tensor:
    """b (K, N) itself, or a copy of it that lies column by column."""
    if b.stride(0) == 1 or b.stride(1) != 1:
        return b
    copy = b.new_empty(b.shape[1], b.shape[0])
    side = 64
    grid = (triton.cdiv(b.shape[0], side), triton.cdiv(b.shape[1], side))
    with torch.cuda.device_of(b):
        _transpose[grid](b, copy, *b.shape, b.stride(0), SIDE=side, num_warps=4)
    return copy.T


def float32_precision() -> str:
    """How Triton multiplies float32, after torch's own setting."""
    return "tf32x3" if torch.get_float32_matmul_precision() == "highest" else "tf32"


def kind_of(a: Tensor) -> str:
    """The row of TILES for an operand's dtype and torch's setting."""
    return float32_precision() if a.dtype == torch.float32 else "16-bit"


def is_describable(a: Tensor) -> bool:
    """Whether a matrix can be read by a tensor descriptor: row by row, rows and memory at multiples of 16 bytes."""
    return a.stride(1) == 1 and a.stride(0) * a.element_size() % 16 == 0 and a.data_ptr() % 16 == 0


def are_describable(a: Tensor, b: Tensor, kind: str) -> bool:
    """Whether a product can be made by tensor descriptors: 16-bit numbers with b row by row, TF32 with b along k."""
    result_fits = b.shape[1] * b.element_size() % 16 == 0
    return result_fits and is_describable(a) and is_describable(b.T if kind == "tf32" else b)


def tiled(a: Tensor, b: Tensor, tile: Tile) -> Tensor:
    """a (M, K) times b (K, N), in the given tiles."""
    a, b = a.detach(), b.detach()
    (rows, depths), columns = a.shape, b.shape[1]
    c = a.new_empty(rows, columns)
    turned = kind_of(a) == "tf32x3" and b.stride(1) == 1 and columns > FEW and rows > FEW // 2
    with torch.cuda.device_of(a):
        if tile.described:
            turned_b = b.stride(1) != 1
            _described[(tile.count(rows, columns),)](
                TensorDescriptor.from_tensor(a, [tile.rows, tile.depth]),
                TensorDescriptor.from_tensor(b.T, [tile.columns, tile.depth])
                if turned_b
                else TensorDescriptor.from_tensor(b, [tile.depth, tile.columns]),
                TensorDescriptor.from_tensor(c, [tile.rows, tile.columns]),
                rows, columns, depths, ROWS=tile.rows, COLUMNS=tile.columns, DEPTH=tile.depth, GROUP=GROUP,
                PRECISION=float32_precision(), ALONG_K=turned_b, num_warps=tile.warps, num_stages=tile.stages,
            )  # fmt: skip
            return c
        _product[(tile.count(rows, columns),)](
            a, b, c, rows, columns, depths, *a.stride(), *b.stride(), c.stride(0),
            ROWS=tile.rows, COLUMNS=tile.columns, DEPTH=tile.depth, GROUP=GROUP, PRECISION=float32_precision(),
            WIDEN=INTERPRETED, TURNED=turned, num_warps=tile.warps, num_stages=tile.stages,
        )  # fmt: skip
    return c


def matmul(a: Tensor, b: Tensor) -> Tensor:
    """a (M, K) times b (K, N), float16, bfloat16 or float32 on CUDA."""
    rows, columns, kind = a.shape[0], b.shape[1], kind_of(a)
    if kind == "tf32" and min(rows, columns) > TRANSPOSE_ABOVE:
        b = along_k(b)
    multiprocessors, shared, describable = 1, 1 << 30, False  # the interpreter has no limit
    if not INTERPRETED:
        device: Any = torch.cuda.get_device_properties(a.device)  # torch's annotations lack the second property
        multiprocessors, shared = device.multi_processor_count, device.shared_memory_per_block_optin
        describable = device.major >= 9 and are_describable(a, b, kind)
    return tiled(a, b, choose_tile(rows, columns, kind, multiprocessors, shared, describable))
