"""How likely a row of words is as language: a class trigram model, learned from a corpus of prompts.

A cosine alone is maximised by word soup (the text tower never met it); with a prior on language the
search looks for the most probable prompt given the image instead: CLIP's cosine times its logit scale
estimates log p(prompt | image) − log p(prompt) up to a constant (InfoNCE: van den Oord et al., arXiv
1807.03748), so cosine + weight · log p(prompt) is what is maximised. Rare words share their class's
statistics (class n-grams: Brown et al., 1992), so any noun may stand where some noun stood, for free.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from invert.vocabulary import Vocabulary, Word

COMMON = 0.002  # share of a corpus's words from which a word is a class of its own
DISCOUNT = 0.5  # taken off every count for what was never seen (absolute discounting: Ney et al., 1994)
START, END = "<s>", "</s>"
UNSEEN = "<unseen>"  # class of words that the corpus does not hold

Row = tuple[Word, ...]


class Language:
    """Log-probabilities of rows of words. An empty corpus gives a language that finds all rows alike."""

    def __init__(self, corpus: Iterable[str], vocabulary: Vocabulary) -> None:
        """corpus: sentences, cut into the vocabulary's words, the longest that fits first."""
        self.vocabulary = vocabulary
        sentences = [[word.text for word in vocabulary.cut(sentence)] for sentence in corpus]
        self.flat = not sentences
        self.class_of = word_classes(sentences)
        self.followers: dict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
        for sentence in sentences:
            row = [START, START, *(self.class_of[text] for text in sentence), END]
            for a, b, c in zip(row, row[1:], row[2:], strict=False):
                for context in ((a, b), (b,), ()):
                    self.followers[context][c] += 1
        self.classes = sorted({*self.class_of.values(), UNSEEN})
        number = {name: i for i, name in enumerate(self.classes)}
        self.word_class = torch.tensor([number[self.of(word)] for word in vocabulary.words])  # (W,)
        self._known: dict[tuple[str, str, str], float] = {}

    def of(self, word: Word) -> str:
        """A word's class."""
        return self.class_of.get(word.text, UNSEEN)

    def step(self, a: str, b: str, c: str) -> float:
        """log p(class c | classes a, b)."""
        if (a, b, c) not in self._known:
            self._known[a, b, c] = math.log(self._probability((a, b), c))
        return self._known[a, b, c]

    def _probability(self, context: tuple[str, ...], c: str) -> float:
        """Absolute discounting: what is taken off the seen goes to the shorter context, at last to all classes alike."""
        counts = self.followers.get(context)
        shorter = self._probability(context[1:], c) if context else 1 / (len(self.classes) + 1)  # END is one more
        if not counts:
            return shorter
        total = counts.total()
        return (max(counts[c] - DISCOUNT, 0) + DISCOUNT * len(counts) * shorter) / total

    def log_probability(self, row: Row) -> float:
        """log p of a whole row, its end included; 0 for every row where nothing was learned."""
        if self.flat:
            return 0.0
        classes = [START, START, *map(self.of, row), END]
        return sum(self.step(*three) for three in zip(classes, classes[1:], classes[2:], strict=False))

    def choices(self, row: Row, place: int, insert: bool) -> Tensor:
        """For every word of the vocabulary (W,): log p of the steps it takes part in at a place of the row.

        insert: before the place's word, else in its stead.
        """
        if self.flat:
            return torch.zeros(len(self.word_class))
        classes = [START, START, *map(self.of, row), END]
        a, b = classes[place : place + 2]
        rest = classes[place + 2 if insert else place + 3 :][:2]
        return torch.tensor([self._around(a, b, c, rest) for c in self.classes])[self.word_class]

    def _around(self, a: str, b: str, c: str, rest: Sequence[str]) -> float:
        """log p of class c between a, b and what follows."""
        total = self.step(a, b, c)
        if rest:
            total += self.step(b, c, rest[0])
        return total + self.step(c, *rest) if len(rest) == 2 else total


def word_classes(sentences: Sequence[Sequence[str]]) -> dict[str, str]:
    """Word → class: common words are their own, rare ones go by the common word that they mostly follow."""
    counts = Counter(text for sentence in sentences for text in sentence)
    common = {text for text, n in counts.items() if n > COMMON * counts.total()}
    before: dict[str, Counter[str]] = defaultdict(Counter)
    for sentence in sentences:
        for left, text in zip([START, *sentence], sentence, strict=False):
            if text not in common:
                before[text][left if left in common else UNSEEN] += 1
    rare = {text: f"after {lefts.most_common(1)[0][0]}" for text, lefts in before.items()}
    return {text: text for text in common} | rare
