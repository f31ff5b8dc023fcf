"""FAISS computes in float32, and has threads of its own: what that must not do to the process that calls it."""

import numpy as np
import pytest
import torch

from clustering import NearestNeighbors

FAISS = ["faiss-ivf", "faiss-hnsw"]
POINTS = np.random.default_rng(0).standard_normal((120, 3))


@pytest.mark.parametrize("algorithm", FAISS)
def test_points_that_faiss_cannot_square_are_refused(algorithm):
    with pytest.raises(ValueError, match="float32"):
        NearestNeighbors(algorithm=algorithm).fit(POINTS * 1e19)
    NearestNeighbors(algorithm=algorithm).fit(POINTS * 1e17)


@pytest.mark.parametrize("algorithm", FAISS)
def test_radii_and_queries_beyond_float32_have_their_neighbors(algorithm):
    model = NearestNeighbors(2, algorithm=algorithm).fit(POINTS)
    for radius in (1e20, 1e30):
        assert [len(row) for row in model.radius_neighbors(POINTS, radius, return_distance=False)] == [120] * 120
    far = np.array([[1e30, 0, 0]])
    assert model.radius_neighbors(far, 2e30, return_distance=False)[0].tolist() == list(range(120))
    np.testing.assert_allclose(model.kneighbors(far)[0], 1e30)


@pytest.mark.parametrize("algorithm", FAISS)
def test_faiss_threads_are_left_as_they_were(algorithm, monkeypatch):
    faiss = pytest.importorskip("faiss")
    before = faiss.omp_get_max_threads()
    monkeypatch.setattr(torch, "get_num_threads", lambda: before + 1)  # where the two share an OpenMP, they are alike
    model = NearestNeighbors(2, algorithm=algorithm).fit(POINTS)
    model.kneighbors(POINTS)
    model.radius_neighbors(POINTS, 0.5)
    assert faiss.omp_get_max_threads() == before
