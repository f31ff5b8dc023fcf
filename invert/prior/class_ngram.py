"""A class n-gram model of prompts, learned from a corpus.

Words used alike share their class's statistics (Brown et al., 1992), so any noun may stand where some
noun stood, and any color where some color stood. Contexts of classes are frequent enough for long
n-grams to be learned: that a sepia picture's background is gray is said ten words later.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from invert.lexicon import Lexicon, Prompt, Word, token_count
from invert.prior.ngram_tables import NgramTables
from invert.prior.word_classes import AFTER, END, START, word_classes

DISCOUNT = 0.5  # absolute discount, redistributed to unseen events (Ney et al., 1994)
ORDER = 10  # n of the n-grams: a whole sentence of most captions
SAMPLE_SIZE = 1024  # sentences that a token's mean log-probability is taken from
UNSEEN = "<unseen>"  # class of unseen function words (of all unseen words if the corpus has no rare ones)
MOST_REMEMBERED = 500_000  # class sequences whose log p is kept


class ClassNgramPrior:
    """Log-probabilities of prompts; see `invert.prior.Prior`."""

    def __init__(self, corpus: Iterable[str], lexicon: Lexicon, order: int = ORDER) -> None:
        """Learn from sentences, which are segmented into the lexicon's words.

        Args:
            corpus: sentences, at least one.
            lexicon: the words that `slot_log_probs` answers for.
            order: n of the n-grams, in words.
        """
        self.lexicon, self.order = lexicon, order
        prompts = [lexicon.segment(sentence) for sentence in corpus]
        sentences = [[word.text for word in prompt] for prompt in prompts]
        self.class_by_text, self.unseen = self.assign_classes(sentences)
        self.followers: dict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
        structures = Counter(tuple(self.class_by_text[text] for text in sentence) for sentence in sentences)
        for classes, n in structures.items():
            for context, c in self.ngrams(classes):
                for shorter in range(len(context) + 1):
                    self.followers[context[shorter:]][c] += n
        self.totals = {context: counts.total() for context, counts in self.followers.items()}
        self.classes = sorted({*self.class_by_text.values(), self.unseen, UNSEEN})
        number = {name: i for i, name in enumerate(self.classes)}
        self.word_class = torch.tensor([number[self.class_of(word)] for word in lexicon.words])  # (W,)
        self._probabilities: dict[tuple[tuple[str, ...], str], float] = {}
        self._steps: dict[tuple[tuple[str, ...], str], float] = {}
        self._log_probs: dict[tuple[str, ...], float] = {}
        self._per_token = self._mean_per_token(prompts[:SAMPLE_SIZE])

    def assign_classes(self, sentences: Sequence[Sequence[str]]) -> tuple[dict[str, str], str]:
        """Word → class for the sentences' words, and the class of words not met."""
        counts = Counter(text for sentence in sentences for text in sentence)
        class_by_text = word_classes(sentences, counts)
        return class_by_text, newest_class(counts, class_by_text)

    def _mean_per_token(self, prompts: Sequence[Prompt]) -> float:
        tokens = sum(map(token_count, prompts))
        return sum(map(self.log_prob, prompts)) / tokens if tokens else 0.0

    @property
    def per_token(self) -> float:
        """Mean log p of one token of the corpus itself."""
        return self._per_token

    def class_of(self, word: Word) -> str:
        return self.class_by_text.get(word.text, UNSEEN if self.lexicon.is_function_word(word) else self.unseen)

    def classes_in(self, prompt: Iterable[Word]) -> list[str]:
        """The class of every word of a prompt."""
        known = self.class_by_text
        return [known.get(word.text) or self.class_of(word) for word in prompt]

    def ngrams(self, classes: Sequence[str]) -> list[tuple[tuple[str, ...], str]]:
        """Every n-gram of a class sequence, its end included: (the order - 1 classes before, the class)."""
        before = self.order - 1
        padded = [*[START] * before, *classes, END]
        return [(tuple(padded[i - before : i]), padded[i]) for i in range(before, len(padded))]

    def step(self, context: tuple[str, ...], c: str) -> float:
        """log p(class c | the order - 1 classes before it); START where the prompt has not begun."""
        known = self._steps.get((context, c))
        if known is None:
            known = self._steps[context, c] = math.log(self._probability(context, c))
        return known

    def _probability(self, context: tuple[str, ...], c: str) -> float:
        """Smoothed by the shorter contexts, and last by all classes alike."""
        known = self._probabilities.get((context, c))
        if known is not None:
            return known
        total = self.totals.get(context, 0)
        probability = self._probability(context[1:], c) if context else 1 / (len(self.classes) + 1)  # END is one more
        if total:
            counts = self.followers[context]
            probability = self.smoothed(counts[c], total, len(counts), probability)
        self._probabilities[context, c] = probability
        return probability

    def smoothed(self, count: Any, total: Any, kinds: Any, shorter: Any) -> Any:
        """p of a class in a context, for numbers or arrays of them.

        By absolute discounting: the discount goes to the shorter context.

        Args:
            count: how often the class was seen there.
            total: how often any was.
            kinds: how many different ones were.
            shorter: its p in the shorter context.
        """
        kept = (count - DISCOUNT) * (count > 0)  # counts are whole numbers: none is discounted below zero
        return (kept + DISCOUNT * kinds * shorter) / total

    @cached_property
    def tables(self) -> NgramTables:
        """The same model as tables, for thousands of prompts at once."""
        return NgramTables(self)

    def log_prob(self, prompt: Prompt) -> float:
        """log p of a whole prompt, worked out once for all prompts of its classes."""
        classes = tuple(self.classes_in(prompt))
        known = self._log_probs.get(classes)
        if known is None:
            if len(self._log_probs) >= MOST_REMEMBERED:
                self._log_probs.clear()
            known = self._log_probs[classes] = sum([self.step(*ngram) for ngram in self.ngrams(classes)])
        return known

    def slot_log_probs(self, prompt: Prompt, slot: int, insert: bool) -> Tensor:
        """(W,): see `invert.prior.Prior`."""
        head = self.classes_in(prompt[:slot])
        tail = self.classes_in(prompt[slot if insert else slot + 1 :])
        return self.of_words(torch.tensor([self._around(head, c, tail) for c in self.classes]))

    def of_words(self, by_class: Tensor) -> Tensor:
        """(…, K) by class → (…, W) by word."""
        return by_class[..., self.word_class]

    def own_log_prob(self, word: Word) -> float:
        """log p that a word adds to its class's, which all words of the class share."""
        return 0.0

    @property
    def own_log_probs(self) -> Tensor | None:
        """That of every word of the lexicon, (W,) float64; None where none adds anything."""
        return None

    def _around(self, head: list[str], c: str, tail: list[str]) -> float:
        """log p of class c after the head, and of those steps of the tail that c is context for."""
        before = self.order - 1
        window = [*[START] * before, *head][len(head) :]
        window += [c, *tail, END][: self.order]
        return sum([self.step(tuple(window[i - before : i]), window[i]) for i in range(before, len(window))])

    def likely_words(self, prompt: Prompt, slot: int, n: int) -> list[int] | None:
        log_p = self.slot_log_probs(prompt, slot, insert=True)
        return log_p.topk(min(n, len(log_p))).indices.tolist()

    def cut_points(self, first: Prompt, second: Prompt) -> Iterator[tuple[int, int]]:
        """Slots where both prompts go on with a word of one class, so that phrases are exchanged whole."""
        own, other = self.classes_in(first), self.classes_in(second)
        for i, j in itertools.product(range(len(first)), range(len(second))):
            if own[i] == other[j]:
                yield i, j

    def contexts(self, prompt: Prompt) -> tuple[Sequence[str], Sequence[str]] | None:
        classes = self.classes_in(prompt)
        return [START, *classes], [*classes, END]


def newest_class(counts: Counter[str], class_by_text: dict[str, str]) -> str:
    """The class of a word not met yet: the one most words met just once are of (Good, 1953)."""
    once = Counter(class_by_text[text] for text, n in sorted(counts.items()) if n == 1 and class_by_text[text].startswith(AFTER))
    return once.most_common(1)[0][0] if once else UNSEEN
