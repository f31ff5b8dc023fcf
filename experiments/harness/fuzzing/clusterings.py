"""Estimators on odd points, weights and parameters, beside scikit-learn: the same result, or a ValueError or TypeError.

Points lie in clear blobs, so that there is one right answer; then their type, their order in memory, their scale or
single values are made odd. Where scikit-learn refuses, a result of ours is a finding.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import sklearn.cluster
import sklearn.neighbors
from sklearn.metrics import adjusted_rand_score
from sklearn.utils import check_array

import clustering
from experiments.harness.fuzzing.odd_points import odd_points, odd_weights
from experiments.harness.fuzzing.verdicts import Case, Part, watch

ERRORS = (ValueError, TypeError)
Generator = np.random.Generator


class Refused(Exception):
    """scikit-learn gives no result."""


def run(count: int, seed: int) -> Part:
    """The verdict on that many inputs of estimators."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return watch("clusterings", seed, cases(count, seed))


def cases(count: int, seed: int) -> Iterator[Case]:
    from experiments.harness.fuzzing.more_clusterings import MORE  # which compares as this module does

    kinds = (kmeans, minibatch, mean_shift, dbscan, dbscan, nearest, nearest, within_radius, seeding, *MORE)
    for i in range(count):
        rng = np.random.default_rng((seed, i))
        yield kinds[i % len(kinds)](rng, f"{seed}/{i}")


def build(kind: type, **parameters: Any) -> Any:
    """An estimator with those of the parameters that it knows."""
    known = inspect.signature(kind).parameters
    return kind(**{name: value for name, value in parameters.items() if name in known})


def theirs(compute: Callable[[], Any]) -> Any:
    """scikit-learn's result; Refused where it has none."""
    try:
        return compute()
    except Exception as error:
        raise Refused(str(error)) from error


def compared(
    name: str,
    ours: Callable[[], Any],
    reference: Callable[[], Any],
    same: Callable[[Any, Any], str | None],
    batches: bool = False,
) -> Case:
    """Ours beside scikit-learn's. batches: points (B, N, D), which it refuses, are independent problems for ours."""

    def check(result: Any) -> str | None:
        try:
            expected = theirs(reference)
        except Refused as refused:
            if "too large for dtype('float32')" in str(refused):
                return None  # a limit of its float32; ours may go on
            if batches and "array with dim 3" in str(refused):
                return None
            return f"scikit-learn refuses: {str(refused).splitlines()[0][:150]}"
        return same(result, expected)

    return Case(name, ours, ERRORS, check, scikit_learns=True)


def array(values: Any) -> np.ndarray:
    return np.asarray(values, np.float64)


def tolerance(x: Any) -> float:
    """What a distance may be off by: a few roundings of the largest coordinate in the points' own type."""
    points = np.asarray(x)
    precise = points.dtype.kind in "iub" or points.dtype.itemsize >= 8 or points.dtype.kind == "O"
    largest = float(np.abs(points.astype(np.float64)).max(initial=0))
    return max(1e-12, largest * (1e-6 if precise else 2e-3 if points.dtype.itemsize == 2 else 1e-5))


def fitted_labels(kind: type, x: Any, weights: Any = None, **parameters: Any) -> Callable[[], Any]:
    return lambda: build(kind, **parameters).fit(x, **({} if weights is None else {"sample_weight": weights}))


def kmeans(rng: Generator, name: str) -> Case:
    what, x, _ = odd_points(rng)
    told, weights = odd_weights(rng, x)
    k = odd(rng, [2, 3, 4, np.int64(3)], [0, -1, 2.5, "3", None, 10**6, np.nan, True])
    state = odd(rng, [0, 1, np.int64(5), None, 2**32 - 1], [-1, 2.5, "seed", 2**70])
    parameters = {"n_clusters": k, "n_init": 10, "random_state": state}
    ours = fitted_labels(clustering.KMeans, x, weights, **parameters)
    reference = fitted_labels(sklearn.cluster.KMeans, x, weights, **parameters)
    same = lambda mine, other: differs_in_inertia(mine, other, x, weights, 1.02)  # noqa: E731
    return compared(f"{name} KMeans {what} {told} k={k!r} random_state={state!r}", ours, reference, same, batches=True)


