"""Bisecting k-means: as good as scikit-learn's on the same data, and its labels are those of its tree."""

import numpy as np
import pytest
import sklearn.cluster
import torch
from sklearn.datasets import make_blobs
from sklearn.metrics import adjusted_rand_score
from sklearn.utils.estimator_checks import check_estimator

from clustering import BisectingKMeans

NOT_HERE = {"check_sample_weights_pandas_series", "check_array_api_input"}
CHECKED = {"check_sample_weight_equivalence_on_dense_data": "random starts depend on the number of rows, as in scikit-learn's"}
X, TRUTH = make_blobs([50] * 4, 2, centers=[[0, 0], [20, 0], [0, 30], [20, 34]], random_state=0)


def test_scikit_learns_own_checks_pass():
    results = check_estimator(BisectingKMeans(), expected_failed_checks=CHECKED, on_skip=None)
    assert {r["check_name"] for r in results if r["status"] == "skipped"} <= NOT_HERE


@pytest.mark.parametrize("strategy", ["biggest_inertia", "largest_cluster"])
@pytest.mark.parametrize("init", ["random", "k-means++"])
def test_clusters_are_scikit_learns(strategy, init):
    options = {"n_clusters": 4, "bisecting_strategy": strategy, "init": init, "n_init": 5, "random_state": 0}
    ours, theirs = BisectingKMeans(**options).fit(X), sklearn.cluster.BisectingKMeans(**options).fit(X)
    assert adjusted_rand_score(ours.labels_, theirs.labels_) == adjusted_rand_score(ours.labels_, TRUTH) == 1
    assert ours.inertia_ == pytest.approx(theirs.inertia_)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("spherical", [False, True])
def test_predict_goes_down_the_tree(dtype, spherical):
    x = torch.randn(300, 5, generator=torch.Generator().manual_seed(0)).to(dtype)
    model = BisectingKMeans(9, spherical=spherical).fit(x)
    assert torch.equal(model.predict(x), model.labels_)
    assert model.cluster_centers_.dtype == dtype and len(model.labels_.unique()) == 9


def test_duplicates_and_parameters():
    assert BisectingKMeans(3).fit(np.ones((5, 2))).inertia_ == 0
    for options in ({"bisecting_strategy": "best"}, {"init": X[:8]}, {"copy_x": 3}, {"n_init": 0}, {"algorithm": "balanced"}):
        with pytest.raises(ValueError, match=f"The '{next(iter(options))}' parameter of BisectingKMeans must be"):
            BisectingKMeans(**options).fit(X)
