"""Texts as a tree of their beginnings, so that a causal language model runs what they have in common once.

In: rows of token ids. Out: one sequence of the tree's nodes, parents before children, in which every node sees its ancestors
alone: its state is that of the same place in a text by itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property

import torch
from torch import Tensor

Row = tuple[int, ...]  # token ids of a text


class TextTree:
    """The distinct beginnings of texts, as M nodes.

    Attributes:
        ids, depths, parents: of each node its last token, how many tokens precede it, and the node before it, -1 for none.
        paths: of each text its nodes, the first token's first.
    """

    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows = list(rows)
        self.ids: list[int] = []
        self.depths: list[int] = []
        self.parents: list[int] = []
        self.paths: list[list[int]] = []
        number: dict[tuple[int, int], int] = {}
        for row in self.rows:
            node, path = -1, []
            for depth, token in enumerate(row):
                key = node, token
                if key not in number:
                    number[key] = len(self.ids)
                    self.ids.append(token)
                    self.depths.append(depth)
                    self.parents.append(node)
                node = number[key]
                path.append(node)
            self.paths.append(path)

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def ancestors(self) -> Tensor:
        """(M, M) bool: which nodes each one sees, itself included."""
        seen = torch.eye(len(self), dtype=torch.bool)
        for node, parent in enumerate(self.parents):
            if parent >= 0:
                seen[node] |= seen[parent]
        return seen

    @cached_property
    def places(self) -> tuple[Tensor, Tensor]:
        """For each node (M,) a text that it is of, and where it stands in it."""
        text = [0] * len(self)
        for i, path in enumerate(self.paths):
            for node in path:
                text[node] = i
        return torch.tensor(text), torch.tensor(self.depths)

    def sums(self, logits: Tensor, log_totals: Tensor) -> Tensor:
        """log p (N,) float64 of whole texts behind their first tokens, on the CPU.

        Args:
            logits: (M, V) of the token behind each node.
            log_totals: (M,) the logarithms of what they are divided by.
        """
        device = logits.device
        parents, ids = (torch.tensor(values, device=device) for values in (self.parents, self.ids))
        before = parents.clamp(min=0)
        steps = (logits[before, ids] - log_totals[before]).masked_fill(parents < 0, 0).double().tolist()
        found: list[float] = []
        for step, parent in zip(steps, self.parents, strict=True):
            found.append(step + (found[parent] if parent >= 0 else 0.0))
        return torch.tensor([found[path[-1]] for path in self.paths], dtype=torch.float64)


def trees(rows: Sequence[Row], most: int) -> Iterator[TextTree]:
    """The rows, which are sorted, as trees of about so many nodes at most."""
    begin, size = 0, 0
    last: Row = ()
    for i, row in enumerate(rows):
        new = len(row) - common_length(last, row)
        if size + new > most and i > begin:
            yield TextTree(rows[begin:i])
            begin, size, new = i, 0, len(row)
        last, size = row, size + new
    if begin < len(rows):
        yield TextTree(rows[begin:])


def common_length(first: Row, second: Row) -> int:
    """How many tokens two rows have in common at their beginning."""
    return next((i for i, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), min(len(first), len(second)))