def minibatch(rng: Generator, name: str) -> Case:
    what, x, _ = odd_points(rng)
    told, weights = odd_weights(rng, x)
    k = odd(rng, [2, 3], [0, -1, 2.5, "3", None, 10**6])
    parameters = {"n_clusters": k, "random_state": 0, "batch_size": odd(rng, [50, 1024], [0, -5, 2.5])}
    ours = fitted_labels(clustering.MiniBatchKMeans, x, weights, **parameters)
    reference = fitted_labels(sklearn.cluster.MiniBatchKMeans, x, weights, n_init=3, **parameters)
    same = lambda mine, other: differs_in_inertia(mine, other, x, weights, 100.0)  # noqa: E731  # one start may be a bad one
    return compared(f"{name} MiniBatchKMeans {what} {told} {parameters}", ours, reference, same)


def odd(rng: Generator, good: list[Any], bad: list[Any]) -> Any:
    """A good value three times out of four."""
    values = bad if rng.integers(4) == 0 else good
    return values[rng.integers(len(values))]


def differs_in_inertia(mine: Any, other: Any, x: Any, weights: Any, factor: float) -> str | None:
    """Centers are finite, within the points' box, and no worse than scikit-learn's; labels name the nearest."""
    points = array(x)
    one = np.ones(len(points)) if weights is None else np.broadcast_to(array(weights), len(points))
    slack = tolerance(x)
    centers = array(mine.cluster_centers_)
    if not np.isfinite(centers).all():
        return "centers are not finite"
    if (centers < points.min(0) - slack).any() or (centers > points.max(0) + slack).any():
        return "a center lies outside the points' box"
    distances = np.linalg.norm(points[:, None] - centers[None], axis=-1)
    if (distances[np.arange(len(points)), np.asarray(mine.labels_)] > distances.min(1) + 2 * slack).any():
        return "a label is not the nearest center's"
    best = np.linalg.norm(points[:, None] - array(other.cluster_centers_)[None], axis=-1).min(1)
    got, expected = float((one * distances.min(1) ** 2).sum()), float((one * best**2).sum())
    allowed = factor * expected + float(one.sum()) * slack * (slack + 2 * float(np.sqrt(expected / max(one.sum(), 1e-300))))
    return f"inertia {got:g}, scikit-learn {expected:g}" if got > allowed else None


def mean_shift(rng: Generator, name: str) -> Case:
    what, x, scale = odd_points(rng)
    bandwidth = odd(rng, [5 * scale], [0, -1.0, np.nan, np.inf, "5"])
    same = lambda mine, other: differs_in_partition(mine.labels_, other.labels_)  # noqa: E731
    ours = fitted_labels(clustering.MeanShift, x, bandwidth=bandwidth, kernel="flat")  # scikit-learn's
    reference = fitted_labels(sklearn.cluster.MeanShift, x, bandwidth=bandwidth)
    return compared(f"{name} MeanShift {what} bandwidth={bandwidth!r}", ours, reference, same)


def differs_in_partition(mine: Any, other: Any) -> str | None:
    mine, other = np.asarray(mine), np.asarray(other)
    if mine.shape != other.shape:
        return f"labels of shape {mine.shape}, scikit-learn {other.shape}"
    agree = adjusted_rand_score(other, mine)
    return f"{len(set(mine))} groups, scikit-learn {len(set(other))}, adjusted Rand {agree:.2f}" if agree < 0.999 else None


def dbscan(rng: Generator, name: str) -> Case:
    what, x, scale = odd_points(rng)
    told, weights = odd_weights(rng, x)
    eps = odd(rng, [3 * scale, 0.4 * scale], [0, -1.0, np.nan, np.inf, "1", None])
    parameters = {"eps": eps, "min_samples": odd(rng, [1, 3, 5], [0, -1, 2.5, "3", None])}
    slack = None if unusable(x) or not isinstance(eps, float) else near_boundary(x, eps)

    def same(mine: Any, other: Any) -> str | None:
        if slack:
            return None  # a pair lies at eps up to rounding: either answer is right
        noise = (np.asarray(mine.labels_) == -1) != (np.asarray(other.labels_) == -1)
        core = np.array_equal(np.asarray(mine.core_sample_indices_), np.asarray(other.core_sample_indices_))
        cores = np.asarray(other.core_sample_indices_)
        if not core or noise.any():
            return f"{int(noise.sum())} points are noise to one of both, core samples {'alike' if core else 'differ'}"
        return differs_in_partition(np.asarray(mine.labels_)[cores], np.asarray(other.labels_)[cores]) if len(cores) else None

    ours = fitted_labels(clustering.DBSCAN, x, weights, **parameters)
    return compared(
        f"{name} DBSCAN {what} {told} {parameters}", ours, fitted_labels(sklearn.cluster.DBSCAN, x, weights, **parameters), same
    )


