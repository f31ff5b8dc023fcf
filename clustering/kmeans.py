"""k-means by Lloyd iterations: scikit-learn's estimator contract on tensors of any device.

In: points (N, D) as a tensor on any device, a NumPy array, or `Chunks` of data that does not fit; out: centers,
labels and inertia of the same kind, on the same device, in the same dtype. Source: Lloyd (1982); what a pass
over the points does is in `lloyd`, how the centers start in `seeding`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import torch
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, ClusterMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted
from torch import Tensor
from torch.nn.functional import normalize

from clustering.arrays import compute_dtype, generator_on, read_points, read_weights, sum_dtype, to_input_type
from clustering.distances import distance_chunks
from clustering.lloyd import LloydPass, Totals, assign, means_of
from clustering.passes import make_pass
from clustering.seeding import kmeans_plusplus, random_points
from clustering.stream import Chunks, sample

STREAM_SAMPLE = 256  # points a cluster, drawn from a stream to start from


class Run(NamedTuple):
    """One run of Lloyd's algorithm."""

    centers: Tensor  # (K, D)
    labels: Tensor  # (N,) int64
    inertia: float
    iterations: int


class CentroidModel(TransformerMixin, ClassNamePrefixFeaturesOutMixin, ClusterMixin, BaseEstimator):
    """What a fitted set of centers can do: `predict`, `transform` and `score`."""

    n_clusters: int
    init: Any
    spherical: bool
    cluster_centers_: Any
    labels_: Any
    inertia_: float
    n_iter_: int

    def predict(self, x: Any) -> Any:
        """Labels (N,) int64 of the nearest centers."""
        points, centers = self._beside_centers(x)
        return to_input_type(assign(points, centers)[0], x)

    def transform(self, x: Any) -> Any:
        """Euclidean distances (N, K) to the centers, in x's dtype."""
        points, centers = self._beside_centers(x)
        out = torch.empty(len(points), len(centers), dtype=points.dtype, device=points.device)
        for part, block in distance_chunks(points, centers, "euclidean"):
            out[part] = block
        return to_input_type(out, x)

    def score(self, x: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Minus the inertia of x under the fitted centers: the larger, the better."""
        points, centers = self._beside_centers(x)
        return -inertia(assign(points, centers)[1], read_weights(sample_weight, points))

    def _beside_centers(self, x: Any) -> tuple[Tensor, Tensor]:
        check_is_fitted(self)
        points = read_points(self, x)
        points = normalize(points, dim=1) if self.spherical else points
        return points, torch.as_tensor(self.cluster_centers_).to(points)

    def _start(self, points: Tensor, weights: Tensor | None, generator: torch.Generator) -> Tensor:
        """Starting centers (K, D) beside the points."""
        if not isinstance(self.init, str):
            centers = torch.as_tensor(self.init).detach().to(points)
            if centers.shape != (self.n_clusters, points.shape[1]):
                raise ValueError(f"init has shape {tuple(centers.shape)}: expected ({self.n_clusters}, {points.shape[1]})")
            return centers.clone()
        if self.init == "k-means++":
            return kmeans_plusplus(points, self.n_clusters, generator, weights)
        if self.init == "random":
            return random_points(points, self.n_clusters, generator, weights)
        raise ValueError(f"unknown init {self.init!r}: choose 'k-means++', 'random' or an array of centers")

    def _check_clusters(self, n: int) -> None:
        if self.n_clusters < 1:
            raise ValueError(f"n_clusters must be at least 1, not {self.n_clusters}")
        if n < self.n_clusters:
            raise ValueError(f"n_samples={n} points cannot form {self.n_clusters} clusters: ask for fewer")

    @property
    def _n_features_out(self) -> int:
        return len(self.cluster_centers_)


class KMeans(CentroidModel):
    """Lloyd's k-means.

    Parameters:
        n_clusters: K.
        init: "k-means++" (greedy), "random" (K of the points), or starting centers (K, D).
        n_init: runs from different starts, of which the one with the least inertia is kept; a given init runs once.
        max_iter: most iterations of a run.
        tol: a run ends once the centers' summed squared movement is at most tol × the features' mean variance.
        seed: of the starts. The same seed on the same kind of device gives the same result.
        spherical: cluster directions: points and centers are scaled to unit length (cosine k-means).

    Attributes, after `fit`: cluster_centers_ (K, D), labels_ (N,) int64, inertia_ (weighted sum of squared
    distances), n_iter_, n_features_in_. An empty cluster is moved to the point that is served worst.

    Raises ValueError for fewer points than clusters, NaN or infinity, and parameters out of range.

    >>> x = torch.tensor([[0.0], [1.0], [10.0], [11.0]])
    >>> KMeans(n_clusters=2).fit(x).cluster_centers_.flatten().sort().values
    tensor([ 0.5000, 10.5000])
    """

    def __init__(
        self,
        n_clusters: int = 8,
        init: Any = "k-means++",
        n_init: int = 1,
        max_iter: int = 300,
        tol: float = 1e-4,
        seed: int = 0,
        spherical: bool = False,
    ) -> None:
        self.n_clusters, self.init, self.n_init = n_clusters, init, n_init
        self.max_iter, self.tol, self.seed, self.spherical = max_iter, tol, seed, spherical

    def fit(self, x: Any, y: Any = None, sample_weight: Any = None) -> KMeans:
        """Cluster x, (N, D) or `Chunks`; sample_weight: (N,), for data in memory only. y is ignored."""
        if self.max_iter < 1 or self.n_init < 1:
            raise ValueError(f"max_iter and n_init must be at least 1, not {self.max_iter} and {self.n_init}")
        runs = self._runs_over_chunks(x, sample_weight) if isinstance(x, Chunks) else self._runs_in_memory(x, sample_weight)
        best = min(runs, key=lambda run: run.inertia)
        like = best.centers if isinstance(x, Chunks) else x
        self.cluster_centers_, self.labels_ = to_input_type(best.centers, like), to_input_type(best.labels, like)
        self.inertia_, self.n_iter_ = best.inertia, best.iterations
        return self

    def _runs_in_memory(self, x: Any, sample_weight: Any) -> Iterable[Run]:
        points = read_points(self, x, reset=True)
        self._check_clusters(len(points))
        weights = read_weights(sample_weight, points)
        points = normalize(points, dim=1) if self.spherical else points
        generator = generator_on(points.device, self.seed)
        limit = self.tol * mean_variance([points])
        for _ in range(self.n_init if isinstance(self.init, str) else 1):
            start = self._start(points, weights, generator)
            yield self._lloyd([make_pass(points, weights, self.n_clusters, self.spherical)], start, limit)

    def _runs_over_chunks(self, x: Chunks, sample_weight: Any) -> Iterable[Run]:
        if sample_weight is not None:
            raise ValueError("sample_weight is for data in memory: a stream of chunks has no weights")
        generator = generator_on(x.device, self.seed)
        start, count = sample(x, STREAM_SAMPLE * self.n_clusters, generator)
        self.n_features_in_ = start.shape[1]
        self._check_clusters(count)
        passes = ChunkPasses(x, self.spherical)
        start = normalize(start, dim=1) if self.spherical else start
        limit = self.tol * mean_variance(one.x for one in passes)
        for _ in range(self.n_init if isinstance(self.init, str) else 1):
            yield self._lloyd(passes, self._start(start, None, generator), limit)

    def steps(self, x: Any, lr: float = 1.0) -> Iterator[Any]:
        """Centers (K, D) of x (N, D) at the start and after each iteration, for animations.

        lr: the share of the way to their means that centers go in an iteration; below 1 slows the movement down.
        """
        points = read_points(self, x, reset=True)
        self._check_clusters(len(points))
        points = normalize(points, dim=1) if self.spherical else points
        start = compute_dtype(self._start(points, None, generator_on(points.device, self.seed)))
        yield to_input_type(start.to(points.dtype), x)
        passes = [make_pass(points, None, self.n_clusters)]
        for centers in self._iterations(passes, start, self.tol * mean_variance([points]), lr):
            yield to_input_type(centers.to(points.dtype), x)

    def _iterations(self, passes: Iterable[LloydPass], centers: Tensor, limit: float, lr: float = 1.0) -> Iterator[Tensor]:
        """Centers, in the compute dtype, after each iteration, until they rest."""
        centers = compute_dtype(centers)
        for _ in range(self.max_iter):
            centers, shift = self._moved(passes, centers, lr)
            yield centers
            if shift <= limit * lr * lr:
                return

    def _moved(self, passes: Iterable[LloydPass], centers: Tensor, lr: float = 1.0) -> tuple[Tensor, float]:
        """Centers after an iteration, and their summed squared movement."""
        means = means_of(settled(passes, centers), centers)
        moved = centers + lr * (means - centers) if lr != 1 else means
        moved = normalize(moved, dim=1) if self.spherical else moved
        return moved, float((moved - centers).square().sum())

    def _at_rest(self, passes: Iterable[LloydPass], centers: Tensor, limit: float) -> tuple[Tensor, int]:
        """Centers, in the compute dtype, once they rest, and the iterations that it took.

        A pass that iterates by itself does so until a cluster is empty; that iteration is done here.
        """
        alone = passes[0].iterate if isinstance(passes, list) else None
        if alone is None:
            iterations = 0
            for moved in self._iterations(passes, centers, limit):
                centers, iterations = moved, iterations + 1
            return centers, iterations
        centers, iterations = compute_dtype(centers), 0
        while True:
            centers, made, emptied = alone(centers, limit, self.max_iter - iterations)
            iterations += made
            if not emptied:
                return centers, iterations
            centers, shift = self._moved(passes, centers)
            iterations += 1
            if shift <= limit or iterations == self.max_iter:
                return centers, iterations

    def _lloyd(self, passes: Iterable[LloydPass], start: Tensor, limit: float) -> Run:
        """Iterate until the centers rest; passes: one over everything, or one over each chunk."""
        centers, iterations = self._at_rest(passes, start, limit)
        centers, labels, loss = centers.to(start.dtype), [], 0.0
        for one in passes:
            own, nearest = one.assign(centers)
            labels.append(own)
            loss += inertia(nearest, one.weights)
        return Run(centers, torch.cat(labels) if len(labels) > 1 else labels[0], loss, iterations)


class ChunkPasses:
    """A pass over each chunk of a stream, as often as they are asked for; on the unit sphere where that is wanted."""

    def __init__(self, chunks: Chunks, spherical: bool) -> None:
        self.chunks, self.spherical = chunks, spherical

    def __iter__(self) -> Iterator[LloydPass]:
        return (LloydPass(normalize(chunk, dim=1) if self.spherical else chunk) for chunk in self.chunks)


def settled(passes: Iterable[LloydPass], centers: Tensor) -> Totals:
    """Totals over all passes, with a point moved into every cluster that would stay empty."""
    found: Totals | None = None
    for one in passes:
        more = one.accumulate(centers)
        found = more if found is None else found.plus(more)
    assert found is not None
    return fill_empty(passes, centers, found) if bool((found.counts == 0).any()) else found


def fill_empty(passes: Iterable[LloydPass], centers: Tensor, found: Totals) -> Totals:
    """Give each empty cluster one of the points farthest from their centers, and take it from its old cluster."""
    empty = (found.counts == 0).nonzero()[:, 0]
    rows, labels, weights, far = [], [], [], []
    for one in passes:
        label, nearest = one.assign(centers)
        weigh = torch.ones_like(nearest) if one.weights is None else one.weights
        nearest = nearest.where(weigh > 0, -1)  # zero-weight points never seed empty clusters
        far_here, worst = nearest.topk(min(len(empty), len(nearest)))
        rows.append(one.x[worst].to(found.sums))
        labels.append(label[worst])
        weights.append(weigh[worst].to(found.counts))
        far.append(far_here)
    pick = torch.cat(far).topk(min(len(empty), sum(map(len, far)))).indices
    point, label, weight = torch.cat(rows)[pick], torch.cat(labels)[pick], torch.cat(weights)[pick]
    empty = empty[: len(pick)]
    sums = found.sums.index_add(0, label, -point * weight[:, None]).index_copy_(0, empty, point * weight[:, None])
    counts = found.counts.index_add(0, label, -weight).index_copy_(0, empty, weight)
    return Totals(sums, counts.clamp_(min=0))


def inertia(nearest: Tensor, weights: Tensor | None) -> float:
    """Weighted sum of squared distances (N,), added up in float64."""
    wide = sum_dtype(nearest.device)
    return float(nearest.sum(dtype=wide) if weights is None else torch.dot(nearest.to(wide), weights.to(wide)))


def mean_variance(points: Iterable[Tensor]) -> float:
    """The features' variances, averaged, over all chunks and without a copy of any (Chan's parallel formula)."""
    count, mean, squares = 0, torch.tensor(0.0), torch.tensor(0.0)
    for chunk in points:
        for rows in chunk.split(1 << 14 if chunk.device.type == "cpu" else max(1, (1 << 24) // chunk.shape[1])):
            var, own = torch.var_mean(rows.to(sum_dtype(rows.device)), 0, correction=0)
            delta = own - mean.to(own)
            both = count + len(rows)
            squares = squares.to(own) + var * len(rows) + delta.square() * (count * len(rows) / both)
            mean, count = mean.to(own) + delta * (len(rows) / both), both
    return float((squares / count).mean())
