"""k-means of B independent problems of one shape: (B, N, D) in, a clustering of each out.

Small problems go through the device together: one batched product labels all of them, one sort sums their clusters, and
those that rest drop out. Problems that are worth a compiled pass or a fused kernel of their own run one after the other,
as does everything that compares all points (`balanced`). Either way each is fitted as it would be alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from clustering.arrays import (
    FLOATS,
    compute_dtype,
    native,
    read_centers,
    read_points,
    read_weights,
    sum_dtype,
    to_input_type,
)
from clustering.centroids import prepared, prepared_beside
from clustering.lloyd import WORTH_COMPILING, LloydPass, Totals, assign, means_of, segment_totals
from clustering.pairwise import distances, squares_of
from clustering.params import bad_parameter, fitted, generator_on, seed_from
from clustering.progress import Report
from clustering.runs import fill_empty
from clustering.seeding_each import choose_random_each, choose_spread_each, rows_of
from kernels.arrays import as_tensor, without_autocast

if TYPE_CHECKING:
    from clustering.kmeans import KMeans

GROUP_BYTES = {"cpu": 1 << 24}  # of what a group of problems writes at a time: processors keep it in their caches
DEVICE_GROUP_BYTES = 1 << 28


def is_batch(x: Any) -> bool:
    """Whether x has three axes."""
    if isinstance(x, list | tuple):
        depth = 0
        while isinstance(x, list | tuple) and len(x):
            x, depth = x[0], depth + 1
        return depth + getattr(x, "ndim", 0) == 3
    return getattr(x, "ndim", None) == 3


def read_batch(estimator: Any, x: Any, reset: bool = False) -> Tensor:
    """Problems (B, N, D) as a floating-point tensor; sets or compares n_features_in_ as `arrays.read_points` does."""
    if isinstance(x, Tensor):
        points = x
    else:
        from sklearn.utils import check_array

        points = as_tensor(check_array(native(x), dtype=FLOATS, allow_nd=True, input_name="X"), "x")
    if points.ndim != 3:
        raise ValueError(f"fitted on a batch of problems: pass points of shape (B, N, D), not {tuple(points.shape)}")
    if 0 in points.shape:
        raise ValueError(f"expected at least one problem, point and feature, got shape {tuple(points.shape)}")
    return read_points(estimator, points.reshape(-1, points.shape[2]), reset).reshape(points.shape)


def read_batch_weights(weights: Any, points: Tensor, signed: bool = False) -> Tensor | None:
    """Sample weights (B, N), none of whose rows is all zero, or None."""
    if weights is None:
        return None
    given = weights if isinstance(weights, Tensor) else torch.from_numpy(np.array(weights, dtype=np.float64))
    if given.ndim == 0:
        given = given.expand(points.shape[:2])
    if given.shape != points.shape[:2]:
        raise ValueError(f"sample_weight.shape == {tuple(given.shape)}, expected {tuple(points.shape[:2])}!")
    flat = read_weights(given.reshape(-1), points.reshape(-1, points.shape[2]), signed)
    assert flat is not None
    read = flat.reshape(points.shape[:2])
    if bool((read == 0).all(1).any()):
        raise ValueError("sample_weight is zero everywhere in a problem: at least one of its points must have a weight")
    return read


def fit(model: KMeans, x: Any, sample_weight: Any, report: Report | None) -> None:
    """Fit every problem of x and set the model's attributes, each with an axis (B,) in front."""
    given = read_batch(model, x, reset=True)
    model._check_clusters(given.shape[1])
    check_starts(model, len(given))
    weights = read_batch_weights(sample_weight, given)
    seed = seed_from(model.random_state)
    points = prepared(given, model.spherical)
    k, size = model.n_clusters, points[0].numel()
    alone = model.algorithm == "balanced" or size * k >= WORTH_COMPILING
    group = 1 if alone else group_size(points, k)
    found: list[tuple[Tensor, ...]] = []
    loss = 0.0
    for first in range(0, len(points), group):
        part = slice(first, first + group)
        own = None if weights is None else weights[part]
        if alone:
            found.append(fit_alone(model, to_input_type(given[first], x), own, first, seed))
        else:
            found.append(fit_group(model, points[part], given.dtype, own, part, seed, x))
        loss += float(found[-1][2].sum())
        if report is not None:
            report(min(first + group, len(points)), loss)
    parts = [torch.cat(column) for column in zip(*found, strict=True)]
    model.cluster_centers_, model.labels_, model.inertia_, model.n_iter_ = (to_input_type(part, x) for part in parts)


