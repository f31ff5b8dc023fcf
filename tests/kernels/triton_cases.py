"""Triton kernels in Triton's interpreter; `test_emulated.py` runs this file in a process of its own."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels import matmul, nearest_centers
from kernels.accuracy import LAYOUTS, error_share, laid_out
from kernels.backends import triton_tiles
from kernels.pairwise_triton import nearest_centers as fused
from kernels.tiles import LabelTile

assert triton_tiles.INTERPRETED, "run this file through test_emulated.py"
HALF_AND_SINGLE = st.sampled_from((torch.float16, torch.bfloat16, torch.float32))
SIZES = st.integers(1, 40)
LAID = st.sampled_from(LAYOUTS)
LABELS = LabelTile(points=16, centers=16, depth=16, warps=1, stages=1)
SMALL = triton_tiles.Tile(rows=16, columns=32, depth=16, stages=1, warps=1)


def limit(dtype: torch.dtype) -> float:
    """The interpreter cuts float32 off to bfloat16 where a GPU rounds: up to twice the error."""
    return 2 if dtype == torch.bfloat16 else 1


@settings(max_examples=12)
@given(st.tuples(SIZES, SIZES, SIZES), HALF_AND_SINGLE, LAID, LAID, st.integers(0, 2**31))
def test_tiles_are_right_across_edges_and_groups(
    shape: tuple[int, int, int], dtype: torch.dtype, la: str, lb: str, seed: int
) -> None:
    m, k, n = shape
    a, b = laid_out(la, m, k, dtype, seed), laid_out(lb, k, n, dtype, seed + 1)
    for c in (triton_tiles.tiled(a, b, SMALL), matmul(a, b, "triton")):
        assert c.dtype == dtype and c.shape == (m, n)
        assert error_share(c, a, b) <= limit(dtype)


def test_more_rows_of_tiles_than_one_group_holds() -> None:
    a, b = laid_out("rows", 16 * (2 * triton_tiles.GROUP + 3), 5, torch.float32, 0), laid_out("rows", 5, 100, torch.float32, 1)
    assert error_share(triton_tiles.tiled(a, b, SMALL), a, b) <= 1


@pytest.mark.parametrize("kind", ["16-bit", "tf32x3", "tf32"])
def test_every_tile_that_a_gpu_runs_is_right(kind: str) -> None:
    dtype = torch.bfloat16 if kind == "16-bit" else torch.float32
    for tile in [*triton_tiles.TILES[kind], triton_tiles.WIDE[kind], *triton_tiles.DESCRIBED.get(kind, [])]:
        if tile.described:
            exact = torch.float16 if kind == "16-bit" else dtype  # the interpreter multiplies the bits of bfloat16 as integers
            a = laid_out("rows", tile.rows + 8, tile.depth + 8, exact, 0)
            b = laid_out("columns" if kind == "tf32" else "rows", tile.depth + 8, tile.columns + 8, exact, 1)
            assert error_share(triton_tiles.tiled(a, b, tile), a, b) <= 1
            continue
        a, b = (
            laid_out("rows", tile.rows + 5, tile.depth + 3, dtype, 0),
            laid_out("columns", tile.depth + 3, tile.columns + 1, dtype, 1),
        )
        assert error_share(triton_tiles.tiled(a, b, tile), a, b) <= limit(dtype)


@pytest.mark.parametrize("lb", ["rows", "columns"])
def test_descriptors_read_b_whichever_way_it_lies(lb: str) -> None:
    tile = triton_tiles.Tile(16, 32, 16, 1, 1, described=True)
    a, b = laid_out("rows", 24, 40, torch.float32, 0), laid_out(lb, 40, 72, torch.float32, 1)
    assert error_share(triton_tiles.tiled(a, b, tile), a, b) <= 1


def test_the_tile_follows_the_result_and_the_device() -> None:
    hopper, small = (132, 227 * 1024), (132, 99 * 1024)
    assert triton_tiles.choose_tile(4096, 4096, "16-bit", *hopper, True) == triton_tiles.TILES["16-bit"][0]
    assert triton_tiles.choose_tile(4096, 4096, "16-bit", *small).shared(2) <= small[1]
    assert triton_tiles.choose_tile(50_000, 10, "16-bit", *hopper).columns == 16
    assert triton_tiles.choose_tile(10, 50_000, "tf32x3", *hopper).rows == 16
    assert triton_tiles.choose_tile(256, 256, "tf32x3", *hopper).rows == 64
    assert triton_tiles.choose_tile(1024, 1024, "16-bit", *hopper, True) == triton_tiles.DESCRIBED["16-bit"][1]
    assert triton_tiles.choose_tile(2048, 2048, "16-bit", *hopper, True) == triton_tiles.DESCRIBED["16-bit"][0]
    assert not triton_tiles.choose_tile(2048, 2048, "16-bit", *hopper, False).described
    assert triton_tiles.choose_tile(8192, 8192, "tf32", *hopper, True) == triton_tiles.DESCRIBED["tf32"][0]
    assert not triton_tiles.choose_tile(1024, 1024, "tf32", *hopper, True).described  # half the multiprocessors would rest
    assert not triton_tiles.choose_tile(8192, 8192, "tf32", *small, True).described  # its stages would not fit


def test_descriptors_want_rows_that_begin_at_multiples_of_16_bytes() -> None:
    a, b = laid_out("rows", 64, 32, torch.float32, 0), laid_out("columns", 32, 64, torch.float32, 1)
    assert triton_tiles.are_describable(a, b, "tf32")
    assert not triton_tiles.are_describable(a, b.T.contiguous().T[:, :63], "tf32")  # the result's rows
    assert not triton_tiles.are_describable(a, laid_out("columns", 31, 64, torch.float32, 1), "tf32")
    assert not triton_tiles.are_describable(a[:, 1:], b[1:], "tf32")
    assert not triton_tiles.are_describable(a, b, "16-bit") and triton_tiles.are_describable(a, b.contiguous(), "16-bit")


@pytest.mark.parametrize("shape", [(70, 90), (64, 64), (1, 200)])
def test_a_transposed_copy_is_the_same_matrix(shape: tuple[int, int]) -> None:
    b = laid_out("shifted", *shape, torch.float32, 0)
    copy = triton_tiles.along_k(b)
    assert torch.equal(copy, b) and (copy.stride(0) == 1 or 1 in shape)
    assert triton_tiles.along_k(copy) is copy


@pytest.mark.parametrize("lb", LAYOUTS)
def test_tf32_is_right_whichever_way_b_lies(lb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton_tiles, "TRANSPOSE_ABOVE", 16)
    a, b = laid_out("rows", 40, 33, torch.float32, 0), laid_out(lb, 33, 50, torch.float32, 1)
    torch.set_float32_matmul_precision("high")
    try:
        assert error_share(matmul(a, b, "triton"), a, b, tf32=True) <= 1
    finally:
        torch.set_float32_matmul_precision("highest")


@pytest.mark.parametrize("lb", LAYOUTS)
def test_a_tall_product_is_right_whichever_way_its_narrow_operand_lies(lb: str) -> None:
    a, b = laid_out("rows", 40, 33, torch.float32, 0), laid_out(lb, 33, 10, torch.float32, 1)
    assert error_share(matmul(a, b, "triton"), a, b) <= 1


@settings(max_examples=12)
@given(st.tuples(SIZES, SIZES, SIZES), HALF_AND_SINGLE, LAID, st.floats(-30, 30), st.integers(0, 2**31))
def test_fused_nearest_centers_agree_with_float64(
    shape: tuple[int, int, int], dtype: torch.dtype, layout: str, far: float, seed: int
) -> None:
    n, k, d = shape
    x, centers = laid_out(layout, n, d, dtype, seed), laid_out(layout, k, d, dtype, seed + 1)
    x += far
    centers += far
    exact = torch.cdist(x.double(), centers.double(), compute_mode="donot_use_mm_for_euclid_dist").square()
    eps = torch.finfo(torch.float32).eps
    scale = exact.max(1).values + 3 * (x.double().square().sum(1) + centers.double().square().sum(1).max()) * (
        dtype.itemsize == 2
    )
    scale += (x.double() - centers.double().mean(0)).square().sum(1) + eps * 30 * d * far**2
    for labels, distances in (nearest_centers(x, centers), fused(x, centers, LABELS)):
        chosen = exact.gather(1, labels[:, None])[:, 0]
        assert bool((chosen - exact.min(1).values <= (d + 8) * eps * scale).all())
        assert bool(((distances - chosen).abs() <= (d + 8) * eps * chosen).all())


def test_of_equal_distances_the_smallest_label_wins_across_blocks_of_centers() -> None:
    labels, _ = fused(torch.zeros(20, 2), torch.ones(50, 2), LABELS)
    assert labels.tolist() == [0] * 20


def test_float64_points_and_points_without_dimensions_take_the_plain_path() -> None:
    labels, distances = nearest_centers(torch.tensor([[0.0], [4.0]]).double(), torch.tensor([[5.0], [1.0]]).double())
    assert labels.tolist() == [1, 0] and distances.tolist() == [1.0, 1.0]
    labels, distances = nearest_centers(torch.zeros(4, 0), torch.ones(5, 0))
    assert labels.tolist() == [0] * 4 and distances.tolist() == [0.0] * 4
