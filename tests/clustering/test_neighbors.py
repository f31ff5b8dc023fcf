"""Neighbors: the exact algorithms are exact, the approximate ones find most, and ragged results are complete."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from sklearn.neighbors import NearestNeighbors as Theirs
from sklearn.utils.estimator_checks import check_estimator

from clustering import NearestNeighbors
from clustering.buckets import Segments, flatten, padded_members
from clustering.engines import in_main_memory
from clustering.grid import Grid
from clustering.neighbors import BUILDERS, choose_algorithm
from clustering.params import threads_of

EXACT = ["auto", "brute", "kd_tree", "ball_tree", "grid"]
APPROXIMATE = ["lsh", "faiss-ivf", "faiss-hnsw"]


def points(n, d, seed=0, dtype=torch.float32):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def test_scikit_learns_own_checks_pass():
    results = check_estimator(NearestNeighbors(), on_skip=None)
    assert {r["check_name"] for r in results if r["status"] != "passed"} <= {"check_array_api_input"}  # needs SCIPY_ARRAY_API


@pytest.mark.parametrize("algorithm", EXACT)
@pytest.mark.parametrize("d", [1, 2, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_exact_algorithms_equal_scikit_learn(algorithm, d, dtype):
    x, queries = points(3000, d, dtype=dtype), points(300, d, seed=1, dtype=dtype) * 2
    far, index = NearestNeighbors(7, algorithm=algorithm).fit(x).kneighbors(queries)
    true_far, true_index = Theirs(n_neighbors=7, algorithm="brute").fit(x.double().numpy()).kneighbors(queries.double().numpy())
    np.testing.assert_allclose(far, true_far, rtol=1e-4, atol=1e-5)
    assert np.mean(index.numpy() == true_index) > 0.999
    assert far.dtype == dtype
    assert index.dtype == torch.int64


@pytest.mark.parametrize("algorithm", EXACT)
def test_a_radius_search_finds_all_and_nothing_else(algorithm):
    x, queries = points(2500, 2), points(50, 2, seed=1) * 2
    model = NearestNeighbors(algorithm=algorithm).fit(x)
    found = model.neighborhoods(queries, 0.3)
    far = cdist(queries.double(), x.double())
    for q in range(50):
        part = slice(found.offsets[q], found.offsets[q + 1])
        assert sorted(found.indices[part].tolist()) == np.flatnonzero(far[q] <= 0.3).tolist()
        np.testing.assert_allclose(found.distances[part], far[q][found.indices[part]], atol=1e-5)
    assert torch.equal(found.rows(), torch.arange(50).repeat_interleave(found.offsets.diff()))
    distances, indices = model.radius_neighbors(queries, 0.3, sort_results=True)
    theirs = Theirs().fit(x.double()).radius_neighbors(queries.double(), 0.3, sort_results=True)
    for q in range(50):
        np.testing.assert_array_equal(indices[q], theirs[1][q])
        np.testing.assert_allclose(distances[q], theirs[0][q], rtol=1e-6)


@pytest.mark.parametrize("algorithm", APPROXIMATE)
def test_approximate_algorithms_find_most_and_measure_what_they_find(algorithm):
    centers = points(30, 12, seed=2) * 6
    x = centers.repeat_interleave(100, 0) + points(3000, 12)
    queries = x[::30] + 0.1
    far, index = NearestNeighbors(5, algorithm=algorithm).fit(x).kneighbors(queries)
    true = torch.cdist(queries.double(), x.double()).topk(5, largest=False)
    recall = (index[:, :, None] == true.indices[:, None]).any(2).float().mean()
    assert recall > 0.7
    torch.testing.assert_close(far.double(), (queries[:, None] - x[index]).double().norm(dim=2), rtol=1e-3, atol=1e-3)
    assert bool((far.diff(dim=1) >= 0).all())
    within = NearestNeighbors(5, algorithm=algorithm).fit(x).neighborhoods(queries, 3.0)
    assert bool((within.distances <= 3.0).all())
    assert len(within.indices) > 0.5 * int((torch.cdist(queries, x) <= 3).sum())


@given(st.integers(0, 10_000), st.integers(1, 3), st.integers(1, 9), st.sampled_from([0.0, 1.0, 1e4]), st.booleans())
def test_the_grid_is_exact_on_clumps_lines_and_outliers(seed, d, k, outlier, flat):
    x = points(60, d, seed)
    x[:20] = x[0]  # duplicates
    x[-1] += outlier
    if flat:
        x[:, -1] = 3.0
    queries = torch.cat([points(10, d, seed + 1), x[:3], points(4, d, seed) * 1e3])
    squares, index = Grid(x).nearest(queries, k)
    true = (queries[:, None].double() - x.double()).square().sum(2).topk(k, largest=False).values
    torch.testing.assert_close(squares.double(), true, rtol=1e-4, atol=1e-6)
    assert all(len(set(row)) == k for row in index.tolist())


@pytest.mark.parametrize("algorithm", list(BUILDERS))
def test_asking_for_the_points_own_neighbors_leaves_themselves_out(algorithm):
    x = torch.cat([points(400, 2), torch.zeros(20, 2)])
    far, index = NearestNeighbors(3, algorithm=algorithm).fit(x).kneighbors()
    assert not bool((index == torch.arange(420)[:, None]).any())
    assert bool((far[400:] == 0).all()), "duplicates are neighbors of each other"


@pytest.mark.parametrize("algorithm", list(BUILDERS))
def test_constant_points_are_no_obstacle(algorithm):
    x = torch.ones(500, 2)
    far, _ = NearestNeighbors(4, algorithm=algorithm).fit(x).kneighbors(x[:9])
    assert bool((far == 0).all())


def test_numpy_and_half_precision_come_back_as_they_went_in():
    x = points(100, 2)
    far, index = NearestNeighbors(2).fit(x.numpy()).kneighbors(x.numpy()[:5])
    assert isinstance(far, np.ndarray)
    assert isinstance(index, np.ndarray)
    far, _ = NearestNeighbors(2).fit(x.bfloat16()).kneighbors(x.bfloat16()[:5])
    assert far.dtype == torch.bfloat16
    assert NearestNeighbors().fit(x.numpy()).radius_neighbors(x.numpy(), return_distance=False).dtype == object
    assert isinstance(NearestNeighbors().fit(x.numpy()).kneighbors(return_distance=False), np.ndarray)
    assert isinstance(NearestNeighbors().fit(x).radius_neighbors()[0], list)


def test_the_same_seed_hashes_alike():
    x = points(3000, 16)
    first, second = (NearestNeighbors(5, algorithm="lsh", random_state=4).fit(x).kneighbors(x[:50]) for _ in range(2))
    assert torch.equal(first[1], second[1])


def test_the_algorithm_follows_number_width_and_device():
    assert choose_algorithm(points(100, 2)) == "brute"
    assert choose_algorithm(points(5000, 2)) == "kd_tree"
    assert choose_algorithm(points(5000, 64)) == "brute"
    assert choose_algorithm(torch.empty(5000, 2, device="meta")) == "grid"


def test_bad_requests_are_named():
    x = points(10, 5)
    with pytest.raises(ValueError, match=r"algorithm.*annoy"):
        NearestNeighbors(algorithm="annoy").fit(x)
    with pytest.raises(ValueError, match="n_neighbors = 11"):
        NearestNeighbors(11).fit(x).kneighbors(x)
    with pytest.raises(ValueError, match="1 to 3 features"):
        NearestNeighbors(algorithm="grid").fit(x)
    with pytest.raises(ValueError, match="the points are on meta"):
        in_main_memory(torch.empty(3, 2, device="meta"), "kd_tree")


def test_segments_are_cut_and_padded_in_order():
    segments = Segments(torch.tensor([[0, 5], [2, 7], [0, 0]]), torch.tensor([[2, 1], [0, 3], [0, 0]]))
    queries, positions = flatten(segments)
    assert queries.tolist() == [0, 0, 0, 1, 1, 1]
    assert positions.tolist() == [0, 1, 5, 7, 8, 9]
    assert padded_members(segments, torch.arange(10) * 10).tolist() == [[0, 10, 50], [70, 80, 90], [-1, -1, -1]]


@pytest.mark.parametrize("algorithm", ["brute", "kd_tree", "ball_tree"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("d", [2, 5, 8, 40])
def test_exact_algorithms_are_exact_where_groups_are_tight_and_far_apart(algorithm, dtype, d):
    x = torch.cat([points(150, d) * 0.01, points(150, d, 1) * 0.01 + 353]).to(dtype)
    x[7] = x[3]
    wide = x.double().numpy()
    squares = ((wide[:, None] - wide) ** 2).sum(2)
    expected = squares.argsort(1, kind="stable")[:, :5]
    far, found = NearestNeighbors(5, algorithm=algorithm).fit(x).kneighbors(x)
    assert np.array_equal(found, expected)
    assert bool((far[:, 0] == 0).all())


@pytest.mark.parametrize("algorithm", ["brute", "kd_tree", "ball_tree", "grid"])
@pytest.mark.parametrize("d", [1, 2, 3, 6])
def test_ties_and_the_border_are_settled_alike(algorithm, d):
    if algorithm == "grid" and d > 3:
        return
    x = torch.randint(0, 4, (300, d), generator=torch.Generator().manual_seed(0)).double() * 0.1
    model = NearestNeighbors(9, radius=0.2, algorithm=algorithm).fit(x)
    wide = x.numpy()
    squares = sum((wide[:, None, f] - wide[:, f]) ** 2 for f in range(d))
    assert np.array_equal(model.kneighbors(x, return_distance=False), squares.argsort(1, kind="stable")[:, :9])
    theirs = Theirs(radius=0.2, algorithm="kd_tree").fit(wide).radius_neighbors(wide, return_distance=False)
    for ours, other in zip(model.radius_neighbors(x, return_distance=False), theirs, strict=True):
        assert ours.tolist() == sorted(other)


@pytest.mark.parametrize("algorithm", list(BUILDERS))
def test_every_radius_means_the_same_to_every_algorithm(algorithm):
    x = points(90, 3)
    model = NearestNeighbors(algorithm=algorithm).fit(x)
    for radius in (-1, float("nan"), "wide"):
        with pytest.raises(ValueError, match="radius"):
            model.radius_neighbors(x, radius)
    assert [len(row) for row in model.radius_neighbors(x, float("inf"), return_distance=False)] == [90] * 90
    assert [row.tolist() for row in model.radius_neighbors(x, 0.0, return_distance=False)] == [[i] for i in range(90)]
    assert all(len(row) == 0 for row in model.radius_neighbors(None, 0.0, return_distance=False))


@pytest.mark.parametrize("algorithm", list(BUILDERS))
@pytest.mark.parametrize("batch", [False, True])
def test_queries_are_not_rounded_to_the_points_dtype(algorithm, batch):
    x, queries = torch.tensor([[16777216.0], [16777218.0]]), torch.tensor([[16777217.2], [16777216.9]], dtype=torch.float64)
    asked = (x[None], queries[None]) if batch else (x, queries)
    far, found = NearestNeighbors(1, algorithm=algorithm).fit(asked[0]).kneighbors(asked[1])
    assert found.flatten().tolist() == [1, 0] and far.dtype == torch.float64
    assert torch.allclose(far.flatten(), torch.tensor([0.8, 0.9], dtype=torch.float64), atol=1e-6)
    near = NearestNeighbors(radius=0.85, algorithm=algorithm).fit(x).radius_neighbors(queries, return_distance=False)
    assert [row.tolist() for row in near] == [[1], []]


@pytest.mark.parametrize("metric", ["euclidean", "cosine", "inner_product"])
@pytest.mark.parametrize("algorithm", ["brute", "kd_tree", "ball_tree"])
def test_float64_queries_of_float32_points_find_what_float64_points_do(algorithm, metric):
    x, queries = points(400, 6), points(90, 6, 1, torch.float64) * 1.1
    mixed = NearestNeighbors(4, algorithm=algorithm, metric=metric).fit(x).kneighbors(queries)
    wide = NearestNeighbors(4, algorithm=algorithm, metric=metric).fit(x.double()).kneighbors(queries)
    assert torch.equal(mixed[1], wide[1])
    assert torch.allclose(mixed[0], wide[0], atol=1e-6 if metric == "cosine" else 1e-12)


@pytest.mark.parametrize("mode", ["connectivity", "distance"])
def test_graphs_are_scikit_learns(mode):
    x = points(80, 2, dtype=torch.float64)
    ours, theirs = NearestNeighbors(4, radius=0.5).fit(x.numpy()), Theirs(n_neighbors=4, radius=0.5).fit(x.numpy())
    for queries in (None, x.numpy()[:9]):
        for graph in ("kneighbors_graph", "radius_neighbors_graph"):
            expected = getattr(theirs, graph)(queries, mode=mode).toarray()
            np.testing.assert_allclose(getattr(ours, graph)(queries, mode=mode).toarray(), expected)
    tensors = NearestNeighbors(4, radius=0.5).fit(x)
    np.testing.assert_allclose(tensors.kneighbors_graph(mode=mode).to_dense(), ours.kneighbors_graph(mode=mode).toarray())
    np.testing.assert_allclose(
        tensors.radius_neighbors_graph(mode=mode).to_dense(), ours.radius_neighbors_graph(mode=mode).toarray()
    )
    with pytest.raises(ValueError, match="mode"):
        ours.kneighbors_graph(mode="both")


@pytest.mark.parametrize("algorithm", ["brute", "kd_tree", "ball_tree"])
def test_the_cosine_distance_is_scikit_learns(algorithm):
    x = points(300, 5, dtype=torch.float64).numpy()
    far, index = NearestNeighbors(4, algorithm=algorithm, metric="cosine").fit(x).kneighbors(x[:20] * 7)
    true_far, true_index = Theirs(n_neighbors=4, metric="cosine").fit(x).kneighbors(x[:20] * 7)
    np.testing.assert_array_equal(index, true_index)
    np.testing.assert_allclose(far, true_far, atol=1e-12)
    zero = NearestNeighbors(2, metric="cosine").fit(np.concatenate([x, np.zeros((1, 5))]))
    assert zero.radius_neighbors(np.zeros((1, 5)), 0.99, return_distance=False)[0].tolist() == [300]


def test_fits_that_overlap_put_back_the_number_of_threads_before_the_first():
    before = torch.get_num_threads()
    first, second = threads_of(before + 1), threads_of(before + 2)
    first.__enter__()
    second.__enter__()
    assert torch.get_num_threads() == before + 2
    first.__exit__(None, None, None)
    second.__exit__(None, None, None)
    assert torch.get_num_threads() == before


def test_n_jobs_sets_the_threads_of_a_search_and_leaves_them_as_they_were():
    before = torch.get_num_threads()
    x = points(3000, 2)
    one, all_cores = (NearestNeighbors(3, n_jobs=n).fit(x).kneighbors() for n in (1, -1))
    assert torch.equal(one[1], all_cores[1])
    assert torch.get_num_threads() == before
