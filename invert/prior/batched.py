"""A prior's answers for many prompts at once, as rows of word numbers: what a search asks it thousands of times.

The class n-grams answer from their tables. Any other `Prior` is asked prompt by prompt: slower, with the same answers.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from invert.prior import Prior
from invert.prior.class_ngram import ClassNgramPrior
from invert.prior.uniform import UniformPrior
from invert.word_table import WordTable


class BatchedPrior(Protocol):
    """Rows (N, L) hold word numbers of a `WordTable`, lengths (N,) how many; contexts are numbers of classes."""

    def log_probs(self, rows: Tensor, lengths: Tensor) -> Tensor:
        """log p (N,) float64 of whole prompts."""
        ...

    def slot_log_probs(self, rows: Tensor, lengths: Tensor, prompt: Tensor, slot: Tensor, insert: bool) -> Tensor:
        """(S, W) float32: `Prior.slot_log_probs` at slot (S,) of the prompts of index prompt (S,)."""
        ...

    def likely_words(self, rows: Tensor, lengths: Tensor, prompt: Tensor, slot: Tensor, n: int) -> Tensor | None:
        """(S, n) indices of lexicon words to insert; None where all are alike."""
        ...

    def contexts(self, rows: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor] | None:
        """The class before (N, L + 1) and at (N, L + 1) each slot, the end included, -1 beyond; None without classes."""
        ...

    def cuts(self, rows: Tensor, lengths: Tensor, others: Tensor, other_lengths: Tensor) -> Tensor:
        """(N, M, L, K) bool: `Prior.cut_points` of each row with each of the others (M, K)."""
        ...


def batched(prior: Prior, table: WordTable) -> BatchedPrior:
    """The prior for rows of the table's words."""
    if type(prior) is UniformPrior:
        return UniformBatch(len(prior.lexicon))
    return NgramBatch(prior, table) if isinstance(prior, ClassNgramPrior) else OneByOne(prior, table)


class NgramBatch:
    """Class n-grams, by their tables."""

    def __init__(self, prior: ClassNgramPrior, table: WordTable) -> None:
        self.prior, self.table, self.tables = prior, table, prior.tables
        self._number = {name: i for i, name in enumerate(prior.classes)}
        self._class = torch.cat([torch.tensor([self.tables.nothing]), prior.word_class])  # (V,)
        own = prior.own_log_probs
        self._own = None if own is None else torch.cat([own.new_zeros(1), own])  # (V,)

    def classes(self, rows: Tensor) -> Tensor:
        """Class numbers (N, L); `nothing` for PAD."""
        met = self.table.words[len(self._class) :]
        if met:
            self._class = torch.cat([self._class, torch.tensor([self._number[self.prior.class_of(word)] for word in met])])
            if self._own is not None:
                self._own = torch.cat([self._own, self._own.new_tensor([self.prior.own_log_prob(word) for word in met])])
        return self._class[rows]

    def log_probs(self, rows: Tensor, lengths: Tensor) -> Tensor:
        log_p = self.tables.log_probs(self.classes(rows), lengths)
        if self._own is None:
            return log_p
        own = torch.zeros_like(log_p)
        for of_place in self._own[rows].T:  # in the order in which the prior adds them, so that no bit differs
            own += of_place
        return log_p + own

    def slot_log_probs(self, rows: Tensor, lengths: Tensor, prompt: Tensor, slot: Tensor, insert: bool) -> Tensor:
        classes = self.classes(rows)
        symbols = self.tables.symbols(classes, lengths, room=self.tables.order)
        tail = slot[:, None] + (0 if insert else 1) + torch.arange(self.tables.order - 1)
        log_p = self.tables.around(self.tables.states_before(classes)[prompt, slot], symbols[prompt[:, None], tail])
        return self.prior.of_words(log_p.float())

    def likely_words(self, rows: Tensor, lengths: Tensor, prompt: Tensor, slot: Tensor, n: int) -> Tensor | None:
        log_p = self.slot_log_probs(rows, lengths, prompt, slot, insert=True)
        return log_p.topk(min(n, log_p.shape[1])).indices

    def contexts(self, rows: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor] | None:
        at = self.tables.symbols(self.classes(rows), lengths)
        at = at.masked_fill(at == self.tables.nothing, -1)
        return torch.cat([torch.full_like(at[:, :1], self.tables.nothing), at[:, :-1]], 1), at  # `nothing` begins a prompt

    def cuts(self, rows: Tensor, lengths: Tensor, others: Tensor, other_lengths: Tensor) -> Tensor:
        own, other = self.classes(rows)[:, None, :, None], self.classes(others)[None, :, None, :]
        return (own == other) & (own != self.tables.nothing)


