"""HDBSCAN: scikit-learn's labels up to renaming, its probabilities, and new points where their neighbors are."""

import numpy as np
import pytest
import sklearn.cluster
import torch
from sklearn.datasets import make_blobs, make_moons
from sklearn.metrics import adjusted_rand_score
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from clustering import HDBSCAN
from clustering.spanning import prim_on_device, spanning_tree
from clustering.spanning_groups import spanning_tree_of_groups

TEST_DATA = StandardScaler().fit_transform(make_blobs(n_samples=200, random_state=10)[0])  # scikit-learn's own


def same(ours, theirs):
    """Labels equal up to renaming, noise for noise."""
    assert np.array_equal(ours == -1, theirs == -1)
    pairs = set(zip(ours.tolist(), theirs.tolist(), strict=True))
    assert len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})


def fitted_by_scikit_learn(x, options):
    """Theirs; where clusters are merged up to epsilon some of its versions cannot read their own tree with NumPy 2."""
    try:
        return sklearn.cluster.HDBSCAN(**options, copy=True).fit(x)
    except TypeError:
        assert options["cluster_selection_epsilon"] > 0
        pytest.skip("scikit-learn fails here itself")


def mixture(seed):
    rng = np.random.default_rng(seed)
    d, k = int(rng.integers(1, 7)), int(rng.integers(2, 7))
    parts = [rng.normal(rng.normal(size=d) * 6, rng.uniform(0.2, 1.5), (int(rng.integers(20, 90)), d)) for _ in range(k)]
    return np.concatenate([*parts, rng.uniform(-12, 12, (40, d))])


def test_scikit_learns_own_checks_pass():
    results = check_estimator(HDBSCAN(), on_skip=None)
    assert {r["check_name"] for r in results if r["status"] != "passed"} <= {"check_array_api_input"}


@pytest.mark.parametrize("method", ["eom", "leaf"])
@pytest.mark.parametrize("options", [{}, {"min_cluster_size": 12}, {"min_samples": 2}, {"cluster_selection_epsilon": 0.4}])
@pytest.mark.parametrize("single", [False, True])
def test_labels_and_probabilities_are_scikit_learns_on_its_own_data(method, options, single):
    options = {**options, "cluster_selection_method": method, "allow_single_cluster": single}
    theirs = fitted_by_scikit_learn(TEST_DATA, options)
    ours = HDBSCAN(**options).fit(TEST_DATA)
    same(ours.labels_, theirs.labels_)
    np.testing.assert_allclose(ours.probabilities_, theirs.probabilities_)


@pytest.mark.parametrize("seed", range(20))
def test_labels_are_scikit_learns_on_random_sets(seed):
    x = mixture(seed)
    options = {
        "min_cluster_size": 4 + seed % 9,
        "min_samples": [None, 1, 3, 8][seed % 4],
        "cluster_selection_method": ["eom", "leaf"][seed % 2],
        "cluster_selection_epsilon": [0.0, 0.0, 0.7][seed % 3],
        "max_cluster_size": [None, 60][seed % 5 == 0],
    }
    theirs = fitted_by_scikit_learn(x, options)
    ours = HDBSCAN(**options).fit(x)
    same(ours.labels_, theirs.labels_)
    np.testing.assert_allclose(ours.probabilities_, theirs.probabilities_, rtol=1e-6)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("least", [1, 4])
def test_both_ways_find_trees_of_the_same_edges(seed, least):
    x = mixture(seed)
    brute, tree = (HDBSCAN(10, least, algorithm=algorithm).fit(x) for algorithm in ("brute", "kd_tree"))
    assert adjusted_rand_score(brute.labels_, tree.labels_) > 0.95
    points = torch.from_numpy(x)
    core = brute._core
    lengths = [np.sort(HDBSCAN(10, least, algorithm=way)._hierarchy(points, least)[1][2]) for way in ("brute", "kd_tree")]
    np.testing.assert_allclose(lengths[0], lengths[1])
    on_device = prim_on_device(points, core)[2]
    np.testing.assert_allclose(np.sort(on_device), np.sort(spanning_tree(points, core, None)[2]))


