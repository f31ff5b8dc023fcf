"""Prompts that are scored together, and charged as if they came one slot of one prompt after the other.

A search counts token passes by groups: the candidates of one slot of one prompt share what lies before it, which is run
once, and are padded to the longest of a batch. Nothing of that need be computed in that order. So all prompts are scored
ahead (`prefetched`), and then the groups are gone through as they count (`Batch.replayed`): where the budget stops, what
lies beyond was never found.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from invert.found import Scored
from invert.keys import first_of_each, mixed, sequence_keys
from invert.lexicon import text_of
from invert.models.clip import Clip
from invert.scorer import padded_positions
from invert.together import Scores, Steps
from invert.word_table import PAD

if TYPE_CHECKING:
    from invert.search import Search


@dataclass(frozen=True)
class Group:
    """The rows begin…end of a batch: changes of one prompt that have their first words in common.

    prompt: which one. slot: how many words are in common. shared: their tokens, special ones included.
    """

    prompt: int
    slot: int
    begin: int
    end: int
    shared: int

    def cost(self, lengths: Sequence[int], clip: Clip) -> int:
        """Positions that prompts of this group with so many tokens are charged."""
        if not lengths:
            return 0
        frame = clip.frame
        cached = clip.tower.shares_prefixes and self.shared > len(frame.before) and len(lengths) > 1
        behind = [frame.length or n + frame.n_special - cached * self.shared for n in lengths]
        return padded_positions(behind) + cached * self.shared


class Batch:
    """Allowed prompts in groups, no two of a group the same.

    Attributes:
        rows: (N, L) word numbers.
        words: (N,) what a replacement put there, PAD for other moves.
        groups: in the order in which they are charged.
        keys: (N,) of the token ids.
        reached: how many rows the budget has reached.
    """

    def __init__(self, search: Search, rows: Tensor, prompt: Tensor, slot: Tensor, words: Tensor) -> None:
        """rows (N, L): changes of prompts (N,), the prompts ascending, whose first `slot` (N,) words are unchanged."""
        self.search = search
        group = prompt * (1 << 24) + slot
        first = first_of_each(group)  # slots of a prompt in the order in which they come up
        numbers, by_number = group[first].sort()
        rank = by_number[torch.searchsorted(numbers, group)]
        kept = search.allowed_rows(rows).nonzero()[:, 0]
        kept = kept[rank[kept].argsort(stable=True)]
        same = sequence_keys(rows[kept], rows[kept] != PAD) ^ mixed(rank[kept])
        kept = kept[first_of_each(same)]
        self.rows, self.words, rank = rows[kept], words[kept], rank[kept]
        self.tokens = search.table.token_counts(self.rows)
        self.keys = search.table.token_keys(self.rows)
        self.missing = search.missing_rows(self.rows)
        self.terms = search.terms(self.rows, self.tokens, self.missing)
        ranks, sizes = rank.unique_consecutive(return_counts=True)
        ends = sizes.cumsum(0)
        lead = search.table.token_lengths(self.rows).cumsum(1)[ends - sizes]  # of the first row of each group
        slots = slot[first][ranks]
        shared = torch.where(slots > 0, lead.gather(1, (slots - 1).clamp(0, lead.shape[1] - 1)[:, None])[:, 0], 0)
        shared += len(search.scorer.clip.frame.before)
        columns = (prompt[first][ranks], slots, ends - sizes, ends, shared)
        self.groups = [Group(*numbers) for numbers in zip(*(column.tolist() for column in columns), strict=True)]
        self.reached = 0

    def __len__(self) -> int:
        return len(self.rows)

    def objectives(self) -> Tensor:
        """(N,) float64, NaN for prompts that are not scored."""
        language, penalty = self.terms
        return (self.scores().double() + language) - penalty

    def scores(self) -> Tensor:
        """(N,) float32, NaN for prompts that are not scored."""
        cache, places = self.search.cache, self.search.cache.places(self.keys)
        return torch.where(places >= 0, F.pad(cache.scores, (0, 1), value=torch.nan)[places], torch.nan)

    def scored(self) -> Scored:
        """The prompts that the budget has reached, with all that is asked of them later on."""
        reached = slice(0, self.reached)
        rows = self.rows[reached]
        joins = self.search.table.columns.joins[rows]
        return Scored(
            rows,
            self.scores()[reached],
            self.objectives()[reached],
            self.missing[reached],
            sequence_keys(rows, rows != PAD),
            sequence_keys(rows, joins),
        )

    def ledger(self) -> Ledger:
        """What charging needs, as it stands now."""
        objectives = self.objectives().masked_fill(self.missing > 0, -torch.inf)
        return Ledger(self.search.cache.places(self.keys).numpy(), objectives.numpy(), self.tokens.numpy())

    def replayed(self, groups: Sequence[Group], at_any_cost: bool = False) -> Steps[None]:
        """Charge groups one after the other, as far as the budget goes, and report the best prompt of each.

        at_any_cost: even where nothing is left.
        """
        budget, ledger = self.search.scorer.budget, self.ledger()
        for group in groups:
            if budget.exhausted and not at_any_cost:
                return
            part = slice(group.begin, group.end)
            if (ledger.places[part] < 0).any():
                yield from prefetched(self.search, [(self, [group])])
                ledger = self.ledger()
                if (ledger.places[part] < 0).any():  # time is up
                    return
            charged = self.search.cache.charged.numpy()
            due, index = np.unique(ledger.places[part], return_index=True)
            fresh = ~charged[due]
            charged[due] = True
            budget.spend(forward=group.cost(ledger.tokens[part][index[fresh]].tolist(), self.search.scorer.clip))
            best = group.begin + int(ledger.objectives[part].argmax())
            if ledger.objectives[best] > self.search.history.best_objective:
                prompt = self.search.table.prompt(self.rows[best])
                self.search.history.report_candidate(text_of(prompt), float(ledger.objectives[best]))
            self.reached = group.end


@dataclass(frozen=True, eq=False)
class Ledger:
    """Of a batch's prompts (N,): where the cache keeps their scores, what they are worth if complete, and their tokens."""

    places: np.ndarray[Any, Any]
    objectives: np.ndarray[Any, Any]
    tokens: np.ndarray[Any, Any]