def unusable(x: Any) -> bool:
    try:
        points = None if np.iscomplexobj(x) else array(x)
    except ERRORS:
        return True
    return points is None or points.ndim != 2 or points.size == 0 or not np.isfinite(points).all()


def near_boundary(x: Any, radius: float) -> bool:
    points = array(x)
    distances = np.linalg.norm(points[:, None] - points[None], axis=-1)
    return bool((abs(distances - radius) <= tolerance(x)).any())


def nearest(rng: Generator, name: str) -> Case:
    what, x, _ = odd_points(rng)
    k = odd(rng, [1, 3, 5], [0, -1, 2.5, "3", None, 10**6])
    queries = x if rng.integers(2) else None

    def found(kind: type) -> Callable[[], Any]:
        return lambda: build(kind, n_neighbors=k).fit(x).kneighbors(queries)

    def same(mine: Any, other: Any) -> str | None:
        if np.shape(mine[0]) != np.shape(other[0]):
            return f"shape {np.shape(mine[0])}, scikit-learn {np.shape(other[0])}"
        expected = array(other[0])
        known = np.isfinite(expected)  # in many features its squares of 1e30 overflow float32
        off = abs(array(mine[0]) - expected)[known].max(initial=0)
        if not off <= tolerance(x):
            return f"distances are off by {off:g}, {tolerance(x):g} is rounding"
        points = array(x)
        true = np.linalg.norm(points[:, None] - points[np.asarray(mine[1])], axis=-1)
        return None if (abs(true - array(mine[0])) <= tolerance(x)).all() else "indices do not name the points at those distances"

    ours, reference = found(clustering.NearestNeighbors), found(sklearn.neighbors.NearestNeighbors)
    return compared(
        f"{name} kneighbors {what} k={k!r} of {'x' if queries is not None else None}", ours, reference, same, batches=True
    )


def within_radius(rng: Generator, name: str) -> Case:
    what, x, scale = odd_points(rng)
    radius = odd(rng, [2.1 * scale, 0.3 * scale, 50 * scale], [-1.0, np.nan, np.inf, "1", 0.0])
    boundary = not unusable(x) and isinstance(radius, float) and near_boundary(x, radius)

    def found(kind: type) -> Callable[[], Any]:
        return lambda: build(kind).fit(x).radius_neighbors(x, radius)

    def same(mine: Any, other: Any) -> str | None:
        if boundary and radius != 0:
            return None
        points = array(x)  # at radius 0 its expanded squares may tell equal points apart
        expected = [np.flatnonzero((points == row).all(1)) for row in points] if radius == 0 else other[1]
        wrong = sum(set(np.asarray(a).tolist()) != set(b.tolist()) for a, b in zip(mine[1], expected, strict=True))
        return f"{wrong} rows have other neighbors" if wrong else None

    ours, reference = found(clustering.NearestNeighbors), found(sklearn.neighbors.NearestNeighbors)
    return compared(f"{name} radius_neighbors {what} radius={radius!r}", ours, reference, same, batches=True)


def seeding(rng: Generator, name: str) -> Case:
    what, x, _ = odd_points(rng)
    k = odd(rng, [1, 3], [0, -1, 2.5, "3", 10**6])

    def same(mine: Any, _: Any) -> str | None:
        centers = array(mine[0] if isinstance(mine, tuple) else mine)
        nearest_point = np.linalg.norm(array(x)[:, None] - centers[None], axis=-1).min(0)
        return None if (nearest_point <= tolerance(x)).all() and len(centers) == k else "a seed is none of the points"

    def reference() -> Any:
        return sklearn.cluster.kmeans_plusplus(check_array(x, dtype=[np.float64, np.float32]), k, random_state=0)

    return compared(f"{name} kmeans_plusplus {what} k={k!r}", lambda: clustering.kmeans_plusplus(x, k), reference, same)
