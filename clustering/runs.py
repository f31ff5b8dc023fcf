"""Runs of Lloyd's algorithm over points already read, for `KMeans` and for callers to whom importing scikit-learn is too slow.

In: passes over points (N, D) on any device, and starting centers (K, D); out: centers at rest, labels and inertia.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import normalize

from clustering.arrays import as_floats, check_tensor, compute_dtype, squarable, sum_dtype, usual
from clustering.lloyd import LloydPass, Totals, means_of
from clustering.params import generator_on
from clustering.passes import make_pass
from clustering.seeding import choose_spread
from clustering.workers import Workers

BLOCK_NUMBERS = 1 << 16  # of points widened at a time where variances are added up: they stay in the cache
TOL = 1e-4  # share of the features' mean variance that centers at rest may still move


class Run(NamedTuple):
    """One run of Lloyd's algorithm."""

    centers: Tensor  # (K, D)
    labels: Tensor  # (N,) int64
    inertia: float
    iterations: int


class Descent(NamedTuple):
    """When Lloyd's iterations end: once the centers' summed squared movement is at most `limit`, or after `max_iter`.

    spherical: centers are scaled to unit length. report: is told the iterations made and the centers' movement.
    """

    limit: float
    max_iter: int = 300
    spherical: bool = False
    report: Callable[[int, float], None] | None = None

    def iterations(self, passes: Iterable[LloydPass], centers: Tensor, lr: float = 1.0) -> Iterator[Tensor]:
        """Centers, in the compute dtype, after each iteration, until they rest."""
        centers = compute_dtype(centers)
        for iteration in range(1, self.max_iter + 1):
            centers, shift = self._moved(passes, centers, lr)
            if self.report is not None:
                self.report(iteration, shift)
            yield centers
            if shift <= self.limit * lr * lr:
                return

    def _moved(self, passes: Iterable[LloydPass], centers: Tensor, lr: float = 1.0) -> tuple[Tensor, float]:
        """Centers after an iteration, and their summed squared movement."""
        means = means_of(accumulate_all(passes, centers), centers)
        moved = centers + lr * (means - centers) if lr != 1 else means
        moved = normalize(moved, dim=1) if self.spherical else moved
        return moved, float((moved - centers).square().sum())

    def _at_rest(self, passes: Iterable[LloydPass], centers: Tensor) -> tuple[Tensor, int]:
        """Centers, in the compute dtype, once they rest, and the iterations that it took.

        A pass that iterates by itself does so until a cluster is empty; that iteration is done here.
        """
        alone = passes[0].iterate if isinstance(passes, list) and self.report is None else None
        if alone is None:
            iterations = 0
            for moved in self.iterations(passes, centers):
                centers, iterations = moved, iterations + 1
            return centers, iterations
        centers, iterations = compute_dtype(centers), 0
        while True:
            centers, made, emptied = alone(centers, self.limit, self.max_iter - iterations)
            iterations += made
            if not emptied:
                return centers, iterations
            centers, shift = self._moved(passes, centers)
            iterations += 1
            if shift <= self.limit or iterations == self.max_iter:
                return centers, iterations

    def run(self, passes: Iterable[LloydPass], start: Tensor, dtype: torch.dtype, rows: int | None = None) -> Run:
        """Iterate until the centers rest.

        passes: one over everything, or one over each chunk. dtype: of the result. rows: of all chunks, where there are several.
        """
        centers, iterations = self._at_rest(passes, start)
        centers, loss, first = centers.to(dtype), 0.0, 0
        labels = torch.empty(0, dtype=torch.int64) if rows is None else torch.empty(rows, dtype=torch.int64, device=start.device)
        for one in passes:
            own, own_loss = one.label(centers.to(start.dtype))
            if rows is None:
                labels = own
            else:  # written in place: a list of parts would hold them twice
                labels[first : first + len(own)] = own
                first += len(own)
            loss += own_loss
        lost = torch.tensor(loss, dtype=sum_dtype(start.device), device=start.device)
        return Run(centers, labels, float(workers_of(passes).total(lost)), iterations)


def k_means(points: Tensor, n_clusters: int, n_init: int = 1, random_state: int = 0) -> Run:
    """The best run from n_init starts: what `KMeans(n_clusters, n_init=n_init, random_state=random_state)` fits.

    Raises:
        ValueError: the points are not finite and dense, or fewer than n_clusters.
    """
    points = usual(points)
    check_tensor(points, n_clusters)
    given = as_floats(points)
    x = squarable(given)
    descent, generator = Descent(TOL * mean_variance([x])), generator_on(x.device, random_state)
    starts = (x[choose_spread(x, n_clusters, generator)] for _ in range(n_init))
    runs = (descent.run([make_pass(x, None, n_clusters)], start, given.dtype) for start in starts)
    return min(runs, key=lambda run: run.inertia)


def accumulate_all(passes: Iterable[LloydPass], centers: Tensor) -> Totals:
    """Totals over all passes, with a point moved into every cluster that would stay empty."""
    found: Totals | None = None
    for one in passes:
        more = one.accumulate(centers)
        found = more if found is None else found.plus(more)
    assert found is not None
    workers = workers_of(passes)
    found = Totals(workers.total(found.sums), workers.total(found.counts))
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
    everyones = workers_of(passes).joined
    farthest = everyones(torch.cat(far))
    pick = farthest.topk(min(len(empty), len(farthest))).indices
    point, label, weight = (everyones(torch.cat(parts))[pick] for parts in (rows, labels, weights))
    empty = empty[: len(pick)]
    sums = found.sums.index_add(0, label, -point * weight[:, None]).index_copy_(0, empty, point * weight[:, None])
    counts = found.counts.index_add(0, label, -weight).index_copy_(0, empty, weight)
    return Totals(sums, counts.clamp_(min=0))


def workers_of(passes: Iterable[LloydPass]) -> Workers:
    """The processes among which the points are shared out: this one alone but for chunks with a group."""
    found = getattr(passes, "workers", None)
    return Workers() if found is None else found


def mean_variance(points: Iterable[Tensor], workers: Workers | None = None) -> float:
    """The features' variances, averaged, over all chunks (of all processes) and without a copy of any.

    Sums and squares are taken about the first point and in float64, so that a far origin costs no digits.
    """
    nothing = torch.zeros((), device="cpu")
    count, origin, sums, squares = 0, nothing, nothing, nothing
    for chunk in points:
        wide = sum_dtype(chunk.device)
        if not count:
            origin = chunk[0].to(wide)
            sums, squares = torch.zeros_like(origin), torch.zeros_like(origin)
        for rows in chunk.split(max(1, BLOCK_NUMBERS // chunk.shape[1]) if chunk.device.type == "cpu" else 1 << 18):
            moved = rows.to(wide) - origin
            sums = sums + moved.sum(0)
            squares = squares + moved.square_().sum(0)
        count += len(chunk)
    parts = (
        [(count, origin, sums, squares)]
        if workers is None
        else workers.gather((count, *(t.cpu() for t in (origin, sums, squares))))
    )
    count, origin, sums, squares = parts[0]
    for more, own, own_sums, own_squares in parts[1:]:  # to the first process's origin
        moved = own - origin
        squares = squares + own_squares + 2 * moved * own_sums + more * moved.square()
        sums = sums + own_sums + more * moved
        count += more
    return float((squares / count - (sums / count).square()).clamp_(min=0).mean())
