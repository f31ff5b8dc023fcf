"""Discrete search: prompts to start from in, the prompt that is most probable given the target out.

A prompt is a row of whole words. Its value is the cosine with the target, plus a prior on language (how
likely it is for its length), minus a stated penalty per token, so the search chooses length and order
itself. A few prompts are kept (a beam). Each in turn is changed by one move: a word replaced, inserted or
deleted, two swapped, a phrase taken from a prompt that is near too, or the beginning or end of one of the
starts. The gradient on its token embeddings says which of thousands of replacements are worth scoring
(HotFlip: Ebrahimi et al., arXiv 1712.06751), and the replacements that prove good alone are tried in
pairs. Where nothing improves any more, many more words are tried in the prompts that are best of their build.
"""

from __future__ import annotations

import heapq
import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from invert.language import END, START, Language
from invert.scorer import Row, Scorer, length, text_of
from invert.vocabulary import GLUE, Word

JOINING = frozenset(GLUE)
MOST_REPEATS = 2  # of a content word: a colour may be the fox's and the background's
IMPLAUSIBLE = 9.0  # nats below the likeliest word at a place, or below the row that is changed, from which nothing is tried
PHRASE = 4  # words of a phrase that changes hands, at most
MISSING = 1.0  # cosine taken off for a required word that is not there: more than any prompt can win


@dataclass(frozen=True)
class SearchConfig:
    """How far the search looks."""

    max_tokens: int = 40  # of the prompt, special tokens not counted
    token_penalty: float = 0.0005  # cosine that one more token must earn
    language_weight: float = 0.005  # cosine that one nat of the language's log p is worth
    beam: int = 2  # prompts kept from round to round
    rounds: int = 8  # at most
    replacements: int = 8  # words tried in the stead of each word
    near_at_first: int = 32  # of the near prompts, those whose phrases the starts are given; what is kept later gets all
    insertions: int = 16  # words tried before each word
    swept: int = 10  # prompts, differently built, that are given a last thorough look
    sweep: int = 48  # words tried in the stead of each of their words
    paired: int = 24  # of a prompt's places' best replacements, how many may form pairs
    pairs: int = 48  # pairs of replacements tried at once


@dataclass(frozen=True)
class Candidate:
    """A prompt as words, its cosine with the target, and its value (with language and length in it)."""

    row: Row
    score: float
    value: float

    @cached_property
    def prompt(self) -> str:
        return text_of(self.row)


@dataclass(frozen=True)
class Move:
    """A changed row; everything before `place` is as it was. word: what a replacement put there."""

    place: int
    row: Row
    word: Word | None = None