def many_features(kind):
    rng = np.random.default_rng(1)
    x = rng.normal(size=(600, 24)) + rng.normal(size=(5, 24))[rng.integers(5, size=600)] * 2
    x[:40] = rng.uniform(-6, 6, (40, 24))
    if kind == "curved":  # few dimensions, as embeddings have
        x = np.tanh(rng.random((600, 2)) @ rng.normal(size=(2, 24)) * 3)
    if kind == "copies":
        x[100:400] = x[rng.integers(100, 110, 300)]
    if kind == "far apart":  # float32 cannot tell what is near within such a cluster
        x[::2] += 1e6
    return x.astype(np.float32 if kind == "float32" else np.float64)


@pytest.mark.parametrize(
    ("kind", "least"), [("float64", 1), ("float64", 6), ("float32", 6), ("curved", 1), ("copies", 6), ("far apart", 6)]
)
def test_groups_find_a_tree_as_short_and_scikit_learns_labels(kind, least, monkeypatch):
    monkeypatch.setattr("clustering.groups.GROUP_POINTS", 64)
    x = many_features(kind)
    points = torch.from_numpy(x)
    core, (start, end, weight) = spanning_tree_of_groups(points, least)
    np.testing.assert_allclose(core, HDBSCAN(algorithm="brute")._hierarchy(points, least)[0], rtol=1e-12)
    np.testing.assert_allclose(np.sort(weight), np.sort(spanning_tree(points, core, None)[2]), rtol=1e-12)
    lengths = np.linalg.norm(x[start].astype(float) - x[end], axis=1)
    np.testing.assert_allclose(weight, np.maximum(lengths, np.maximum(core[start], core[end])))
    ours = HDBSCAN(12, least, algorithm="groups").fit(x)
    theirs = sklearn.cluster.HDBSCAN(12, least, copy=True).fit(x)
    assert adjusted_rand_score(ours.labels_, theirs.labels_) > (0.95 if kind == "copies" else 0.999)
    assert np.array_equal(HDBSCAN(12, least, algorithm="ball_tree").fit(x).labels_, ours.labels_)


@pytest.mark.parametrize("n", [1, 2, 30])
def test_groups_take_few_points(n):
    x = torch.arange(3.0 * n).reshape(n, 3).square()
    core, (_, _, weight) = spanning_tree_of_groups(x, 1)
    assert core.tolist() == [0.0] * n
    np.testing.assert_allclose(np.sort(weight), np.sort((x[1:] - x[:-1]).double().norm(dim=1)))


def test_many_points_of_many_features_are_grouped_without_being_asked(monkeypatch):
    monkeypatch.setattr("clustering.hdbscan.FEW_POINTS", 500)
    x = many_features("float32")
    assert np.array_equal(HDBSCAN(12).fit(x).labels_, HDBSCAN(12, algorithm="groups").fit(x).labels_)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_new_points_join_their_neighbors_and_fitted_ones_keep_their_labels(metric):
    x = make_blobs(300, 3, centers=4, cluster_std=0.5, random_state=2)[0]
    model = HDBSCAN(8, metric=metric).fit(x)
    assert np.array_equal(model.predict(x), model.labels_)
    labels, strength = model.approximate_predict(x + 1e-7)
    assert np.mean(labels == model.labels_) > 0.98
    np.testing.assert_allclose(strength[labels >= 0].min() > 0, True)
    if metric == "euclidean":
        assert model.predict([[500.0, 0, 0]])[0] == -1


