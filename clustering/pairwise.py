"""Distances between two sets of points, in four formulations and in bounded memory.

In: x (N, D) and y (K, D) on one device; out: (N, K) in their dtype, or its rows chunk by chunk. Broadcast, einsum
and matmul are the fast.ai lesson's on mean shift, by feature is ours for the plane and space; they agree, and differ
in speed and memory. 16-bit input is worked on in float32: the matmul expansion has no digits to spare.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from clustering.arrays import compute_dtype
from clustering.metrics import unit
from kernels.arrays import FLOATS, check_dense, without_autocast

MAX_BYTES = 1 << 30  # that a call may write beside its input, the result included
CHUNK_BYTES = 1 << 24  # of a chunk and its workspace, unless told otherwise: more than this leaves the caches
# times the error of the expansion, below which a squared distance is computed anew
CLOSE = {torch.float32: 1e4, torch.float64: 1e9}
FEW_FEATURES = 4  # up to here the exact differences cost no more than the expansion
METRICS = ("sqeuclidean", "euclidean", "cosine")


def squares_of(points: Tensor, queries: Tensor) -> Tensor:
    """Squared distances along the last axis of operands that broadcast, (…, D) → (…).

    A few features are added one by one: no array of differences is written, and no sum runs over a short axis.
    """
    if points.shape[-1] > FEW_FEATURES:
        return (points - queries).square_().sum(-1)
    total = (points[..., 0] - queries[..., 0]).square_()
    for feature in range(1, points.shape[-1]):
        total += (points[..., feature] - queries[..., feature]).square_()
    return total


def by_feature(x: Tensor, y: Tensor) -> Tensor:
    """Squared distances (N, K), feature by feature: exact, without the third axis, for few features."""
    return squares_of(x[:, None], y)


def by_broadcast(x: Tensor, y: Tensor) -> Tensor:
    """Squared distances (N, K) from the differences (N, K, D): exact, and hungry for memory."""
    return (x[:, None] - y).square().sum(2)


@without_autocast
def by_einsum(x: Tensor, y: Tensor) -> Tensor:
    """Squared distances (N, K); one point against many is the lesson's 'ij,ij->i', without the third axis."""
    if len(y) == 1 or len(x) == 1:
        differences = x - y
        return torch.einsum("ij,ij->i", differences, differences).reshape(len(x), len(y))
    differences = x[:, None] - y
    return torch.einsum("nkd,nkd->nk", differences, differences)


def expansion(x: Tensor, y: Tensor) -> Tensor:
    """Squared distances (N, K) as |x|² − 2 x·y + |y|²: one matrix product, no third axis.

    Both sets are centered on y's mean first, because the expansion loses digits where the norms are large
    beside the distances; what rounding leaves below zero is zero. The error is that of `expansion_error`.
    """
    center = y.mean(0)
    x, y = x - center, y - center
    norms = y.square().sum(1) + x.square().sum(1)[:, None]
    return norms.addmm_(x, y.T, alpha=-2).clamp_(min=0)