class Search:
    """One search: the scorer, the language, the rules of what may stand in a prompt."""

    def __init__(
        self,
        scorer: Scorer,
        language: Language,
        config: SearchConfig,
        required: Sequence[Word] = (),
        proposed: Sequence[int] = (),
        banned: Sequence[str] = (),
        near: Sequence[Row] = (),
    ) -> None:
        """proposed: indices of vocabulary words tried at every place that the language allows them at.

        near: prompts whose phrases are tried in the stead of phrases between like words.
        banned: lower-case texts that no prompt may say, be it with several words of the vocabulary.
        """
        self.scorer, self.language, self.config = scorer, language, config
        self.required, self.proposed = tuple(required), torch.tensor(proposed, dtype=torch.long)
        self.banned, self.near = tuple(banned), tuple(near)
        self.vocabulary = scorer.vocabulary
        self.phrases = self.phrases_of(self.near)
        self.donors: tuple[Row, ...] = ()
        self.log_probabilities: dict[tuple[str, ...], float] = {}
        self.steps = 0

    # Values -----------------------------------------------------------------------------------

    def allowed(self, row: Row) -> bool:
        """Short enough, nothing banned, no word twice in a row, no content word more often than a sentence has it."""
        if not row or length(row) > self.config.max_tokens or not self.scorer.fits(row):
            return False
        if any(a == b for a, b in itertools.pairwise(row)) or says(row, self.banned):
            return False
        content = [word.text for word in row if word.text not in JOINING]
        return len(set(content)) == len(content) or max(Counter(content).values()) <= MOST_REPEATS

    def missing(self, row: Row) -> int:
        """How many required words the row lacks."""
        return sum(word not in row for word in self.required)

    def valued(self, rows: Iterable[Row], shared: int = 0) -> list[Candidate]:
        """Score the allowed ones of rows that have their first `shared` words in common; offer the best."""
        kept = [row for row in dict.fromkeys(rows) if self.allowed(row)]
        if not kept:
            return []
        found = [self.candidate(row, score) for row, score in zip(kept, self.scorer.score(kept, shared), strict=True)]
        complete = [candidate for candidate in found if not self.missing(candidate.row)]
        if complete:
            best = max(complete, key=lambda candidate: candidate.value)
            self.scorer.meter.offer(best.prompt, best.value)
        return found

    def candidate(self, row: Row, score: float) -> Candidate:
        tokens = length(row)
        value = score + self.config.language_weight * (self.log_probability(row) - self.language.per_token * tokens)
        value -= self.config.token_penalty * tokens + MISSING * self.missing(row)
        return Candidate(row, score, value)

    def log_probability(self, row: Row) -> float:
        """The language's log p of a row, worked out once for all rows of its classes: most moves stay within a class."""
        classes = tuple(self.language.classes_in(row))
        if classes not in self.log_probabilities:
            self.log_probabilities[classes] = self.language.log_probability_of(classes)
        return self.log_probabilities[classes]

    # The beam ---------------------------------------------------------------------------------

    def run(self, starts: Sequence[Row]) -> list[Candidate]:
        """Every prompt that was scored, best first; stops when the budget is spent or nothing improves."""
        everyone = {candidate.row: candidate for candidate in self.valued(starts)}
        self.donors = tuple(everyone)
        expanded: set[Row] = set()
        swept = False
        every_phrase, self.phrases = self.phrases, self.phrases_of(self.near[: self.config.near_at_first])
        for turn in range(self.config.rounds):
            width = self.config.beam if turn else len(everyone)  # a start is built as it is: each has its chance
            fresh = [c.row for c in differently_built(everyone.values(), width) if c.row not in expanded]
            grow = self.expand
            expanded.update(fresh)
            if not fresh and not swept:  # nothing improves: once more, with many more words
                swept, grow = True, self.sweep
                fresh = [c.row for c in differently_built(everyone.values(), self.config.swept)]
            if not fresh or self.scorer.meter.exhausted:
                break
            for row in fresh:
                if self.scorer.meter.exhausted:
                    break
                everyone.update((child.row, child) for child in grow(row))
            self.note(best_of(everyone.values(), 1))
            self.phrases = every_phrase
        return best_of(everyone.values(), len(everyone))

    def note(self, best: Sequence[Candidate]) -> None:
        for candidate in best:
            self.scorer.meter.record("search", self.steps, candidate.score, candidate.prompt)
            self.steps += 1

    def expand(self, row: Row) -> list[Candidate]:
        """Every prompt one move away that is worth scoring, then pairs of the best replacements."""
        least = self.log_probability(row) - IMPLAUSIBLE
        tried = itertools.chain(self.moves(row), self.splices(row), self.phrase_swaps(row))
        moves = [move for move in tried if self.log_probability(move.row) >= least or self.missing(row)]
        singles = self.valued_moves(moves)
        return [*singles, *self.valued_moves(self.pairs(row, moves, singles))]

    def sweep(self, row: Row) -> list[Candidate]:
        """Every content word of the row against many more words than `expand` tries."""
        estimates = self.estimated_gains(row)
        places = [place for place, word in enumerate(row) if word.text not in JOINING]
        return self.valued_moves([m for place in places for m in self.replacing(row, place, estimates[place], self.config.sweep)])

    def valued_moves(self, moves: Sequence[Move]) -> list[Candidate]:
        """Moves scored together by place, because what lies before it is run once."""
        by_place: dict[int, list[Row]] = defaultdict(list)
        for move in moves:
            by_place[move.place].append(move.row)
        found = []
        for place, rows in by_place.items():
            if self.scorer.meter.exhausted:
                break
            found += self.valued(rows, place)
        return found

    # Moves ------------------------------------------------------------------------------------

    def moves(self, row: Row) -> Iterator[Move]:
        """All single moves on a row."""
        estimates = self.estimated_gains(row)
        for place in range(len(row) + 1):
            head, tail = row[:place], row[place:]
            inserted = self.likeliest(self.language.choices(row, place, insert=True))
            for word in (*self.required, *inserted):
                yield Move(place, (*head, word, *tail))
            if not tail:
                continue
            yield from self.replacing(row, place, estimates[place], self.config.replacements)
            yield Move(place, (*head, *tail[1:]))
            for other in range(place + 1, len(row)):
                yield Move(place, swapped(row, place, other))

    def replacing(self, row: Row, place: int, estimate: Tensor, n: int) -> Iterator[Move]:
        """Another word in the stead of the one at a place."""
        for word in self.replacements(row, place, estimate, n):
            yield Move(place, (*row[:place], word, *row[place + 1 :]), word)

    def splices(self, row: Row) -> Iterator[Move]:
        """The row's beginning with a donor's end, and a donor's beginning with the row's end.

        They are joined where both go on with words of one class, so that phrases change hands whole. The row is
        a donor to itself: that drops a phrase, or says one again. A flat language knows no phrases.
        """
        if self.language.flat:
            return
        own = self.language.classes_in(row)
        for donor in (row, *self.donors):
            theirs = self.language.classes_in(donor)
            for i, j in itertools.product(range(len(row)), range(len(donor))):
                if own[i] == theirs[j]:
                    yield Move(i, (*row[:i], *donor[j:]))
                    yield Move(0, (*donor[:j], *row[i:]))

    def phrase_swaps(self, row: Row) -> Iterator[Move]:
        """A phrase of the row against one of a near prompt that stands between words of the same two classes.

        A thing comes with its article and its colour, which no replacement of single words changes together.
        """
        if self.language.flat:
            return
        before, after = self.edges(row)
        for i, j in spans(len(row)):
            for phrase in self.phrases.get((before[i], after[j]), ()):
                if phrase != row[i:j]:
                    yield Move(i, (*row[:i], *phrase, *row[j:]))

    def phrases_of(self, rows: Iterable[Row]) -> dict[tuple[str, str], list[Row]]:
        """The classes before and after a phrase of the rows → the distinct phrases between them, in the rows' order."""
        found: dict[tuple[str, str], dict[Row, None]] = defaultdict(dict)  # a set that keeps its order
        for other in rows:
            before, after = self.edges(other)
            for i, j in spans(len(other)):
                found[before[i], after[j]][other[i:j]] = None
        return {classes: list(phrases) for classes, phrases in found.items()}

    def edges(self, row: Row) -> tuple[list[str], list[str]]:
        """For every place of a row, its end included: the class of the word before it and of the word at it."""
        classes = self.language.classes_in(row)
        return [START, *classes], [*classes, END]

    def likeliest(self, log_p: Tensor) -> list[Word]:
        """The words that language puts first at a place; with a flat language, the proposed ones."""
        if self.language.flat:
            chosen = self.proposed[: self.config.insertions]
        else:
            chosen = log_p.topk(min(self.config.insertions, len(log_p))).indices
        return [self.vocabulary.words[i] for i in chosen.tolist()]

    def replacements(self, row: Row, place: int, estimate: Tensor, n: int) -> list[Word]:
        """Words worth a score in the stead of one: by the gradient's estimate (W,) and language, and the proposed."""
        log_p = self.language.choices(row, place, insert=False)
        plausible = log_p >= log_p.max() - IMPLAUSIBLE
        gain = torch.where(plausible, estimate + self.config.language_weight * log_p, -torch.inf)
        best = gain.topk(min(n, int(plausible.sum()))).indices
        proposed = self.proposed[plausible[self.proposed]]
        indices = dict.fromkeys([*best.tolist(), *proposed.tolist()])
        return [self.vocabulary.words[i] for i in indices if self.vocabulary.words[i] != row[place]]

    def estimated_gains(self, row: Row) -> list[Tensor]:
        """For each place (W,): the first-order change of the cosine if a word's mean token row stood there."""
        ids = [torch.tensor(word.ids, device=self.scorer.clip.device) for word in row]
        rows = self.scorer.clip.embed(torch.cat(ids))
        gradient = self.scorer.gradient(rows)
        pieces = zip(rows.split([len(i) for i in ids]), gradient.split([len(i) for i in ids]), strict=True)
        return [(self.vocabulary.means @ pull.sum(0) - (own * pull).sum()).float().cpu() for own, pull in pieces]

    def pairs(self, row: Row, moves: Sequence[Move], scored: Sequence[Candidate]) -> list[Move]:
        """Two replacements at once, those first whose gains alone add up to most."""
        value = {candidate.row: candidate.value for candidate in scored}
        by_place: dict[int, list[Move]] = defaultdict(list)
        for move in sorted((m for m in moves if m.word and m.row in value), key=lambda m: -value[m.row]):
            if len(by_place[move.place]) < self.config.paired:
                by_place[move.place].append(move)
        best = [move for of_place in by_place.values() for move in of_place]
        combined = [(a, b) for a, b in itertools.combinations(best, 2) if a.place < b.place]
        combined.sort(key=lambda pair: -(value[pair[0].row] + value[pair[1].row]))
        return [
            Move(a.place, (*row[: a.place], a.row[a.place], *row[a.place + 1 : b.place], b.row[b.place], *row[b.place + 1 :]))
            for a, b in combined[: self.config.pairs]
        ]


