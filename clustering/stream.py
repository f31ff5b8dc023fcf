"""Points that do not fit the device's memory, a chunk at a time.

In: a memory-mapped array, or a function that starts an iterator over chunks of rows; out: tensors (n, D) on the
device that is to compute, one after the other, as often as an algorithm passes over the data.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from clustering.arrays import as_floats, check_tensor, native, usual
from clustering.params import whole
from clustering.workers import Workers
from kernels.arrays import as_tensor

SKIPPED_AT_ONCE = 1 << 20


class Chunks:
    """Rows in chunks, for `KMeans.fit(Chunks(…))` and `predict`.

    Args:
        source: an array (N, D), such as `numpy.load(path, mmap_mode="r")`, or a function without arguments that
            returns a fresh iterator over arrays or tensors (n, D); k-means passes over it once an iteration, so a
            generator itself, which runs out, is refused.
        rows: of an array, read at a time.
        device: where each chunk is moved to.

    Examples:
        >>> import numpy as np
        >>> from clustering import KMeans
        >>> x = np.arange(12, dtype=np.float32).reshape(6, 2)
        >>> KMeans(2).fit(Chunks(x, rows=4)).cluster_centers_.shape
        torch.Size([2, 2])
    """

    def __init__(self, source: Any, rows: int = 1 << 18, device: str | torch.device = "cpu", group: Any = None) -> None:
        if isinstance(source, Iterator):
            raise TypeError("Chunks needs to start over in every iteration: pass the function that makes the iterator")
        rows = whole(rows, "rows", "Chunks")
        self.source, self.rows, self.device = source, rows, torch.device(device)
        self.workers = Workers(group)

    def __iter__(self) -> Iterator[Tensor]:
        width: int | None = None
        for chunk in self._raw():
            tensor = usual(as_tensor(native(chunk), "a chunk"))
            check_tensor(tensor)
            if width is not None and tensor.shape[1] != width:
                raise ValueError(f"a chunk has {tensor.shape[1]} features, those before it {width}: they must be alike")
            width = tensor.shape[1]
            yield as_floats(tensor).to(self.device)

    def _raw(self) -> Iterable[Any]:
        if callable(self.source):
            return self.source()
        return (self.source[first : first + self.rows] for first in range(0, len(self.source), self.rows))


class Sample(NamedTuple):
    """points (n, D) drawn from the streams of all processes, and the number of rows in this one's."""

    points: Tensor
    rows: int


def sample(chunks: Chunks, n: int, generator: torch.Generator, weights: Tensor | None = None) -> Sample:
    """At most n rows of all processes, drawn without replacement in proportion to weights (N,), in one pass over the stream.

    Every row draws a key and the n largest keys win, so that no row has to be known in advance (Efraimidis and
    Spirakis, 2006). A process passes over the draws of the others' rows. Raises ValueError for a stream without points.
    """
    counts = chunks.workers.gather(sum(map(len, chunks)) if chunks.workers.count > 1 else 0)
    skip(generator, sum(counts[: chunks.workers.rank]))
    kept: Tensor | None = None
    keys: Tensor | None = None
    count = 0
    for chunk in chunks:
        drawn = torch.rand(len(chunk), generator=generator, device=chunk.device, dtype=torch.float64).log_()
        if weights is not None:
            if count + len(chunk) > len(weights):
                raise ValueError(f"sample_weight has {len(weights)} entries, fewer than the stream has points")
            own = weights[count : count + len(chunk)].to(drawn)
            drawn /= own.clamp(min=torch.finfo(own.dtype).tiny)
        count += len(chunk)
        kept = chunk if kept is None else torch.cat([kept, chunk])
        keys = drawn if keys is None else torch.cat([keys, drawn])
        keys, rows = keys.topk(min(n, len(keys)))
        kept = kept[rows]
    if kept is None or keys is None:
        raise ValueError("the stream has no points")
    skip(generator, sum(counts[chunks.workers.rank + 1 :]))
    kept, keys = chunks.workers.joined(kept), chunks.workers.joined(keys)
    return Sample(kept[keys.topk(min(n, len(keys))).indices] if chunks.workers.count > 1 else kept, count)


def skip(generator: torch.Generator, draws: int) -> None:
    """Let a random stream pass over draws that other processes make."""
    for first in range(0, draws, SKIPPED_AT_ONCE):
        size = min(SKIPPED_AT_ONCE, draws - first)
        torch.rand(size, generator=generator, device=generator.device, dtype=torch.float64)
