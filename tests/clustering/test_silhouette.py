"""Silhouettes equal scikit-learn's, in bounded memory, and the number of clusters that data was made with is found."""

import numpy as np
import pytest
import sklearn.cluster
import sklearn.metrics
import torch
from sklearn.datasets import make_blobs

from clustering import KMeans, choose_k, pairwise, silhouette_samples, silhouette_score

X, TRUTH = make_blobs(400, 3, centers=[[0, 0, 0], [10, 0, 0], [0, 10, 0], [7, 7, 7]], random_state=0)
RNG = np.random.default_rng(0)


@pytest.mark.parametrize("features", [2, 3, 30])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("metric", ["euclidean", "sqeuclidean", "cosine"])
def test_samples_are_scikit_learns(features, dtype, metric, monkeypatch):
    monkeypatch.setattr("clustering.silhouette.distance_chunks", lambda *a: pairwise.distance_chunks(*a, max_bytes=1 << 16))
    x = RNG.normal(1, 1, (150, features)).astype(dtype)
    x[3] = 0
    labels = RNG.integers(-1, 5, 150)
    labels[7] = 99  # alone
    found = silhouette_samples(x, labels, metric=metric)
    assert found.dtype == x.dtype and found[7] == 0
    expected = sklearn.metrics.silhouette_samples(x.astype("f8"), labels, metric=metric)
    np.testing.assert_allclose(found, expected, atol=1e-4 if dtype == "f4" else 1e-10)
    score = silhouette_score(torch.tensor(x), torch.tensor(labels), metric=metric)
    assert score == pytest.approx(expected.mean(), abs=1e-4)


def test_precomputed_distances_and_labels_of_any_kind():
    far = sklearn.metrics.pairwise_distances(X[:90])
    names = np.array(["a", "b", "c", "d"])[TRUTH[:90]]
    expected = sklearn.metrics.silhouette_samples(X[:90], names)
    np.testing.assert_allclose(silhouette_samples(far, names, metric="precomputed"), expected)
    np.testing.assert_allclose(silhouette_samples(X[:90].tolist(), list(names)), expected)
    score = silhouette_score(far, names, metric="precomputed", sample_size=80, random_state=1)
    assert score == silhouette_score(far, names, metric="precomputed", sample_size=80, random_state=1)
    assert score == pytest.approx(silhouette_score(X[:90], names, sample_size=80, random_state=1))


def test_points_that_all_coincide_have_no_silhouette():
    assert silhouette_samples(torch.zeros(4, 2), torch.tensor([0, 0, 1, 1])).tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize("labels", [np.zeros(10), np.arange(10), np.zeros(9), np.zeros((10, 1)) + 1, [np.nan] * 10])
def test_labels_are_refused_in_scikit_learns_words(labels):
    x = RNG.normal(size=(10, 2))
    with pytest.raises(ValueError) as theirs:
        sklearn.metrics.silhouette_samples(x, labels if np.ndim(labels) == 1 else np.ones((10, 2)))
    with pytest.raises(ValueError) as ours:
        silhouette_samples(x, labels)
    assert str(ours.value).split()[:4] == str(theirs.value).split()[:4]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"metric": "manhattan"}, "'metric' parameter"),
        ({"sample_size": 0}, "'sample_size' parameter"),
        ({"sample_size": 401}, "'sample_size' parameter"),
        ({"metric": "precomputed"}, "square"),
    ],
)
def test_options_are_refused_by_name(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        silhouette_score(X, TRUTH, **options)
    with pytest.raises(ValueError, match="non-zero elements on the diagonal"):
        silhouette_score(np.ones((3, 3)), [0, 0, 1], metric="precomputed")


@pytest.mark.parametrize("kind", [np.asarray, torch.tensor])
def test_every_criterion_finds_the_clusters_of_blobs(kind, tmp_path):
    found = choose_k(kind(X), range(1, 8), n_references=4)
    assert found.k == found.by("silhouette") == found.by("elbow") == found.by("gap") == 4
    assert repr(found) == repr(choose_k(kind(X), range(1, 8), n_references=4))
    assert np.isnan(found.silhouettes[0]) and len(found.gaps) == len(found.gap_errors) == len(found.ks) == 7
    best = KMeans(4, n_init=5).fit(X)
    assert found.silhouettes[3] == pytest.approx(sklearn.metrics.silhouette_score(X, best.labels_))
    assert found.plot(tmp_path / "k.png").read_bytes()[1:4] == b"PNG"
    with pytest.raises(ValueError, match=r"k.txt: choose a name that ends in .png"):
        found.plot(tmp_path / "k.txt")


def test_points_without_structure_are_one_cluster_by_the_gap():
    x = np.random.default_rng(1).uniform(size=(200, 2))
    assert choose_k(x, range(1, 5), criterion="gap", n_references=8).k == 1


def test_a_sample_and_an_estimator_of_the_users_own():
    found = choose_k(X, [2, 4, 6], sample_size=100, n_references=0, estimator=KMeans(init="random", n_init=8, spherical=True))
    assert found.gaps == () and len(found.inertias) == 3
    with pytest.raises(ValueError, match="n_references"):
        found.by("gap")


@pytest.mark.parametrize(
    ("ks", "options", "sentence"),
    [
        ([0], {}, "'ks' parameter"),
        ([2.5], {}, "'ks' parameter"),
        ([401], {}, r"n_samples=400 should be >= n_clusters=401\."),
        ([], {}, "ks is empty"),
        ([2], {"criterion": "aic"}, "unknown criterion 'aic'"),
        ([2], {"n_references": -1}, "'n_references' parameter"),
    ],
)
def test_what_cannot_be_tried_is_refused(ks, options, sentence):
    with pytest.raises(ValueError, match=sentence):
        choose_k(X, ks, **options)


def test_choose_k_takes_estimators_of_scikit_learn_and_gives_them_arrays():
    x = torch.tensor(X, dtype=torch.float32)
    ours = choose_k(x, range(2, 7), n_references=3)
    theirs = choose_k(x, range(2, 7), n_references=3, estimator=sklearn.cluster.KMeans(n_init=5, random_state=0))
    assert theirs.k == ours.k == 4
    np.testing.assert_allclose(theirs.inertias[:3], ours.inertias[:3], rtol=1e-3)
    assert choose_k(x.bfloat16(), [2, 4], n_references=0, estimator=sklearn.cluster.KMeans(n_init=5, random_state=0)).k == 4


@pytest.mark.parametrize(("dtype", "most"), [(torch.float16, 60000.0), (torch.bfloat16, 3e38), (torch.float32, 3e38)])
def test_references_fill_boxes_longer_than_the_largest_number(dtype, most):
    x = torch.tensor([[-most], [-most * 0.99], [-most * 0.98], [most], [most * 0.99], [most * 0.98]]).to(dtype)
    found = choose_k(x, [1, 2, 3], criterion="gap", n_references=5)
    assert np.isfinite(found.gaps).all() and np.isfinite(found.inertias).all()
    assert found.gaps[1] > found.gaps[0] and found.k == 2