def test_the_cosine_metric_is_scikit_learns():
    x = np.random.default_rng(0).normal(size=(200, 4)) + np.repeat(np.eye(4)[:2] * 9, 100, 0)
    theirs = sklearn.cluster.HDBSCAN(metric="cosine", min_cluster_size=20, copy=True).fit(x)
    assert adjusted_rand_score(HDBSCAN(20, metric="cosine").fit(x * 5).labels_, theirs.labels_) > 0.98


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_stored_centers_are_scikit_learns(metric):
    x = make_blobs(300, 3, centers=4, cluster_std=0.5, random_state=2)[0]
    theirs = sklearn.cluster.HDBSCAN(8, metric=metric, store_centers="both", copy=True).fit(x)
    ours = HDBSCAN(8, metric=metric, store_centers="both").fit(x)
    order = [int(theirs.labels_[ours.labels_ == cluster][0]) for cluster in range(len(ours.centroids_))]
    np.testing.assert_allclose(ours.centroids_, theirs.centroids_[order])
    np.testing.assert_allclose(ours.medoids_, theirs.medoids_[order])
    alone = ours.set_params(store_centers="medoid").fit(torch.from_numpy(x).float())
    assert isinstance(alone.medoids_, torch.Tensor) and alone.medoids_.dtype == torch.float32
    assert not hasattr(alone, "centroids_")
    assert HDBSCAN(200, store_centers="centroid").fit(x).centroids_.shape == (0, 3)
    with pytest.raises(ValueError, match="store_centers"):
        HDBSCAN(store_centers="mean").fit(x)


@pytest.mark.parametrize("method", ["eom", "leaf"])
def test_epsilon_merges_what_parts_at_smaller_distances(method):
    x = np.concatenate([np.random.default_rng(0).normal(c, 0.1, (50, 2)) for c in ((0, 0), (1, 0), (10, 0), (11, 0))])
    fine, coarse = (HDBSCAN(20, 3, epsilon, cluster_selection_method=method).fit(x).labels_ for epsilon in (0.0, 2.0))
    assert adjusted_rand_score(fine, np.arange(200) // 50) > 0.9
    assert adjusted_rand_score(coarse, np.arange(200) // 100) > 0.9
    assert HDBSCAN(20, 3, 50.0, cluster_selection_method=method, allow_single_cluster=True).fit(x).labels_.max() == 0


def test_outliers_score_higher_than_members():
    x = np.concatenate([make_blobs(200, 2, centers=2, cluster_std=0.3, random_state=0)[0], [[30.0, 30.0]]])
    scores = HDBSCAN(10).fit(x).outlier_scores_
    assert scores.argmax() == 200
    assert scores.min() >= 0
    assert scores.max() <= 1


def test_moons_duplicates_single_points_and_kinds():
    x, truth = make_moons(300, noise=0.04, random_state=0)
    model = HDBSCAN().fit(torch.from_numpy(x).float())
    assert adjusted_rand_score(model.labels_, truth) > 0.98
    assert isinstance(model.labels_, torch.Tensor)
    assert isinstance(HDBSCAN().fit(x.tolist()).probabilities_, np.ndarray)
    copies = np.repeat(np.eye(3), 20, 0)
    assert len(set(HDBSCAN().fit(copies).labels_)) == 3
    with pytest.raises(ValueError, match="min_samples"):
        HDBSCAN().fit(x[:3])
    assert HDBSCAN(min_samples=1).fit(x[:1]).labels_.tolist() == [-1]
    bad = {"min_cluster_size": 1, "metric": "manhattan", "cluster_selection_method": "all", "min_samples": 0}
    for name, value in bad.items():
        with pytest.raises(ValueError, match=name):
            HDBSCAN(**{name: value}).fit(x)


@pytest.mark.parametrize("value", ["yes", 2, None])
def test_a_truth_that_is_none_is_refused(value):
    with pytest.raises(ValueError, match="allow_single_cluster has to be True or False"):
        HDBSCAN(allow_single_cluster=value).fit(np.zeros((10, 2)))
