"""DBSCAN: scikit-learn's labels up to renaming, whatever search lies beneath."""

import numpy as np
import pytest
import sklearn.cluster
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import make_moons
from sklearn.utils.estimator_checks import check_estimator

from clustering import DBSCAN
from clustering.region_finders import merge_regions, settled

NOT_HERE = {"check_sample_weights_pandas_series", "check_array_api_input"}  # need pandas and SCIPY_ARRAY_API


def test_scikit_learns_own_checks_pass():
    results = check_estimator(DBSCAN(), on_skip=None)
    assert {r["check_name"] for r in results if r["status"] != "passed"} <= NOT_HERE


@pytest.mark.parametrize("algorithm", ["auto", "brute", "kd_tree", "ball_tree", "grid"])
@pytest.mark.parametrize("eps", [0.05, 0.12, 0.3])
@pytest.mark.parametrize("weighted", [False, True])
def test_labels_equal_scikit_learns(algorithm, eps, weighted):
    x, _ = make_moons(700, noise=0.08, random_state=0)
    weights = np.random.default_rng(0).integers(1, 4, 700) if weighted else None
    ours = DBSCAN(eps, 6, algorithm=algorithm).fit(x, sample_weight=weights)
    theirs = sklearn.cluster.DBSCAN(eps=eps, min_samples=6).fit(x, sample_weight=weights)
    np.testing.assert_array_equal(ours.labels_, theirs.labels_)
    np.testing.assert_array_equal(ours.core_sample_indices_, theirs.core_sample_indices_)
    np.testing.assert_array_equal(ours.components_, theirs.components_)


@given(st.integers(0, 10_000), st.sampled_from([0.2, 0.5, 1.0]), st.integers(1, 8))
def test_labels_equal_scikit_learns_on_random_points(seed, eps, least):
    x = np.random.default_rng(seed).normal(size=(120, 2))
    expected = sklearn.cluster.DBSCAN(eps=eps, min_samples=least).fit(x).labels_
    np.testing.assert_array_equal(DBSCAN(eps, least).fit(x).labels_, expected)


def test_a_chain_is_one_region_however_its_points_are_numbered():
    order = torch.randperm(5000, generator=torch.Generator().manual_seed(0))
    pairs = torch.stack([order[:-1], order[1:]])
    both = torch.cat([pairs, pairs.flip(0)], 1)
    assert bool((settled(merge_regions(torch.arange(5000), both[0], both[1])) == 0).all())
    none = torch.empty(0, dtype=torch.int64)
    assert merge_regions(torch.arange(3), none, none).tolist() == [0, 1, 2]


def test_half_precision_and_kind_of_array():
    x, _ = make_moons(300, noise=0.04, random_state=0)
    labels = DBSCAN(0.25).fit(torch.from_numpy(x).half()).labels_
    assert isinstance(labels, torch.Tensor)
    assert labels.unique().tolist() == [0, 1]


def test_all_noise_and_bad_parameters():
    x = torch.arange(5.0)[:, None] * 10
    assert DBSCAN(1.0, 2).fit(x).labels_.tolist() == [-1] * 5
    for name, value in {"eps": 0.0, "min_samples": 0, "metric": "manhattan", "algorithm": "kdtree"}.items():
        with pytest.raises(ValueError, match=name):
            DBSCAN(**{name: value}).fit(x)
    with pytest.raises(ValueError, match="NaN"):
        DBSCAN().fit(torch.full((3, 2), torch.nan))


@pytest.mark.parametrize("algorithm", ["auto", "brute", "kd_tree", "ball_tree"])
@pytest.mark.parametrize("d", [2, 6, 20])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_duplicates_and_points_at_exactly_eps_are_neighbors(algorithm, d, dtype):
    x = np.tile(np.random.default_rng(0).normal(size=(30, d)) + 500, (5, 1)).astype(dtype)
    expected = np.arange(150) % 30
    assert np.array_equal(DBSCAN(1e-9, 3, algorithm=algorithm).fit(x).labels_, expected)
    grid = np.random.default_rng(1).integers(0, 5, (200, d)).astype(dtype)
    theirs = sklearn.cluster.DBSCAN(eps=d**0.5, min_samples=4, algorithm="kd_tree").fit(grid)
    assert np.array_equal(DBSCAN(d**0.5, 4, algorithm=algorithm).fit(grid).labels_, theirs.labels_)


@pytest.mark.parametrize("algorithm", ["auto", "brute", "kd_tree", "grid"])
@pytest.mark.parametrize("weighted", [False, True])
def test_predict_gives_the_fitted_points_their_labels_and_new_ones_by_the_same_rule(algorithm, weighted):
    x, _ = make_moons(400, noise=0.08, random_state=0)
    weights = np.random.default_rng(0).uniform(-0.2, 2, 400) if weighted else None
    model = DBSCAN(0.1, 5, algorithm=algorithm).fit(x, sample_weight=weights)
    assert np.array_equal(model.labels_, sklearn.cluster.DBSCAN(eps=0.1, min_samples=5).fit(x, sample_weight=weights).labels_)
    assert np.array_equal(model.predict(x), model.labels_)
    assert model.predict(x[model.core_sample_indices_[:1]] + 1e-6)[0] == model.labels_[model.core_sample_indices_[0]]
    assert model.predict([[50.0, 50.0]])[0] == -1
    assert DBSCAN(1e-6).fit(x).predict(x[:3]).tolist() == [-1] * 3


@pytest.mark.parametrize("d", [3, 30])
def test_the_cosine_metric_is_scikit_learns(d):
    x = np.random.default_rng(0).normal(size=(300, d)) + np.repeat(np.eye(d)[:3] * 8, 100, 0)
    theirs = sklearn.cluster.DBSCAN(eps=0.03 * d**0.5, metric="cosine").fit(x)
    assert np.array_equal(DBSCAN(0.03 * d**0.5, metric="cosine").fit(x * 3).labels_, theirs.labels_)


@pytest.mark.parametrize("d", [2, 20])
def test_many_features_and_few_points_a_chunk_change_nothing(d, monkeypatch):
    from clustering import engines, region_finders

    monkeypatch.setattr(engines, "CHUNK_BYTES", 1 << 16)
    monkeypatch.setattr(region_finders, "PAIRS", 500)
    monkeypatch.setattr(region_finders, "BLOCK_ROWS", 7)
    monkeypatch.setattr(region_finders, "BLOCK_BYTES", 7 * 8 * 50)
    x = np.random.default_rng(0).normal(size=(600, d)) + np.repeat(np.random.default_rng(1).normal(size=(6, d)) * 9, 100, 0)
    theirs = sklearn.cluster.DBSCAN(eps=1.2 * d**0.5).fit(x)
    for algorithm in ("brute", "ball_tree", "kd_tree"):
        assert np.array_equal(DBSCAN(1.2 * d**0.5, algorithm=algorithm).fit(x).labels_, theirs.labels_)
    weights = np.random.default_rng(2).uniform(0, 1, 600)
    theirs = sklearn.cluster.DBSCAN(eps=1.2 * d**0.5).fit(x, sample_weight=weights)
    for algorithm in ("brute", "ball_tree", "kd_tree"):
        ours = DBSCAN(1.2 * d**0.5, algorithm=algorithm).fit(x, sample_weight=weights)
        assert np.array_equal(ours.labels_, theirs.labels_)
