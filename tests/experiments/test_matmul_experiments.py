"""The count of memory transactions, and what the matmul experiments make of figures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from experiments.harness import runner
from experiments.harness.memory_traffic import H200, L1, LINE, SECTOR, WARP, count, loads_of, traffic
from experiments.matmul_blocks import BLOCKS, THREAD_MS
from experiments.matmul_ladder import speed_ups
from kernels.bench import Row


def test_a_thread_reads_a_row_of_a_and_a_column_of_b_as_the_kernel_s_code_says() -> None:
    a, b = loads_of((2, 3), m=5, k=7, n=10)
    assert a == [4 * (2 * 7 + k) for k in range(7)]
    assert [address - b[0] for address in b] == [4 * 10 * k for k in range(7)]


def test_a_thread_outside_the_result_reads_nothing() -> None:
    assert loads_of((5, 0), m=5, k=7, n=10) == ([], [])
    assert loads_of((0, 10), m=5, k=7, n=10) == ([], [])


def test_a_row_of_threads_over_columns_shares_a_and_reads_b_in_whole_sectors() -> None:
    found = traffic(1, 8, 32, (1, 32))
    assert found.requested == 8 * (1 + WARP * 4 // SECTOR)  # one sector of a, four of b, at each of 8 steps
    assert found.fetched == 1 + 8 * 4
    assert found.working == 1


def test_a_column_of_threads_over_rows_reads_a_sector_for_each_row() -> None:
    found = traffic(32, 64, 1, (32, 1))
    assert found.requested == 64 * (32 + 1)
    assert found.working == 1


def test_threads_beside_the_result_count_as_idle() -> None:
    assert traffic(50_000, 784, 10, (1, 256)).working == pytest.approx(10 / 256)
    assert traffic(20, 8, 20, (16, 16)).working == pytest.approx(400 / 1024)


def test_lines_that_do_not_fit_l1_are_fetched_at_every_step() -> None:
    wide = traffic(51_200, 784, 10, (256, 1))
    assert 2048 * LINE > L1 and wide.fetched == wide.requested
    assert traffic(50_000, 784, 10, (16, 16)).fetched < traffic(50_000, 784, 10, (16, 16)).requested / 10


def test_lines_and_steps_are_those_of_warps_that_compute() -> None:
    column = traffic(32, 64, 1, (32, 1))
    assert column.lines == 64 * (32 + 1)  # a row of a spans two lines and more, so that every thread reads another
    assert column.steps == 64
    assert traffic(50_000, 784, 10, (16, 16)).steps == 3125 * 5 * 784  # 10 of 16 columns: 5 of 8 warps
    assert traffic(50_000, 784, 10, (16, 10)).steps == 3125 * 5 * 784
    assert traffic(10, 784, 50_000, (16, 16)).steps == 3125 * 8 * 784  # every warp has 10 of its 16 rows to compute


def test_the_fitted_card_explains_what_was_measured_on_it_within_a_quarter() -> None:
    measured = {  # ms on an H200, 2026-11-26
        (50_000, 784, 10): {(1, 256): 2.11, (4, 64): 1.10, (8, 32): 0.878, (16, 16): 0.780, (64, 4): 1.095, (256, 1): 1.264},
        (10, 784, 50_000): {(1, 256): 0.652, (4, 64): 0.758, (16, 16): 0.999, (32, 8): 1.918, (256, 1): 2.162},
    }
    for shape, times in measured.items():
        for block, ms in times.items():
            assert traffic(*shape, block).clocks(H200) / H200.clocks_per_ms == pytest.approx(ms, rel=0.25)


def test_sectors_are_counted_by_address() -> None:
    assert count([0, 4, 31], 32) == 1 and count([31, 32], 32) == 2 and count([], 32) == 0


def test_speed_ups_compare_neighbors_on_the_largest_size_of_both() -> None:
    def row(backend: str, size: int, seconds: float) -> Row:
        return Row(backend, size, size, size, "float32", seconds, 1.0, 1.0, 1.0, 1.0)

    rows = [
        row("python", 64, 8.0),
        row("numpy", 64, 1.0),
        row("python", 128, 60.0),
        row("numpy", 128, 2.0),
        row("numpy", 256, 9.0),
    ]
    assert speed_ups(rows) == [{"from": "python", "to": "numpy", "size": 128, "times": 30.0}]


def test_the_model_ranks_the_thread_s_blocks_as_the_thread_measured_them(tmp_path: Path) -> None:
    runner.run("matmul-blocks", False, 0, torch.device("cpu"), tmp_path)
    found = json.loads((tmp_path / "matmul-blocks.json").read_text())
    assert (tmp_path / "matmul-blocks-blocks.png").stat().st_size > 10_000
    assert len(found["rows"]) == 2 * (len(BLOCKS) + 1)
    assert found["predicted_ranking"]["product"] == found["thread_ranking"] == [[16, 16], [1, 256], [256, 1]]
    times = {(row["product"], tuple(row["block"])): row["predicted_clocks"] for row in found["rows"]}
    assert THREAD_MS["transpose"][1, 256] < THREAD_MS["product"][16, 16]
    assert times["transpose", (1, 256)] < times["transpose", (16, 16)]