def prefetched(search: Search, parts: Sequence[tuple[Batch, Sequence[Group]]]) -> Steps[None]:
    """Score what is not known of groups of batches; charges nothing."""
    chosen = [(batch, slice(groups[0].begin, groups[-1].end)) for batch, groups in parts if groups]
    if not chosen:
        return
    width = max(batch.rows.shape[1] for batch, _ in chosen)
    keys = torch.cat([batch.keys[part] for batch, part in chosen])
    rows = torch.cat([F.pad(batch.rows[part], (0, width - batch.rows.shape[1])) for batch, part in chosen])
    new = first_of_each(keys)
    new = new[search.cache.places(keys[new]) < 0]
    if len(new):
        scorer = search.scorer
        ids, eot = search.table.token_ids(rows[new], scorer.clip.frame)
        search.cache.add(keys[new], (yield Scores(ids, eot, scorer.target, scorer.budget)))


def within_budget(batch: Batch, positions: Sequence[int]) -> int:
    """How many of a batch's prompts the budget may reach, by what gradients and moves cost at least: more need no score.

    positions: of each prompt, for its gradient.
    """
    budget, cache = batch.search.scorer.budget, batch.search.cache
    if budget.max_token_passes is None:
        return len(positions)
    places = cache.places(batch.keys)
    paid = (places >= 0) & F.pad(cache.charged, (0, 1))[places]
    first = torch.zeros_like(paid)
    first[first_of_each(batch.keys)] = True
    due = torch.cat([torch.zeros(1, dtype=torch.long), (first & ~paid).long().cumsum(0)]).tolist()
    left = budget.max_token_passes - budget.token_passes
    least = 2  # positions behind what is shared: a word that changes, or none, and end-of-text
    for i, gradient in enumerate(positions):
        if left <= 0:
            return i
        left -= 2 * gradient
        left -= sum(due[group.end] - due[group.begin] for group in batch.groups if group.prompt == i) * (least - 1)
    return len(positions)
