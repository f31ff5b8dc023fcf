"""Squared Euclidean distances between two sets, by the matmul expansion, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

MOST_ELEMENTS = 1 << 24  # of the distance matrix held at once


def squared_euclidean(x: Tensor, y: Tensor) -> Tensor:
    """(N, D) and (K, D) → (N, K), never negative.

    |x − y|² = |x|² − 2 x·y + |y|²; both are centred on y's mean first, because the expansion loses
    digits where the norms are large beside the distances.
    """
    centre = y.mean(0)
    x, y = x - centre, y - centre
    return (x.square().sum(1)[:, None] - 2 * (x @ y.T) + y.square().sum(1)).clamp_(min=0)


def distance_chunks(x: Tensor, y: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """The rows of `squared_euclidean(x, y)` in chunks of at most MOST_ELEMENTS elements."""
    rows = max(1, MOST_ELEMENTS // max(1, len(y)))
    for first in range(0, len(x), rows):
        part = slice(first, first + rows)
        yield part, squared_euclidean(x[part], y)
