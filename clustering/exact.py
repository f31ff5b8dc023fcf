"""What makes a neighbor search exact: candidates measured by differences in float64, and equal distances put in order.

In: candidates that a faster, rounded search has found, with a bound on all others; out: the nearest k, whose distances
are sums of squared differences in float64, feature after feature. All exact methods end here or in `kdtree`, which
adds up in the same order, so that they give the same neighbors, of equally distant ones the first.
"""

from __future__ import annotations

import torch
from torch import Tensor

from clustering.arrays import sum_dtype

PADDING = 6  # candidates beyond k, among which the last can prove that nothing nearer was missed
PAIR_BYTES = 1 << 25  # of coordinates gathered at a time
WORTH_COMPILING = 1 << 18  # coordinates below which loading compiled code costs more than it saves


def pair_squares(points: Tensor, queries: Tensor, rows: Tensor, indices: Tensor) -> Tensor:
    """Squared distances (P,), float64, between queries[rows] and points[indices]."""
    if points.device.type == "cpu" and len(rows) * points.shape[1] >= WORTH_COMPILING and points.dtype == queries.dtype:
        from clustering import kdtree  # loads numba

        squares = torch.empty(len(rows), dtype=torch.float64, device="cpu")
        if points.dtype in (torch.float32, torch.float64):
            kdtree.pair_squares(points.numpy(), queries.numpy(), rows.numpy(), indices.numpy(), squares.numpy())
            return squares
    step = max(1, PAIR_BYTES // (16 * points.shape[1]))
    parts = [in_order(points[index], queries[row]) for row, index in zip(rows.split(step), indices.split(step), strict=True)]
    return torch.cat(parts) if parts else torch.empty(0, dtype=sum_dtype(points.device), device=points.device)


def in_order(points: Tensor, queries: Tensor) -> Tensor:
    """Squared distances along the last axis of operands that broadcast, added up feature after feature in float64."""
    wide = sum_dtype(points.device)
    total = (points[..., 0].to(wide) - queries[..., 0].to(wide)).square_()
    for feature in range(1, points.shape[-1]):
        total += (points[..., feature].to(wide) - queries[..., feature].to(wide)).square_()
    return total


def refine(points: Tensor, queries: Tensor, indices: Tensor) -> tuple[Tensor, Tensor]:
    """Candidates (Q, m) by exact distance, of equal ones the first: squares, float64, and indices. −1 comes last."""
    found = indices >= 0
    indices = indices.where(found, len(points)).sort(1).values
    found = indices < len(points)
    rows = torch.arange(len(queries), device=queries.device).repeat_interleave(indices.shape[1])
    flat = indices.flatten().clamp(max=len(points) - 1)
    squares = pair_squares(points, queries, rows, flat).reshape(indices.shape).masked_fill_(~found, torch.inf)
    squares, order = squares.sort(dim=1, stable=True)
    return squares, indices.gather(1, order).masked_fill_(squares.isinf(), -1)


def by_differences(points: Tensor, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The nearest k of all points by exact distance, where no faster search could prove its answer."""
    if points.device.type == "cpu":
        from clustering import kdtree

        return nearest_in_tree(kdtree.build(points.numpy()), queries, k)
    squares, indices = [], []
    step = max(1, PAIR_BYTES // (16 * len(points)))
    for some in queries.split(step):
        sorted_squares, order = in_order(points, some[:, None]).sort(dim=1, stable=True)
        squares.append(sorted_squares[:, :k])
        indices.append(order[:, :k])
    return torch.cat(squares), torch.cat(indices)


def nearest_in_tree(tree: object, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The nearest k in a `kdtree.Tree`, on all threads."""
    from clustering import cpu, kdtree

    asked = queries.double().contiguous().numpy()
    squares, indices = (torch.empty(len(queries), k, dtype=kind, device="cpu") for kind in (torch.float64, torch.int64))
    parts = cpu.shares_of(len(queries), torch.get_num_threads())

    def share(thread: int) -> None:
        part = parts[thread]
        kdtree.nearest_points(tree, asked[part], squares.numpy()[part], indices.numpy()[part])

    cpu.run_shares(share, len(parts))
    return squares, indices
