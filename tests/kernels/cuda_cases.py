"""numba's CUDA kernels in its simulator; `test_simulated.py` runs this file in a process of its own."""

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

assert SIMULATED, "run this file through test_simulated.py"
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


@settings(max_examples=6, deadline=None)
@given(st.integers(0, 24), st.integers(1, 12), st.integers(1, 4), st.sampled_from(DTYPES), LAID, st.integers(0, 2**31))
def test_tall_times_narrow_is_right(extra: int, groups: int, n: int, dtype: torch.dtype, lb: str, seed: int) -> None:
    a, b = laid_out("rows", n + 1 + extra, 8 * groups, dtype, seed), laid_out(lb, 8 * groups, n, dtype, seed + 1)
    assert cuda_skinny.is_applicable(a, b)
    for plan in (cuda_skinny.Tall(8, 4, 1, 1), cuda_skinny.Tall(16, 1, 2, 1)):
        assert error_share(cuda_skinny.tall(a, b, plan), a, b) <= 1


@settings(max_examples=6, deadline=None)
@given(st.integers(1, 24), st.integers(1, 24), st.integers(1, 4), st.sampled_from(DTYPES), LAID, st.integers(0, 2**31))
def test_low_times_wide_is_right(groups: int, k: int, m: int, dtype: torch.dtype, la: str, seed: int) -> None:
    a, b = laid_out(la, m, k, dtype, seed), laid_out("rows", k, 8 * groups, dtype, seed + 1)
    assert cuda_skinny.is_wide(a, b)
    for plan in (cuda_skinny.Wide(2, 1, 3), cuda_skinny.Wide(1, 1, 4)):
        assert error_share(cuda_skinny.wide(a, b, plan), a, b) <= 1


def test_more_rows_than_the_blocks_take_at_once() -> None:
    a, b = laid_out("rows", 26, 16, torch.float32, 0), laid_out("rows", 16, 3, torch.float32, 1)
    assert error_share(cuda_skinny.tall(a, b, cuda_skinny.Tall(32, 2, 1, 2)), a, b) <= 1  # 2 blocks of 2 rows: 7 turns


@pytest.mark.parametrize("splits", [2, 3, 7])
def test_parts_of_k_add_up(splits: int) -> None:
    a, b = laid_out("rows", 20, 44, torch.float32, 0), laid_out("columns", 44, 28, torch.float32, 1)
    assert error_share(cuda_blocked.blocked(a, b, SMALL, splits), a, b) <= 1


def test_k_is_shared_out_where_the_result_has_too_few_tiles() -> None:
    tile = cuda_blocked.TILES["float32"]
    assert cuda_blocked.choose_splits(4096, 4096, 4096, tile, 132) == 1
    assert cuda_blocked.choose_splits(1024, 1024, 1024, tile, 132) > 1
    assert cuda_blocked.choose_splits(128, 64, 128, tile, 132) == 1  # a part would be too short


def test_the_lesson_s_product_and_its_transpose_take_the_narrow_path_and_are_right() -> None:
    a, b = laid_out("rows", 40, 784, torch.float32, 0), laid_out("rows", 784, 10, torch.float32, 1)
    assert error_share(matmul(a, b, "numba-cuda"), a, b) <= 1
    assert error_share(matmul(b.T, a.T, "numba-cuda"), b.T, a.T) <= 1
    low, wide = b.T.contiguous(), a.T.contiguous()
    assert cuda_skinny.is_wide(low, wide)
    assert error_share(matmul(low, wide, "numba-cuda"), low, wide) <= 1


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
