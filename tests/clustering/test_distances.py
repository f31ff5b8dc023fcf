"""Distances: the formulations agree, keep to their bound, and stay sound where digits are scarce."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from clustering import distance_chunks, distances
from clustering.pairwise import FORMULATIONS, METRICS, choose_formulation


def points(n, d, seed=0, dtype=torch.float32):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def reference(x, y, metric):
    return torch.from_numpy(cdist(x.double().numpy(), y.double().numpy(), metric))


@pytest.mark.parametrize("formulation", FORMULATIONS)
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("shape", [(40, 7, 3), (1, 9, 5), (9, 1, 5), (30, 20, 64)])
def test_every_formulation_agrees_with_float64(formulation, metric, shape):
    n, k, d = shape
    x, y = points(n, d), points(k, d, seed=1)
    torch.testing.assert_close(distances(x, y, metric, formulation).double(), reference(x, y, metric), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float16, 2e-3), (torch.bfloat16, 1e-2), (torch.float64, 1e-12)])
def test_every_dtype_comes_back_as_it_went_in_and_is_right(dtype, tolerance):
    x, y = points(20, 32, dtype=dtype), points(9, 32, seed=1, dtype=dtype)
    found = distances(x, y)
    assert found.dtype == dtype
    torch.testing.assert_close(found.double(), reference(x, y, "sqeuclidean"), rtol=tolerance, atol=tolerance)


@given(st.integers(0, 1000), st.sampled_from([2, 8, 33]), st.floats(-1e3, 1e3), st.sampled_from(list(FORMULATIONS)))
def test_never_negative_and_zero_on_the_diagonal_wherever_the_data_lies(seed, d, away, formulation):
    x = points(12, d, seed) + away
    found = distances(x, x, formulation=formulation)
    assert bool((found >= 0).all())
    assert float(found.diagonal().max()) <= 1e-5 * d


def test_distances_do_not_lose_their_digits_far_from_the_origin():
    x, y = points(50, 16) + 1000, points(20, 16, seed=1) + 1000
    torch.testing.assert_close(
        distances(x, y, formulation="matmul").double(), reference(x, y, "sqeuclidean"), rtol=1e-4, atol=1e-4
    )


def test_a_zero_vector_is_at_cosine_distance_one_from_everything():
    x = torch.tensor([[0.0, 0.0], [1.0, 0.0]])
    assert distances(x, x, "cosine").tolist() == [[1.0, 1.0], [1.0, 0.0]]


def test_the_shape_decides_the_formulation():
    assert choose_formulation(points(1, 64), points(9, 64)) == "einsum"
    assert choose_formulation(points(50, 2), points(9, 2)) == "feature"
    assert choose_formulation(points(50, 64), points(9, 64)) == "matmul"


@pytest.mark.parametrize("formulation", FORMULATIONS)
def test_chunks_keep_to_the_bound_and_together_are_the_matrix(formulation):
    x, y = points(200, 16), points(30, 16, seed=1)
    bound = 64_000
    parts = list(distance_chunks(x, y, formulation=formulation, max_bytes=bound))
    assert len(parts) > 1
    workspace = {"feature": 1, "matmul": 1, "broadcast": 16, "einsum": 16}[formulation]
    assert all(block.numel() * workspace * 4 <= bound for _, block in parts)
    torch.testing.assert_close(torch.cat([block for _, block in parts]), distances(x, y, formulation=formulation))


def test_a_matrix_beyond_the_bound_is_refused_not_written():
    with pytest.raises(ValueError, match="use distance_chunks"):
        distances(points(100, 4), points(100, 4), max_bytes=1000)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda x: distances(x, x, "manhattan"), "unknown metric 'manhattan'"),
        (lambda x: distances(x, x, formulation="loops"), "unknown formulation 'loops'"),
        (lambda x: distances(x, x[:, :2]), "same D"),
        (lambda x: distances(x, x.double()), "one floating dtype"),
    ],
)
def test_operands_that_do_not_fit_are_named(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call(points(5, 3))


def test_gradients_and_strides_are_no_obstacle():
    x = points(3, 20).T
    assert not x.is_contiguous()
    np.testing.assert_allclose(distances(x, x[:4], formulation="matmul"), distances(x.contiguous(), x[:4]), atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("offset", [0.0, 353.0, 1e5])
@pytest.mark.parametrize("d", [2, 8, 100])
def test_a_point_is_nowhere_but_at_itself(dtype, offset, d):
    x = torch.randn(150, d, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 0.01
    x = torch.cat([x, x + offset]).to(dtype)
    found = distances(x, x, "euclidean")
    assert bool((found.diagonal() == 0).all())
    expected = torch.cdist(x.double(), x.double(), compute_mode="donot_use_mm_for_euclid_dist")
    torch.testing.assert_close(found.double(), expected, rtol=2e-3 if dtype == torch.float32 else 1e-8, atol=0)


@pytest.mark.parametrize("metric", ["sqeuclidean", "cosine"])
@pytest.mark.parametrize("formulation", ["broadcast", "einsum", "matmul"])
def test_gradients_are_those_of_the_definition(metric, formulation):
    x, y = points(6, 8, dtype=torch.float64).requires_grad_(), points(4, 8, seed=1, dtype=torch.float64)
    distances(x, y, metric, formulation).sum().backward()
    found, x.grad = x.grad, None
    squares = (x[:, None] - y).square().sum(2)
    (squares if metric == "sqeuclidean" else 1 - torch.cosine_similarity(x[:, None], y, dim=2)).sum().backward()
    torch.testing.assert_close(found, x.grad)