def by_matmul(x: Tensor, y: Tensor) -> Tensor:
    """Squared distances (N, K) by `expansion`, and from the differences where rounding took too much of it.

    So a point is at distance 0 from itself, however far from the origin it lies.
    """
    center = y.mean(0)
    x_norms, y_norms = (x - center).square().sum(1), (y - center).square().sum(1)
    squares = expansion(x, y)
    close = CLOSE[x.dtype] * (4 + x.shape[1] ** 0.5) * torch.finfo(x.dtype).eps
    rows, columns = (squares <= (x_norms[:, None] + y_norms).mul_(close)).nonzero(as_tuple=True)
    if not len(rows):
        return squares
    if len(rows) * 8 > squares.numel():  # so many that gathering them costs more than all differences
        step = max(1, CHUNK_BYTES // (x.element_size() * y.numel()))
        return torch.cat([by_broadcast(some, y) for some in x.split(step)])
    step = max(1, CHUNK_BYTES // (3 * x.element_size() * x.shape[1]))
    for some_rows, some_columns in zip(rows.split(step), columns.split(step), strict=True):
        squares[some_rows, some_columns] = squares_of(x[some_rows], y[some_columns])
    return squares


def expansion_error(dtype: torch.dtype, features: int) -> float:
    """How far `expansion` may be off, as a share of |x − center|² + |y − center|².

    A product's sum runs in blocks of at least eight numbers, so its rounding grows with an eighth of the features.
    """
    return (8 + features / 8) * torch.finfo(dtype).eps


FORMULATIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "feature": by_feature,
    "broadcast": by_broadcast,
    "einsum": by_einsum,
    "matmul": by_matmul,
}


def choose_formulation(x: Tensor, y: Tensor) -> str:
    """einsum for one point against many, feature by feature for few of them, matmul for the rest."""
    if len(x) == 1 or len(y) == 1:
        return "einsum"
    return "feature" if x.shape[1] <= FEW_FEATURES else "matmul"


def distances(x: Tensor, y: Tensor, metric: str = "sqeuclidean", formulation: str = "auto", max_bytes: int = MAX_BYTES) -> Tensor:
    """Distances (N, K) between x (N, D) and y (K, D), on their device and in their dtype; never negative.

    metric: "sqeuclidean", "euclidean" or "cosine" (1 − cosine similarity; a zero vector is at distance 1 of all).
    formulation: "auto" picks by shape, or "feature", "broadcast", "einsum", "matmul".
    max_bytes: bound on all that is written, the result included. Raises ValueError where the result alone is
    larger than that (take `distance_chunks`), for unknown names, and for shapes that do not fit; TypeError for other
    things than dense tensors.

    Examples:
        >>> distances(torch.tensor([[0.0, 0.0]]), torch.tensor([[3.0, 4.0], [0.0, 1.0]]), "euclidean")
        tensor([[5., 1.]])
    """
    check_pair(x, y, metric, formulation)
    size = len(x) * len(y) * x.element_size()
    if size > max_bytes:
        raise ValueError(f"{len(x)} × {len(y)} distances take {size} bytes, more than max_bytes={max_bytes}: use distance_chunks")
    out = x.new_empty(len(x), len(y))
    for part, block in distance_chunks(x, y, metric, formulation, min(CHUNK_BYTES, max_bytes - size)):
        out[part] = block
    return out


def distance_chunks(
    x: Tensor, y: Tensor, metric: str = "sqeuclidean", formulation: str = "auto", max_bytes: int = CHUNK_BYTES
) -> Iterator[tuple[slice, Tensor]]:
    """The rows of `distances(x, y)` in chunks (slice, (n, K)) that together with their workspace keep to max_bytes.

    At least one row is worked on at a time. Chunks of 16-bit points come in float32.
    """
    check_pair(x, y, metric, formulation)
    name = choose_formulation(x, y) if formulation == "auto" else formulation
    y = prepare(y, metric)
    rows = rows_within(max_bytes, x, y, name)
    for first in range(0, len(x), rows):
        part = slice(first, first + rows)
        some = prepare(x[part], metric)
        yield part, finish(FORMULATIONS[name](some, y), metric, some, y)


def rows_within(max_bytes: int, x: Tensor, y: Tensor, formulation: str) -> int:
    """How many rows of x can be worked on at once: the block, and the differences where they are written."""
    width = y.element_size()
    one_side = formulation == "einsum" and (len(x) == 1 or len(y) == 1)
    flat = formulation in ("matmul", "feature") or one_side
    factor = 4 if flat else 2 * y.shape[1] + 1  # the block, its bounds and their comparison; differences and their squares
    row = width * (len(y) * factor + 3 * x.shape[1])  # the row itself, widened and centered
    return max(1, max_bytes // row)


def prepare(points: Tensor, metric: str) -> Tensor:
    """Points as the formulations want them: at least float32, and on the unit sphere for the cosine."""
    return unit(points) if metric == "cosine" else compute_dtype(points)


def finish(squares: Tensor, metric: str, x: Tensor, y: Tensor) -> Tensor:
    """From squared Euclidean distances (N, K) between prepared x and y to the metric, in place.

    On the unit sphere |x − y|² = 2 (1 − cos); a zero vector is not on it, and its missing ½ is added back.
    """
    if metric == "euclidean":
        return squares.sqrt_()
    if metric == "cosine":
        missing = (~x.any(1))[:, None].to(x) + (~y.any(1)).to(x)
        return squares.add_(missing).div_(2)
    return squares


def check_pair(x: Tensor, y: Tensor, metric: str, formulation: str) -> None:
    """Raise ValueError for names or operands that no formulation can take, TypeError for other things than dense tensors."""
    check_dense(x, y)
    if metric not in METRICS:
        raise ValueError(f"unknown metric {metric!r}: choose one of {', '.join(METRICS)}")
    if formulation != "auto" and formulation not in FORMULATIONS:
        raise ValueError(f"unknown formulation {formulation!r}: choose auto, {', '.join(FORMULATIONS)}")
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1]:
        raise ValueError(f"expected (N, D) and (K, D) with the same D, got {tuple(x.shape)} and {tuple(y.shape)}")
    if x.device != y.device or x.dtype != y.dtype or x.dtype not in FLOATS:
        raise ValueError(f"expected one floating dtype on one device, got {x.dtype} on {x.device} and {y.dtype} on {y.device}")
