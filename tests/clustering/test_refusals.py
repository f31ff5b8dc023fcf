"""Parameters and operands out of range are refused in one sentence, wherever they come in."""

import numpy as np
import pytest
import torch

from clustering import (
    BisectingKMeans,
    Chunks,
    KMeans,
    MiniBatchKMeans,
    NearestNeighbors,
    Shards,
    choose_k,
    distance_chunks,
    distances,
    estimate_bandwidth,
    kmeans_plusplus,
    load,
    save,
)
from kernels import matmul, nearest_centers

X = torch.randn(30, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float32)
SPARSE = X.to_sparse()


@pytest.mark.parametrize("value", [-1, 0, 2.5, True, "3"])
@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("sample_size", lambda value: choose_k(X, [2], sample_size=value)),
        ("n_samples", lambda value: estimate_bandwidth(X, n_samples=value)),
        ("n_local_trials", lambda value: kmeans_plusplus(X, 2, n_local_trials=value)),
        ("n_clusters", lambda value: kmeans_plusplus(X, value)),
        ("rows", lambda value: Chunks(X, rows=value)),
    ],
)
def test_counts_are_whole_numbers_of_at_least_one(name, call, value):
    with pytest.raises(ValueError, match=rf"The '{name}' parameter of \w+ must be an int in the range \[1, inf\)"):
        call(value)


@pytest.mark.parametrize("value", ["yes", 1, None])
@pytest.mark.parametrize("estimator", [KMeans, BisectingKMeans, MiniBatchKMeans])
def test_spherical_is_true_or_false(estimator, value):
    with pytest.raises(ValueError, match=r"'spherical' parameter of .* must be an instance of 'bool'"):
        estimator(2, spherical=value).fit(X)
    assert estimator(2, spherical=np.bool_(True)).fit(X).predict(X).shape == (30,)


@pytest.mark.parametrize("kind", [torch.float8_e4m3fn, torch.float8_e5m2])
def test_points_of_8_bits_are_refused(kind):
    for estimator in (KMeans(2), NearestNeighbors(2)):
        with pytest.raises(ValueError, match=r"expected dense real points, got torch\.float8"):
            estimator.fit(X.to(kind))
    with pytest.raises(ValueError, match="one floating dtype"):
        distances(X.to(kind), X.to(kind))


@pytest.mark.parametrize("function", [distances, lambda x, y: list(distance_chunks(x, y)), nearest_centers])
@pytest.mark.parametrize(("x", "sentence"), [(X.numpy(), "ndarray"), (X.tolist(), "list"), (SPARSE, "make them dense first")])
def test_products_take_dense_tensors_alone(function, x, sentence):
    for pair in ((x, x), (x, X), (X, x)):
        with pytest.raises(TypeError, match=f"points and centers must be .*{sentence}"):
            function(*pair)


@pytest.mark.parametrize("value", [None, 5, b"x", object()])
@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("'ks' parameter of choose_k must be", lambda value: choose_k(X, [value] if isinstance(value, bytes) else value)),
        ("'path' parameter of save must be a path", lambda value: save(KMeans(2).fit(X), value)),
        ("'path' parameter of load must be a path", load),
        ("'source' parameter of Shards must be a path", Shards),
        ("'source' parameter of Shards must be a path", lambda value: Shards([value])),
        ("backend must be a name", lambda value: matmul(X.T, X, backend=[value])),
    ],
)
def test_values_of_a_wrong_kind_are_named(name, call, value):
    with pytest.raises((TypeError, ValueError), match=name):
        call(value)
