"""Captions without the words that earn nothing: starts for a search, as short as the picture allows.

A captioner says more than the encoder sees ("there is a picture that shows …"). Words are dropped one after the other,
the one first without which the objective is highest, until every drop would cost more than its length is worth.
"""

from __future__ import annotations

from collections.abc import Sequence

from invert.lexicon import Prompt
from invert.search import Candidate, Search
from invert.together import Steps


def shortened_captions(search: Search, captions: Sequence[Prompt]) -> Steps[list[Candidate | None]]:
    """The best of what is left of each caption, in their order; None for one that the search may not hold."""
    found: list[Candidate | None] = []
    for caption in captions:
        scored = yield from search.evaluating([caption])
        best = scored[0] if scored else None
        while best is not None and len(best.words) > 1 and not search.scorer.budget.exhausted:
            scored = yield from search.evaluating(drops(best.words))
            shorter = max(scored, key=lambda one: one.objective, default=best)
            if shorter.objective <= best.objective:
                break
            best = shorter
        found.append(best)
    return found


def drops(prompt: Prompt) -> list[Prompt]:
    """The prompt without each of its words, and without each two that follow one another ("with a")."""
    spans = [(i, i + n) for n in (1, 2) for i in range(len(prompt) - n + 1)]
    return [prompt[:begin] + prompt[end:] for begin, end in spans if end - begin < len(prompt)]
