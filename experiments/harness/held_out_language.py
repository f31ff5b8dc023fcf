"""How much a prompt reads like English, by a language model that no method uses: characters, learned from prose.

The prose is Python's language reference, which the standard library carries (`pydoc_data.topics`): plain English sentences, none
of them about pictures. Characters, so that words it never met are judged by their spelling, and torn ones found out.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from functools import cache

ORDER = 6  # n of the n-grams, in characters
PROSE = 250_000  # characters of it
SYMBOLS = 27  # letters and the space


def plain(text: str) -> str:
    """Lower-case letters and single spaces, one at each end."""
    return f" {' '.join(re.findall('[a-z]+', text.lower()))} "


class CharacterNgrams:
    """log p of texts by their characters, smoothed towards shorter contexts (Witten and Bell, 1991)."""

    def __init__(self, text: str, order: int = ORDER) -> None:
        self.order = order
        self.followers: dict[str, Counter[str]] = defaultdict(Counter)
        text = plain(text)
        for i, character in enumerate(text):
            for n in range(min(order, i + 1)):
                self.followers[text[i - n : i]][character] += 1

    def probability(self, context: str, character: str) -> float:
        shorter = self.probability(context[1:], character) if context else 1 / SYMBOLS
        seen = self.followers.get(context)
        if not seen:
            return shorter
        return (seen[character] + len(seen) * shorter) / (seen.total() + len(seen))

    def perplexity(self, text: str) -> float:
        """Of one character of the text, its last space included; 1 for a text without letters."""
        text = plain(text)
        steps = [math.log(self.probability(text[max(0, i - self.order + 1) : i], text[i])) for i in range(1, len(text))]
        return math.exp(-sum(steps) / len(steps)) if steps else 1.0


@cache
def prose_model() -> CharacterNgrams:
    """The model of Python's language reference."""
    from pydoc_data.topics import topics

    return CharacterNgrams(" ".join(topics[name] for name in sorted(topics))[:PROSE])


def mean_perplexity(prompts: Sequence[str]) -> float:
    """Geometric mean over prompts."""
    model = prose_model()
    return math.exp(sum(math.log(model.perplexity(prompt)) for prompt in prompts) / len(prompts))
