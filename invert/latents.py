"""The unit latents of many prompts in half precision: in memory, or in files that are read a part at a time.

A cosine needs no more than float16, and a million prompts of a large model would fill gigabytes. So they are searched in
parts, each widened to float32 for as long as its products take.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from torch import Tensor

BLOCK = 16_384  # prompts that are compared at once
Part = Tensor | Callable[[], Tensor]  # latents (n, E), or what reads them


class LatentTable:
    """Latents (N, E) of N prompts."""

    def __init__(self, parts: Sequence[Part], counts: Sequence[int], device: torch.device) -> None:
        """counts: rows of each part. device: what they are compared on."""
        self.parts: list[Part] = list(parts)
        self.counts, self.device = list(counts), device
        if all(isinstance(part, Tensor) for part in self.parts):
            whole = torch.cat([part for part in self.parts if isinstance(part, Tensor)]).to(device)
            self.parts, self.counts = [whole], [len(whole)]

    @classmethod
    def of(cls, latents: Tensor) -> LatentTable:
        """The table of latents (N, E) in memory."""
        return cls([latents], [len(latents)], latents.device)

    def __len__(self) -> int:
        return sum(self.counts)

    def followed_by(self, other: LatentTable) -> LatentTable:
        """The table of these rows and behind them those of the other."""
        return LatentTable([*self.parts, *other.parts], [*self.counts, *other.counts], self.device)

    @property
    def in_memory(self) -> bool:
        return all(isinstance(part, Tensor) for part in self.parts)

    def blocks(self) -> Iterator[tuple[int, Tensor]]:
        """The first row of each block, and its latents (n, E) float32 on the device."""
        begin = 0
        waiting: list[Tensor] = []
        for part in self.parts:
            waiting.append(part if isinstance(part, Tensor) else part())
            if sum(map(len, waiting)) >= BLOCK:
                yield from self._split(begin, waiting)
                begin, waiting = begin + sum(map(len, waiting)), []
        if waiting:
            yield from self._split(begin, waiting)

    def _split(self, begin: int, parts: Sequence[Tensor]) -> Iterator[tuple[int, Tensor]]:
        rows = parts[0] if len(parts) == 1 else torch.cat(list(parts))
        for i in range(0, len(rows), BLOCK):
            yield begin + i, rows[i : i + BLOCK].to(self.device).float()

    def nearest(self, targets: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """For unit targets (B, E) the k largest cosines (B, k), best first, and the rows (B, k) that they are of."""
        best = torch.empty(len(targets), 0, device=self.device)
        rows = torch.empty(len(targets), 0, dtype=torch.long, device=self.device)
        for begin, latents in self.blocks():
            cosines = targets @ latents.T
            numbers = torch.arange(begin, begin + len(latents), device=self.device).expand(len(targets), -1)
            best, rows = torch.cat([best, cosines], 1), torch.cat([rows, numbers], 1)
            best, order = best.topk(min(k, best.shape[1]))
            rows = rows.gather(1, order)
        return best, rows

    def cosines(self, target: Tensor) -> Tensor:
        """Of a unit target (E,) with each of them, (N,) float32."""
        return torch.cat([latents @ target for _, latents in self.blocks()])

    def of_rows(self, rows: Sequence[int]) -> LatentTable:
        """The table of those rows, which are ascending; what lies in files stays there."""
        chosen, begin = torch.tensor(rows, dtype=torch.long), 0
        parts: list[Part] = []
        counts: list[int] = []
        for part, count in zip(self.parts, self.counts, strict=True):
            inside = chosen[(chosen >= begin) & (chosen < begin + count)] - begin
            begin += count
            if len(inside):
                parts.append(part[inside.to(part.device)] if isinstance(part, Tensor) else partial(_some, part, inside))
                counts.append(len(inside))
        return LatentTable(parts, counts, self.device)

    def tensor(self) -> Tensor:
        """All of them as one tensor (N, E) float32."""
        return torch.cat([block for _, block in self.blocks()])


def _some(read: Callable[[], Tensor], rows: Tensor) -> Tensor:
    return read()[rows]
