"""HDBSCAN, bisecting and balanced k-means, silhouettes and the choice of k on odd inputs, beside scikit-learn's."""

from __future__ import annotations

from typing import Any

import numpy as np
import sklearn.cluster
import sklearn.metrics
from sklearn.utils import check_array

import clustering
from experiments.harness.fuzzing.clusterings import (
    ERRORS,
    Generator,
    array,
    compared,
    differs_in_inertia,
    differs_in_partition,
    fitted_labels,
    odd,
    tolerance,
    unusable,
)
from experiments.harness.fuzzing.odd_points import odd_points
from experiments.harness.fuzzing.verdicts import Case


def hdbscan(rng: Generator, name: str) -> Case:
    what, x, _ = odd_points(rng)
    parameters = {
        "min_cluster_size": odd(rng, [5, 8], [0, 1, -1, 2.5, "3", None, 10**6]),
        "cluster_selection_epsilon": odd(rng, [0.0], [-1.0, np.nan, "1", None]),
        "cluster_selection_method": odd(rng, ["eom", "leaf"], ["best", None]),
        "allow_single_cluster": odd(rng, [False, True], ["yes", 2]),
    }

    def same(mine: Any, other: Any) -> str | None:
        """Ties of equal distances may be broken otherwise: what is compared is blobs against blobs."""
        if parameters["cluster_selection_method"] == "leaf" or unusable(x):
            return None if np.shape(mine.labels_) == np.shape(other.labels_) else "labels of another shape"
        both = (np.asarray(mine.labels_) >= 0) & (np.asarray(other.labels_) >= 0)
        return differs_in_partition(np.asarray(mine.labels_)[both], np.asarray(other.labels_)[both]) if both.any() else None

    ours = fitted_labels(clustering.HDBSCAN, x, **parameters)
    return compared(f"{name} HDBSCAN {what} {parameters}", ours, fitted_labels(sklearn.cluster.HDBSCAN, x, **parameters), same)


def bisecting(rng: Generator, name: str) -> Case:
    what, x, _ = odd_points(rng)
    parameters = {
        "n_clusters": odd(rng, [2, 3], [0, -1, 2.5, "3", None, 10**6]),
        "bisecting_strategy": odd(rng, ["biggest_inertia", "largest_cluster"], ["smallest", None]),
        "random_state": odd(rng, [0, None], [-1, "seed"]),
        "n_init": 3,
    }
    same = lambda mine, other: differs_in_inertia(mine, other, x, None, 100.0)  # noqa: E731  # a first cut may be a bad one
    ours = fitted_labels(clustering.BisectingKMeans, x, **parameters)
    reference = fitted_labels(sklearn.cluster.BisectingKMeans, x, **parameters)
    return compared(f"{name} BisectingKMeans {what} {parameters}", ours, reference, same)


def silhouettes(rng: Generator, name: str) -> Case:
    """Labels of odd types and numbers; every point's value, or their mean."""
    what, x, _ = odd_points(rng)
    n = len(x) if hasattr(x, "__len__") else 3
    good = [np.arange(n) % 2, np.arange(n) % 3 - 1, (np.arange(n) % 2).astype(str), (np.arange(n) % 2 == 0).tolist()]
    bad = [np.zeros(n), np.arange(n), np.arange(n + 1) % 2, np.full(n, np.nan), None, "ab", np.zeros((n, 2))]
    labels = good[rng.integers(len(good))] if rng.integers(3) else bad[rng.integers(len(bad))]
    whole = bool(rng.integers(2))

    def found(module: Any, points: Any) -> Any:
        return (module.silhouette_samples if whole else module.silhouette_score)(points, labels)

    def reference() -> Any:
        """What it refuses, it refuses as given; in float32 its squares of 1e30 overflow."""
        found(sklearn.metrics, x)
        return found(sklearn.metrics, array(x))

    def same(mine: Any, other: Any) -> str | None:
        off = np.abs(array(mine) - array(other)).max(initial=0)
        spread = max(float(np.ptp(array(x), axis=0).max(initial=0)), 1e-300)
        return None if off <= 1e-4 + 20 * tolerance(x) / spread else f"off by {off:g}"

    return compared(f"{name} silhouette {what} {str(labels)[:40]!r}", lambda: found(clustering, x), reference, same)


def chosen_k(rng: Generator, name: str) -> Case:
    what, x, _ = odd_points(rng)
    ks = odd(rng, [range(2, 5), [2, 3], np.array([2, 4])], [[], [0], [1.5], "23", None, [10**6]])

    def same(mine: Any, _: Any) -> str | None:
        return None if mine in list(ks) else f"{mine} is none of {ks}"

    def reference() -> Any:
        points = check_array(x, dtype=[np.float64, np.float32])
        return [sklearn.cluster.KMeans(k, n_init=1).fit(points) for k in ks]

    return compared(f"{name} choose_k {what} ks={ks!r}", lambda: clustering.choose_k(x, ks).k, reference, same)


def balanced(rng: Generator, name: str) -> Case:
    """Every cluster has its N / K points, up to 1 % and what does not divide."""
    what, x, _ = odd_points(rng)
    k = odd(rng, [2, 3], [0, -1, 2.5, "3", None, 10**6])

    def check(mine: Any) -> str | None:
        if np.ndim(x) == 3:
            return None  # independent problems, which are tested elsewhere
        if unusable(x):
            return "points that are no numbers were taken"
        sizes = np.bincount(np.asarray(mine.labels_), minlength=k)
        return (
            None
            if sizes.sum() == len(array(x)) and sizes.max() - sizes.min() <= 2 + 0.02 * sizes.mean()
            else f"sizes {sizes.tolist()}"
        )

    def fit() -> Any:
        return clustering.KMeans(k, algorithm="balanced").fit(x)

    return Case(f"{name} balanced KMeans {what} k={k!r}", fit, ERRORS, check, scikit_learns=True)


MORE = (hdbscan, bisecting, silhouettes, chosen_k, balanced)
