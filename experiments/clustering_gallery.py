"""What does each estimator make of the classic toy sets, beside scikit-learn's?

Six sets, of the sizes and with the parameters of scikit-learn's own comparison figure; ours in the upper row of each
set, scikit-learn's in the lower, and the adjusted Rand index between the two labelings: 1 where they are one
partition. Where they differ, the ratio of their inertias says which is the better one. Balanced k-means has no
counterpart there and is compared with the plain one.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import sklearn.cluster as theirs
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image
from scipy.optimize import linear_sum_assignment
from sklearn import datasets
from sklearn.metrics import adjusted_rand_score
from sklearn.preprocessing import StandardScaler

import clustering as ours
from experiments.harness.figures import figure
from experiments.harness.runner import Context

SHEAR = np.array([[0.6, -0.6], [-0.4, 0.8]])
SIZE = 1.15  # inches of a panel's side
NOISE = "#b0b0b0"


class ToySet(NamedTuple):
    """Points (N, 2) of unit variance, and what the estimators are told of them."""

    x: np.ndarray
    clusters: int = 3
    eps: float = 0.3
    min_samples: int = 7
    min_cluster_size: int = 15
    quantile: float = 0.3


class Pair(NamedTuple):
    """An estimator of ours and scikit-learn's, made for a toy set; both get the bandwidth that scikit-learn estimates."""

    ours: Callable[[ToySet, float, int], Any]
    theirs: Callable[[ToySet, float, int], Any]


PAIRS = {
    "KMeans": Pair(
        lambda s, h, seed: ours.KMeans(s.clusters, n_init=10, random_state=seed),
        lambda s, h, seed: theirs.KMeans(s.clusters, n_init=10, random_state=seed),
    ),
    "KMeans, balanced": Pair(
        lambda s, h, seed: ours.KMeans(s.clusters, n_init=10, random_state=seed, algorithm="balanced"),
        lambda s, h, seed: theirs.KMeans(s.clusters, n_init=10, random_state=seed),
    ),
    "MiniBatchKMeans": Pair(
        lambda s, h, seed: ours.MiniBatchKMeans(s.clusters, random_state=seed),
        lambda s, h, seed: theirs.MiniBatchKMeans(s.clusters, random_state=seed),
    ),
    "BisectingKMeans": Pair(
        lambda s, h, seed: ours.BisectingKMeans(s.clusters, n_init=5, random_state=seed),
        lambda s, h, seed: theirs.BisectingKMeans(s.clusters, n_init=5, random_state=seed),
    ),
    "MeanShift": Pair(
        lambda s, h, seed: ours.MeanShift(h, kernel="flat", neighbors="radius", blurring=False),
        lambda s, h, seed: theirs.MeanShift(bandwidth=h),
    ),
    "DBSCAN": Pair(
        lambda s, h, seed: ours.DBSCAN(s.eps, min_samples=s.min_samples),
        lambda s, h, seed: theirs.DBSCAN(eps=s.eps, min_samples=s.min_samples),
    ),
    "HDBSCAN": Pair(
        lambda s, h, seed: ours.HDBSCAN(min_cluster_size=s.min_cluster_size, min_samples=3),
        lambda s, h, seed: theirs.HDBSCAN(min_cluster_size=s.min_cluster_size, min_samples=3, copy=True),
    ),
}


def run(context: Context) -> dict[str, Any]:
    sets = toy_sets(150 if context.quick else 500, context.seed)
    made, axes = figure(len(PAIRS), 2 * len(sets), SIZE, SIZE)
    found: dict[str, dict[str, Any]] = {}
    for row, (name, toy) in enumerate(sets.items()):
        bandwidth = theirs.estimate_bandwidth(toy.x, quantile=toy.quantile)
        found[name] = {}
        for column, (title, pair) in enumerate(PAIRS.items()):
            upper, lower = (axes[(2 * row + below) * len(PAIRS) + column] for below in (0, 1))
            own, reference = (make(toy, bandwidth, context.seed).fit(toy.x) for make in pair)
            found[name][title] = compare(own, reference)
            draw(upper, toy.x, own.labels_, note(found[name][title]))
            draw(lower, toy.x, named_alike(reference.labels_, own.labels_), "")
            if row == 0:
                upper.set_title(title, fontsize=7)
            if column == 0:
                upper.set_ylabel(f"{name}\nours", fontsize=7)
                lower.set_ylabel("scikit-learn", fontsize=7)
    save(made, context.path("comparison.png"))
    return {"points": len(toy.x), "pairs": found}


