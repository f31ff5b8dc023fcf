"""Neighbors in B independent problems of one shape: points (B, N, D), queries (B, Q, D).

Brute force looks at all problems in one batched product where they are small; other structures are built for each.
What is found is what each problem's own search finds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from clustering.engines import Brute, Index
from clustering.exact import PADDING, in_order, refine
from clustering.pairwise import CHUNK_BYTES, FEW_FEATURES, expansion_error
from kernels.arrays import without_autocast

if TYPE_CHECKING:
    from clustering.neighbors import NearestNeighbors


class Each:
    """An index of its own for each problem."""

    def __init__(self, points: Tensor, build: Callable[[Tensor], Index]) -> None:
        self.points, self.indexes = points, [build(one) for one in points]

    def of(self, number: int) -> Index:
        """The index of one problem."""
        return self.indexes[number]

    def nearest(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Squared distances and indices (B, Q, k), nearest first; what an approximate index missed by brute force."""
        problems = zip(self.indexes, self.points, queries, strict=True)
        found = [complete(index, points, own, k) for index, points, own in problems]
        return torch.stack([squares for squares, _ in found]), torch.stack([indices for _, indices in found])


class BruteEach:
    """`engines.Brute` for all problems at once."""

    def __init__(self, points: Tensor) -> None:
        self.points = points

    def of(self, number: int) -> Index:
        """The index of one problem."""
        return Brute(self.points[number])

    def nearest(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Squared distances and indices (B, Q, k), nearest first."""
        points = self.points.to(queries.dtype)  # queries may be wider
        n, q = points.shape[1], queries.shape[1]
        group = CHUNK_BYTES // (8 * n * max(1, q))
        if group < 2:  # each fills a chunk by itself
            found = [Brute(one).nearest(own, k) for one, own in zip(points, queries, strict=True)]
        else:
            pairs = zip(points.split(group), queries.split(group), strict=True)
            found = [nearest_of_group(some.contiguous(), own.contiguous(), k) for some, own in pairs]
        squares, indices = (torch.cat([part.reshape(-1, q, k) for part in parts]) for parts in zip(*found, strict=True))
        return squares, indices


@without_autocast
def nearest_of_group(points: Tensor, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The nearest of some problems (B, N, D) to their queries (B, Q, D), proven as `engines.Brute` proves them."""
    (b, n, depth), q = points.shape, queries.shape[1]
    direct = depth <= FEW_FEATURES
    center = points.mean(1, keepdim=True)
    if direct:
        blocks = in_order(points[:, None], queries[:, :, None])
    else:
        moved = points - center
        blocks = torch.baddbmm(moved.square().sum(2)[:, None], queries - center, moved.transpose(1, 2), alpha=-2)
    m = min(k + PADDING, n)
    last, candidates = blocks.topk(m, dim=2, largest=False)
    first = n * torch.arange(b, device=points.device)[:, None, None]
    flat = (candidates + first).reshape(-1, m)
    squares, indices = refine(points.reshape(-1, depth), queries.reshape(-1, depth), flat)
    squares, indices = squares.reshape(b, q, m)[..., :k], (indices.reshape(b, q, m) - first)[..., :k]
    if m == n:
        return squares, indices
    bounds = squares[..., -1]
    if not direct:
        norms = (queries - center).to(bounds).norm(dim=2)
        most = norms.square() + (norms + bounds.sqrt()).square()
        bounds = bounds - norms.square() + expansion_error(points.dtype, depth) * most
    unproven = last[..., -1].to(bounds) <= bounds
    for number in unproven.any(1).nonzero()[:, 0].tolist():  # seldom
        rows = unproven[number]
        squares[number, rows], indices[number, rows] = Brute(points[number]).nearest(queries[number, rows], k)
    return squares, indices


def complete(index: Index, points: Tensor, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """`nearest` of an index, with what an approximate one missed filled in."""
    squares, indices = index.nearest(queries, k)
    missed = (indices < 0).any(1).nonzero()[:, 0]
    if len(missed):
        squares[missed], indices[missed] = Brute(points).nearest(queries[missed], k)
    return squares, indices


def one_by_one(model: NearestNeighbors, method: str, x: Any, *args: Any) -> Any:
    """A method's results for each problem: a list, or one list for each of several results."""
    queries = [None] * len(model._points) if x is None else x
    if len(queries) != len(model._points):
        raise ValueError(f"x holds {len(queries)} problems, but {len(model._points)} were fitted: pass as many, in their order")
    found = []
    for number, own in enumerate(queries):
        alone = object.__new__(type(model))
        alone.__dict__.update(vars(model))  # copy.copy takes the state as pickle does, which copies views
        alone._points, alone._index = model._points[number], model._index.of(number)
        found.append(getattr(alone, method)(own, *args))
    if isinstance(found[0], tuple) and not hasattr(found[0], "_fields"):
        return tuple(map(list, zip(*found, strict=True)))
    return found


def without_self(values: Tensor, indices: Tensor) -> tuple[Tensor, Tensor]:
    """Drop each row's own number from its k + 1 neighbors (…, N, k + 1), or the last where others have crowded it out."""
    own = indices == torch.arange(indices.shape[-2], device=indices.device)[:, None]
    own[..., -1] |= ~own.any(-1)
    shape = (*indices.shape[:-1], indices.shape[-1] - 1)
    return values[~own].reshape(shape), indices[~own].reshape(shape)
