"""Sample weights as the algorithms want them: read from a stream, and of a size whose sums neither overflow nor vanish.

In: weights as the user has them; out: tensors in `sum_dtype` beside the points, and the power of two that was taken out.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from clustering.arrays import read_weights
from clustering.stream import Chunks
from clustering.workers import Workers


def list_weights(chunks: Chunks, weights: Any, signed: bool = False) -> Tensor | None:
    """Weights (N,) of all rows of a stream, on its device; their number is compared when the stream has been read.

    A single number, which every row has, costs a pass over the stream that counts the rows.
    """
    if weights is None:
        return None
    rows = sum(map(len, chunks)) if np.ndim(weights) == 0 else len(weights)
    return read_weights(weights, torch.empty(rows, 0, dtype=torch.float32, device=chunks.device), signed)


def weighted_chunks(chunks: Chunks, weights: Tensor | None) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Each chunk (n, D) and its weights (n,). Raises ValueError once their numbers are seen to differ."""
    first = 0
    for chunk in chunks:
        own = None
        if weights is not None:
            own = weights[first : first + len(chunk)]
            if len(own) < len(chunk):
                raise ValueError(f"sample_weight has {len(weights)} entries, fewer than the stream has points")
        first += len(chunk)
        yield chunk, own
    if weights is not None and len(weights) != first:
        raise ValueError(f"sample_weight.shape == ({len(weights)},), expected ({first},)!")


def scaled(weights: Tensor | None, workers: Workers | None = None) -> tuple[Tensor | None, float]:
    """Weights of which the largest (of all processes) is at least 1 and below 2, and the power of two they were divided by.

    Sums of them neither overflow nor lose digits near zero, and dividing by a power of two rounds nothing.
    """
    if weights is None:
        return None, 1.0
    most = weights.max() if workers is None else weights.new_tensor(max(workers.gather(float(weights.max()))))
    exponent = int(torch.frexp(most).exponent) - 1
    scale = 2.0 ** max(-1022, min(1022, exponent))
    return weights / scale, scale
