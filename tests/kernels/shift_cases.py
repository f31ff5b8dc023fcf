"""Mean shift's and DBSCAN's kernels in Triton's interpreter; `test_emulated.py` runs this file in a process of its own."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from kernels import merge_triton, modes_triton, regions_triton, shift_triton
from kernels.backends import triton_tiles

assert triton_tiles.INTERPRETED, "run this file through test_emulated.py"
DTYPES = (torch.float32, torch.float64)


@pytest.fixture(autouse=True)
def few_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The interpreter's time goes by programs and tiles: let both be few, and still more than one."""
    for module, name, value in (
        (shift_triton, "ROWS", 16),
        (shift_triton, "TILE", 32),
        (shift_triton, "SELECTION", ((16, 1), (64, 1))),
        (modes_triton, "ROWS", 32),
        (modes_triton, "TILE", 32),
        (regions_triton, "BLOCK", 32),
        (regions_triton, "TILE", 32),
    ):
        monkeypatch.setattr(module, name, value)


def points(n: int, features: int, dtype: torch.dtype, seed: int, far: float = 0.0) -> Tensor:
    return (torch.randn(n, features, generator=torch.Generator().manual_seed(seed)) * 2 + far).to(dtype)


def squares(x: Tensor, y: Tensor) -> Tensor:
    return torch.cdist(x.double(), y.double(), compute_mode="donot_use_mm_for_euclid_dist").square()


def exact_step(x: Tensor, y: Tensor, mass: Tensor, kernel: str, bandwidth: float, bias: float, lr: float, k: int = 0) -> Tensor:
    """A step of mean shift in float64, by its definition; k: nearest points, 0 for all."""
    far = squares(x, y)
    weights = {
        "gaussian": torch.exp(-far / (2 * bandwidth**2)),
        "triangular": (1 - far.sqrt() / bandwidth).clamp(min=0) + bias,
        "flat": (far <= bandwidth**2).double(),
    }[kernel] * mass.double()
    if k:
        weights *= torch.zeros_like(far).scatter_(1, far.topk(k, largest=False).indices, 1.0)
    total = weights.sum(1, keepdim=True)
    target = torch.where(total > 0, weights @ y.double() / total.clamp(min=1e-300), x.double())
    return x.double() + (target - x.double()) * lr


@pytest.mark.parametrize("features", [1, 2, 5, 8])
@pytest.mark.parametrize("kernel", ["gaussian", "triangular", "flat"])
def test_a_step_agrees_with_float64_far_from_the_origin_too(features: int, kernel: str) -> None:
    for dtype, far in ((torch.float32, 0.0), (torch.float32, 1e4), (torch.float64, 1e4)):
        x, y = points(19, features, dtype, 0, far), points(45, features, dtype, 1, far)
        mass = torch.rand(45, generator=torch.Generator().manual_seed(2)).to(dtype) + 0.5
        settings, moves = shift_triton.settings_of(x, 2.5, 0.1, 0.7, 0.0), torch.zeros(1)
        moved = torch.full_like(x, torch.nan)
        shift_triton.shift_step(x, y, mass, settings, moves, 0, moved, kernel)
        exact = exact_step(x, y, mass, kernel, 2.5, 0.1, 0.7)
        eps = torch.finfo(dtype).eps
        assert bool(((moved.double() - exact).abs() <= 64 * eps * (1 + far)).all())  # a stored place is as exact as its floats
        assert float(moves[0]) == pytest.approx(float((exact - x.double()).square().sum(1).max()), rel=1e-4)


def test_points_at_rest_stay_and_points_that_see_nothing_stay() -> None:
    x = points(19, 2, torch.float32, 0)
    settings = shift_triton.settings_of(x, 1.0, 0.0, 1.0, 0.5)
    moves, moved = torch.tensor([0.2, 0.0]), torch.full_like(x, torch.nan)
    shift_triton.shift_step(x, x, torch.ones(19), settings, moves, 1, moved, "gaussian")
    assert torch.equal(moved, x) and moves.tolist() == pytest.approx([0.2, 0.0])  # 0.2 is below 0.5 squared
    far = x + 100
    shift_triton.shift_step(far, x, torch.ones(19), settings, torch.zeros(1), 0, moved, "flat")
    assert torch.equal(moved, far)


def test_samples_are_looked_at_batch_by_batch() -> None:
    x = points(19, 2, torch.float32, 0)
    samples = torch.randint(19, (3, 6), generator=torch.Generator().manual_seed(3))
    settings, moved = shift_triton.settings_of(x, 2.0, 0.1, 1.0, 0.0), torch.full_like(x, torch.nan)
    shift_triton.shift_step(x, x, torch.ones(19), settings, torch.zeros(1), 0, moved, "triangular", samples, 8)
    for batch, rows in enumerate(torch.arange(19).split(8)):
        exact = exact_step(x[rows], x[samples[batch]], torch.ones(6), "triangular", 2.0, 0.1, 1.0)
        torch.testing.assert_close(moved[rows].double(), exact, rtol=0, atol=1e-5)


