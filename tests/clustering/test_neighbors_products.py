"""The largest inner products are found by every search, and B problems at once are B problems alone."""

import numpy as np
import pytest
import torch

from clustering import NearestNeighbors, load
from clustering.neighbors import BUILDERS

EXACT = ["auto", "brute", "kd_tree", "ball_tree", "grid"]


def points(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("algorithm", EXACT)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [1e-3, 1.0, 1e4])
def test_exact_searches_find_the_largest_products(algorithm, dtype, size):
    d = 2 if algorithm == "grid" else 6
    x, queries = points(400, d).to(dtype), points(30, d, seed=1).to(dtype) * size
    products = queries.double() @ x.double().T
    far, index = NearestNeighbors(5, algorithm=algorithm, metric="inner_product").fit(x).kneighbors(queries)
    expected = products.topk(5)
    assert torch.equal(index, expected.indices) and far.dtype == dtype
    torch.testing.assert_close(-far, expected.values.to(dtype))


@pytest.mark.parametrize("algorithm", ["faiss-ivf", "faiss-hnsw"])
def test_approximate_searches_find_most_of_the_largest_products(algorithm):
    x, queries = points(2000, 8).float(), points(50, 8, seed=1).float()
    true = (queries @ x.T).topk(5).indices
    found = NearestNeighbors(5, algorithm=algorithm, metric="inner_product").fit(x).kneighbors(queries, return_distance=False)
    assert float((found[:, :, None] == true[:, None]).any(2).float().mean()) > 0.9


@pytest.mark.parametrize("algorithm", [name for name in BUILDERS if name != "lsh"])
def test_radii_of_products_and_the_points_own_neighbors(algorithm):
    x = points(120, 2)
    products = x @ x.T
    model = NearestNeighbors(3, radius=-0.8, algorithm=algorithm, metric="inner_product").fit(x.numpy())
    distances, indices = model.radius_neighbors(x.numpy(), sort_results=True)
    for row, own, far in zip(products, indices, distances, strict=True):
        assert sorted(own) == (row >= 0.8).nonzero()[:, 0].tolist()
        np.testing.assert_allclose(far, -row[own], atol=1e-12)
        assert np.all(np.diff(far) >= 0)
    assert not (model.kneighbors(return_distance=False) == np.arange(120)[:, None]).any()
    assert not any(number in own for number, own in enumerate(model.radius_neighbors(return_distance=False)))
    assert model.kneighbors_graph(mode="distance").shape == (120, 120)


def test_zero_vectors_and_saved_models_have_products(tmp_path):
    x = torch.cat([points(50, 3), torch.zeros(1, 3)])
    model = NearestNeighbors(4, metric="inner_product").fit(x)
    assert bool((model.kneighbors(torch.zeros(2, 3))[0] == 0).all())
    again = load(model.save(tmp_path / "products.safetensors"))
    assert torch.equal(again.kneighbors(x)[1], model.kneighbors(x)[1])
    assert bool((NearestNeighbors(4, metric="inner_product").fit(torch.zeros(9, 3)).kneighbors()[0] == 0).all())
    with pytest.raises(ValueError, match="radius"):
        model.radius_neighbors(x, float("nan"))


@pytest.mark.parametrize("metric", ["euclidean", "cosine", "inner_product"])
@pytest.mark.parametrize(("algorithm", "kind"), [*((name, "tensor") for name in BUILDERS), ("brute", "array")])
def test_problems_at_once_are_problems_alone(metric, algorithm, kind):
    if (algorithm, metric) == ("lsh", "inner_product"):
        with pytest.raises(ValueError, match="faiss-hnsw"):
            NearestNeighbors(algorithm=algorithm, metric=metric).fit(points(9, 2))
        return
    d = 2 if algorithm == "grid" else 6
    x, queries = points(2, 80, d).float(), points(2, 9, d, seed=1).float()
    x[1, :30] = x[1, 0]  # duplicates
    if kind == "array":
        x, queries = x.numpy(), queries.numpy()
    model = NearestNeighbors(3, radius=0.4, algorithm=algorithm, metric=metric).fit(x)
    for asked in (None, queries):
        far, index = model.kneighbors(asked)
        within = model.radius_neighbors(asked, sort_results=True)
        graphs = model.kneighbors_graph(asked, mode="distance"), model.radius_neighbors_graph(asked)
        for number in range(2):
            alone = NearestNeighbors(3, radius=0.4, algorithm=algorithm, metric=metric).fit(x[number])
            own = None if asked is None else asked[number]
            one_far, one_index = alone.kneighbors(own)
            np.testing.assert_array_equal(index[number], one_index)
            np.testing.assert_allclose(far[number], one_far, rtol=1e-6, atol=1e-9)
            for ours, theirs in zip(within, alone.radius_neighbors(own, sort_results=True), strict=True):
                assert [row.tolist() for row in ours[number]] == [row.tolist() for row in theirs]
            for ours, method in zip(graphs, ("kneighbors_graph", "radius_neighbors_graph"), strict=True):
                assert ours[number].shape == getattr(alone, method)(own).shape
    assert type(index) is type(x) and type(far) is type(x)


@pytest.mark.parametrize("d", [3, 20])
@pytest.mark.parametrize("n", [30, 1500])
def test_tight_groups_far_apart_are_told_apart_in_a_batch(d, n):
    x = points(3, n, d).mul(0.01)
    x[:, n // 2 :] += 353
    x = x.float()
    model = NearestNeighbors(5).fit(x)
    found = model.kneighbors(x, return_distance=False)
    for number in range(3):
        squares = (x[number, :50, None].double() - x[number].double()).square().sum(2)
        assert torch.equal(found[number, :50], squares.sort(dim=1, stable=True).indices[:, :5])
    flat = model.neighborhoods(x[:, :2], 0.0)
    assert len(flat) == 3 and flat[0].offsets.tolist() == [0, 1, 2]


def test_what_no_batch_is_is_refused(tmp_path):
    x = points(3, 20, 2)
    model = NearestNeighbors(2).fit(x)
    with pytest.raises(ValueError, match=r"pass points of shape \(B, N, D\)"):
        model.kneighbors(x[0])
    for method in (model.kneighbors, model.radius_neighbors):
        with pytest.raises(ValueError, match="3 were fitted"):
            method(x[:2])
    with pytest.raises(ValueError, match="n_neighbors = 21"):
        model.kneighbors(x, 21)
    again = load(model.save(tmp_path / "batch.safetensors"))
    assert torch.equal(again.kneighbors()[1], model.kneighbors()[1])
