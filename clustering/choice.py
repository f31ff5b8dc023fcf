"""How many clusters: the elbow of the inertia, the silhouette and the gap statistic, for each k that is asked about.

In: points (N, D) and numbers of clusters; out: a `KSelection` with every figure, what each criterion chooses, and a
picture. Sources: Thorndike (1953) for the elbow, found as the point farthest below the chord (Satopää et al., 2011);
Rousseeuw (1987) for the silhouette; Tibshirani, Walther and Hastie (2001) for the gap.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator, clone
from torch import Tensor

from clustering.arrays import compute_dtype, read_points
from clustering.kmeans import KMeans
from clustering.params import generator_on, seed_from, whole
from clustering.persistence import Persistent
from clustering.silhouette import silhouette_score

CRITERIA = ("silhouette", "elbow", "gap")
PICTURES = (".png", ".svg", ".pdf", ".jpg", ".webp")
MOST_SILHOUETTES = 10_000  # points that the silhouette looks at unless told otherwise: its time grows with their square


@dataclass(frozen=True)
class KSelection:
    """What `choose_k` found; the figures are in the order of `ks`.

    Attributes:
        ks: numbers of clusters, rising.
        inertias: sums of squared distances to the centers.
        silhouettes: mean silhouettes; NaN for k = 1.
        gaps: how much smaller log(inertia) is than that of points without structure; empty without references.
        gap_errors: standard errors of the gaps, those of a finite number of references included.
        criterion: the one that k was chosen by.
    """

    ks: tuple[int, ...]
    inertias: tuple[float, ...]
    silhouettes: tuple[float, ...]
    gaps: tuple[float, ...]
    gap_errors: tuple[float, ...]
    criterion: str

    @property
    def k(self) -> int:
        """The number of clusters that the criterion chooses."""
        return self.by(self.criterion)

    def by(self, criterion: str) -> int:
        """The number of clusters that a criterion chooses.

        "silhouette": the largest. "elbow": the inertia farthest below the line from the first to the last. "gap": the
        first k whose gap reaches the next one less its standard error, or the last.
        """
        if criterion == "silhouette":
            if np.isnan(self.silhouettes).all():
                raise ValueError(
                    "the silhouette needs 2 to n_samples - 1 clusters, and no k gave so many: ask about other numbers, "
                    "unless the points are all alike"
                )
            return self.ks[int(np.nanargmax(self.silhouettes))]
        if criterion == "elbow":
            return self.ks[_elbow(np.array(self.ks), np.array(self.inertias))]
        if criterion == "gap":
            if not self.gaps:
                raise ValueError("no gaps were computed: pass n_references of at least 1 to choose_k")
            later = np.array(self.gaps[1:]) - np.array(self.gap_errors[1:])
            reached = np.flatnonzero(np.array(self.gaps[:-1]) >= later)
            return self.ks[int(reached[0]) if len(reached) else -1]
        raise ValueError(f"unknown criterion {criterion!r}: choose one of {', '.join(CRITERIA)}")

    def plot(self, path: str | Path) -> Path:
        """Draw all figures over k, with what each criterion chooses; the path's ending says the format."""
        from matplotlib.figure import Figure

        path = Path(path)
        if path.suffix.lower() not in PICTURES:
            raise ValueError(f"cannot write {path.name}: choose a name that ends in {', '.join(PICTURES)}")
        panels: list[tuple[str, str, tuple[float, ...], tuple[float, ...] | None]] = [("elbow", "inertia", self.inertias, None)]
        if not np.isnan(self.silhouettes).all():
            panels.append(("silhouette", "mean silhouette", self.silhouettes, None))
        if self.gaps:
            panels.append(("gap", "gap", self.gaps, self.gap_errors))
        figure = Figure(figsize=(4 * len(panels), 3.2), dpi=120, layout="constrained")
        for axes, (criterion, name, values, errors) in zip(
            figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True
        ):
            axes.errorbar(self.ks, values, yerr=errors, marker="o", markersize=4, capsize=2)
            axes.axvline(self.by(criterion), color="tab:red", linestyle="--")
            axes.set(xlabel="n_clusters", ylabel=name, title=f"{criterion}: {self.by(criterion)}")
            axes.xaxis.get_major_locator().set_params(integer=True)
        figure.savefig(path)
        return path


