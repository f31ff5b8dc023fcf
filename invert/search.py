"""Discrete search: a pool of words in, the prompt whose latent lies nearest to the target out.

Two phases over rows of whole words. `grow` writes prompts from left to right with a beam: a new
last word costs two token passes, because all before it is cached. `refine` then improves the best
of them by replacing, inserting, deleting and swapping words until nothing helps. Every move is
valued by cosine minus a stated penalty per token, so the search chooses the length itself.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from invert.scorer import Row, Scorer, text_of
from invert.vocabulary import GLUE, Word

JOINING = frozenset(GLUE)
MOST_REPEATS = 2  # of a content word: a colour may be the fox's and the background's


@dataclass(frozen=True)
class SearchConfig:
    """How far the search looks."""

    max_tokens: int = 40  # of the prompt, special tokens not counted
    token_penalty: float = 0.0005  # cosine that one more token must earn
    beam: int = 12  # prompts kept while growing
    patience: int = 4  # words that may be added without a better prompt before growing stops
    refined: int = 3  # prompts refined after growing
    rounds: int = 12  # of refinement at most


@dataclass(frozen=True)
class Candidate:
    """A prompt as words, its cosine with the target, and its value (cosine minus length penalty)."""

    row: Row
    score: float
    value: float

    @property
    def prompt(self) -> str:
        return text_of(self.row)


class Search:
    """One search: the scorer, the pool, the rules of what may stand in a prompt."""

    def __init__(self, scorer: Scorer, pool: Sequence[Word], config: SearchConfig, required: Iterable[Word] = ()) -> None:
        self.scorer = scorer
        self.pool = tuple(dict.fromkeys((*required, *pool)))
        self.config = config
        self.required = tuple(required)
        self.steps = 0

    # Rules ------------------------------------------------------------------------------------

    def allowed(self, row: Row) -> bool:
        """Short enough, no word twice in a row, no content word more often than a sentence has it."""
        if len(self.scorer.ids(row)) > self.config.max_tokens or not self.scorer.fits(row):
            return False
        if any(a == b for a, b in itertools.pairwise(row)):
            return False
        counts = Counter(word.text for word in row)
        return all(n <= MOST_REPEATS for text, n in counts.items() if text not in JOINING)

    def complete(self, row: Row) -> bool:
        """Whether the row holds every required word."""
        return all(word in row for word in self.required)

    def valued(self, rows: Sequence[Row], shared: int = 0) -> list[Candidate]:
        """Score rows that have their first `shared` words in common; the best complete one is kept."""
        rows = [row for row in dict.fromkeys(rows) if row and self.allowed(row)]
        if not rows:
            return []
        found = []
        for row, score in zip(rows, self.scorer.score(rows, shared), strict=True):
            value = score - self.config.token_penalty * len(self.scorer.ids(row))
            found.append(Candidate(row, score, value))
        complete = [candidate for candidate in found if self.complete(candidate.row)]
        if complete:
            best = max(complete, key=lambda candidate: candidate.value)
            self.scorer.meter.offer(best.prompt, best.value)
        return found

    # Growing ----------------------------------------------------------------------------------

    def grow(self, starts: Sequence[Row]) -> list[Candidate]:
        """Beam search from left to right; returns every prompt that was in a beam, best first."""
        beam = self.valued([row for row in starts if row]) or []
        everyone = {candidate.row: candidate for candidate in beam}
        if not beam or any(not row for row in starts):
            beam = [*beam, Candidate((), float("-inf"), float("-inf"))]
        best, waited = float("-inf"), 0
        while beam and waited <= self.config.patience and not self.scorer.meter.exhausted:
            longer: dict[Row, Candidate] = {}
            for parent in beam:
                rows = [(*parent.row, word) for word in self.pool]
                longer.update((child.row, child) for child in self.valued(rows, len(parent.row)))
            beam = sorted(longer.values(), key=lambda candidate: -candidate.value)[: self.config.beam]
            everyone.update((candidate.row, candidate) for candidate in beam)
            waited = 0 if beam and beam[0].value > best else waited + 1
            best = max([best, *(candidate.value for candidate in beam)])
            self.note("grow", beam)
        return sorted(everyone.values(), key=lambda candidate: -candidate.value)

    # Refining ---------------------------------------------------------------------------------

    def refine(self, start: Candidate) -> Candidate:
        """Hill climbing over all single moves, the best few of which are also tried together."""
        current = start
        for _ in range(self.config.rounds):
            if self.scorer.meter.exhausted:
                break
            better = [c for c in self.neighbours(current.row) if c.value > current.value and self.keeps(c.row, current.row)]
            if not better:
                break
            current = max(better, key=lambda candidate: candidate.value)
            self.note("refine", [current])
        return current

    def keeps(self, row: Row, before: Row) -> bool:
        """A move may not lose a required word that the prompt had."""
        return all(word in row for word in self.required if word in before)

    def neighbours(self, row: Row) -> Iterator[Candidate]:
        """Every prompt one move away, scored in batches that share the words before the move."""
        for place in range(len(row) + 1):
            head, tail = row[:place], row[place:]
            moved = [(*head, word, *tail) for word in self.pool]
            if tail:
                moved += [(*head, word, *tail[1:]) for word in self.pool]
                moved.append((*head, *tail[1:]))
                moved += [swapped(row, place, other) for other in range(place + 1, len(row))]
            yield from self.valued(moved, place)
            if self.scorer.meter.exhausted:
                return

    def note(self, stage: str, beam: Sequence[Candidate]) -> None:
        if beam:
            best = max(beam, key=lambda candidate: candidate.value)
            self.scorer.meter.record(stage, self.steps, best.score, best.prompt)
            self.steps += 1


def swapped(row: Row, i: int, j: int) -> Row:
    """The row with two words exchanged."""
    words = list(row)
    words[i], words[j] = words[j], words[i]
    return tuple(words)


def distinct(candidates: Iterable[Candidate], n: int) -> list[Candidate]:
    """The best n prompts of different content: those that differ in more than joining words."""
    chosen: dict[frozenset[str], Candidate] = {}
    for candidate in sorted(candidates, key=lambda c: -c.value):
        chosen.setdefault(frozenset(w.text for w in candidate.row if w.text not in JOINING), candidate)
    return list(chosen.values())[:n]
