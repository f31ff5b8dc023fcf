"""torch's settings of a process: another default dtype and autocast change no result."""

from contextlib import nullcontext

import pytest
import torch

from clustering import (
    HDBSCAN,
    BisectingKMeans,
    KMeans,
    MeanShift,
    MiniBatchKMeans,
    NearestNeighbors,
    distances,
    kmeans_plusplus,
)


def points(n=300, d=6, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float32)


CASES = {
    "k-means": lambda x: KMeans(5, random_state=0).fit(x).labels_,
    "random": lambda x: KMeans(5, init="random", n_init=2, random_state=0).fit(x).labels_,
    "weighted": lambda x: KMeans(5, init="random", random_state=0).fit(x, sample_weight=x[:, 0].abs()).labels_,
    "batch": lambda x: KMeans(5, random_state=0).fit(x.reshape(3, 100, 6)).labels_,
    "batch, random": lambda x: KMeans(5, init="random", random_state=0).fit(x.reshape(3, 100, 6)).labels_,
    "seeds": lambda x: kmeans_plusplus(x, 9)[1],
    "mini-batches": lambda x: MiniBatchKMeans(5, batch_size=50).fit(x).cluster_centers_,
    "bisecting": lambda x: BisectingKMeans(5).fit(x).labels_,
    "lsh": lambda x: torch.cat(NearestNeighbors(3, algorithm="lsh").fit(x).kneighbors(x[:50]), 1),
    "batch of neighbors": lambda x: NearestNeighbors(3).fit(x.reshape(3, 100, 6)).kneighbors()[1],
    "inner product": lambda x: torch.cat(NearestNeighbors(metric="inner_product").fit(x).radius_neighbors(x[:9], -1.0)[0]),
    "mean shift": lambda x: MeanShift(1.0).fit(x).shifted_,
    "nearest mean shift": lambda x: MeanShift(1.0, neighbors=("nearest", 8), max_iter=20).fit(x).shifted_,
    "fixed density": lambda x: MeanShift(1.0, blurring=False, max_iter=20).fit(x).cluster_centers_,
    "medoids": lambda x: HDBSCAN(5, store_centers="both", allow_single_cluster=True).fit(x).medoids_,
    "hdbscan of groups": lambda x: HDBSCAN(5, algorithm="groups").fit(x).labels_,
    "distances": lambda x: torch.cat([distances(x, x[:7], formulation=name) for name in ("einsum", "matmul")]),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("surrounding", ["float64", "autocast"])
def test_results_do_not_depend_on_settings_of_torch(name, surrounding):
    expected = CASES[name](points())
    before = torch.get_default_dtype()
    try:
        if surrounding == "float64":
            torch.set_default_dtype(torch.float64)
        with torch.autocast("cpu", dtype=torch.bfloat16) if surrounding == "autocast" else nullcontext():
            found = CASES[name](points())
    finally:
        torch.set_default_dtype(before)
    assert found.dtype == expected.dtype and torch.equal(found, expected)


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("integer", [torch.int16, torch.int32, torch.int64])
def test_whole_numbers_keep_their_digits_whatever_the_default_dtype(kind, integer):
    before = torch.get_default_dtype()
    try:
        torch.set_default_dtype(kind)
        centers = KMeans(2).fit(torch.tensor([[1001], [30003]], dtype=integer)).cluster_centers_
    finally:
        torch.set_default_dtype(before)
    assert centers.sort(0).values.tolist() == [[1001], [30003]]


def test_the_least_whole_number_is_large():
    lowest = torch.tensor([[-(2**63)], [0]])
    assert KMeans(2).fit(lowest).cluster_centers_.dtype == torch.float64