def compare(own: Any, reference: Any) -> dict[str, float]:
    """How alike two fitted estimators' partitions are and, where both minimize it, our inertia over theirs."""
    found = {"adjusted_rand_index": float(adjusted_rand_score(reference.labels_, own.labels_))}
    if hasattr(own, "inertia_"):
        found["inertia_ratio"] = float(own.inertia_ / reference.inertia_)
    return found


def note(found: dict[str, float]) -> str:
    """What a panel says: the adjusted Rand index, and the ratio of inertias where partitions differ."""
    score, ratio = found["adjusted_rand_index"], found.get("inertia_ratio")
    return f"{score:.2f}" + (f", inertia × {ratio:.3f}" if ratio is not None and score < 0.995 else "")


def toy_sets(n: int, seed: int) -> dict[str, ToySet]:
    """The six sets, n points each, scaled to unit variance."""
    blobs = datasets.make_blobs(n, random_state=8 + seed)[0]
    varied = datasets.make_blobs(n, cluster_std=[1.0, 2.5, 0.5], random_state=170 + seed)[0]
    drawn = {
        "noisy circles": ToySet(
            datasets.make_circles(n, factor=0.5, noise=0.05, random_state=30 + seed)[0], 2, quantile=0.2, min_samples=7
        ),
        "noisy moons": ToySet(datasets.make_moons(n, noise=0.05, random_state=30 + seed)[0], 2, min_samples=7),
        "varied": ToySet(varied, eps=0.18, min_samples=7, quantile=0.2),
        "aniso": ToySet(datasets.make_blobs(n, random_state=170 + seed)[0] @ SHEAR, eps=0.15, quantile=0.2),
        "blobs": ToySet(blobs, min_samples=7, quantile=0.2),
        "no structure": ToySet(np.random.RandomState(30 + seed).rand(n, 2)),
    }
    return {name: toy._replace(x=StandardScaler().fit_transform(toy.x)) for name, toy in drawn.items()}


def named_alike(labels: np.ndarray, like: np.ndarray) -> np.ndarray:
    """Labels renumbered so that clusters that share the most points with one of `like` have its number."""
    own, other = np.unique(labels[labels >= 0]), np.unique(like[like >= 0])
    shared = np.array([[np.sum((labels == a) & (like == b)) for b in other] for a in own]).reshape(len(own), len(other))
    rows, columns = linear_sum_assignment(-shared)
    names = dict(zip(own[rows], other[columns], strict=True))
    unused = int(other.max(initial=-1)) + 1
    for label in own:
        if label not in names:
            names[label], unused = unused, unused + 1
    return np.array([names[label] if label >= 0 else -1 for label in labels])


def draw(ax: Axes, x: np.ndarray, labels: np.ndarray, note: str) -> None:
    """One panel: points colored by cluster, noise gray, a note in the corner."""
    colors = [NOISE if label < 0 else colormaps["tab10"](int(label) % 10) for label in labels]
    ax.scatter(x[:, 0], x[:, 1], s=1.2, c=colors, linewidths=0)
    ax.set(xticks=[], yticks=[], xlim=(-3, 3), ylim=(-3, 3))
    ax.text(0.97, 0.03, note, transform=ax.transAxes, ha="right", fontsize=6)


def save(made: Figure, path: Path) -> None:
    """The figure as a PNG of 64 colors, a third of the size of a full one."""
    buffer = io.BytesIO()
    made.savefig(buffer, format="png", dpi=110)
    Image.open(buffer).convert("RGB").quantize(64, dither=Image.Dither.NONE).save(path, optimize=True)
