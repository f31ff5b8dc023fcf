"""A class n-gram as tables: the log-probabilities of thousands of prompts by look-up, on any device.

What an n-gram model remembers of a sentence is its longest ending that the corpus knows as a context. Those contexts
are the states of an automaton: a class leads from one to the next, at a cost of log p. In: word classes (N, L).
Out: the same sums, in the same order, that the prior itself adds up prompt by prompt.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from invert.prior.word_classes import END, START

if TYPE_CHECKING:
    from invert.prior.class_ngram import ClassNgramPrior


class NgramTables:
    """The automaton of a class n-gram.

    A sentence's symbols are its class numbers, then `end`, then `nothing` as often as need be.

    Attributes:
        order: n of the n-grams.
        begin: the state before a sentence.
        end, nothing: symbols; nothing costs nothing.
        costs: (S, K + 2) float64, log p of a symbol in a state.
        following: (S, K + 2) int64, the state after it.
    """

    def __init__(self, prior: ClassNgramPrior, device: torch.device | str = "cpu") -> None:
        self.order, self.end, self.nothing = prior.order, len(prior.classes), len(prior.classes) + 1
        contexts = sorted(prior.followers, key=len)  # every shorter context comes before a longer one
        state = {context: i for i, context in enumerate(contexts)}
        symbol = {name: i for i, name in enumerate([*prior.classes, END])}
        shorter = np.array([state[context[1:]] for context in contexts])
        by_length = np.searchsorted([len(context) for context in contexts], range(1, len(contexts[-1]) + 2))
        # One line for each class seen after a context: the context, the class, how often.
        seen = [(i, symbol[c], n) for i, context in enumerate(contexts) for c, n in prior.followers[context].items()]
        rows, columns, counts = np.array(seen, dtype=np.int64).T
        totals = np.array([prior.totals[context] for context in contexts], dtype=np.float64)
        kinds = np.bincount(rows, minlength=len(contexts)).astype(np.float64)
        # A longer context is reached from the one without its last class; where that is not known, by the shorter one's.
        reached = [(state.get(c[:-1]), symbol.get(c[-1]), i) for i, c in enumerate(contexts) if c and c[-1] != START]
        edges = np.array([edge for edge in reached if edge[0] is not None], dtype=np.int64).reshape(-1, 3)
        p = np.full((len(contexts), len(symbol)), 1 / len(symbol))
        following = np.zeros((len(contexts), self.nothing + 1), dtype=np.int64)
        begin = 0
        for stop in by_length:  # the contexts of one length, from those of the length before
            block = slice(begin, stop)
            if begin:
                p[block], following[block] = p[shorter[block]], following[shorter[block]]
            counted = np.zeros((stop - begin, len(symbol)))
            mine = slice(*np.searchsorted(rows, [begin, stop]))
            counted[rows[mine] - begin, columns[mine]] = counts[mine]
            p[block] = prior.smoothed(counted, totals[block, None], kinds[block, None], p[block])
            leaving = edges[(edges[:, 0] >= begin) & (edges[:, 0] < stop)]
            following[leaving[:, 0], leaving[:, 1]] = leaving[:, 2]
            begin = stop
        costs = np.concatenate([np.log(p), np.zeros((len(p), 1))], 1)
        self.costs, self.following = (torch.from_numpy(table).to(device) for table in (costs, following))
        self.begin = state[self.longest_start(state)]

    @staticmethod
    def longest_start(state: dict[tuple[str, ...], int]) -> tuple[str, ...]:
        """The context that a sentence begins in: START as often as the prior repeats it."""
        return max((c for c in state if c and set(c) == {START}), key=len, default=())

    @property
    def states(self) -> int:
        return len(self.costs)

    def symbols(self, classes: Tensor, lengths: Tensor, room: int = 1) -> Tensor:
        """Class numbers (N, L) of prompts of `lengths` (N,) words → symbols (N, L + room), END included."""
        padded = torch.cat([classes, classes.new_full((len(classes), room), self.nothing)], 1)
        padded = padded.masked_fill(torch.arange(padded.shape[1], device=padded.device) >= lengths[:, None], self.nothing)
        return padded.scatter_(1, lengths[:, None], self.end)

    def log_probs(self, classes: Tensor, lengths: Tensor) -> Tensor:
        """log p (N,) float64 of whole prompts, their ends included."""
        width, costs, following = self.costs.shape[1], self.costs.flatten(), self.following.flatten()
        at = torch.full_like(lengths, self.begin)
        total = torch.zeros(len(lengths), dtype=torch.float64, device=lengths.device)
        for symbol in self.symbols(classes, lengths).T:
            at = at * width + symbol
            total += costs.index_select(0, at)
            at = following.index_select(0, at)
        return total

    def states_before(self, classes: Tensor) -> Tensor:
        """The state (N, L + 1) before each word of prompts, and after the last."""
        states = [torch.full_like(classes[:, 0], self.begin)]
        for symbol in classes.T:
            states.append(self.following[states[-1], symbol])
        return torch.stack(states, 1)

    def around(self, states: Tensor, tails: Tensor) -> Tensor:
        """log p (S, K) float64 of every class in a state (S,), and of those symbols after it that it is context for.

        tails: (S, order - 1) symbols that follow.
        """
        total, state = self.costs[states, : self.end].clone(), self.following[states, : self.end]
        for symbol in tails.T:
            total += self.costs[state, symbol[:, None]]
            state = self.following[state, symbol[:, None]]
        return total
