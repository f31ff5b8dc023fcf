"""Numbers at the ends of a dtype: directions of tiny and huge vectors, queries narrower than centers, weights of any size."""

import numpy as np
import pytest
import sklearn.metrics
import torch
from hypothesis import given
from hypothesis import strategies as st

from clustering import (
    HDBSCAN,
    BisectingKMeans,
    Chunks,
    KMeans,
    MeanShift,
    MiniBatchKMeans,
    distances,
    kmeans_plusplus,
    silhouette_score,
)
from clustering.metrics import embed, unit

CORNERS = torch.tensor([[0.0, 0], [1, 0], [0, 1], [1, 0.1]])
FAR = [[1e5], [1e5 + 2], [3e5], [3e5 + 2]]
ESTIMATORS = (KMeans, BisectingKMeans, MiniBatchKMeans)


@given(
    st.sampled_from([torch.float16, torch.bfloat16, torch.float32, torch.float64]),
    st.floats(-1, 1),
    st.integers(1, 20),
    st.integers(0, 1000),
)
def test_directions_have_length_one_wherever_in_the_dtype_the_points_lie(dtype, exponent, depth, seed):
    finest = torch.finfo(dtype)
    scale = float(finest.max) ** exponent if exponent > 0 else float(finest.smallest_normal) ** -exponent
    x = (torch.rand(5, depth, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + 0.1) * scale / 2
    x = x.to(dtype)
    x[0] = 0
    found = unit(x)
    exact = x.double() / x.double().abs().amax(1, keepdim=True).clamp(min=1e-320)
    exact = exact / exact.norm(dim=1, keepdim=True).clamp(min=1e-320)
    assert found.dtype == (dtype if dtype == torch.float64 else torch.float32)
    torch.testing.assert_close(found.double(), exact, rtol=1e-6, atol=0)


def test_directions_of_ordinary_points_are_those_of_torch_bit_by_bit_and_keep_axes():
    x = torch.randn(3, 50, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(unit(x), torch.nn.functional.normalize(x, dim=2))
    assert unit(torch.empty(0, 3)).shape == (0, 3)
    assert embed(CORNERS, "cosine")[0].tolist() == [0, 0, 1]


@pytest.mark.parametrize("batch", [False, True])
def test_spherical_clusters_of_16_bits_keep_zero_rows_and_long_vectors(batch):
    z = CORNERS.half()[None] if batch else CORNERS.half()
    model = KMeans(2, spherical=True).fit(z)
    centers = torch.tensor([[0.9988, 0.0498], [0, 1]])
    torch.testing.assert_close(model.cluster_centers_.reshape(2, 2).float(), centers, rtol=0, atol=1e-3)
    assert model.labels_.flatten().tolist() == model.predict(z).flatten().tolist() == [0, 0, 1, 0]


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize(("length", "dtype"), [(60000, torch.float16), (1e-14, torch.float32), (1e30, torch.float32)])
def test_one_spherical_center_is_the_direction_of_its_points(estimator, length, dtype):
    x = torch.full((3, 2), length, dtype=dtype)
    model = estimator(1, spherical=True).fit(x)
    torch.testing.assert_close(model.cluster_centers_.float(), torch.full((1, 2), 0.5**0.5), rtol=0, atol=1e-3)
    assert model.predict(x).tolist() == [0, 0, 0]


def test_cosine_distances_of_tiny_and_huge_vectors():
    assert distances(torch.tensor([[1e-14, 0]]), torch.tensor([[1.0, 0]]), "cosine").tolist() == [[0.0]]
    found = distances(torch.tensor([[1e30, 0]]), torch.tensor([[1e30, 0], [1e30, 1e30]]), "cosine")
    torch.testing.assert_close(found, torch.tensor([[0, 1 - 0.5**0.5]]))
    x, labels = np.array([[1e-14, 0], [1, 0.1], [0, 1], [0.1, 1]]), [0, 0, 1, 1]
    expected = sklearn.metrics.silhouette_score(x, labels, metric="cosine")
    found = silhouette_score(torch.tensor(x, dtype=torch.float32), torch.tensor(labels), metric="cosine")
    assert found == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("batch", [False, True])
def test_queries_of_16_bits_do_not_round_the_centers(dtype, batch):
    lead = (lambda x: x[None]) if batch else (lambda x: x)
    init = torch.tensor([[3e5], [1e5]])
    model = KMeans(2, init=lead(init)).fit(lead(torch.tensor(FAR, dtype=dtype)))
    query = lead(torch.tensor([[60000.0]], dtype=torch.float16))
    assert model.predict(query).flatten().tolist() == [1]
    assert float(model.score(query)) == pytest.approx(-(40001.0**2), rel=1e-6)
    far = model.transform(query)
    assert far.dtype == torch.float16 and far.flatten().tolist() == [torch.inf, 40000]


def test_narrow_queries_meet_a_tree_and_a_running_mean_in_the_wider_dtype():
    x, query = torch.tensor(FAR, dtype=torch.float64), torch.tensor([[60000.0]], dtype=torch.float16)
    tree = BisectingKMeans(2).fit(x)
    assert tree.predict(query).tolist() == tree.predict(x[:1]).tolist()
    model = MiniBatchKMeans(2).partial_fit(x).partial_fit(query)
    assert model.cluster_centers_.dtype == torch.float64
    torch.testing.assert_close(model.cluster_centers_.sort(0).values, torch.tensor([[260002 / 3], [300001]], dtype=torch.float64))
    shift = MeanShift(bandwidth=0.1).fit(torch.tensor([[1e8 + 2], [1e8 + 1]], dtype=torch.float64))
    assert shift.predict(torch.tensor([[1e8]])).tolist() == [1]


def test_what_lies_beside_points_that_coincide_is_an_outlier():
    scores = HDBSCAN(min_cluster_size=3).fit([[0.0]] * 6 + [[1.0]] * 6 + [[2.0]]).outlier_scores_
    assert scores.tolist() == [0.0] * 12 + [1.0]


@pytest.mark.parametrize("scale", [1e300, 1e-310])
def test_only_the_proportions_of_weights_matter(scale):
    rng = np.random.RandomState(0)
    x, ones = rng.randn(60, 3), rng.randint(1, 4, 60).astype(float)
    assert kmeans_plusplus(x, 4, ones)[1].tolist() == kmeans_plusplus(x, 4, ones * scale)[1].tolist()
    for init in ("k-means++", "random"):
        one, other = (MiniBatchKMeans(4, init=init, batch_size=20).fit(x, sample_weight=w) for w in (ones, ones * scale))
        np.testing.assert_allclose(other.cluster_centers_, one.cluster_centers_, rtol=1e-9)
        assert other.inertia_ / scale == pytest.approx(one.inertia_, rel=1e-9)
        np.testing.assert_allclose(other.counts_ / scale, one.counts_, rtol=1e-9)
    one, other = (
        MiniBatchKMeans(4).partial_fit(x, sample_weight=w).partial_fit(x, sample_weight=w) for w in (ones, ones * scale)
    )
    np.testing.assert_allclose(other.cluster_centers_, one.cluster_centers_, rtol=1e-9)


def test_a_batch_of_next_to_no_weight_leaves_heavy_centers_where_they_are():
    x = np.array([[0.0], [10.0]])
    model = MiniBatchKMeans(2).partial_fit(x, sample_weight=[1e300, 1e300])
    model.partial_fit(x + 1, sample_weight=[1e-310, 1e-310])
    assert sorted(model.cluster_centers_.ravel()) == [0, 10] and model.counts_.tolist() == [1e300, 1e300]


def test_one_bisecting_cluster_is_the_weighted_mean():
    model = BisectingKMeans(1).fit([[0.0], [10.0]], sample_weight=[3, 1])
    assert model.cluster_centers_.tolist() == [[2.5]] and model.inertia_ == 75


def test_the_score_of_a_stream_is_that_of_its_rows():
    rng = np.random.RandomState(0)
    x, weights = rng.randn(50, 3), rng.randn(50)
    weights[:10], weights[10:20] = 0, -1  # whole chunks
    model = KMeans(2).fit(x)
    for given_weights in (weights, weights.tolist(), torch.from_numpy(weights), 2.0):
        found = model.score(Chunks(x, rows=10), sample_weight=given_weights)
        assert found == pytest.approx(model.score(x, sample_weight=given_weights), rel=1e-12)
    for n, sentence in ((40, "fewer than the stream"), (60, "expected \\(50,\\)")):
        with pytest.raises(ValueError, match=sentence):
            model.score(Chunks(x, rows=10), sample_weight=np.ones(n))


def test_one_number_weighs_all_rows_of_a_stream():
    x = np.random.RandomState(0).randn(50, 3)
    plain, heavy = KMeans(2).fit(Chunks(x, rows=10)), KMeans(2).fit(Chunks(x, rows=10), sample_weight=2.0)
    assert heavy.inertia_ == pytest.approx(2 * plain.inertia_, rel=1e-9)
    problems = x[:48].reshape(2, 24, 3)
    plain, heavy = KMeans(2).fit(problems), KMeans(2).fit(problems, sample_weight=2.0)
    np.testing.assert_allclose(heavy.inertia_, 2 * plain.inertia_, rtol=1e-9)
    np.testing.assert_allclose(heavy.score(problems, sample_weight=3), 3 * plain.score(problems), rtol=1e-9)


@pytest.mark.parametrize("problems", [1, 3])
def test_starts_of_another_number_of_problems_are_named_in_one_sentence(problems):
    with pytest.raises(ValueError, match=f"starting centers of {problems} problems, but x holds 2"):
        KMeans(2, init=np.zeros((problems, 2, 3))).fit(np.random.RandomState(0).randn(2, 5, 3))