def check_starts(model: KMeans, problems: int) -> None:
    """ValueError where `init` has starting centers for another number of problems."""
    init = model.init
    if not (isinstance(init, str) or callable(init)) and np.ndim(init) == 3 and len(init) != problems:
        raise ValueError(f"init holds starting centers of {len(init)} problems, but x holds {problems}: pass (B, K, D)")


def group_size(points: Tensor, k: int) -> int:
    """Problems that go through the device together."""
    _, n, depth = points.shape
    most = GROUP_BYTES.get(points.device.type, DEVICE_GROUP_BYTES)
    return max(1, most // (8 * n * (k + 2 * depth)))


def fit_alone(model: KMeans, x: Any, weights: Tensor | None, number: int, seed: int) -> tuple[Tensor, ...]:
    """One problem (N, D) by an estimator of its own: centers (1, K, D), labels (1, N), inertia (1,) and iterations (1,)."""
    init = model.init if isinstance(model.init, str) or callable(model.init) or np.ndim(model.init) != 3 else model.init[number]
    lone = type(model)(**{**model.get_params(deep=False), "init": init, "random_state": seed, "verbose": 0})
    lone.fit(x, sample_weight=None if weights is None else weights[0])
    centers, labels = as_tensor(lone.cluster_centers_, "centers"), as_tensor(lone.labels_, "labels")
    inertia = torch.tensor([lone.inertia_], dtype=sum_dtype(centers.device), device=centers.device)
    return centers[None], labels[None], inertia, torch.tensor([lone.n_iter_], device=centers.device)


def fit_group(
    model: KMeans, points: Tensor, dtype: torch.dtype, weights: Tensor | None, part: slice, seed: int, like: Any
) -> tuple[Tensor, ...]:
    """A group of problems together; what `fit_alone` returns, for all of them. part: which of the batch they are."""
    wide = compute_dtype(points)
    scale = torch.ones(len(points), dtype=sum_dtype(points.device), device=points.device)
    if weights is not None:  # as `kmeans.scaled` does: sums of such weights neither overflow nor vanish
        scale = torch.exp2((torch.frexp(weights.amax(1)).exponent - 1).clamp(-1022, 1022).to(weights))
        weights = weights / scale[:, None]
    limits = movement_limits(model.tol, points)
    generator = generator_on(points.device, seed)
    best: tuple[Tensor, ...] | None = None
    for _ in range(model._repeats()):
        start = start_each(model, points, wide, weights, generator, part, like)
        centers, iterations = descend(wide, weights, compute_dtype(start), limits, model.max_iter, model.spherical)
        centers = centers.to(dtype)
        labels, nearest = nearest_each(wide, centers.to(wide))
        loss = inertia_each(nearest, weights) * scale
        run = (centers, labels, loss, iterations)
        if best is None:
            best = run
        else:
            better = loss < best[2]
            best = tuple(
                torch.where(better.reshape(-1, *[1] * (new.ndim - 1)), new, old) for new, old in zip(run, best, strict=True)
            )
    assert best is not None
    return best


def movement_limits(tol: float, points: Tensor) -> Tensor:
    """The centers' squared movement (B,) at which each problem rests: tol × its features' mean variance."""
    moved = points.to(sum_dtype(points.device))
    moved = moved - moved[:, :1]
    variances = (moved.square().mean(1) - moved.mean(1).square()).clamp_(min=0)
    return tol * variances.mean(1)


def start_each(
    model: KMeans, points: Tensor, wide: Tensor, weights: Tensor | None, generator: torch.Generator, part: slice, like: Any
) -> Tensor:
    """Starting centers (B, K, D) of each problem, as `CentroidModel._start` gives them to one."""
    k, init = model.n_clusters, model.init
    if isinstance(init, str) and init in ("k-means++", "random"):
        choose = choose_spread_each if init == "k-means++" else choose_random_each
        return rows_of(points, choose(wide, k, generator, weights))
    if callable(init):
        seed = int(torch.randint(2**31 - 1, (), generator=generator, device=generator.device))
        made = (init(to_input_type(one, like), k, random_state=np.random.RandomState(seed)) for one in points)
        return torch.stack([read_centers(centers, one, k) for centers, one in zip(made, points, strict=True)])
    if isinstance(init, str) or init is None or np.ndim(init) not in (2, 3):
        raise bad_parameter(model, "init", "'k-means++', 'random', a callable or an array-like (K, D) or (B, K, D)")
    if np.ndim(init) == 2:
        return torch.stack([read_centers(init, one, k) for one in points])
    return torch.stack([read_centers(centers, one, k) for centers, one in zip(init[part], points, strict=True)])


def descend(
    x: Tensor, weights: Tensor | None, centers: Tensor, limits: Tensor, max_iter: int, spherical: bool
) -> tuple[Tensor, Tensor]:
    """Centers (B, K, D) at rest and the iterations (B,) that each problem took; those that rest drop out."""
    at_rest = centers.clone()
    iterations = torch.full((len(x),), max_iter, device=x.device)
    going = torch.arange(len(x), device=x.device)
    for iteration in range(1, max_iter + 1):
        moved = move_each(x, weights, centers, spherical)
        rest = (moved - centers).square().sum((1, 2)).to(limits) <= limits[going]
        centers = moved
        if not bool(rest.any()):
            continue
        at_rest[going[rest]], iterations[going[rest]] = centers[rest], iteration
        if bool(rest.all()):
            return at_rest, iterations
        x, centers, going = x[~rest], centers[~rest], going[~rest]
        weights = None if weights is None else weights[~rest]
    at_rest[going] = centers
    return at_rest, iterations


def move_each(x: Tensor, weights: Tensor | None, centers: Tensor, spherical: bool) -> Tensor:
    """Centers (B, K, D) after one iteration of each problem."""
    problems, k, depth = centers.shape
    labels, _ = nearest_each(x, centers)
    flat = (labels + k * torch.arange(problems, device=x.device)[:, None]).flatten()
    own = None if weights is None else weights.flatten()
    found = segment_totals(x.reshape(-1, depth), flat, problems * k, own)
    sums, counts = found.sums.reshape(centers.shape), found.counts.reshape(problems, k)
    for number in (counts == 0).any(1).nonzero()[:, 0].tolist():  # seldom
        one = LloydPass(x[number], None if weights is None else weights[number])
        sums[number], counts[number] = fill_empty([one], centers[number], Totals(sums[number], counts[number]))
    flat_centers = centers.reshape(-1, depth)
    means = means_of(Totals(sums.reshape(-1, depth), counts.flatten()), flat_centers).reshape(centers.shape)
    return normalize(means, dim=2) if spherical else means


@without_autocast
def nearest_each(x: Tensor, centers: Tensor) -> tuple[Tensor, Tensor]:
    """Labels (B, N) of each problem's nearest centers (B, K, D), and squared distances (B, N) by differences."""
    middle = centers.mean(1, keepdim=True)
    moved = centers - middle
    scores = torch.baddbmm(moved.square().sum(2)[:, None], x - middle, moved.transpose(1, 2), alpha=-2)
    labels = scores.argmin(2)
    return labels, squares_of(x, rows_of(centers, labels))


def inertia_each(nearest: Tensor, weights: Tensor | None) -> Tensor:
    """Weighted sums (B,) of squared distances (B, N)."""
    wide = nearest.to(sum_dtype(nearest.device))
    return wide.sum(1) if weights is None else (wide * weights).sum(1)


def assign_each(points: Tensor, centers: Tensor) -> tuple[Tensor, Tensor]:
    """Labels and squared distances (B, N): together where problems are small, otherwise one after the other."""
    if points[0].numel() * centers.shape[1] >= WORTH_COMPILING:
        found = [assign(*pair) for pair in zip(points, centers, strict=True)]
    else:
        group = group_size(points, centers.shape[1])
        pairs = zip(points.split(group), centers.split(group), strict=True)
        found = [nearest_each(compute_dtype(own), compute_dtype(some)) for own, some in pairs]
        return torch.cat([labels for labels, _ in found]), torch.cat([squares for _, squares in found])
    return torch.stack([labels for labels, _ in found]), torch.stack([squares for _, squares in found])


def distances_each(points: Tensor, centers: Tensor) -> Tensor:
    """Euclidean distances (B, N, K)."""
    points, centers = compute_dtype(points), compute_dtype(centers)
    if points[0].numel() * centers.shape[1] >= WORTH_COMPILING:
        return torch.stack([distances(one, own, "euclidean") for one, own in zip(points, centers, strict=True)])
    out = points.new_empty(*points.shape[:2], centers.shape[1])
    group = max(1, group_size(points, centers.shape[1]) // points.shape[2])
    for part, own, some in zip(out.split(group), points.split(group), centers.split(group), strict=True):
        part.copy_(squares_of(own[:, :, None], some[:, None]).sqrt_())
    return out


def beside_centers(model: KMeans, x: Any) -> tuple[Tensor, Tensor, torch.dtype]:
    """Problems and their centers in one dtype, and the dtype that results are to have."""
    given = read_batch(model, x)
    centers = as_tensor(model.cluster_centers_, "cluster_centers_")
    if len(given) != len(centers):
        raise ValueError(f"x holds {len(given)} problems, but {len(centers)} were fitted: pass as many, in their order")
    return *prepared_beside(given, centers, fitted(model, "spherical")), given.dtype
