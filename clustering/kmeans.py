"""k-means by Lloyd iterations: scikit-learn's estimator contract on tensors of any device.

In: points (N, D) as a tensor on any device, a NumPy array, or `Chunks` of data that does not fit; out: centers,
labels and inertia of the same kind, on the same device, in the same dtype. Source: Lloyd (1982); what a pass
over the points does is in `lloyd`, how often it is done in `runs`, how the centers start in `seeding`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from torch import Tensor

from clustering import balanced, batched
from clustering.arrays import compute_dtype, read_points, read_weights, to_input_type
from clustering.centroids import CentroidModel, prepared
from clustering.lloyd import LloydPass
from clustering.params import boolean, choice, generator_on, integer, real, remember
from clustering.passes import make_pass
from clustering.progress import Report, progress
from clustering.runs import TOL, Descent, Run, mean_variance
from clustering.stream import Chunks, sample
from clustering.weights import list_weights, scaled, weighted_chunks

STREAM_SAMPLE = 256  # points a cluster, drawn from a stream to start from
ALGORITHMS = ("lloyd", "elkan", "balanced")
RANDOM_RUNS = 10  # of n_init="auto" where starts are drawn without care, as in scikit-learn


class KMeans(CentroidModel):
    """Lloyd's k-means.

    Args:
        n_clusters: K.
        init: "k-means++" (greedy), "random" (K of the points), starting centers (K, D), or a callable
            `init(x, n_clusters, random_state)` that returns them.
        n_init: runs from different starts, of which the one with the least inertia is kept; given centers run once.
            "auto": 10 for "random" and callables, otherwise 1.
        max_iter: most iterations of a run.
        tol: a run ends once the centers' summed squared movement is at most tol × the features' mean variance.
        random_state: of the starts: an int, RandomState, torch.Generator or None (other starts every time). The same
            int on the same kind of device gives the same result.
        spherical: cluster directions: points and centers are scaled to unit length (cosine k-means).
        algorithm: "lloyd"; "elkan", which gives the same result (bounds are used with both where they pay); or
            "balanced": every cluster has N / K points, up to 1 % more or fewer. `predict` then gives the nearest
            center, which for a fitted point need not be its labels_. Sizes count points whatever their weights.
        verbose: show the iterations of each run, and the centers' movement, on standard error.
        copy_x: taken for scikit-learn's sake; x is never written to.

    Attributes:
        cluster_centers_: (K, D), in x's dtype.
        labels_: (N,) int64.
        inertia_: weighted sum of squared distances.
        n_iter_: iterations of the run that was kept.
        n_features_in_: D; feature_names_in_ where x has names.

    Points (B, N, D) are B problems, each fitted as it would be alone with the same `random_state`; all attributes but
    n_features_in_ then have an axis (B,) in front, inertia_ and n_iter_ included, and so have the results of `predict`,
    `transform` and `score`, which take (B, N, D) too. `init` may be (B, K, D).

    An empty cluster is moved to the point that is served worst.

    Raises:
        ValueError: fewer points than clusters, NaN or infinity, and parameters out of range.

    Examples:
        >>> x = torch.tensor([[0.0], [1.0], [10.0], [11.0]])
        >>> KMeans(n_clusters=2).fit(x).cluster_centers_.flatten().sort().values
        tensor([ 0.5000, 10.5000])
    """

    def __init__(
        self,
        n_clusters: int = 8,
        init: Any = "k-means++",
        n_init: int | str = 1,
        max_iter: int = 300,
        tol: float = TOL,
        random_state: Any = 0,
        spherical: bool = False,
        algorithm: str = "lloyd",
        verbose: int | bool = 0,
        copy_x: bool = True,
    ) -> None:
        self.algorithm, self.verbose, self.copy_x = algorithm, verbose, copy_x
        self.n_clusters, self.init, self.n_init = n_clusters, init, n_init
        self.max_iter, self.tol, self.random_state, self.spherical = max_iter, tol, random_state, spherical

    def fit(self, x: Any, y: Any = None, sample_weight: Any = None) -> KMeans:
        """Cluster x.

        Args:
            x: (N, D) points, (B, N, D) for B independent problems, or `Chunks`.
            y: ignored.
            sample_weight: (N,) or (B, N), not negative, or one number; of all rows, in their order, where x is `Chunks`.

        Returns:
            The estimator itself.
        """
        self._check()
        remember(self, "spherical")
        if batched.is_batch(x):
            with progress(self, len(x), "inertia") as report:
                batched.fit(self, x, sample_weight, report)
            return self
        with progress(self, self.max_iter, "movement") as report:
            chunked = isinstance(x, Chunks)
            runs = self._runs_over_chunks(x, sample_weight, report) if chunked else self._runs_in_memory(x, sample_weight, report)
            best = min(runs, key=lambda run: run.inertia)
        like = best.centers if isinstance(x, Chunks) else x
        self.cluster_centers_, self.labels_ = to_input_type(best.centers, like), to_input_type(best.labels, like)
        self.inertia_, self.n_iter_ = best.inertia, best.iterations
        return self

    def predict(self, x: Any) -> Any:
        """Labels (N,) or (B, N) int64 of the nearest centers; for `Chunks` as one tensor."""
        if not batched.is_batch(getattr(self, "cluster_centers_", None)):
            return super().predict(x)
        points, centers, _ = batched.beside_centers(self, x)
        return to_input_type(batched.assign_each(points, centers)[0], x)

    def transform(self, x: Any) -> Any:
        """Euclidean distances (N, K) or (B, N, K) to the centers, in x's dtype."""
        if not batched.is_batch(getattr(self, "cluster_centers_", None)):
            return super().transform(x)
        points, centers, dtype = batched.beside_centers(self, x)
        return to_input_type(batched.distances_each(points, centers).to(dtype), x)

    def score(self, x: Any, y: Any = None, sample_weight: Any = None) -> Any:
        """Minus the inertia of x under the fitted centers, a float or (B,): the larger, the better."""
        if not batched.is_batch(getattr(self, "cluster_centers_", None)):
            return super().score(x, y, sample_weight)
        points, centers, _ = batched.beside_centers(self, x)
        weights = batched.read_batch_weights(sample_weight, points, signed=True)
        return to_input_type(-batched.inertia_each(batched.assign_each(points, centers)[1], weights), x)

    def _check(self) -> None:
        integer(self, "max_iter")
        real(self, "tol")
        choice(self, "algorithm", ALGORITHMS)
        boolean(self, "copy_x")
        boolean(self, "spherical")
        self._repeats()

    def _repeats(self) -> int:
        """Runs from different starts."""
        if self.n_init == "auto":
            repeats = RANDOM_RUNS if callable(self.init) or (self.init is not None and str(self.init) == "random") else 1
        else:
            repeats = integer(self, "n_init")
        return repeats if isinstance(self.init, str) or callable(self.init) else 1

    def _runs_in_memory(self, x: Any, sample_weight: Any, report: Report | None) -> Iterable[Run]:
        given = read_points(self, x, reset=True)
        self._check_clusters(len(given))
        weights, scale = scaled(read_weights(sample_weight, given))
        points = prepared(given, self.spherical)
        generator = generator_on(points.device, self.random_state)
        descent = self._descent(mean_variance([points]), report)
        for _ in range(self._repeats()):
            start = self._start(points, weights, generator, x)
            if self.algorithm == "balanced":
                run = balanced.run(points, weights, start, descent)
                run = run._replace(centers=run.centers.to(given.dtype))
            else:
                run = descent.run([make_pass(points, weights, self.n_clusters, self.spherical)], start, given.dtype)
            yield run._replace(inertia=run.inertia * scale)

    def _runs_over_chunks(self, x: Chunks, sample_weight: Any, report: Report | None) -> Iterable[Run]:
        if self.algorithm == "balanced":
            raise ValueError("algorithm='balanced' compares all points at once: pass an array or a tensor instead of Chunks")
        generator = generator_on(x.device, self.random_state)
        weights, scale = scaled(list_weights(x, sample_weight), x.workers)
        drawn, count = sample(x, STREAM_SAMPLE * integer(self, "n_clusters"), generator, weights)
        if weights is not None and len(weights) != count:
            raise ValueError(f"sample_weight.shape == ({len(weights)},), expected ({count},)!")
        self.n_features_in_ = drawn.shape[1]
        if hasattr(self, "feature_names_in_"):
            del self.feature_names_in_
        self._check_clusters(sum(x.workers.gather(count)))
        passes = ChunkPasses(x, self.spherical, weights)
        start = prepared(drawn, self.spherical)
        descent = self._descent(mean_variance((one.x for one in passes), x.workers), report)
        for _ in range(self._repeats()):
            run = descent.run(passes, self._start(start, None, generator, start), drawn.dtype, count)
            yield run._replace(inertia=run.inertia * scale)

    def steps(self, x: Any, lr: float = 1.0) -> Iterator[Any]:
        """Centers (K, D) of x (N, D) at the start and after each iteration, for animations.

        lr: the share of the way to their means that centers go in an iteration; below 1 slows the movement down.
        """
        model = type(self)(**self.get_params(deep=False))  # a fitted estimator stays as it is
        model._check()
        given = read_points(model, x, reset=True)
        model._check_clusters(len(given))
        return model._steps(given, x, lr)

    def _steps(self, given: Tensor, x: Any, lr: float) -> Iterator[Any]:
        points = prepared(given, self.spherical)
        start = compute_dtype(self._start(points, None, generator_on(points.device, self.random_state), x))
        yield to_input_type(start.to(given.dtype), x)
        passes = [make_pass(points, None, self.n_clusters)]
        for centers in self._descent(mean_variance([points])).iterations(passes, start, lr):
            yield to_input_type(centers.to(given.dtype), x)

    def _descent(self, variance: float, report: Report | None = None) -> Descent:
        return Descent(self.tol * variance, self.max_iter, self.spherical, report)


class ChunkPasses:
    """A pass over each chunk of a stream, as often as they are asked for; on the unit sphere where that is wanted."""

    def __init__(self, chunks: Chunks, spherical: bool, weights: Tensor | None = None) -> None:
        self.chunks, self.spherical, self.weights = chunks, spherical, weights
        self.workers = chunks.workers

    def __iter__(self) -> Iterator[LloydPass]:
        for chunk, own in weighted_chunks(self.chunks, self.weights):
            yield LloydPass(prepared(chunk, self.spherical), own)
