"""`nearest_centers` on the CPU; `pairwise_cases.py` runs the same properties through the fused kernel."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kernels import nearest_centers
from kernels.pairwise import MOST_ELEMENTS

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
SIZES = st.integers(1, 70)


@given(st.tuples(SIZES, SIZES, SIZES), st.sampled_from(DTYPES), st.floats(-30, 30), st.booleans(), st.integers(0, 2**31))
def test_labels_and_distances_agree_with_float64(
    shape: tuple[int, int, int], dtype: torch.dtype, far: float, transposed: bool, seed: int
) -> None:
    n, k, d = shape
    generator = torch.Generator().manual_seed(seed)
    x, centers = ((torch.randn(rows, d, generator=generator) + far).to(dtype) for rows in (n, k))
    if transposed:
        x, centers = x.T.contiguous().T, centers.T.contiguous().T
    labels, distances = nearest_centers(x, centers)
    exact = torch.cdist(x.double(), centers.double(), compute_mode="donot_use_mm_for_euclid_dist").square()
    chosen = exact.gather(1, labels[:, None])[:, 0]
    eps = torch.finfo(distances.dtype).eps
    # a label may be wrong only between centers whose distances differ by less than the product's rounding
    scale = (x.double() - centers.double().mean(0)).square().sum(1) + exact.max(1).values
    scale += 0 if dtype in (torch.float32, torch.float64) else x.double().square().sum(1) + centers.double().square().sum(1).max()
    assert bool((chosen - exact.min(1).values <= (d + 8) * eps * scale).all())
    offset_rounding = eps * (x.double().abs() + centers.double()[labels].abs() + abs(far)).square().sum(1).sqrt()
    assert bool(
        ((distances - chosen).abs() <= (d + 8) * eps * chosen + 8 * offset_rounding * (chosen.sqrt() + offset_rounding)).all()
    )
    assert labels.dtype == torch.int64 and distances.dtype == torch.promote_types(dtype, torch.float32)


def test_points_in_many_chunks_meet_the_same_centers() -> None:
    generator = torch.Generator().manual_seed(0)
    centers = torch.randn(4096, 3, generator=generator)
    chosen = torch.randint(4096, (3 * MOST_ELEMENTS // 4096 + 7,), generator=generator)
    labels, distances = nearest_centers(centers[chosen], centers)
    assert torch.equal(labels, chosen)
    assert torch.equal(distances, torch.zeros(len(chosen)))


def test_of_equal_centers_the_smallest_label_wins() -> None:
    labels, distances = nearest_centers(torch.zeros(3, 2), torch.ones(5, 2))
    assert labels.tolist() == [0, 0, 0] and distances.tolist() == [2.0, 2.0, 2.0]


def test_no_points_give_no_labels_and_no_dimensions_no_distance() -> None:
    labels, distances = nearest_centers(torch.zeros(0, 2), torch.ones(5, 2))
    assert labels.shape == distances.shape == (0,)
    labels, distances = nearest_centers(torch.zeros(4, 0), torch.ones(5, 0))
    assert labels.tolist() == [0] * 4 and distances.tolist() == [0.0] * 4


@pytest.mark.parametrize(
    ("x", "centers", "kind", "sentence"),
    [
        (torch.ones(3), torch.ones(3, 1), ValueError, "must share D"),
        (torch.ones(3, 2), torch.ones(3, 1), ValueError, "must share D"),
        (torch.ones(3, 2), torch.ones(0, 2), ValueError, "K at least 1"),
        (torch.ones(3, 2), torch.ones(3, 2).double(), TypeError, "must be alike"),
        (torch.ones(3, 2).numpy(), torch.ones(3, 2).numpy(), TypeError, "must be torch tensors, not ndarray"),
        (
            torch.ones(3, 2).int(),
            torch.ones(3, 2).int(),
            TypeError,
            "points must be of float16, bfloat16, float32, float64, not int32",
        ),
    ],
)
def test_bad_points_are_named_in_one_sentence(
    x: torch.Tensor, centers: torch.Tensor, kind: type[Exception], sentence: str
) -> None:
    with pytest.raises(kind, match=sentence):
        nearest_centers(x, centers)


@pytest.mark.parametrize("dtype", DTYPES)
def test_16_bits_far_from_the_origin_find_their_own_center(dtype: torch.dtype) -> None:
    far = 30000 if dtype != torch.bfloat16 else 30080  # which bfloat16 holds
    x, centers = torch.tensor([[far, 1]], dtype=dtype), torch.tensor([[far, 2], [far, 1]], dtype=dtype)
    labels, distances = nearest_centers(x, centers)
    assert labels.tolist() == [1] and distances.tolist() == [0]


def test_autocast_rounds_no_label() -> None:
    generator = torch.Generator().manual_seed(0)
    x, centers = torch.randn(500, 16, generator=generator), torch.randn(40, 16, generator=generator)
    expected = nearest_centers(x, centers)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = nearest_centers(x, centers)
    assert torch.equal(found[0], expected[0]) and torch.equal(found[1], expected[1])


@pytest.mark.parametrize("size", [1e-30, 1e-22, 1e19, 1e25, 3e37])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_norms_of_any_size_have_their_nearest_center(size: float, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    centers = (torch.randn(5, 3, generator=generator) * size).to(dtype)
    x = (torch.randn(60, 3, generator=generator) * size).to(dtype)
    labels, _ = nearest_centers(x, centers)
    assert torch.equal(labels, torch.cdist(x.double() / size, centers.double() / size).argmin(1))


def test_points_beside_a_huge_one_keep_their_centers() -> None:
    centers = torch.tensor([[0.0], [1.0], [-1.0]])
    labels, distances = nearest_centers(torch.tensor([[1.1], [3e38], [-0.9], [0.1]]), centers * 3)
    assert labels.tolist()[2:] == [0, 0] and labels[0] == 0 and labels[1] == 1
    assert distances[1] == torch.inf  # the square is beyond float32


def test_equal_centers_are_no_tiny_ones() -> None:
    labels, _ = nearest_centers(torch.tensor([[0.0], [1.0]]), torch.full((2, 1), 5.0))
    assert labels.tolist() == [0, 0]
