"""torch.set_default_device speaks of tensors that a program makes, not of the points that it passes: nothing changes here."""

import numpy as np
import pytest
import torch
from scipy.sparse import issparse

import kernels
from clustering import (
    DBSCAN,
    HDBSCAN,
    BisectingKMeans,
    KMeans,
    MeanShift,
    MiniBatchKMeans,
    NearestNeighbors,
    choose_k,
    distances,
    estimate_bandwidth,
    silhouette_score,
)
from kernels.accuracy import laid_out
from kernels.bench import operands
from kernels.registry import unavailable_reason

LABELS = {
    "kmeans": lambda x: KMeans(4, random_state=0).fit_predict(x),
    "kmeans weighted": lambda x: KMeans(4, random_state=0).fit(x, sample_weight=np.linspace(1, 2, len(x))).predict(x),
    "kmeans elkan": lambda x: KMeans(40, random_state=0, n_init=1).fit_predict(x),
    "kmeans batch": lambda x: KMeans(3, random_state=0).fit(x.reshape(2, len(x) // 2, -1)).predict(x.reshape(2, len(x) // 2, -1)),
    "spherical": lambda x: KMeans(4, spherical=True, random_state=0).fit_predict(x),
    "bisecting": lambda x: BisectingKMeans(4, random_state=0).fit(x).predict(x),
    "minibatch": lambda x: MiniBatchKMeans(4, random_state=0).partial_fit(x).partial_fit(x).predict(x),
    "mean shift": lambda x: MeanShift(bandwidth=1.0).fit(x).predict(x),
    "mean shift random": lambda x: MeanShift(bandwidth=1.0, neighbors=("random", 90)).fit_predict(x),
    "dbscan": lambda x: DBSCAN(0.5).fit(x).predict(x),
    "hdbscan": lambda x: HDBSCAN(20).fit(x).approximate_predict(x)[0],
    "number of clusters": lambda x: choose_k(x, range(2, 5)).k,
    "silhouette": lambda x: silhouette_score(x, x[:, 0] > 0),
    "bandwidth": estimate_bandwidth,
    **{
        algorithm: lambda x, algorithm=algorithm: NearestNeighbors(3, 0.4, algorithm).fit(x).kneighbors_graph(x)
        for algorithm in ("brute", "kd_tree", "ball_tree", "lsh", "faiss-ivf", "faiss-hnsw")
    },
}


def blobs(dims: int) -> np.ndarray:
    draw = np.random.default_rng(0)
    return (draw.normal(size=(3000, dims)) * 0.3 + draw.integers(0, 3, (3000, 1)) * 4).astype(np.float32)


@pytest.mark.parametrize("kind", ["array", "tensor"])
@pytest.mark.parametrize("dims", [2, 12])
@pytest.mark.parametrize("name", LABELS)
def test_results_do_not_depend_on_the_default_device(name, dims, kind):
    x = blobs(dims)
    x = torch.from_numpy(x) if kind == "tensor" else x
    expected = LABELS[name](x)
    with torch.device("meta"):
        found = LABELS[name](x)
    assert type(found) is type(expected)
    if isinstance(found, torch.Tensor) and found.layout == torch.sparse_csr:
        found, expected = found.to_dense(), expected.to_dense()
    elif issparse(found):
        found, expected = found.toarray(), expected.toarray()
    assert np.array_equal(np.asarray(found), np.asarray(expected))


@pytest.mark.parametrize("backend", [name for name in kernels.BACKENDS if unavailable_reason(name, "cpu") is None])
def test_products_do_not_depend_on_the_default_device(backend):
    with torch.device("meta"):
        a, b = operands(9, 7, 5, torch.float32, torch.device("cpu"))
        other = laid_out("gaps", 9, 7, torch.float32, 0)
        found = kernels.matmul(a, b, backend=backend)
        kernels.matmul(other, b, backend=backend)
        block = distances(a, other)
    assert torch.allclose(found, a @ b, atol=1e-5) and block.device.type == "cpu"
