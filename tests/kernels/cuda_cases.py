"""numba's CUDA kernels in its simulator; `test_emulated.py` runs this file in a process of its own."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels import BackendUnavailable, available, matmul
from kernels.accuracy import LAYOUTS, error_share, laid_out
from kernels.backends import cuda_blocked, cuda_skinny
from kernels.backends.cuda_launch import SIMULATED

assert SIMULATED, "run this file through test_emulated.py"
DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
SIZES = st.integers(1, 12)
LAID = st.sampled_from(LAYOUTS)
BLOCKS = st.sampled_from(((1, 1), (4, 4), (1, 16), (16, 1), (8, 3), (5, 7)))
SMALL = cuda_blocked.Tile(side=16, depth=8, each=4)  # 16 threads, so that the simulator's threads are few


@pytest.mark.parametrize("backend", ["numba-cuda-naive", "numba-cuda-tiled"])
@settings(max_examples=6)
@given(st.tuples(SIZES, SIZES, SIZES), st.sampled_from(DTYPES), LAID, LAID, BLOCKS, st.integers(0, 2**31))
def test_one_thread_an_element_is_right_in_every_block_shape(
    backend: str, shape: tuple[int, int, int], dtype: torch.dtype, la: str, lb: str, block: tuple[int, int], seed: int
) -> None:
    m, k, n = shape
    a, b = laid_out(la, m, k, dtype, seed), laid_out(lb, k, n, dtype, seed + 1)
    c = matmul(a, b, backend, block=block)
    assert c.dtype == dtype and c.shape == (m, n)
    assert error_share(c, a, b) <= 1


@settings(max_examples=8)
@given(st.tuples(*[st.integers(1, 40)] * 3), st.sampled_from(DTYPES[2:]), LAID, LAID, st.integers(0, 2**31))
def test_register_blocks_are_right_across_the_edges_of_tiles(
    shape: tuple[int, int, int], dtype: torch.dtype, la: str, lb: str, seed: int
) -> None:
    m, k, n = shape
    a, b = laid_out(la, m, k, dtype, seed), laid_out(lb, k, n, dtype, seed + 1)
    assert error_share(cuda_blocked.blocked(a, b, SMALL), a, b) <= 1


@pytest.mark.parametrize(("la", "lb"), itertools.product(("rows", "columns", "shifted"), repeat=2))
def test_sixteen_byte_loads_are_used_where_the_layout_allows_and_right(la: str, lb: str) -> None:
    a, b = laid_out(la, 20, 24, torch.float32, 0), laid_out(lb, 24, 28, torch.float32, 1)
    assert cuda_blocked.layout(a, k_dim=1) == {"rows": "k", "columns": "side", "shifted": "none"}[la]
    assert cuda_blocked.layout(b, k_dim=0) == {"rows": "side", "columns": "k", "shifted": "none"}[lb]
    assert error_share(cuda_blocked.blocked(a, b, SMALL), a, b) <= 1


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_tiles_that_a_gpu_runs_are_right_too(dtype: str) -> None:
    tile = cuda_blocked.TILES[dtype]
    a = laid_out("rows", tile.side + 3, tile.depth + 4, getattr(torch, dtype), 0)
    b = laid_out("columns", tile.depth + 4, 20, getattr(torch, dtype), 1)
    assert error_share(cuda_blocked.blocked(a, b, tile), a, b) <= 1


@settings(max_examples=5)
@given(st.integers(0, 20), st.integers(1, 70), st.integers(1, 4), st.sampled_from(DTYPES[2:]), LAID, st.integers(0, 2**31))
def test_tall_times_narrow_is_right(extra: int, groups: int, n: int, dtype: torch.dtype, lb: str, seed: int) -> None:
    a, b = laid_out("rows", n + 1 + extra, 4 * groups, dtype, seed), laid_out(lb, 4 * groups, n, dtype, seed + 1)
    assert cuda_skinny.is_applicable(a, b)
    assert error_share(cuda_skinny.skinny(a, b, warps=1), a, b) <= 1


def test_the_lesson_s_product_and_its_transpose_take_the_narrow_path_and_are_right() -> None:
    a, b = laid_out("rows", 40, 784, torch.float32, 0), laid_out("rows", 784, 10, torch.float32, 1)
    assert error_share(matmul(a, b, "numba-cuda"), a, b) <= 1
    assert error_share(matmul(b.T, a.T, "numba-cuda"), b.T, a.T) <= 1


def test_the_narrow_path_is_not_taken_where_it_would_not_fit() -> None:
    tall, narrow = torch.ones(100, 784), torch.ones(784, 10)
    assert cuda_skinny.is_applicable(tall, narrow)
    assert not cuda_skinny.is_applicable(tall[:, 1:], narrow[1:])  # rows do not start at multiples of 16 bytes
    assert not cuda_skinny.is_applicable(tall.T.contiguous().T, narrow)  # rows are not contiguous
    assert not cuda_skinny.is_applicable(tall, torch.ones(784, 17))
    assert not cuda_skinny.is_applicable(torch.ones(100, 4096), torch.ones(4096, 4))  # b is larger than shared memory
    assert not cuda_skinny.is_applicable(torch.ones(8, 784), narrow)


def test_a_wrong_index_would_be_found() -> None:
    a, b = laid_out("rows", 20, 24, torch.float32, 0), laid_out("rows", 24, 28, torch.float32, 1)
    c = cuda_blocked.blocked(a, b, SMALL)
    assert error_share(c.roll(1, 0), a, b) > 1


@pytest.mark.parametrize("backend", ["numba-cuda-naive", "numba-cuda-tiled"])
@pytest.mark.parametrize(
    ("block", "sentence"),
    [
        ((64, 32), "block 64 x 32 has 2048 threads: at most 1024 fit"),
        ((0, 16), "block must be two positive whole numbers"),
        ((16, -1), "block must be two positive whole numbers"),
        ((16,), "block must be two positive whole numbers"),
        ((2.0, 4), "block must be two positive whole numbers"),
    ],
)
def test_a_block_that_no_gpu_can_run_is_refused(backend: str, block: tuple, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        matmul(torch.ones(2, 2), torch.ones(2, 2), backend, block=block)


@pytest.mark.parametrize("backend", ["numba-cuda-naive", "numba-cuda-tiled"])
def test_many_blocks_in_both_directions_and_a_sum_longer_than_a_tile(backend: str) -> None:
    a, b = laid_out("columns", 35, 70, torch.float32, 0), laid_out("rows", 70, 33, torch.float32, 1)
    assert error_share(matmul(a, b, backend), a, b) <= 1


def test_the_largest_blocks_and_one_sized_products_run() -> None:
    for backend, block in itertools.product(["numba-cuda-naive", "numba-cuda-tiled"], [(1024, 1), (1, 1024)]):
        assert matmul(torch.full((1, 1), 3.0), torch.full((1, 1), 2.0), backend, block=block).item() == 6


def test_empty_products_never_reach_a_kernel() -> None:
    for backend in ("numba-cuda-naive", "numba-cuda-tiled", "numba-cuda"):
        assert torch.equal(matmul(torch.ones(2, 0), torch.ones(0, 3), backend), torch.zeros(2, 3))


def test_emulated_backends_are_available_on_the_cpu_and_refuse_other_devices() -> None:
    assert {"numba-cuda-naive", "numba-cuda-tiled", "numba-cuda"} <= set(available("cpu"))
    with pytest.raises(BackendUnavailable, match="is emulated here"):
        matmul(torch.ones(2, 2, device="meta"), torch.ones(2, 2, device="meta"), "numba-cuda")
