"""Mean shift: points climb the density until they meet, and those that meet are a cluster.

In: points (N, D) as a tensor on any device, array or list; out: centers, labels and the moved points, of the same
kind. Blurring, all points move and are the data (the fast.ai lesson's form); non-blurring, they climb a density that
stays (scikit-learn's). What a step looks at is in `shift`. Source: Cheng (1995), fast.ai part 2, lesson 12.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from sklearn.base import BaseEstimator, ClusterMixin
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from clustering.arrays import compute_dtype, generator_on, read_points, to_input_type
from clustering.bandwidth import REACH, estimate_bandwidth
from clustering.coalesce import coalesce, heaviest
from clustering.distances import distance_chunks
from clustering.lloyd import assign
from clustering.shift import Kernel, towards_all, towards_nearest, towards_random, towards_reach

Neighbours = str | tuple[str, int]
SAMPLED_BIAS = 1e-4  # of the triangular kernel where the data is sampled
NEAREST_RESOLUTION = 0.1  # bandwidths within which points move as one, where each sees only its nearest
SAME_MODE = 0.01  # bandwidths within which two points at rest have reached the same place
GOLDEN = 0.618034  # steps of the merging grid's offset: never the same border twice


class MeanShift(ClusterMixin, BaseEstimator):
    """Mean shift.

    Parameters:
        bandwidth: σ of the Gaussian, or where the triangular and flat kernels end, in the data's units; None
            estimates it, a number of neighbours' reach that covers a third of the data (`estimate_bandwidth`).
        kernel: "gaussian", "triangular" or "flat".
        neighbours: what a point looks at: "all", ("random", k) of the points, its ("nearest", k), or "radius",
            all within the kernel's reach (4 σ of the Gaussian).
        lr: the share of the way to the mean that a point goes in a step; below 1 slows the movement down.
        max_iter, tol: steps end when no point moves farther than tol bandwidths.
        blurring: the moved points are the data of the next step; otherwise the data stays as it was given.
        batch_size: points moved at a time; None: as many as keep the weights in the cache.
        bias: added to the triangular kernel's weights; None: 1e-4 where the data is sampled, otherwise 0.
        resolution: points within a cell of this many bandwidths move as one from then on; 0 keeps all apart;
            None: 0.1 for ("nearest", k), otherwise 0. Without it k points that meet see nobody else any more.
        method: of `NearestNeighbors`, for "nearest" and "radius".
        seed: of the random neighbours.

    Attributes, after `fit`: cluster_centers_ (K, D), heaviest first; labels_ (N,) int64 of the nearest center;
    shifted_ (N, D), where each point came to rest; n_iter_; bandwidth_.

    Raises ValueError for NaN or infinity and for parameters out of range.

    >>> x = torch.tensor([[0.0], [1.0], [10.0], [11.0]])
    >>> MeanShift(bandwidth=2.0).fit(x).labels_
    tensor([0, 0, 1, 1])
    """

    def __init__(
        self,
        bandwidth: float | None = None,
        kernel: str = "gaussian",
        neighbours: Neighbours = "all",
        lr: float = 1.0,
        max_iter: int = 300,
        tol: float = 1e-3,
        blurring: bool = True,
        batch_size: int | None = None,
        bias: float | None = None,
        resolution: float | None = None,
        method: str = "auto",
        seed: int = 0,
    ) -> None:
        self.bandwidth, self.kernel, self.neighbours, self.lr = bandwidth, kernel, neighbours, lr
        self.max_iter, self.tol, self.blurring, self.batch_size = max_iter, tol, blurring, batch_size
        self.bias, self.resolution, self.method, self.seed = bias, resolution, method, seed

    def fit(self, x: Any, y: Any = None) -> MeanShift:
        """Cluster x (N, D). y is ignored."""
        points = read_points(self, x, reset=True)
        for moved in self._steps(compute_dtype(points)):  # noqa: B007
            pass
        centers = self._modes(compute_dtype(points), moved)
        labels, _ = assign(points, centers)
        used, labels = labels.unique(return_inverse=True)
        self.cluster_centers_ = to_input_type(centers[used].to(points.dtype), x)
        self.labels_, self.shifted_ = to_input_type(labels, x), to_input_type(moved.to(points.dtype), x)
        return self

    def predict(self, x: Any) -> Any:
        """Labels (N,) of the nearest centers."""
        check_is_fitted(self)
        points = read_points(self, x)
        return to_input_type(assign(points, torch.as_tensor(self.cluster_centers_).to(points))[0], x)

    def steps(self, x: Any) -> Iterator[Any]:
        """The moved points (N, D) after each step, for animations and for stopping where one likes."""
        return (to_input_type(moved, x) for moved in self._steps(compute_dtype(read_points(self, x, reset=True))))

    def _steps(self, data: Tensor) -> Iterator[Tensor]:
        kind, k = self._check(len(data))
        generator = generator_on(data.device, self.seed)
        self.bandwidth_ = self.bandwidth or estimate_bandwidth(data, "third", self.kernel, generator=generator) or 1.0
        bias = self.bias if self.bias is not None else SAMPLED_BIAS * (kind == "random")
        kernel = Kernel(self.kernel, self.bandwidth_, bias)
        resolution = self.resolution if self.resolution is not None else NEAREST_RESOLUTION * (kind == "nearest")
        cell = resolution * self.bandwidth_
        mass, owner = torch.ones_like(data[:, 0]), torch.arange(len(data), device=data.device)
        if cell:
            data, mass, owner = coalesce(data, mass, cell)
        moving = data
        for step in range(1, self.max_iter + 1):
            self.n_iter_ = step
            if cell and self.blurring:
                data, mass, again = coalesce(moving, mass, cell, step * GOLDEN)
                moving, owner = data, again[owner]
            target = self._target(moving, data, mass, kernel, kind, k, generator)
            way = (target - moving) * self.lr
            moving = moving + way
            data = moving if self.blurring else data
            yield moving[owner]
            if float(way.square().sum(1).max()) <= (self.tol * self.bandwidth_) ** 2:
                return

    def _target(
        self, moving: Tensor, data: Tensor, mass: Tensor, kernel: Kernel, kind: str, k: int, generator: torch.Generator
    ) -> Tensor:
        if kind == "random":
            return towards_random(moving, data, mass, kernel, k, generator, self.batch_size)
        if kind == "nearest":
            return towards_nearest(moving, data, mass, kernel, k, self.method, self.batch_size)
        if kind == "radius":
            return towards_reach(moving, data, mass, kernel, self.method, self.batch_size)
        return towards_all(moving, data, mass, kernel, self.batch_size)

    def _modes(self, data: Tensor, moved: Tensor) -> Tensor:
        """Centers (K, D): where points rest, the heaviest of those within a bandwidth of each other."""
        rest = coalesce(moved, torch.ones_like(moved[:, 0]), SAME_MODE * self.bandwidth_)
        mass = rest.mass
        if not self.blurring:  # a fixed density says itself how high each mode is
            mass = density(rest.points, data, self.bandwidth_)
        return rest.points[heaviest(rest.points, mass, self.bandwidth_)]

    def _check(self, n: int) -> tuple[str, int]:
        """What a point looks at, and how much of it; ValueError for parameters out of range."""
        if self.kernel not in REACH:
            raise ValueError(f"unknown kernel {self.kernel!r}: choose one of {', '.join(REACH)}")
        if self.bandwidth is not None and not self.bandwidth > 0:
            raise ValueError(f"bandwidth must be above 0, not {self.bandwidth}")
        if not self.lr > 0 or self.max_iter < 1 or (self.batch_size is not None and self.batch_size < 1):
            raise ValueError(
                f"lr must be above 0, max_iter and batch_size at least 1, not {self.lr}, {self.max_iter}, {self.batch_size}"
            )
        if self.neighbours in ("all", "radius"):
            return str(self.neighbours), n
        if isinstance(self.neighbours, tuple) and len(self.neighbours) == 2 and self.neighbours[0] in ("random", "nearest"):
            kind, k = self.neighbours
            if k < 1:
                raise ValueError(f"neighbours={self.neighbours!r} needs at least one neighbour")
            return kind, min(int(k), n)
        raise ValueError(f"unknown neighbours {self.neighbours!r}: choose 'all', 'radius', ('random', k) or ('nearest', k)")


def density(at: Tensor, data: Tensor, bandwidth: float) -> Tensor:
    """Data points within a bandwidth of each place (M,)."""
    ones = torch.ones_like(data[:, :1])
    return torch.cat([(squares <= bandwidth**2).to(ones) @ ones for _, squares in distance_chunks(at, data)])[:, 0]
