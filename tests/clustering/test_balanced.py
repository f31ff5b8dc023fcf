"""Balanced k-means: equal sizes on every data, at a cost near the least that such sizes allow."""

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from sklearn.datasets import make_blobs

from clustering import Chunks, KMeans, balanced


@pytest.mark.parametrize(("n", "k"), [(600, 6), (601, 7), (50, 50), (40, 1), (1000, 9), (250, 40)])
@pytest.mark.parametrize("kind", ["blobs", "duplicates", "one place"])
def test_sizes_are_within_one_percent(n, k, kind):
    x = make_blobs(n, 3, centers=4, random_state=n)[0].astype("f4")
    x = {"blobs": x, "duplicates": x[np.arange(n) % 12], "one place": np.ones((n, 3), "f4")}[kind]
    model = KMeans(k, algorithm="balanced", max_iter=5).fit(x)
    sizes = np.bincount(model.labels_, minlength=k)
    least, most = balanced.size_bounds(n, k)
    assert least <= sizes.min() and sizes.max() <= most and sizes.sum() == n
    assert least >= n / k * 0.99 - 1 and most <= n / k * 1.01 + 1
    again = KMeans(k, algorithm="balanced", max_iter=5).fit(torch.tensor(x))
    assert np.array_equal(again.labels_, model.labels_) and isinstance(again.labels_, torch.Tensor)


@pytest.mark.parametrize("seed", range(3))
def test_the_cost_is_near_the_least(seed):
    x = np.random.default_rng(seed).normal(size=(400, 2))
    model = KMeans(8, algorithm="balanced").fit(x)
    squares = ((x[:, None] - model.cluster_centers_) ** 2).sum(2)
    assert model.inertia_ == pytest.approx(squares[np.arange(400), model.labels_].sum())
    rows, columns = linear_sum_assignment(np.repeat(squares, 50, 1))
    assert model.inertia_ <= 1.02 * np.repeat(squares, 50, 1)[rows, columns].sum()
    for label in range(8):
        np.testing.assert_allclose(model.cluster_centers_[label], x[model.labels_ == label].mean(0))


def test_clusters_that_are_balanced_already_are_found():
    x, truth = make_blobs([50] * 4, 2, centers=[[0, 0], [20, 0], [0, 20], [20, 20]], random_state=0)
    found, plain = KMeans(4, algorithm="balanced").fit(x), KMeans(4).fit(x)
    assert found.inertia_ == pytest.approx(plain.inertia_)
    assert len(set(zip(found.labels_, truth, strict=True))) == 4


def test_directions_and_weights():
    rng = np.random.default_rng(0)
    x, weights = rng.normal(size=(120, 3)), rng.integers(0, 4, 120)
    model = KMeans(4, algorithm="balanced", spherical=True).fit(x, sample_weight=weights)
    np.testing.assert_allclose(np.linalg.norm(model.cluster_centers_, axis=1), 1)
    assert set(np.bincount(model.labels_)) <= {29, 30, 31}
    label = model.labels_[0]
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    mean = (unit * weights[:, None])[model.labels_ == label].sum(0)
    np.testing.assert_allclose(model.cluster_centers_[label], mean / np.linalg.norm(mean))


def test_algorithms_by_scikit_learns_names():
    x = make_blobs(300, 5, random_state=0)[0]
    assert np.array_equal(KMeans(4, algorithm="elkan").fit(x).labels_, KMeans(4).fit(x).labels_)
    with pytest.raises(ValueError, match="The 'algorithm' parameter of KMeans must be a str among"):
        KMeans(4, algorithm="hamerly").fit(x)
    with pytest.raises(ValueError, match="instead of Chunks"):
        KMeans(4, algorithm="balanced").fit(Chunks(x))
