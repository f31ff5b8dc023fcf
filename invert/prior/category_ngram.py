"""A class n-gram whose classes are given: for a corpus of many constructions, where classes cannot be learned from neighbors.

Written for corpora made from word lists with known parts of speech. Evidence is smoothed towards shorter contexts
(Witten and Bell, 1991), because most sentences that people write combine constructions in ways the corpus did not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from invert.lexicon import Lexicon, Prompt, token_count
from invert.prior.class_ngram import ClassNgramPrior
from invert.prior.word_classes import END, START

ORDER = 5  # n of the n-grams, in words
BACKOFF_STRENGTH = 4.0  # pseudo-observations of the shorter context for each kind of word seen after a context
UNKNOWN = "<unknown>"  # class of words that the categories do not tell


class CategoryNgramPrior(ClassNgramPrior):
    """Log-probabilities of prompts; see `invert.prior.Prior`."""

    def __init__(self, corpus: Iterable[str], lexicon: Lexicon, category: Callable[[str], str], order: int = ORDER) -> None:
        """Learn from sentences, which are segmented into the lexicon's words.

        Args:
            corpus: sentences, at least one.
            lexicon: the words that `slot_log_probs` answers for.
            category: a word's or phrase's class; UNKNOWN for what it cannot tell.
            order: n of the n-grams, in words.
        """
        self.category = category
        super().__init__(corpus, lexicon, order)

    def _mean_per_token(self, prompts: Sequence[Prompt]) -> float:
        """Mean log p of a word: a phrase of many tokens is one choice, and earns no more than a short word does."""
        n_words = sum(map(len, prompts))
        per_word = sum(super(CategoryNgramPrior, self).log_prob(prompt) for prompt in prompts) / n_words
        lengths = torch.tensor([len(word.ids) for word in self.lexicon.words])
        self._extra = per_word * (lengths - 1)  # (W,)
        return per_word

    def log_prob(self, prompt: Prompt) -> float:
        """log p of a whole prompt; tokens of a word beyond its first count as `per_token` each, so that they change nothing."""
        return super().log_prob(prompt) + self.per_extra_token * (token_count(prompt) - len(prompt))

    @property
    def per_extra_token(self) -> float:
        return self._per_token

    def of_words(self, by_class: Tensor) -> Tensor:
        return super().of_words(by_class) + self._extra

    def assign_classes(self, sentences: Sequence[Sequence[str]]) -> tuple[dict[str, str], str]:
        texts = {text for sentence in sentences for text in sentence} | {word.text for word in self.lexicon.words}
        return {text: self.category(text) for text in sorted(texts)}, UNKNOWN

    def ngrams(self, classes: Sequence[str]) -> list[tuple[tuple[str, ...], str]]:
        """Every n-gram of a class sequence, its end included; a context begins with START at most once."""
        padded = [START, *classes, END]
        return [(tuple(padded[max(0, i - self.order + 1) : i]), padded[i]) for i in range(1, len(padded))]

    def _around(self, head: list[str], c: str, tail: list[str]) -> float:
        before = self.order - 1
        padded = [START, *head, c, *tail, END]
        steps = range(len(head) + 1, min(len(padded), len(head) + 2 + before))
        return sum([self.step(tuple(padded[max(0, i - before) : i]), padded[i]) for i in steps])

    def smoothed(self, count: Any, total: Any, kinds: Any, shorter: Any) -> Any:
        """By Witten and Bell: the shorter context counts as so many more observations."""
        strength = BACKOFF_STRENGTH * kinds
        return (count + strength * shorter) / (total + strength)
