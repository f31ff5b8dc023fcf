"""What a search has scored, as tensors: a cache of cosines by token ids, and the pool of prompts with their objectives."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from invert.keys import first_of_each
from invert.word_table import WordTable


class ScoreCache:
    """Cosines of prompts by the key of their token ids.

    A prompt that a search is about to reach may be scored ahead of its turn; it is charged when its turn comes.

    Attributes:
        scores: (K,) float32.
        charged: (K,) bool, whether the budget has paid.
    """

    def __init__(self) -> None:
        self.keys = torch.empty(0, dtype=torch.int64)
        self.scores = torch.empty(0)
        self.charged = torch.empty(0, dtype=torch.bool)

    def places(self, keys: Tensor) -> Tensor:
        """(N,) where keys (N,) are kept, -1 for those that are not."""
        if not len(self.keys):
            return torch.full_like(keys, -1)
        place = torch.searchsorted(self.keys, keys).clamp(max=len(self.keys) - 1)
        return torch.where(self.keys[place] == keys, place, -1)

    def add(self, keys: Tensor, scores: Tensor) -> None:
        """Keep the scores (N,) of new, distinct keys (N,); those that are NaN are not known."""
        known = ~scores.isnan()
        keys, order = torch.cat([self.keys, keys[known]]).sort()
        self.keys = keys
        self.scores = torch.cat([self.scores, scores[known]])[order]
        self.charged = torch.cat([self.charged, torch.zeros(int(known.sum()), dtype=torch.bool)])[order]


@dataclass(frozen=True, eq=False)
class Scored:
    """N prompts: rows (N, L) of word numbers, and for each (N,) its cosine float32, objective float64, how many required
    words it lacks, and the keys of its words, of its function words and of what it says."""

    rows: Tensor
    scores: Tensor
    objectives: Tensor
    missing: Tensor
    keys: Tensor
    templates: Tensor

    def of(self, chosen: Tensor) -> Scored:
        """Those of a mask or of indices (M,)."""
        return Scored(*(getattr(self, name)[chosen] for name in self.__dataclass_fields__))


class Pool:
    """Every prompt that was scored, each once.

    Attributes:
        found: all of them, in the order in which they came.
    """

    def __init__(self, table: WordTable) -> None:
        self.table = table
        nothing = torch.empty(0, dtype=torch.int64)
        self.found = Scored(nothing.reshape(0, 1), torch.empty(0), torch.empty(0, dtype=torch.float64), nothing, nothing, nothing)

    def __len__(self) -> int:
        return len(self.found.keys)

    def add(self, new: Scored) -> None:
        """Prompts, of which some may be there already."""
        new = new.of(first_of_each(new.keys))
        if len(self):
            new = new.of(~torch.isin(new.keys, self.found.keys))
        width = max(new.rows.shape[1], self.found.rows.shape[1])
        rows = [torch.nn.functional.pad(one.rows, (0, width - one.rows.shape[1])) for one in (self.found, new)]
        rest = [torch.cat([getattr(one, name) for one in (self.found, new)]) for name in list(new.__dataclass_fields__)[1:]]
        self.found = Scored(torch.cat(rows), *rest)

    def text(self, i: int) -> str:
        """The text of one of them."""
        return " ".join(word.text for word in self.table.prompt(self.found.rows[i]))

    def best_first(self) -> Tensor:
        """(N,) indices by objective; equals in the order of their texts, so that a seed decides nothing here."""
        values, order = self.found.objectives.sort(descending=True, stable=True)
        begins = torch.cat([torch.ones(1, dtype=torch.bool), values[1:] != values[:-1]]).nonzero()[:, 0]
        ends = torch.cat([begins[1:], torch.tensor([len(values)])])
        tied = ends - begins > 1
        for begin, end in zip(begins[tied].tolist(), ends[tied].tolist(), strict=True):
            order[begin:end] = torch.tensor(sorted(order[begin:end].tolist(), key=self.text))
        return order

    def best(self, n: int) -> list[int]:
        """Indices of the n best."""
        return self.best_first()[:n].tolist()

    def best_of_each(self, kinds: Tensor, n: int) -> Tensor:
        """(up to n,) indices, best first: the best prompt of each kind (N,)."""
        if not len(self):
            return torch.empty(0, dtype=torch.int64)
        order = self.best_first()
        return order[first_of_each(kinds[order])[:n]]

    def diverse_top_k(self, n: int) -> Tensor:
        """The n best prompts of different templates.

        Otherwise the beam fills with one sentence in many words, and a longer sentence, poor until all
        its words are right, never gets them.
        """
        return self.best_of_each(self.found.templates, n)
