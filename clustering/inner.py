"""The inner product by the Euclidean distance: so every search structure finds the points of largest product.

In: points (…, N, D); out: points with one coordinate more, √(M² − |x|²), which brings all of them to the length M of the
longest. For queries without that coordinate |q − x|² = |q|² + M² − 2 q·x: the nearest has the largest product. All in
float64, as the difference of large squares costs digits. Source: Bachrach et al. (2014).
"""

from __future__ import annotations

import torch
from torch import Tensor

from clustering.arrays import sum_dtype
from clustering.buckets import Neighborhoods, from_pairs
from clustering.pairwise import CHUNK_BYTES
from kernels.arrays import without_autocast


def embed_points(points: Tensor) -> Tensor:
    """Points (…, N, D) of one length, (…, N, D + 1)."""
    wide = points.to(sum_dtype(points.device))
    squares = wide.square().sum(-1, keepdim=True)
    missing = (squares.amax(-2, keepdim=True) - squares).clamp_(min=0).sqrt_()
    return torch.cat([wide, missing], -1)


def embed_queries(queries: Tensor) -> Tensor:
    """Queries (…, Q, D) beside embedded points, (…, Q, D + 1)."""
    wide = queries.to(sum_dtype(queries.device))
    return torch.cat([wide, torch.zeros_like(wide[..., :1])], -1)


def scaled(queries: Tensor, points: Tensor) -> Tensor:
    """Embedded queries of the points' length: their order of points is the same, and no digits are lost to their size."""
    length = points.norm(dim=-1).amax(-1)[..., None, None]
    own = queries.norm(dim=-1, keepdim=True)
    return queries * (length / own.clamp(min=torch.finfo(own.dtype).tiny))


def in_order_of_product(points: Tensor, queries: Tensor, indices: Tensor) -> tuple[Tensor, Tensor]:
    """Minus the products (…, Q, k) of queries with the points of these indices, least first, and the indices in that order."""
    flat = indices.flatten(-2)
    rows = points.gather(-2, flat[..., None].expand(*flat.shape, points.shape[-1])).reshape(*indices.shape, -1)
    products = -(rows * queries[..., None, :]).sum(-1)
    products, order = products.sort(dim=-1, stable=True)
    return products, indices.gather(-1, order)


@without_autocast
def within(points: Tensor, queries: Tensor, radius: float) -> Neighborhoods:
    """All points (N, D) whose product with a query (Q, D) is at least −radius; minus the products as distances."""
    step = max(1, CHUNK_BYTES // (8 * len(points)))
    found = []
    for first in range(0, len(queries), step):
        products = -(queries[first : first + step] @ points.T)
        rows, indices = (products <= radius).nonzero(as_tuple=True)
        found.append((rows + first, indices, products[rows, indices]))
    rows, indices, products = (torch.cat(parts) for parts in zip(*found, strict=True))
    return from_pairs(rows, indices, products, len(queries))
