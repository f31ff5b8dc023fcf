"""Points that do not fit the device's memory, a chunk at a time.

In: a memory-mapped array, or a function that starts an iterator over chunks of rows; out: tensors (n, D) on the
device that is to compute, one after the other, as often as an algorithm passes over the data.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from clustering.arrays import check_tensor
from kernels.arrays import as_tensor


class Chunks:
    """Rows in chunks, for `KMeans.fit(Chunks(…))`.

    source: an array (N, D), such as `numpy.load(path, mmap_mode="r")`, or a function without arguments that returns
    a fresh iterator over arrays or tensors (n, D); k-means passes over it once an iteration, so a generator
    itself, which runs out, is refused. rows: of an array, read at a time. device: where each chunk is moved to.

    >>> import numpy as np
    >>> from clustering import KMeans
    >>> x = np.arange(12, dtype=np.float32).reshape(6, 2)
    >>> KMeans(2).fit(Chunks(x, rows=4)).cluster_centers_.shape
    torch.Size([2, 2])
    """

    def __init__(self, source: Any, rows: int = 1 << 18, device: str | torch.device = "cpu") -> None:
        if isinstance(source, Iterator):
            raise TypeError("Chunks needs to start over in every iteration: pass the function that makes the iterator")
        if rows < 1:
            raise ValueError(f"rows must be at least 1, not {rows}")
        self.source, self.rows, self.device = source, rows, torch.device(device)

    def __iter__(self) -> Iterator[Tensor]:
        for chunk in self._raw():
            tensor = as_tensor(chunk, "a chunk").detach()
            check_tensor(tensor)
            tensor = tensor if tensor.is_floating_point() else tensor.to(torch.get_default_dtype())
            yield tensor.to(self.device)

    def _raw(self) -> Iterable[Any]:
        if callable(self.source):
            return self.source()
        return (self.source[first : first + self.rows] for first in range(0, len(self.source), self.rows))


def sample(chunks: Iterable[Tensor], n: int, generator: torch.Generator) -> tuple[Tensor, int]:
    """At most n rows, each as likely as any other, in one pass, and the number of rows in all.

    Every row draws a key and the n smallest keys win, so that no row has to be known in advance.
    """
    kept: Tensor | None = None
    keys: Tensor | None = None
    count = 0
    for chunk in chunks:
        count += len(chunk)
        drawn = torch.rand(len(chunk), generator=generator, device=chunk.device)
        kept = chunk if kept is None else torch.cat([kept, chunk])
        keys = drawn if keys is None else torch.cat([keys, drawn])
        keys, rows = keys.topk(min(n, len(keys)), largest=False)
        kept = kept[rows]
    if kept is None:
        raise ValueError("the stream has no points")
    return kept, count