class UniformBatch:
    """The prior that knows no language: nothing is computed, and the one number of (S, W) is kept once."""

    def __init__(self, n_words: int) -> None:
        self.n_words = n_words

    def log_probs(self, rows: Tensor, lengths: Tensor) -> Tensor:
        return torch.zeros(len(rows), dtype=torch.float64)

    def slot_log_probs(self, rows: Tensor, lengths: Tensor, prompt: Tensor, slot: Tensor, insert: bool) -> Tensor:
        return torch.zeros(1, 1).expand(len(slot), self.n_words)

    def likely_words(self, rows: Tensor, lengths: Tensor, prompt: Tensor, slot: Tensor, n: int) -> None:
        return None

    def contexts(self, rows: Tensor, lengths: Tensor) -> None:
        return None

    def cuts(self, rows: Tensor, lengths: Tensor, others: Tensor, other_lengths: Tensor) -> Tensor:
        return torch.zeros(len(rows), len(others), rows.shape[1], others.shape[1], dtype=torch.bool)


class OneByOne:
    """Any other prior."""

    def __init__(self, prior: Prior, table: WordTable) -> None:
        self.prior, self.table = prior, table
        self._number: dict[str, int] = {}

    def log_probs(self, rows: Tensor, lengths: Tensor) -> Tensor:
        return torch.tensor([self.prior.log_prob(self.table.prompt(row)) for row in rows], dtype=torch.float64)

    def slot_log_probs(self, rows: Tensor, lengths: Tensor, prompt: Tensor, slot: Tensor, insert: bool) -> Tensor:
        places = zip(prompt.tolist(), slot.tolist(), strict=True)
        found = [self.prior.slot_log_probs(self.table.prompt(rows[i]), at, insert) for i, at in places]
        return torch.stack(found).float() if found else torch.zeros(0, len(self.table.lexicon))

    def likely_words(self, rows: Tensor, lengths: Tensor, prompt: Tensor, slot: Tensor, n: int) -> Tensor | None:
        places = zip(prompt.tolist(), slot.tolist(), strict=True)
        found = [self.prior.likely_words(self.table.prompt(rows[i]), at, n) for i, at in places]
        if not found or found[0] is None:
            return None
        return torch.tensor(found, dtype=torch.long)

    def contexts(self, rows: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor] | None:
        found = [self.prior.contexts(self.table.prompt(row)) for row in rows]
        if not found or found[0] is None:
            return None
        parts = torch.full((2, len(rows), rows.shape[1] + 1), -1)
        for i, both in enumerate(found):
            for part, names in zip(parts, both or (), strict=True):
                part[i, : len(names)] = torch.tensor([self._number.setdefault(name, len(self._number)) for name in names])
        return parts[0], parts[1]

    def cuts(self, rows: Tensor, lengths: Tensor, others: Tensor, other_lengths: Tensor) -> Tensor:
        found = torch.zeros(len(rows), len(others), rows.shape[1], others.shape[1], dtype=torch.bool)
        for i, row in enumerate(rows):
            for j, other in enumerate(others):
                for at in self.prior.cut_points(self.table.prompt(row), self.table.prompt(other)):
                    found[i, j, at[0], at[1]] = True
        return found
