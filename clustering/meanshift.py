"""Mean shift: points climb the density until they meet, and those that meet are a cluster.

In: points (N, D) as a tensor on any device, array or list; out: centers, labels and the moved points, of the same
kind. Blurring, all points move and are the data (the fast.ai lesson's form); non-blurring, they climb a density that
stays (scikit-learn's). What a step looks at is in `shift`. Source: Cheng (1995), fast.ai part 2, lesson 12.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from numbers import Integral
from typing import Any, ClassVar

import torch
from sklearn.base import BaseEstimator, ClusterMixin
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from clustering import meanshift_fused as fused
from clustering.arrays import beside, compute_dtype, largest, read_measured, read_points, squarable, sum_dtype, to_input_type
from clustering.bandwidth import REACH, estimate_bandwidth
from clustering.exact import by_differences
from clustering.lloyd import assign
from clustering.meanshift_fused import Clusters
from clustering.merging import heaviest, merge_points
from clustering.neighbors import check_algorithm
from clustering.pairwise import FEW_FEATURES, distance_chunks
from clustering.params import RenamedParameters, bad_parameter, choice, generator_on, integer, real, threads_of
from clustering.persistence import Persistent
from clustering.shift import Kernel, shift_targets_all, shift_targets_nearest, shift_targets_radius, shift_targets_random
from kernels.arrays import as_tensor, without_autocast

Neighbors = str | tuple[str, int]
SAMPLED_BIAS = 1e-4  # of the triangular kernel where the data is sampled
NEAREST_RESOLUTION = 0.1  # bandwidths within which points move as one, where each sees only its nearest
SAME_MODE = 0.01  # bandwidths within which two points at rest have reached the same place
GOLDEN = 0.618034  # steps of the merging grid's offset: never the same border twice
BANDWIDTHS = (1e-150, 1e150)
FARTHEST = 2.0**50  # bandwidths from the median beyond which float64 tells no bandwidth any more
EXPANDED = 1e6  # bandwidths from the median up to which the expansion of squared distances serves in float64
WIDEST = {True: 2e3, False: 50.0}  # bandwidths from the median up to which float32 serves, by whether features are few


class MeanShift(RenamedParameters, Persistent, ClusterMixin, BaseEstimator):
    """Mean shift.

    Args:
        bandwidth: σ of the Gaussian, or where the triangular and flat kernels end, in the data's units; None
            estimates it, a number of neighbors' reach that covers a third of the data (`estimate_bandwidth`). Where
            so many points coincide that the estimate is 0, each distinct point is a cluster, as in scikit-learn.
        kernel: "gaussian", "triangular" or "flat".
        neighbors: what a point looks at: "all", ("random", k) of the points, its ("nearest", k), or "radius",
            all within the kernel's reach (4 σ of the Gaussian).
        lr: the share of the way to the mean that a point goes in a step; below 1 slows the movement down.
        max_iter: most steps.
        tol: steps end when no point moves farther than this many bandwidths.
        blurring: the moved points are the data of the next step; otherwise the data stays as it was given.
        batch_size: points moved at a time; None: as many as keep the weights in the cache.
        bias: added to the triangular kernel's weights; None: 1e-4 where the data is sampled, otherwise 0.
        resolution: points within a cell of this many bandwidths move as one from then on; 0 keeps all apart;
            None: 0.1 for ("nearest", k), otherwise 0. Without it k points that meet see nobody else any more.
        algorithm: of `NearestNeighbors`, for "nearest" and "radius".
        n_jobs: threads in main memory; None: as many as torch may use, −1: one a core.
        random_state: of the random neighbors: an int, RandomState, torch.Generator or None.

    Attributes:
        cluster_centers_: (K, D), heaviest first.
        labels_: (N,) int64, of the nearest center.
        shifted_: (N, D), where each point came to rest.
        n_iter_: steps. bandwidth_: the one in use. n_features_in_: D.

    Raises:
        ValueError: NaN or infinity, and parameters out of range.

    Examples:
        >>> x = torch.tensor([[0.0], [1.0], [10.0], [11.0]])
        >>> MeanShift(bandwidth=2.0).fit(x).labels_
        tensor([0, 0, 1, 1])
    """

    RENAMED: ClassVar[dict[str, str]] = {"seed": "random_state", "method": "algorithm", "neighbours": "neighbors"}

    def __init__(
        self,
        bandwidth: float | None = None,
        kernel: str = "gaussian",
        neighbors: Neighbors = "all",
        lr: float = 1.0,
        max_iter: int = 300,
        tol: float = 1e-3,
        blurring: bool = True,
        batch_size: int | None = None,
        bias: float | None = None,
        resolution: float | None = None,
        algorithm: str = "auto",
        n_jobs: int | None = None,
        random_state: Any = 0,
    ) -> None:
        self.bandwidth, self.kernel, self.neighbors, self.lr = bandwidth, kernel, neighbors, lr
        self.max_iter, self.tol, self.blurring, self.batch_size = max_iter, tol, blurring, batch_size
        self.bias, self.resolution, self.algorithm = bias, resolution, algorithm
        self.n_jobs, self.random_state = n_jobs, random_state

    def fit(self, x: Any, y: Any = None) -> MeanShift:
        """Cluster x (N, D). y is ignored."""
        points, most = read_measured(self, x, reset=True)
        with threads_of(self.n_jobs):
            data, origin = self._center(points, most)
            found = self._find_fused(data)
            if found is None:
                found = self._find(data)
        centers, labels, moved = found
        self.cluster_centers_ = to_input_type((centers + origin).to(points.dtype), x)
        self.labels_, self.shifted_ = to_input_type(labels, x), to_input_type((moved + origin).to(points.dtype), x)
        return self

    def _find(self, data: Tensor) -> Clusters:
        """Centers, labels and where the points rest, on any device."""
        for moved in self._steps(data):  # noqa: B007
            pass
        return self._label(data, moved)

    def _label(self, data: Tensor, moved: Tensor) -> Clusters:
        """The same from where the points rest."""
        centers = self._modes(data, moved)
        used, labels = self._nearest(data, centers).unique(return_inverse=True)
        return Clusters(centers[used], labels, moved)

    def _find_fused(self, data: Tensor) -> Clusters | None:
        """The same by kernels that need no host between steps; None where they do not apply."""
        kind, k = self._check(len(data))
        kernel, cell = self._kernel(kind)
        if not self.bandwidth_ or not fused.is_applicable(data, kind, bool(cell), self.blurring):
            return None
        walk = fused.Walk(kernel, self.lr, self.tol, self.max_iter, self.blurring)
        if kind == "random":
            rest = fused.walk_random(data, walk, k, self.batch_size, generator_on(data.device, self.random_state))
        elif cell:
            found = fused.walk_merging(data, walk, cell, k if kind == "nearest" else None, self.algorithm)
            if found is None:
                return None
            rest = found
        else:
            rest = fused.walk_nearest(data, walk, k) if kind == "nearest" else fused.walk_all(data, walk)
        self.n_iter_ = rest.n_iter
        clusters = fused.find_clusters(data, rest, self.bandwidth_) if self.blurring else None
        if clusters is None:
            clusters = self._label(data, rest.points if rest.inverse is None else rest.points[rest.inverse])
        return clusters

    def _kernel(self, kind: str) -> tuple[Kernel, float]:
        """The kernel, and the side of the cells in which points merge, 0 where they do not."""
        bias = self.bias if self.bias is not None else SAMPLED_BIAS * (kind == "random")
        resolution = self.resolution if self.resolution is not None else NEAREST_RESOLUTION * (kind == "nearest")
        return Kernel(self.kernel, self.bandwidth_, bias), resolution * self.bandwidth_

    def predict(self, x: Any) -> Any:
        """Labels (N,) of the nearest centers."""
        check_is_fitted(self)
        centers = as_tensor(self.cluster_centers_, "cluster_centers_")
        return to_input_type(self._nearest(*beside(compute_dtype(read_points(self, x)), compute_dtype(centers))), x)

    def _nearest(self, points: Tensor, centers: Tensor) -> Tensor:
        """Labels (N,) of the nearest centers; from the differences where a distant one would drown the others."""
        widest = EXPANDED if centers.dtype == torch.float64 else WIDEST[centers.shape[1] <= FEW_FEATURES]
        if largest(centers) > widest * self.bandwidth_ > 0:
            return by_differences(centers, points, 1)[1][:, 0]
        return assign(points, centers)[0]

    def steps(self, x: Any) -> Iterator[Any]:
        """The moved points (N, D) after each step, for animations and for stopping where one likes."""
        model = type(self)(**self.get_params(deep=False))  # a fitted estimator stays as it is
        points = read_points(model, x, reset=True)
        data, origin = model._center(points)
        return (to_input_type((moved + origin).to(points.dtype), x) for moved in model._steps(data))

    def _center(self, points: Tensor, largest_of_points: float | None = None) -> tuple[Tensor, Tensor]:
        """Points about their median, in a dtype that can tell a bandwidth's fractions there, and the median (D,) in float64.

        The mean would not do: one coordinate of 1e30 would move all others there, where they are alike.

        Sets bandwidth_.
        """
        self._check(len(points))
        wide = sum_dtype(points.device)
        points = squarable(points, largest_of_points)
        origin = points.median(0).values.to(wide)
        data = torch.cat([(rows.to(wide) - origin).to(compute_dtype(points[:0]).dtype) for rows in points.split(1 << 16)])
        if self.bandwidth is None:
            self.bandwidth_ = estimate_bandwidth(data, "third", self.kernel, random_state=self.random_state)
        else:
            self.bandwidth_ = float(self.bandwidth)
        most = largest(data)
        if most > FARTHEST * self.bandwidth_ > 0:
            raise ValueError(
                f"the points reach {most:.3g} from their median, where no float64 tells a bandwidth of "
                f"{self.bandwidth_:.3g}: remove those points, or give a larger bandwidth"
            )
        narrow = data.dtype == torch.float32 and self.bandwidth_ > 0
        least = max(most / WIDEST[data.shape[1] <= FEW_FEATURES], 1e-12)
        if narrow and not least <= self.bandwidth_ <= 1e12:
            data = points.to(wide) - origin
        return data, origin

    def _steps(self, data: Tensor) -> Iterator[Tensor]:
        """The moved points after each step; data as `_center` gives it."""
        kind, k = self._check(len(data))
        generator = generator_on(data.device, self.random_state)
        if self.bandwidth_ == 0:  # most points coincide with others: each distinct one is a mode
            self.n_iter_ = 1
            yield data
            return
        kernel, cell = self._kernel(kind)
        kernel = replace(kernel, exact=largest(data) > EXPANDED * self.bandwidth_)
        weights, inverse = torch.ones_like(data[:, 0]), torch.arange(len(data), device=data.device)
        if cell:
            data, weights, inverse = merge_points(data, weights, cell)
        moving = data
        for step in range(1, self.max_iter + 1):
            self.n_iter_ = step
            if cell and self.blurring:
                data, weights, again = merge_points(moving, weights, cell, step * GOLDEN)
                moving, inverse = data, again[inverse]
            target = self._target(moving, data, weights, kernel, kind, k, generator)
            way = (target - moving) * self.lr
            moving = moving + way
            data = moving if self.blurring else data
            yield moving[inverse]
            if float(way.square().sum(1).max()) <= (self.tol * self.bandwidth_) ** 2:
                return

    def _target(
        self, moving: Tensor, data: Tensor, weights: Tensor, kernel: Kernel, kind: str, k: int, generator: torch.Generator
    ) -> Tensor:
        if kind == "random":
            return shift_targets_random(moving, data, weights, kernel, k, generator, self.batch_size)
        if kind == "nearest":
            return shift_targets_nearest(moving, data, weights, kernel, k, self.algorithm, self.batch_size)
        if kind == "radius":
            return shift_targets_radius(moving, data, weights, kernel, self.algorithm, self.batch_size)
        return shift_targets_all(moving, data, weights, kernel, self.batch_size)

    def _modes(self, data: Tensor, moved: Tensor) -> Tensor:
        """Centers (K, D): where points rest, the heaviest of those within a bandwidth of each other."""
        if self.bandwidth_ == 0:
            distinct, counts = moved.unique(dim=0, return_counts=True)
            return distinct[counts.argsort(descending=True, stable=True)]
        rest = merge_points(moved, torch.ones_like(moved[:, 0]), SAME_MODE * self.bandwidth_)
        weights = rest.weights
        if not self.blurring:  # a fixed density says itself how high each mode is
            weights = density(rest.points, data, self.bandwidth_)
        return rest.points[heaviest(rest.points, weights, self.bandwidth_)]

    def _check(self, n: int) -> tuple[str, int]:
        """What a point looks at, and how much of it; ValueError for parameters out of range."""
        choice(self, "kernel", tuple(REACH))
        check_algorithm(self)
        if self.bandwidth is not None and not BANDWIDTHS[0] <= real(self, "bandwidth", open_below=True) <= BANDWIDTHS[1]:
            raise bad_parameter(self, "bandwidth", f"between {BANDWIDTHS[0]} and {BANDWIDTHS[1]}: its square must be finite")
        real(self, "lr", open_below=True)
        real(self, "tol")
        integer(self, "max_iter")
        for name in ("bias", "resolution"):
            if getattr(self, name) is not None:
                real(self, name)
        if self.batch_size is not None:
            integer(self, "batch_size")
        if self.neighbors in ("all", "radius"):
            return str(self.neighbors), n
        if isinstance(self.neighbors, tuple) and len(self.neighbors) == 2 and self.neighbors[0] in ("random", "nearest"):
            kind, k = self.neighbors
            if isinstance(k, Integral) and k >= 1:
                return kind, min(int(k), n)
        raise bad_parameter(self, "neighbors", "'all', 'radius', ('random', k) or ('nearest', k) with an int k of at least 1")


@without_autocast
def density(at: Tensor, data: Tensor, bandwidth: float) -> Tensor:
    """Data points within a bandwidth of each place (M,)."""
    ones = torch.ones_like(data[:, :1])
    return torch.cat([(squares <= bandwidth**2).to(ones) @ ones for _, squares in distance_chunks(at, data)])[:, 0]
