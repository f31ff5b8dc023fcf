"""A class n-gram whose classes are given: for a corpus of many constructions, where classes cannot be learned from neighbors.

Written for corpora made from word lists with known parts of speech. What stands for a class is weighed by how frequent it is,
as nothing else keeps a search from rare words that a model reads by accident. Evidence is smoothed towards shorter contexts
(Witten and Bell, 1991), because most sentences that people write combine constructions in ways the corpus did not.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from invert.lexicon import Lexicon, Prompt, Word
from invert.prior.class_ngram import ClassNgramPrior
from invert.prior.word_classes import END, START

ORDER = 5  # n of the n-grams, in words
BACKOFF_STRENGTH = 4.0  # pseudo-observations of the shorter context for each kind of word seen after a context
SHARE_WEIGHT = 0.7  # of how frequent a word is within its class, beside how likely the class is there
UNKNOWN = "<unknown>"  # class of words that the categories do not tell


class CategoryNgramPrior(ClassNgramPrior):
    """Log-probabilities of prompts; see `invert.prior.Prior`."""

    def __init__(
        self,
        corpus: Iterable[str],
        lexicon: Lexicon,
        category: Callable[[str], str],
        order: int = ORDER,
        frequency: Callable[[str], float] | None = None,
    ) -> None:
        """Learn from sentences, which are segmented into the lexicon's words.

        Args:
            corpus: sentences, at least one.
            lexicon: the words that `slot_log_probs` answers for.
            category: a word's or phrase's class; UNKNOWN for what it cannot tell.
            order: n of the n-grams, in words.
            frequency: how often a word is expected beside others of its class, for words that the corpus holds seldom or
                not at all; None: words of a class are all alike.
        """
        self.category, self.frequency = category, frequency
        super().__init__(corpus, lexicon, order)

    def _mean_per_token(self, prompts: Sequence[Prompt]) -> float:
        """Mean log p of a word: a phrase of many tokens is one choice, and earns no more than a short word does."""
        n_words = sum(map(len, prompts))
        by_class = super().log_prob
        return sum(by_class(prompt) + sum([self._share(word) for word in prompt]) for prompt in prompts) / n_words

    def log_prob(self, prompt: Prompt) -> float:
        """log p of a whole prompt."""
        return super().log_prob(prompt) + sum([self.own_log_prob(word) for word in prompt])

    def own_log_prob(self, word: Word) -> float:
        """By its share of its class; tokens beyond its first count as `per_token` each, so that they change nothing."""
        return self._share(word) + self._per_token * (len(word.ids) - 1)

    @cached_property
    def own_log_probs(self) -> Tensor:
        return torch.tensor([self.own_log_prob(word) for word in self.lexicon.words], dtype=torch.float64)

    def _share(self, word: Word) -> float:
        return SHARE_WEIGHT * self.log_shares.get(word.text, self._least.get(self.class_of(word), 0.0))

    def of_words(self, by_class: Tensor) -> Tensor:
        return super().of_words(by_class) + self.own_log_probs.to(by_class.dtype)

    def assign_classes(self, sentences: Sequence[Sequence[str]]) -> tuple[dict[str, str], str]:
        counts = Counter(text for sentence in sentences for text in sentence)
        texts = sorted({*counts, *(word.text for word in self.lexicon.words)})
        class_by_text = {text: self.category(text) for text in texts}
        self.log_shares = {} if self.frequency is None else log_shares(counts, class_by_text, self.frequency)
        self._least: dict[str, float] = {}  # of each class, for words that are met later
        for text, share in self.log_shares.items():
            self._least[class_by_text[text]] = min(share, self._least.get(class_by_text[text], 0.0))
        return class_by_text, UNKNOWN

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


def log_shares(counts: Counter[str], class_by_text: Mapping[str, str], frequency: Callable[[str], float]) -> dict[str, float]:
    """log of each word's share of its class: by what was counted, and as many expected observations as there are words."""
    members: dict[str, list[str]] = defaultdict(list)
    for text, name in class_by_text.items():
        members[name].append(text)
    found = {}
    for texts in members.values():
        expected = {text: frequency(text) for text in texts}
        per_unit = len(texts) / sum(expected.values())
        total = len(texts) + sum(counts[text] for text in texts)
        found.update({text: math.log((counts[text] + per_unit * expected[text]) / total) for text in texts})
    return found
