"""k-means: equal to scikit-learn from the same start, and sound on the data that breaks implementations."""

import numpy as np
import pytest
import sklearn.cluster
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import make_blobs
from sklearn.metrics import adjusted_rand_score
from sklearn.utils.estimator_checks import check_estimator

from clustering import KMeans, MiniBatchKMeans, bounded, cpu, kmeans_plusplus
from clustering.lloyd import WORTH_COMPILING, LloydPass, accumulate, assign, means_of
from clustering.passes import make_pass

CHECKED = {
    "check_sample_weight_equivalence_on_dense_data": "random starts depend on the number of rows, as in scikit-learn's KMeans"
}
NOT_HERE = {"check_sample_weights_pandas_series", "check_array_api_input"}  # need pandas and SCIPY_ARRAY_API


def blobs(n=600, d=3, k=5, seed=0, dtype=np.float32):
    x, _ = make_blobs(n, d, centers=k, random_state=seed)
    return x.astype(dtype)


@pytest.mark.parametrize("estimator", [KMeans(), MiniBatchKMeans()], ids=repr)
def test_scikit_learns_own_checks_pass(estimator):
    results = check_estimator(estimator, expected_failed_checks=CHECKED, on_skip=None)
    assert {r["check_name"] for r in results if r["status"] == "skipped"} <= NOT_HERE
    assert {r["check_name"] for r in results if r["status"] == "xfail"} <= set(CHECKED)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("n", "d", "k"), [(600, 3, 5), (20_000, 2, 8), (3_000, 40, 33)])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_same_start_gives_scikit_learns_labels_and_inertia(dtype, n, d, k, weighted):
    x = np.random.default_rng(n).normal(size=(n, d)).astype(dtype)
    weights = np.random.default_rng(1).uniform(0.1, 3, n).astype(dtype) if weighted else None
    options = {"n_clusters": k, "init": x[:k], "n_init": 1, "max_iter": 12, "tol": 0.0}
    ours = KMeans(**options).fit(x, sample_weight=weights)
    theirs = sklearn.cluster.KMeans(**options, algorithm="lloyd").fit(x, sample_weight=weights)
    assert ours.inertia_ == pytest.approx(theirs.inertia_, rel=1e-4)
    assert np.mean(ours.labels_ == theirs.labels_) > 0.999
    assert ours.n_iter_ == theirs.n_iter_
    np.testing.assert_allclose(ours.cluster_centers_, theirs.cluster_centers_, atol=1e-2 if dtype == np.float32 else 1e-9)
    assert ours.score(x, sample_weight=weights) == pytest.approx(-ours.inertia_, rel=1e-5)