def choose_k(
    x: Any,
    ks: Iterable[int] = range(1, 11),
    *,
    criterion: str = "silhouette",
    estimator: Any = None,
    n_references: int = 10,
    sample_size: int | None = MOST_SILHOUETTES,
    random_state: Any = 0,
) -> KSelection:
    """Cluster x once for each k and compare.

    Args:
        x: points (N, D), a tensor on any device, an array, a list or a frame.
        ks: numbers of clusters to try, each from 1 to N.
        criterion: "silhouette", "elbow" or "gap"; the other figures are in the result, too.
        estimator: of this or another package, with `n_clusters`, `inertia_` and `labels_`, as `KMeans(n_init=5)` (the
            default), which is cloned.
        n_references: sets of points drawn evenly from the box around x, which the gap compares with; 0 leaves it out.
        sample_size: most points that the silhouette looks at; None: all.
        random_state: of the references and the sample: an int, RandomState, torch.Generator or None.

    Raises:
        ValueError: NaN or infinity, a k that is not from 1 to N, and parameters out of range.

    Examples:
        >>> x = torch.tensor([[0.0], [0.1], [0.2], [5.0], [5.1], [5.2], [9.0], [9.1], [9.2]])
        >>> choose_k(x, range(1, 6)).k
        3
    """
    points = read_points(BaseEstimator(), x, reset=True)
    numbers = _check(ks, len(points), criterion, n_references)
    if sample_size is not None:
        sample_size = whole(sample_size, "sample_size", "choose_k")
    model = KMeans(n_init=5) if estimator is None else estimator
    seed = seed_from(random_state)
    metric = "cosine" if getattr(model, "spherical", False) else "euclidean"
    size = None if sample_size is None or sample_size >= len(points) else sample_size
    inertias, silhouettes = [], []
    for k in numbers:
        inertia, labels = _cluster(model, k, points)
        inertias.append(inertia)
        defined = 2 <= len(labels.unique()) <= len(points) - 1
        silhouettes.append(_silhouette(points, labels, metric, size, seed) if defined else float("nan"))
    gaps, errors = _gaps(points, model, numbers, inertias, n_references, seed)
    return KSelection(numbers, tuple(inertias), tuple(silhouettes), gaps, errors, criterion)


def _check(ks: Iterable[int], n: int, criterion: str, n_references: Any) -> tuple[int, ...]:
    """The numbers of clusters, rising; ValueError for what cannot be tried."""
    if criterion not in CRITERIA:
        raise ValueError(f"unknown criterion {criterion!r}: choose one of {', '.join(CRITERIA)}")
    whole(n_references, "n_references", "choose_k", least=0)
    if not isinstance(ks, Iterable):
        raise TypeError(f"The 'ks' parameter of choose_k must be a list of ints. Got {ks!r} instead.")
    numbers = list(ks)
    for k in numbers:
        if not isinstance(k, Integral) or isinstance(k, bool) or k < 1:
            raise ValueError(f"The 'ks' parameter of choose_k must be ints in the range [1, n_samples]. Got {k!r} instead.")
        if k > n:
            raise ValueError(f"n_samples={n} should be >= n_clusters={k}.")
    if not numbers:
        raise ValueError("ks is empty: name at least one number of clusters")
    return tuple(sorted({int(k) for k in numbers}))


def _cluster(model: Any, k: int, points: Tensor) -> tuple[float, Tensor]:
    """Inertia and labels (N,) of k clusters. Estimators of other packages are given arrays."""
    given = points if isinstance(model, Persistent) else compute_dtype(points).numpy(force=True)
    fitted = clone(model).set_params(n_clusters=k).fit(given)
    return float(fitted.inertia_), torch.as_tensor(fitted.labels_, device=points.device).long()


def _silhouette(points: Tensor, labels: Tensor, metric: str, size: int | None, seed: int) -> float:
    """The mean silhouette; NaN where the sample happens to hold one cluster alone."""
    if size is not None:
        generator = generator_on(points.device, seed)
        chosen = torch.randperm(len(points), generator=generator, device=points.device)[:size]
        points, labels = points[chosen], labels[chosen]
        if not 2 <= len(labels.unique()) <= len(labels) - 1:
            return float("nan")
    return silhouette_score(points, labels, metric=metric)


def _gaps(
    points: Tensor, model: Any, ks: tuple[int, ...], inertias: list[float], references: int, seed: int
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The gap of each k and its standard error, over the same references for all."""
    if not references:
        return (), ()
    generator = generator_on(points.device, seed)
    low, high = compute_dtype(points.amin(0)), compute_dtype(points.amax(0))
    if not bool((high - low).isfinite().all()):  # a side longer than the dtype's largest number
        low, high = low.double(), high.double()
    logs = np.empty((references, len(ks)))
    for row in range(references):
        drawn = torch.rand(points.shape, generator=generator, device=points.device, dtype=torch.float32).to(low)
        box = (low + (high - low) * drawn).to(points.dtype)
        logs[row] = [_log(_cluster(model, k, box)[0]) for k in ks]
    gaps = logs.mean(0) - np.array([_log(value) for value in inertias])
    errors = logs.std(0) * (1 + 1 / references) ** 0.5
    return tuple(gaps.tolist()), tuple(errors.tolist())


def _log(inertia: float) -> float:
    """log(inertia), finite where every point is a center."""
    return float(np.log(max(inertia, np.finfo(np.float64).tiny)))


def _elbow(ks: np.ndarray, inertias: np.ndarray) -> int:
    """The place farthest below the chord, both axes scaled to their range."""
    if len(ks) < 3 or inertias[0] <= inertias[-1]:
        return 0
    across = (ks - ks[0]) / (ks[-1] - ks[0])
    down = (inertias - inertias[-1]) / (inertias[0] - inertias[-1])
    return int(np.argmax(1 - across - down))
