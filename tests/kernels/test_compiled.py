"""The CUDA kernels compiled for Hopper (sm_90) without a GPU: what the machine code must and must not hold.

No simulator shows these: that every access meant to be 16 bytes wide is, and that nothing meant for registers
lies in memory ("local" memory is main memory by another name). What time that saves, only a GPU can tell.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numba.cuda.dispatcher
import pytest
import triton
from numba import cuda, float32, float64, int32, int64, types
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from kernels import labels_triton, merge_triton, shift_triton, sums_triton, tiles
from kernels.backends import cuda_blocked, cuda_naive, cuda_skinny, cuda_tiled, triton_tiles
from kernels.backends.cuda_launch import REGISTERS

NUMBERS = {"float32": float32, "float64": float64}
ASSEMBLER = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "ptxas-blackwell"
WORD = {"float32": "v4.f32", "float64": "v2.f64"}


@pytest.fixture(autouse=True)
def hopper(monkeypatch: pytest.MonkeyPatch) -> None:
    """numba asks the current device what to compile device functions for; here there is none."""
    monkeypatch.setattr(numba.cuda.dispatcher, "get_current_device", lambda: SimpleNamespace(compute_capability=(9, 0)))


def ptx_of(kernel: Any, *arguments: Any) -> str:
    text, _ = cuda.compile(kernel.py_func, types.void(*arguments), cc=(9, 0), device=False, abi="numba")
    return text


def assembled(ptx: str, folder: Path, registers: int, target: str = "sm_90") -> str:
    """The assembler's report under a cap of registers for each thread."""
    source = folder / "kernel.ptx"
    source.write_text(ptx)
    command = [ASSEMBLER, "-v", f"-arch={target}", f"-maxrregcount={registers}", source, "-o", folder / "kernel.cubin"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stderr


@pytest.mark.parametrize(
    ("dtype", "a_along", "b_along"),
    [
        ("float32", "k", "side"),
        ("float64", "side", "k"),
        pytest.param("float32", "side", "k", marks=pytest.mark.long),
        pytest.param("float64", "k", "side", marks=pytest.mark.long),
    ],
)
def test_register_blocks_stay_in_registers_two_blocks_to_a_multiprocessor(
    dtype: str, a_along: str, b_along: str, tmp_path: Path
) -> None:
    tile, flat = cuda_blocked.TILES[dtype], types.Array(NUMBERS[dtype], 1, "C")
    kernel = cuda_blocked.kernel_of(tile, dtype, a_along, b_along)
    ptx = ptx_of(kernel, flat, int64, int64, flat, int64, int64, flat, int64, int64, int64, int64)
    loads = re.findall(r"ld\.global\.(\S+)", ptx)
    assert loads and set(loads) == {WORD[dtype]}
    assert set(re.findall(r"ld\.shared\.(\S+)", ptx)) == {WORD[dtype]}
    assert re.findall(r"\.shared \.align (\d+)", ptx) == ["16"]
    report = assembled(ptx, tmp_path, REGISTERS // (2 * tile.threads))
    assert ".local" not in ptx
    assert "0 bytes spill stores, 0 bytes spill loads" in report


WORDS = {"float32": (float32, float32), "float64": (float64, float64), "bfloat16": (int32, float32), "float16": (int32, float32)}


def skinny_report(dtype: str, kernel: Any, wide: bool, warps: int, blocks: int, folder: Path) -> tuple[str, str]:
    """PTX and the assembler's report of a skinny kernel, under its own cap of registers."""
    large, small = (types.Array(number, 1, "C") for number in WORDS[dtype])
    pair = (small, int64, int64, large, int64) if wide else (large, int64, small, int64, int64)
    ptx = ptx_of(kernel, *pair, small, int64)
    return ptx, assembled(ptx, folder, min(255, REGISTERS // (32 * warps * blocks) // 8 * 8))


@pytest.mark.parametrize(
    ("dtype", "columns"),
    [
        ("float32", 10),
        ("bfloat16", 10),
        *(pytest.param(*case, marks=pytest.mark.long) for case in (("float32", 1), ("float64", 4), ("float16", 3))),
    ],
)
def test_the_narrow_product_reads_16_bytes_at_a_time_and_keeps_its_sums_in_registers(
    dtype: str, columns: int, tmp_path: Path
) -> None:
    plan = cuda_skinny.TALL[2 if "16" in dtype else 1]
    ptx, report = skinny_report(
        dtype, cuda_skinny.tall_kernel(dtype, 384, columns, plan), False, plan.warps, plan.blocks, tmp_path
    )
    assert len(re.findall(r"ld\.global\.v[24]", ptx)) >= plan.rows
    assert ".local" not in ptx and "0 bytes spill stores, 0 bytes spill loads" in report


@pytest.mark.parametrize(
    ("dtype", "rows"), [("float32", 10), ("bfloat16", 10), pytest.param("float64", 4, marks=pytest.mark.long)]
)
def test_the_wide_product_has_several_loads_under_way_and_keeps_its_sums_in_registers(
    dtype: str, rows: int, tmp_path: Path
) -> None:
    plan = cuda_skinny.WIDE[2 if "16" in dtype else 1]
    ptx, report = skinny_report(dtype, cuda_skinny.wide_kernel(dtype, 384, rows, plan), True, plan.warps, plan.blocks, tmp_path)
    assert len(re.findall(r"ld\.global\.v[24]", ptx)) >= plan.ahead
    assert ".local" not in ptx and "0 bytes spill stores, 0 bytes spill loads" in report


@pytest.mark.parametrize("block", [(32, 8), (1024, 1), (1, 1024), (5, 7)])
def test_every_block_of_the_tiled_kernel_fits_shared_memory(block: tuple[int, int], tmp_path: Path) -> None:
    matrix = types.Array(float64, 2, "A")
    report = assembled(ptx_of(cuda_tiled.kernel_of(*block, "float64"), matrix, matrix, matrix), tmp_path, 64)
    used = re.search(r"(\d+) bytes smem", report)
    assert used is not None and int(used[1]) <= cuda_tiled.SHARED_BYTES


def test_the_naive_kernel_leaves_registers_for_1024_threads(tmp_path: Path) -> None:
    for number in NUMBERS.values():
        matrix = types.Array(number, 2, "A")
        report = assembled(ptx_of(cuda_naive.product, matrix, matrix, matrix), tmp_path, 255)
        used = re.search(r"Used (\d+) registers", report)
        assert used is not None and int(used[1]) * 1024 <= REGISTERS


def triton_ptx(
    function: Any, pointers: dict[str, str], constants: dict[str, Any], warps: int, stages: int, odd: Sequence[str] = ()
) -> str:
    """PTX for sm_90, as Triton specializes it for contiguous operands with sizes that are multiples of 16, but for the odd."""
    names = function.arg_names
    signature = {name: "constexpr" if name in constants else pointers.get(name, "i32") for name in names}
    aligned: Any = {(i,): [["tt.divisibility", 16]] for i, name in enumerate(names) if name not in {*constants, *odd}}
    source = ASTSource(fn=function, signature=signature, constexprs=constants, attrs=aligned)
    options = {"num_warps": warps, "num_stages": stages}
    return triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options).asm["ptx"]


@pytest.mark.parametrize("number", ["bf16", "fp32"])
def test_triton_s_product_uses_hopper_s_tensor_cores_and_copies_ahead(number: str) -> None:
    tile = triton_tiles.TILES["16-bit" if number == "bf16" else "tf32x3"][0]
    constants = {
        "ROWS": tile.rows,
        "COLUMNS": tile.columns,
        "DEPTH": tile.depth,
        "GROUP": triton_tiles.GROUP,
        "WIDEN": False,
        "TURNED": number == "fp32",
    }
    constants |= {"PRECISION": "tf32x3", "a_k": 1, "b_column": 1}
    ptx = triton_ptx(triton_tiles._product, dict.fromkeys("abc", f"*{number}"), constants, tile.warps, tile.stages)
    assert "wgmma.mma_async" in ptx and "cp.async" in ptx
    assert ".local" not in ptx


def test_a_packed_narrow_operand_is_read_16_bytes_at_a_time() -> None:
    tile = triton_tiles.TILES["tf32x3"][-1]
    constants = {"ROWS": tile.rows, "COLUMNS": tile.columns, "DEPTH": tile.depth, "GROUP": triton_tiles.GROUP, "WIDEN": False}
    constants |= {"TURNED": False, "PRECISION": "tf32x3", "a_k": 1, "b_k": 1}
    odd = "columns", "c_row"
    ptx = triton_ptx(triton_tiles._product, dict.fromkeys("abc", "*fp32"), constants, tile.warps, tile.stages, odd)
    assert set(re.findall(r"cp\.async\.c[ag]\S* \[[^\]]+\], \[[^\]]+\], (\S+),", ptx)) == {"0x10"}


def test_one_tf32_product_of_described_tiles_multiplies_from_shared_memory() -> None:
    rows, columns, depth = 128, 256, 32
    sides = {"a": (rows, depth), "b": (columns, depth), "c": (rows, columns)}
    pointers = {name: f"tensordesc<fp32[{down}, {across}]>" for name, (down, across) in sides.items()}
    constants = {"ROWS": rows, "COLUMNS": columns, "DEPTH": depth, "GROUP": 8, "PRECISION": "tf32", "ALONG_K": True}
    ptx = triton_ptx(triton_tiles._described, pointers, constants, 8, 3)
    assert "wgmma.mma_async" in ptx and "cp.async.bulk.tensor" in ptx and ".local" not in ptx


@pytest.mark.parametrize(
    ("number", "features"),
    [("fp16", 128), ("fp32", 64), *(pytest.param(*case, marks=pytest.mark.long) for case in (("bf16", 1024), ("fp32", 512)))],
)
def test_labels_use_hopper_s_tensor_cores_and_nothing_but_labels_is_stored(number: str, features: int) -> None:
    tile = tiles.label_tile(features, 1024, 4 if number == "fp32" else 2)
    pointers = dict.fromkeys(("x", "high", "low"), f"*{number}")
    if tile.tensor:
        pointers |= dict.fromkeys(("high", "low"), f"tensordesc<{number}[{tile.centers}, {tile.depth}]>")
    pointers |= {"offset": "*fp32", "halves": "*fp32", "labels": "*i16", "state": "*i32"}
    constants = {"POINTS": tile.points, "CENTERS": tile.centers, "DEPTH": tile.depth, "CHUNKS": features // tile.depth}
    constants |= {"LANES": tile.lanes, "SPLIT": number == "fp32", "WHOLE": True, "TENSOR": tile.tensor}
    constants |= {"WIDEN": False, "LONG": False, "x_dim": 1}
    ptx = triton_ptx(labels_triton.label_kernel, pointers, constants, tile.warps, tile.stages)
    assert "wgmma.mma_async" in ptx and ".local" not in ptx
    assert "cp.async" in ptx
    assert len(re.findall(r"st\.global", ptx)) == 1


@pytest.mark.parametrize(("k", "features"), [(8, 2), *(pytest.param(*case, marks=pytest.mark.long) for case in ((8, 1), (4, 4)))])
def test_sums_of_few_clusters_stay_in_registers(k: int, features: int, tmp_path: Path) -> None:
    block, warps, _ = tiles.FEW
    pointers = dict.fromkeys(("x", "weights", "centers", "partial", "masses"), "*fp32") | {"state": "*i32", "limit": "fp32"}
    pointers |= dict.fromkeys(("sums", "counts"), "*fp64")
    constants = {"K": k, "KP": k, "D": features, "DP": tiles.power_of_two(features), "BLOCK": block}
    constants |= {"WEIGHTED": False, "PAIRS": features == 2, "x_dim": 1, "STEP": 128}
    constants |= {"NORMALIZE": False, "TOTALS": False, "WIDEN": False}
    ptx = triton_ptx(sums_triton.few_kernel, pointers, constants, warps, 1)
    assert ".local" not in ptx and not re.search(r"(atom|red)\S*\.f(32|64)", ptx)
    assert "0 bytes spill stores, 0 bytes spill loads" in assembled(ptx, tmp_path, 255, "sm_90a")


@pytest.mark.parametrize("features", [2, pytest.param(8, marks=pytest.mark.long)])
def test_a_merging_step_reads_its_grid_from_the_device(features: int) -> None:
    pointers = dict.fromkeys(("points", "means", "moving", "data", "moved", "moves", "settings"), "*fp32")
    pointers |= {"bounds": "*fp64"} | dict.fromkeys(("mass", "inverse", "totals", "sums"), "*i64") | {"done": "*i8"}
    pointers |= dict.fromkeys(("widths", "cell_index", "cell_of", "occupied", "counts"), "*i32")
    block = {"D": features, "BLOCK": merge_triton.BLOCK}
    for kernel, constants in (
        (merge_triton._number, {**block, "COUNTED": True}),
        (merge_triton._add, {**block, "COUNTED": True}),
        (merge_triton._mean, block),
    ):
        assert ".local" not in triton_ptx(kernel, pointers, constants, 4, 1)
    tile, warps = shift_triton.SELECTION[0]
    constants = {"D": features, "KERNEL": 0, "TILE": tile, "TABLE": True}
    assert ".local" not in triton_ptx(shift_triton._shift_nearest, pointers, constants, warps, 1)
