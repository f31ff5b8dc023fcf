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
from clustering.dbscan import merge_regions, settled

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