@pytest.mark.parametrize("d", [1, 2, 7, 64])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_compiled_pass_and_torch_agree(d, dtype):
    k = 37
    n = WORTH_COMPILING // (k * d) + 1001
    x = torch.randn(n, d, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(dtype)
    weights = torch.rand(n, generator=torch.Generator().manual_seed(1), dtype=dtype)
    labels, nearest = assign(x, x[:k])
    squares = torch.cdist(x.double(), x[:k].double(), compute_mode="donot_use_mm_for_euclid_dist").square()
    torch.testing.assert_close(nearest.double(), squares.min(1).values, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(squares.gather(1, labels[:, None])[:, 0], squares.min(1).values, rtol=1e-4, atol=1e-6)
    found = accumulate(x, x[:k], weights)
    expected = torch.zeros(k, d, dtype=torch.float64).index_add_(0, labels, x.double() * weights.double()[:, None])
    torch.testing.assert_close(found.sums.double(), expected, rtol=1e-4, atol=1e-4)
    small = accumulate(x[:50], x[:k], weights[:50])  # too small to be worth compiled code
    expected = torch.zeros(k, d, dtype=torch.float64).index_add_(0, labels[:50], x[:50].double() * weights[:50].double()[:, None])
    torch.testing.assert_close(small.sums.double(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("spread", [0.1, 1.0, 5.0])
@pytest.mark.parametrize("away", [0.0, 300.0])
@pytest.mark.parametrize("weighted", [False, True])
def test_bounds_skip_points_but_change_no_label(dtype, spread, away, weighted):
    generator = torch.Generator().manual_seed(0)
    centers = torch.randn(50, 24, generator=generator, dtype=torch.float64)
    x = centers[torch.randint(50, (2500,), generator=generator)]
    x = (x + spread * torch.randn(2500, 24, generator=generator, dtype=torch.float64) + away).to(dtype)
    weights = torch.rand(2500, generator=generator, dtype=dtype) if weighted else None
    bounded, plain = make_pass(x, weights, 50), LloydPass(x, weights)
    assert type(bounded) is not LloydPass
    centers = x[:50]
    for _ in range(12):
        found, expected = bounded.accumulate(centers), plain.accumulate(centers)
        assert float((found.counts - expected.counts).abs().sum()) <= (4 if dtype == torch.float32 else 1e-6)  # ties
        torch.testing.assert_close(bounded.assign(centers)[1], plain.assign(centers)[1], rtol=1e-4, atol=1e-4)
        centers = means_of(expected, centers)


def test_bounds_skip_most_points_once_centers_come_to_rest():
    x = torch.from_numpy(blobs(20_000, 16, 20))
    fitted = KMeans(20, n_init=2).fit(x)
    bounded = make_pass(x, None, 20)
    bounded.accumulate(fitted.cluster_centers_)
    before = bounded.upper.copy()
    bounded.accumulate(fitted.cluster_centers_ + 1e-4)
    moved = float(torch.tensor(16e-8).sqrt())
    assert np.mean(np.abs(bounded.upper - before - moved) < 1e-5) > 0.9, "a bound that is only shifted was not computed anew"


def test_a_cluster_that_its_weighted_points_have_left_is_empty():
    x = torch.from_numpy(blobs(9000, 16, 3))
    weights = torch.rand(9000, generator=torch.Generator().manual_seed(0))
    bounded = make_pass(x, weights, 16)
    bounded.accumulate(x[:16])
    far = torch.cat([x[:3], torch.full((13, 16), 1e4) + torch.arange(13)[:, None]])
    assert int((bounded.accumulate(far).counts == 0).sum()) == 13


@pytest.mark.parametrize("threads", [1, 2])
def test_the_same_seed_and_threads_give_the_same_bits(threads):
    x = torch.randn(50_000, 4, generator=torch.Generator().manual_seed(0))
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        first, second = (KMeans(20, random_state=3, max_iter=5).fit(x) for _ in range(2))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(first.cluster_centers_, second.cluster_centers_)
    assert torch.equal(first.labels_, second.labels_)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_kind_and_dtype_come_back_as_they_went_in(dtype):
    x = torch.from_numpy(blobs()).to(dtype)
    model = KMeans(5, n_init=3).fit(x)
    assert isinstance(model.cluster_centers_, torch.Tensor)
    assert model.cluster_centers_.dtype == dtype
    assert model.labels_.dtype == torch.int64
    assert model.transform(x).dtype == dtype
    assert adjusted_rand_score(model.labels_, KMeans(5, n_init=3).fit(x.double()).labels_) > 0.98


def test_numpy_comes_back_as_numpy_and_lists_are_taken():
    model = KMeans(2).fit([[0.0, 0.0], [0.0, 1.0], [9.0, 9.0], [9.0, 8.0]])
    assert isinstance(model.cluster_centers_, np.ndarray)
    assert sorted(model.cluster_centers_[:, 0]) == [0.0, 9.0]
    assert isinstance(model.predict([[0.0, 0.0]]), np.ndarray)


def test_integers_are_clustered_as_floats():
    assert KMeans(2).fit(torch.tensor([[0], [1], [10], [11]])).cluster_centers_.dtype == torch.get_default_dtype()


@given(st.integers(0, 10_000))
@settings(max_examples=15)
def test_the_order_of_the_points_does_not_matter(seed):
    x = torch.from_numpy(blobs(seed=seed % 7, dtype=np.float64))
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
    model, shuffled = KMeans(5, init=x[:5]).fit(x), KMeans(5, init=x[:5]).fit(x[order])
    assert torch.equal(model.labels_[order], shuffled.labels_)
    torch.testing.assert_close(model.cluster_centers_, shuffled.cluster_centers_)


@given(st.floats(-500, 500))
@settings(max_examples=15)
def test_moving_the_data_moves_the_centers(away):
    x = torch.from_numpy(blobs(dtype=np.float64))
    here, there = KMeans(5, init=x[:5]).fit(x), KMeans(5, init=x[:5] + away).fit(x + away)
    assert torch.equal(here.labels_, there.labels_)
    torch.testing.assert_close(here.cluster_centers_ + away, there.cluster_centers_)


def test_as_many_clusters_as_points_leave_no_inertia():
    x = torch.from_numpy(blobs(40))
    model = KMeans(40).fit(x)
    assert model.inertia_ == pytest.approx(0, abs=1e-6)
    assert len(model.labels_.unique()) == 40


def test_one_cluster_is_the_mean():
    x = torch.from_numpy(blobs())
    torch.testing.assert_close(KMeans(1).fit(x).cluster_centers_[0], x.mean(0))


@pytest.mark.parametrize("init", ["k-means++", "random"])
def test_constant_data_and_duplicates_end_at_once(init):
    x = torch.full((50, 3), 7.0)
    model = KMeans(4, init=init).fit(x)
    assert model.inertia_ == 0
    assert bool((model.cluster_centers_ == 7).all())
    assert model.n_iter_ <= 2


def test_an_empty_cluster_takes_the_point_served_worst():
    x = torch.tensor([[0.0], [1.0], [2.0], [100.0]])
    model = KMeans(2, init=torch.tensor([[1.0], [1000.0]]), max_iter=1).fit(x)
    assert model.cluster_centers_.flatten().tolist() == [1.0, 100.0]
    theirs = sklearn.cluster.KMeans(2, init=np.array([[1.0], [1000.0]]), n_init=1).fit(x.numpy())
    assert sorted(KMeans(2, init=torch.tensor([[1.0], [1000.0]])).fit(x).cluster_centers_.flatten()) == sorted(
        theirs.cluster_centers_.flatten()
    )


def test_points_without_weight_pull_on_nothing():
    x = torch.tensor([[0.0], [1.0], [50.0], [10.0], [11.0]])
    model = KMeans(2, init=x[[0, 3]]).fit(x, sample_weight=torch.tensor([1.0, 1.0, 0.0, 1.0, 1.0]))
    assert model.cluster_centers_.flatten().tolist() == [0.5, 10.5]


def test_spherical_clusters_by_direction_alone():
    generator = torch.Generator().manual_seed(0)
    direction = torch.eye(3).repeat_interleave(30, 0) + 0.05 * torch.randn(90, 3, generator=generator)
    x = direction * torch.rand(90, 1, generator=generator).mul(100).add(0.1)
    model = KMeans(3, spherical=True, n_init=3).fit(x)
    assert adjusted_rand_score(model.labels_, torch.arange(3).repeat_interleave(30)) == 1
    torch.testing.assert_close(model.cluster_centers_.norm(dim=1), torch.ones(3))
    assert torch.equal(model.predict(x * 7), model.labels_)


def test_transposed_and_strided_points_are_read_as_they_lie():
    x = torch.from_numpy(blobs(20_000, 12, 9))
    expected = KMeans(9, init=x[:9]).fit(x)
    for same in (x.T.contiguous().T, torch.stack([x, x], 2)[:, :, 0]):
        assert not same.is_contiguous()
        assert torch.equal(KMeans(9, init=x[:9]).fit(same).labels_, expected.labels_)


def test_no_gradient_is_recorded():
    x = torch.from_numpy(blobs()).requires_grad_()
    model = KMeans(3).fit(x)
    assert not model.cluster_centers_.requires_grad
    assert not model.transform(x).requires_grad


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_are_refused_in_one_sentence(kind, bad):
    x = blobs()
    x[17, 1] = bad
    with pytest.raises(ValueError, match=r"NaN|infinity"):
        KMeans(3).fit(kind(x))


@pytest.mark.parametrize(
    ("model", "x", "sentence"),
    [
        (KMeans(2), torch.empty(0, 3), "at least 1 points"),
        (KMeans(5), torch.rand(3, 2), "should be >= n_clusters=5"),
        (KMeans(0), torch.rand(3, 2), "must be an int in the range"),
        (KMeans(2, init="forgy"), torch.rand(3, 2), "init.*forgy"),
        (KMeans(2, init=torch.rand(3, 2)), torch.rand(5, 2), r"expected \(2, 2\)"),
        (KMeans(2, max_iter=0), torch.rand(5, 2), "max_iter"),
        (KMeans(2), torch.rand(5), r"expected points of shape \(N, D\)"),
        (MiniBatchKMeans(2, batch_size=0), torch.rand(5, 2), "batch_size"),
    ],
)
def test_bad_input_is_named(model, x, sentence):
    with pytest.raises(ValueError, match=sentence):
        model.fit(x)


def test_bad_weights_and_other_features_are_named():
    x = torch.rand(10, 2)
    for weights in (torch.ones(9), -torch.ones(10), torch.zeros(10)):
        with pytest.raises(ValueError, match="sample_weight"):
            KMeans(2).fit(x, sample_weight=weights)
    with pytest.raises(ValueError, match="expecting 2 features"):
        KMeans(2).fit(x).predict(torch.rand(10, 3))


def test_large_half_precision_points_are_not_mistaken_for_infinity():
    x = torch.full((1000, 4), 60_000.0, dtype=torch.float16)
    assert KMeans(1).fit(x).cluster_centers_[0, 0] == 60_000


def test_kmeans_plusplus_spreads_better_than_random_and_repeats_itself():
    x = torch.from_numpy(blobs(2000, 2, 12))
    draw = {
        init: [KMeans(12, init=init, max_iter=1, random_state=s).fit(x).inertia_ for s in range(20)]
        for init in ("random", "k-means++")
    }
    assert np.median(draw["k-means++"]) < np.median(draw["random"])
    (first, rows), (second, _) = (kmeans_plusplus(x, 12, random_state=5) for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(first, x[rows])
    assert bool((first[:, None] == x).all(2).any(1).all()), "starting centers are points"


def test_kmeans_plusplus_never_starts_from_a_point_without_weight():
    x = torch.arange(100.0)[:, None]
    weights = (torch.arange(100) % 10 == 0).float()
    for seed in range(5):
        for init in ("k-means++", "random"):
            start = KMeans(8, init=init, random_state=seed)._start(x, weights, torch.Generator().manual_seed(seed))
            assert bool((start % 10 == 0).all())
            assert len(start.unique()) == 8


@pytest.mark.parametrize(("n", "d", "k"), [(900, 2, 3), (3000, 16, 40)])
@pytest.mark.parametrize("weighted", [False, True])
def test_labels_and_inertia_come_block_by_block_as_they_would_at_once(n, d, k, weighted, monkeypatch):
    monkeypatch.setattr("clustering.lloyd.LABELED_ROWS", 128)
    monkeypatch.setattr("clustering.bounded.BLOCK_BYTES", 128 * 4 * d)
    x = torch.randn(n, d, generator=torch.Generator().manual_seed(0))
    weights = torch.rand(n, dtype=torch.float64) if weighted else None
    one = make_pass(x, weights, k)
    labels, loss = one.label(x[:k])
    nearest = torch.cdist(x.double(), x[:k].double()).square()
    assert torch.equal(labels, nearest.argmin(1)) and torch.equal(one.assign(x[:k])[0], labels)
    least = nearest.amin(1)
    torch.testing.assert_close(one.assign(x[:k])[1].double(), least, rtol=1e-4, atol=1e-4)
    assert loss == pytest.approx(float(least.sum() if weights is None else least @ weights), rel=1e-5)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("k", "d", "offset"), [(2, 20, 0.0), (40, 16, 1e4), (300, 64, 0.0), (1024, 24, -50.0)])
def test_half_the_gap_to_the_nearest_other_center_is_never_too_large_and_hardly_too_small(k, d, offset, dtype):
    centers = (np.random.default_rng(k).standard_normal((k, d)) + offset).astype(dtype)
    centers[-1] = centers[0]  # equal centers have no gap
    slack = dtype(4 * np.finfo(dtype).eps * np.sqrt(d))
    found = bounded.safe_distances(centers, cpu.pack(centers), slack).astype(float)
    wide = torch.from_numpy(centers.astype(float))
    gaps = torch.cdist(wide, wide, compute_mode="donot_use_mm_for_euclid_dist").fill_diagonal_(torch.inf)
    half = gaps.min(1).values.numpy() / 2
    assert np.all(found <= half) and found[0] == found[-1] == 0
    np.testing.assert_allclose(found[1:-1], half[1:-1], rtol=1e-3)


def test_a_cluster_of_light_points_is_no_empty_one() -> None:
    """In the bounded pass, which adds and takes points away, light sums stand beside what rounding leaves of heavy ones."""
    rng = np.random.default_rng(0)
    own = np.arange(6000) % 20
    x = (rng.standard_normal((20, 16)) * 30)[own] + rng.standard_normal((6000, 16))
    for light in (1e-9, 1e-13, 1e-200):
        weights = np.where(own < 10, 1.0, light)
        found = KMeans(20, init=x[:20]).fit(x, sample_weight=weights)
        assert len(np.unique(found.labels_ * 20 + own)) == 20
        means = np.stack([x[own == k].mean(0) for k in range(20)])
        np.testing.assert_allclose(found.cluster_centers_[found.labels_[:20]], means, atol=1e-5)