def spans(length: int) -> Iterator[tuple[int, int]]:
    """Beginning and end of every phrase of 1 to PHRASE words in a row of that length."""
    for begin in range(length):
        for end in range(begin + 1, min(begin + PHRASE, length) + 1):
            yield begin, end


def says(row: Row, texts: Iterable[str]) -> bool:
    """Whether the row's prompt holds one of the texts as whole words."""
    return any(f" {text} " in f" {text_of(row)} " for text in texts)


def best_of(candidates: Iterable[Candidate], n: int) -> list[Candidate]:
    """The n most valuable; rows of equal value in the order of their texts, so that a seed decides nothing here."""
    return heapq.nsmallest(n, candidates, key=lambda candidate: (-candidate.value, candidate.prompt))


def differently_built(candidates: Iterable[Candidate], n: int) -> list[Candidate]:
    """The n most valuable of those that no better one has the same joining words as.

    Else the beam fills with one sentence in many words, and a longer sentence, poor until all its words are
    right, never gets them.
    """
    chosen: dict[Row, Candidate] = {}
    for candidate in best_of(candidates, 1 << 30):
        if len(chosen) == n:
            break
        chosen.setdefault(frame(candidate.row), candidate)
    return list(chosen.values())


def frame(row: Row) -> Row:
    """How a row is built: its joining words."""
    return tuple(word for word in row if word.text in JOINING)


def swapped(row: Row, i: int, j: int) -> Row:
    """The row with two words exchanged."""
    words = list(row)
    words[i], words[j] = words[j], words[i]
    return tuple(words)


def distinct(candidates: Iterable[Candidate], n: int) -> list[Candidate]:
    """The best n prompts of different content: those that differ in more than joining words."""
    chosen: dict[frozenset[str], Candidate] = {}
    for candidate in best_of(candidates, 1 << 30):
        chosen.setdefault(frozenset(w.text for w in candidate.row if w.text not in JOINING), candidate)
        if len(chosen) == n:
            break
    return list(chosen.values())