@pytest.mark.parametrize("features", [2, 6])
def test_the_nearest_k_are_found_and_no_more(features: int) -> None:
    x, y = points(5, features, torch.float32, 0), points(14, features, torch.float32, 1)
    y[3] = y[7] = y[9]  # equally far from everywhere
    settings = shift_triton.settings_of(x, 2.0, 0.0, 1.0, 0.0)
    for k in (1, 5, 14):
        moved, moves = torch.full_like(x, torch.nan), torch.zeros(1)
        shift_triton.shift_nearest(x, y, torch.ones(14), settings, moves, moved, "gaussian", k)
        torch.testing.assert_close(
            moved.double(), exact_step(x, y, torch.ones(14), "gaussian", 2.0, 0.0, 1.0, k), rtol=0, atol=1e-5
        )


@pytest.mark.parametrize("features", [1, 2, 3])
def test_merging_numbers_cells_in_order_and_means_are_exact(features: int) -> None:
    x = points(300, features, torch.float32, features, far=50.0)
    mass = torch.randint(1, 9, (300,), generator=torch.Generator().manual_seed(1))
    cells = merge_triton.Cells(x, 0.7)
    means, totals, inverse = cells.merge(x, mass, 0.3)
    count = int(cells.occupied[-1])
    distinct, expected = (x.double() / 0.7 + 0.3).floor().unique(dim=0, return_inverse=True)
    assert count == len(distinct) and torch.equal(inverse, expected)
    sums = torch.zeros(count, features, dtype=torch.float64).index_add_(0, expected, x.double() * mass[:, None])
    total = torch.zeros(count, dtype=torch.int64).index_add_(0, expected, mass)
    assert torch.equal(totals[:count], total)
    torch.testing.assert_close(means[:count].double(), sums / total[:, None], rtol=1e-7, atol=0)


def test_merging_counts_points_that_only_the_device_knows() -> None:
    x = points(200, 2, torch.float32, 0)
    cells, mass = merge_triton.Cells(x, 0.7), torch.ones(200, dtype=torch.int64)
    room = merge_triton.Merged(x, merge_triton.triton.next_power_of_2(cells.size))  # a table larger than the grid
    merge_triton.merge_cells(x, mass, cells.bounds, cells.widths, room, torch.tensor([150], dtype=torch.int32))
    means, totals, inverse = cells.merge(x[:150].contiguous(), mass[:150], 0.0)
    count = int(cells.occupied[-1])
    assert int(room.occupied[-1]) == count and torch.equal(room.inverse[:150], inverse)
    assert torch.equal(room.means[:count], means[:count]) and torch.equal(room.totals[:count], totals[:count])


def test_the_nearest_merged_points_are_found_in_slabs_that_grow() -> None:
    x = torch.cat([points(30, 2, torch.float32, 0), torch.tensor([[25.0, 0.0], [-30.0, 4.0]])])  # two far from all others
    cells = merge_triton.Cells(x, 0.8)
    means, totals, _ = cells.merge(x, torch.ones(32, dtype=torch.int64), 0.0)
    count = int(cells.occupied[-1])
    settings, moves = shift_triton.settings_of(x, 2.0, 0.0, 1.0, 0.0), torch.zeros(1)
    moved = torch.full_like(x, torch.nan)
    done, grid = torch.zeros(32, dtype=torch.int8), (cells, cells.bounds, cells.widths)
    shift_triton.shift_nearest_in_cells(means, totals, settings, moves, moved, "gaussian", 6, *grid, done)
    assert done[:count].tolist() == [1] * count
    exact = exact_step(means[:count], means[:count], totals[:count], "gaussian", 2.0, 0.0, 1.0, 6)
    torch.testing.assert_close(moved[:count].double(), exact, rtol=0, atol=1e-5)


def test_modes_are_the_heaviest_places_and_labels_the_nearest_modes() -> None:
    rest = torch.tensor([[0.0, 0.0], [5.0, 5.0], [0.0, 0.001], [5.0, 5.0], [0.9, 0.0], [5.0, 5.0], [20.0, 0.0]]) + 0.5
    lengths = torch.tensor([0.01, 1.0], dtype=torch.float64)
    means, totals = modes_triton.rest_masses(rest, torch.ones(7, dtype=torch.int64), lengths[:1])
    assert totals.tolist() == [2, 3, 0, 0, 1, 0, 1]
    modes, count = modes_triton.greedy_modes(means, totals, lengths[1:])
    assert count.tolist() == [3]
    torch.testing.assert_close(modes[:3], torch.tensor([[5.5, 5.5], [0.5, 0.5005], [20.5, 0.5]]))
    labels, used = modes_triton.label_points(rest, modes, count)
    assert labels.tolist() == [1, 0, 1, 0, 1, 0, 2] and used[:3].tolist() == [1, 1, 1] and int(used.sum()) == 3


def test_of_equally_heavy_modes_the_first_leads_and_of_equally_near_ones_the_first_takes() -> None:
    rest = torch.tensor([[4.0], [0.0], [8.0]])
    modes, count = modes_triton.greedy_modes(rest, torch.ones(3, dtype=torch.float64), torch.ones(1))
    assert modes[:, 0].tolist() == [4, 0, 8] and count.tolist() == [3]
    assert modes_triton.label_points(torch.tensor([[2.0], [6.0]]), modes, count)[0].tolist() == [0, 0]
