"""How well points fit their clusters: the silhouette, in bounded memory on any device.

In: points (N, D) or their distances (N, N), and labels (N,); out: (b − a) / max(a, b) of each point, a its mean distance
to its own cluster and b to the nearest other one, or the mean of them. Distances are added up a chunk of rows at a time,
so no N × N and no N × K matrix is written. Source: Rousseeuw, "Silhouettes: a graphical aid" (1987).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator
from torch import Tensor

from clustering.arrays import compute_dtype, read_points, squarable, sum_dtype, to_input_type
from clustering.pairwise import CHUNK_BYTES, METRICS, distance_chunks
from clustering.params import generator_on

ALLOWED_METRICS = (*METRICS, "precomputed")


def silhouette_score(
    x: Any, labels: Any, *, metric: str = "euclidean", sample_size: int | None = None, random_state: Any = None
) -> float:
    """The mean silhouette of all points, from −1 (wrong clusters) to 1 (dense, separate ones).

    Args:
        x: points (N, D), a tensor on any device, an array, a list or a frame; with metric "precomputed" distances (N, N).
        labels: (N,), of any kind; each value is a cluster, noise (−1) too.
        metric: "euclidean", "sqeuclidean", "cosine" or "precomputed".
        sample_size: so many points, drawn at random, instead of all.
        random_state: of the draw: an int, RandomState, torch.Generator or None.

    Raises:
        ValueError: as `silhouette_samples`, and a sample_size that is not from 1 to N.

    Examples:
        >>> round(silhouette_score(torch.tensor([[0.0], [1.0], [10.0], [11.0]]), torch.tensor([0, 0, 1, 1])), 4)
        0.8997
    """
    if sample_size is not None:
        points, own = _read(x, labels, metric)
        if isinstance(sample_size, bool) or not isinstance(sample_size, int | np.integer) or not 1 <= sample_size <= len(points):
            raise ValueError(
                f"The 'sample_size' parameter of silhouette_score must be None or an int in the range [1, {len(points)}]. "
                f"Got {sample_size!r} instead."
            )
        chosen = torch.randperm(len(points), generator=generator_on(points.device, random_state), device=points.device)
        chosen = chosen[: int(sample_size)]
        x, labels = (points[chosen][:, chosen] if metric == "precomputed" else points[chosen]), own[chosen]
    points, own = _read(x, labels, metric)
    return float(_silhouettes(points, own, metric).mean())


def silhouette_samples(x: Any, labels: Any, *, metric: str = "euclidean") -> Any:
    """The silhouette (N,) of each point, of x's kind; 0 for the only point of a cluster. Arguments as `silhouette_score`.

    Raises:
        ValueError: NaN or infinity, labels of another number than points, fewer than 2 or more than N − 1 clusters,
            unknown metrics, and precomputed distances that are not square or not 0 on the diagonal.

    Examples:
        >>> silhouette_samples(torch.tensor([[0.0], [1.0], [10.0]]), torch.tensor([0, 0, 1]))
        tensor([0.9000, 0.8889, 0.0000])
    """
    points, own = _read(x, labels, metric)
    return to_input_type(_silhouettes(points, own, metric).to(points.dtype), x)


def _read(x: Any, labels: Any, metric: str) -> tuple[Tensor, Tensor]:
    """Points and the numbers of their clusters (N,) from 0, on one device."""
    if not isinstance(metric, str) or metric not in ALLOWED_METRICS:
        words = ", ".join(map(repr, ALLOWED_METRICS))
        raise ValueError(f"The 'metric' parameter of silhouette_samples must be a str among {{{words}}}. Got {metric!r} instead.")
    points = read_points(BaseEstimator(), x, reset=True)
    own = _numbers(labels).to(points.device)
    if len(own) != len(points):
        raise ValueError(f"Found input variables with inconsistent numbers of samples: [{len(points)}, {len(own)}]")
    clusters = int(own.max()) + 1
    if not 2 <= clusters <= len(points) - 1:
        raise ValueError(f"Number of labels is {clusters}. Valid values are 2 to n_samples - 1 (inclusive)")
    if metric == "precomputed":
        if points.shape[0] != points.shape[1]:
            raise ValueError(f"Precomputed distances must be a square matrix, got shape {tuple(points.shape)}")
        if bool((points.diagonal().abs() > 100 * torch.finfo(points.dtype).eps).any()):
            raise ValueError(
                "The precomputed distance matrix contains non-zero elements on the diagonal. Use np.fill_diagonal(X, 0)."
            )
    return points, own


def _numbers(labels: Any) -> Tensor:
    """Labels of any kind as numbers from 0, (N,) int64."""
    if isinstance(labels, Tensor):
        if labels.ndim != 1:
            raise ValueError(f"y should be a 1d array, got an array of shape {tuple(labels.shape)} instead.")
        return labels.detach().unique(return_inverse=True)[1]
    array = np.asarray(labels)
    if array.ndim != 1:
        raise ValueError(f"y should be a 1d array, got an array of shape {array.shape} instead.")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        what = "NaN" if np.isnan(array).any() else f"infinity or a value too large for {array.dtype!r}"
        raise ValueError(f"Input y contains {what}.")
    return torch.from_numpy(np.unique(array, return_inverse=True)[1].astype(np.int64))


def _silhouettes(points: Tensor, own: Tensor, metric: str) -> Tensor:
    """Silhouettes (N,) in `sum_dtype`."""
    order = own.argsort(stable=True)  # clusters side by side: a segment of each row
    place = order.argsort()
    sizes = own.bincount()
    wide = sum_dtype(points.device)
    out = torch.empty(len(points), dtype=wide, device=points.device)
    for part, block in _distance_rows(points, order, len(sizes), metric):
        rows = torch.arange(len(block), device=block.device)
        block[rows, place[part]] = 0  # of a point to itself, whatever was rounded
        sums = torch.segment_reduce(block.to(wide), "sum", lengths=sizes.expand(len(block), -1).contiguous(), axis=1, unsafe=True)
        mine, size = own[part], sizes[own[part]]
        inside = sums[rows, mine] / (size - 1).clamp(min=1)
        means = sums / sizes
        means[rows, mine] = torch.inf
        outside = means.amin(1)
        most = torch.maximum(inside, outside)
        out[part] = torch.where((size > 1) & (most > 0), (outside - inside) / most, 0.0)
    return out


def _distance_rows(points: Tensor, order: Tensor, clusters: int, metric: str) -> Iterator[tuple[slice, Tensor]]:
    """Distances of a slice of points to all, in the given order."""
    if metric == "precomputed":
        rows = max(1, CHUNK_BYTES // (8 * (len(points) + 2 * clusters)))
        for first in range(0, len(points), rows):
            part = slice(first, first + rows)
            yield part, compute_dtype(points[part][:, order])
    else:
        usable = compute_dtype(squarable(points))
        yield from distance_chunks(usable, usable[order], metric)
