"""The search as one writes it down: prompt by prompt, in Python. Slow, and what `invert.search` has to agree with.

A prompt is a sequence of whole words. Its objective is the cosine with the target plus a prior on
language, minus a stated penalty per token, so the search chooses length and order itself. A few prompts
are kept (a beam). Each in turn is changed by one move: a word replaced, inserted or deleted, two swapped,
a phrase taken from a retrieved prompt, or a crossover with a start. The gradient on its token embeddings
says which of thousands of replacements are worth scoring (HotFlip: Ebrahimi et al., arXiv 1712.06751),
and replacements that prove good alone are tried in pairs. Where nothing improves any more, the best
prompt of each template is searched more widely.
"""

from __future__ import annotations

import heapq
import itertools
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import torch
from torch import Tensor

from invert.bundle import ModelBundle
from invert.config import SearchConfig
from invert.history import History
from invert.lexicon import Lexicon, Prompt, Word, contains_phrase, text_of, token_count, word_ids
from invert.scorer import PromptScorer

MAX_REPEATS = 2  # of a content word: a color may be the fox's and the background's
MAX_LOG_PROB_DROP = 9.0  # nats: skip candidates this much less likely than the best word for the slot, or than the parent
MAX_PHRASE = 4  # words of a phrase that is exchanged
MISSING_PENALTY = 1.0  # cosine taken off for a required word that is not there: more than any prompt can win

Phrases = Mapping[tuple[str, str], Sequence[Prompt]]  # classes before and after → phrases between them


@dataclass(frozen=True)
class Candidate:
    """A prompt, its cosine with the target, and its objective (with language and length in it)."""

    words: Prompt
    score: float
    objective: float

    @cached_property
    def prompt(self) -> str:
        return text_of(self.words)


@dataclass(frozen=True)
class Move:
    """A changed prompt; every word before `slot` is as it was. word: what a replacement put there."""

    slot: int
    words: Prompt
    word: Word | None = None


class Search:
    """One search: the scorer, the prior, and the rules of what a prompt may hold."""

    def __init__(
        self,
        bundle: ModelBundle,
        scorer: PromptScorer,
        history: History,
        config: SearchConfig,
        required: Sequence[Word] = (),
        proposal_words: Sequence[int] = (),
        banned: Sequence[str] = (),
        retrieved: Sequence[Prompt] = (),
    ) -> None:
        """Prepare a search.

        Args:
            bundle: the lexicon, token index and prior.
            scorer: the target, and the budget that is spent.
            history: records better prompts.
            config: how far to look.
            required: words that the result has to hold.
            proposal_words: indices of lexicon words tried in every slot that the prior allows them in.
            banned: lower-case phrases that no prompt may hold, be it as several words.
            retrieved: prompts whose phrases are tried in place of phrases between the same classes.
        """
        self.bundle, self.scorer, self.history, self.config = bundle, scorer, history, config
        self.lexicon: Lexicon = bundle.lexicon
        self.prior = bundle.prior
        self.required, self.proposal_words = tuple(required), torch.tensor(proposal_words, dtype=torch.long)
        self.banned, self.retrieved = tuple(banned), tuple(retrieved)

    # Objective --------------------------------------------------------------------------------

    def allowed(self, prompt: Prompt) -> bool:
        """Short enough, nothing banned, no word twice in a row, no content word more often than MAX_REPEATS."""
        if not prompt or token_count(prompt) > self.config.max_tokens or not self.scorer.fits(prompt):
            return False
        if any(a == b for a, b in itertools.pairwise(prompt)) or contains_phrase(prompt, self.banned):
            return False
        content = self.lexicon.content(prompt)
        return len(set(content)) == len(content) or max(Counter(content).values()) <= MAX_REPEATS

    def missing(self, prompt: Prompt) -> int:
        """How many required words the prompt lacks."""
        return sum(word not in prompt for word in self.required)

    def evaluate(self, prompts: Iterable[Prompt], shared: int = 0) -> list[Candidate]:
        """Score the allowed ones of prompts that share their first `shared` words; report the best."""
        kept = [prompt for prompt in dict.fromkeys(prompts) if self.allowed(prompt)]
        if not kept:
            return []
        found = [self.candidate(prompt, score) for prompt, score in zip(kept, self.scorer.score(kept, shared), strict=True)]
        complete = [candidate for candidate in found if not self.missing(candidate.words)]
        if complete:
            best = max(complete, key=lambda candidate: candidate.objective)
            self.history.report_candidate(best.prompt, best.objective)
        return found

    def candidate(self, prompt: Prompt, score: float) -> Candidate:
        tokens = token_count(prompt)
        objective = score + self.config.language_weight * (self.prior.log_prob(prompt) - self.prior.per_token * tokens)
        objective -= self.config.token_penalty * tokens + MISSING_PENALTY * self.missing(prompt)
        return Candidate(prompt, score, objective)

    # The beam ---------------------------------------------------------------------------------

    def run(self, initial_prompts: Sequence[Prompt]) -> list[Candidate]:
        """Every prompt that was scored, best first; stops when the budget is spent or nothing improves."""
        candidates = {candidate.words: candidate for candidate in self.evaluate(initial_prompts)}
        parents = tuple(candidates)
        expanded: set[Prompt] = set()
        refined = False
        phrases, all_phrases = self.phrases_of(self.retrieved[: self.config.first_round_sources]), self.phrases_of(self.retrieved)
        for turn in range(self.config.rounds):
            width = self.config.beam if turn else len(candidates)  # each initial prompt has its chance as it is built
            fresh = [c.words for c in self.diverse_top_k(candidates.values(), width) if c.words not in expanded]
            grow: Callable[[Prompt], list[Candidate]] = partial(self.expand, parents=parents, phrases=phrases)
            expanded.update(fresh)
            if not fresh and not refined:  # nothing improves: once more, with many more words
                refined, grow = True, self.refine
                fresh = [c.words for c in self.diverse_top_k(candidates.values(), self.config.n_refined)]
            if not fresh or self.scorer.budget.exhausted:
                break
            for prompt in fresh:
                if self.scorer.budget.exhausted:
                    break
                candidates.update((child.words, child) for child in grow(prompt))
            (best,) = best_of(candidates.values(), 1)
            self.history.record("search", turn, best.score, best.prompt)
            phrases = all_phrases
        return best_of(candidates.values(), len(candidates))

    def expand(self, prompt: Prompt, parents: Sequence[Prompt], phrases: Phrases) -> list[Candidate]:
        """Every prompt one move away that is worth scoring, then pairs of the best replacements."""
        least = self.prior.log_prob(prompt) - MAX_LOG_PROB_DROP
        of_others = itertools.chain(self.crossovers(prompt, parents), self.phrase_swaps(prompt, phrases))
        tried = itertools.chain(self.moves(prompt), of_others, self.parts(prompt))
        moves = [move for move in tried if self.prior.log_prob(move.words) >= least or self.missing(prompt)]
        singles = self.evaluate_moves(moves)
        return [*singles, *self.evaluate_moves(self.pairs(prompt, moves, singles))]

    def refine(self, prompt: Prompt) -> list[Candidate]:
        """Every content word of the prompt against many more words than `expand` tries."""
        estimates = self.estimated_gains(prompt)
        slots = [slot for slot, word in enumerate(prompt) if not self.lexicon.is_function_word(word)]
        n = self.config.refine_replacements
        return self.evaluate_moves([move for slot in slots for move in self.replacing(prompt, slot, estimates[slot], n)])

    def evaluate_moves(self, moves: Sequence[Move]) -> list[Candidate]:
        """Moves scored together by slot, because what lies before it is run once."""
        by_slot: dict[int, list[Prompt]] = defaultdict(list)
        for move in moves:
            by_slot[move.slot].append(move.words)
        found = []
        for slot, prompts in by_slot.items():
            if self.scorer.budget.exhausted:
                break
            found += self.evaluate(prompts, slot)
        return found

    # Moves ------------------------------------------------------------------------------------

    def moves(self, prompt: Prompt) -> Iterator[Move]:
        """All moves on a prompt that need no other prompt."""
        estimates = self.estimated_gains(prompt)
        for slot in range(len(prompt) + 1):
            head, tail = prompt[:slot], prompt[slot:]
            for word in (*self.required, *self.insertions(prompt, slot)):
                yield Move(slot, (*head, word, *tail))
            if not tail:
                continue
            yield from self.replacing(prompt, slot, estimates[slot], self.config.replacements)
            yield Move(slot, (*head, *tail[1:]))
            for other in range(slot + 1, len(prompt)):
                yield Move(slot, swapped(prompt, slot, other))

    def replacing(self, prompt: Prompt, slot: int, estimate: Tensor, n: int) -> Iterator[Move]:
        """Another word in place of the one in a slot."""
        for word in self.replacements(prompt, slot, estimate, n):
            yield Move(slot, (*prompt[:slot], word, *prompt[slot + 1 :]), word)

    def crossovers(self, prompt: Prompt, parents: Sequence[Prompt]) -> Iterator[Move]:
        """The prompt's beginning with a parent's end, and a parent's beginning with the prompt's end.

        The prompt is a parent to itself: that drops a phrase, or repeats one.
        """
        for parent in (prompt, *parents):
            for i, j in self.prior.cut_points(prompt, parent):
                yield Move(i, (*prompt[:i], *parent[j:]))
                yield Move(0, (*parent[:j], *prompt[i:]))

    def phrase_swaps(self, prompt: Prompt, phrases: Phrases) -> Iterator[Move]:
        """A phrase of the prompt against one that stands between words of the same two classes.

        A thing comes with its article and its color, which no replacement of single words changes together.
        """
        contexts = self.prior.contexts(prompt)
        if contexts is None:
            return
        before, after = contexts
        for i, j in spans(len(prompt)):
            for phrase in phrases.get((before[i], after[j]), ()):
                if phrase != prompt[i:j]:
                    yield Move(i, (*prompt[:i], *phrase, *prompt[j:]))

    def parts(self, prompt: Prompt) -> Iterator[Move]:
        """The prompt up to a word, and from a word on."""
        for slot in range(1, len(prompt)):
            yield Move(slot, prompt[:slot])
            yield Move(0, prompt[slot:])

    def phrases_of(self, prompts: Iterable[Prompt]) -> Phrases:
        """The classes before and after a phrase of the prompts → the distinct phrases between them, in order."""
        found: dict[tuple[str, str], dict[Prompt, None]] = defaultdict(dict)  # a set that keeps its order
        for prompt in prompts:
            contexts = self.prior.contexts(prompt)
            if contexts is None:
                continue
            before, after = contexts
            for i, j in spans(len(prompt)):
                found[before[i], after[j]][prompt[i:j]] = None
        return {classes: list(phrases) for classes, phrases in found.items()}

    def insertions(self, prompt: Prompt, slot: int) -> list[Word]:
        """The words that the prior finds likeliest before a slot; the proposed ones where it finds all alike."""
        n = self.config.insertions
        likely = self.prior.likely_words(prompt, slot, n)
        chosen = self.proposal_words[:n].tolist() if likely is None else likely
        return [self.lexicon.words[i] for i in chosen]

    def replacements(self, prompt: Prompt, slot: int, estimate: Tensor, n: int) -> list[Word]:
        """Words worth a score in place of one: by the gradient's estimate (W,) and the prior, and the proposed."""
        log_p = self.prior.slot_log_probs(prompt, slot, insert=False)
        plausible = log_p >= log_p.max() - MAX_LOG_PROB_DROP
        gain = torch.where(plausible, estimate + self.config.language_weight * log_p, -torch.inf)
        best = gain.topk(min(n, int(plausible.sum()))).indices
        proposed = self.proposal_words[plausible[self.proposal_words]]
        indices = dict.fromkeys([*best.tolist(), *proposed.tolist()])
        return [self.lexicon.words[i] for i in indices if self.lexicon.words[i] != prompt[slot]]

    def estimated_gains(self, prompt: Prompt) -> list[Tensor]:
        """For each slot (W,): the first-order change of the cosine if a word's mean token embedding stood there."""
        clip, means = self.scorer.clip, self.bundle.token_index.word_means
        ids = [torch.tensor(own, device=clip.device) for own in word_ids(prompt)]
        embeddings = clip.embed(torch.cat(ids))
        gradient = self.scorer.score_and_gradient(embeddings[None])[1][0]
        lengths = [len(i) for i in ids]
        pieces = zip(embeddings.split(lengths), gradient.split(lengths), strict=True)
        return [(means @ pull.sum(0) - (own * pull).sum()).float().cpu() for own, pull in pieces]

    def pairs(self, prompt: Prompt, moves: Sequence[Move], scored: Sequence[Candidate]) -> list[Move]:
        """Two replacements at once, those first whose objectives alone add up to most."""
        objective = {candidate.words: candidate.objective for candidate in scored}
        by_slot: dict[int, list[Move]] = defaultdict(list)
        for move in sorted((m for m in moves if m.word and m.words in objective), key=lambda m: -objective[m.words]):
            if len(by_slot[move.slot]) < self.config.pair_pool:
                by_slot[move.slot].append(move)
        best = [move for of_slot in by_slot.values() for move in of_slot]
        combined = [(a, b) for a, b in itertools.combinations(best, 2) if a.slot < b.slot]
        combined.sort(key=lambda pair: -(objective[pair[0].words] + objective[pair[1].words]))
        return [
            Move(a.slot, (*prompt[: a.slot], a.words[a.slot], *prompt[a.slot + 1 : b.slot], *b.words[b.slot :]))
            for a, b in combined[: self.config.pairs]
        ]

    # Choosing ---------------------------------------------------------------------------------

    def diverse_top_k(self, candidates: Iterable[Candidate], n: int) -> list[Candidate]:
        """The n best candidates of different templates.

        Otherwise the beam fills with one sentence in many words, and a longer sentence, poor until all
        its words are right, never gets them.
        """
        chosen: dict[Prompt, Candidate] = {}
        for candidate in best_of(candidates, 1 << 30):
            if len(chosen) == n:
                break
            chosen.setdefault(self.lexicon.template(candidate.words), candidate)
        return list(chosen.values())

    def distinct(self, candidates: Iterable[Candidate], n: int) -> list[Candidate]:
        """The n best candidates of different content: those that differ in more than function words."""
        chosen: dict[frozenset[str], Candidate] = {}
        for candidate in best_of(candidates, 1 << 30):
            chosen.setdefault(frozenset(self.lexicon.content(candidate.words)), candidate)
            if len(chosen) == n:
                break
        return list(chosen.values())


def spans(length: int) -> Iterator[tuple[int, int]]:
    """Beginning and end of every phrase of 1 to MAX_PHRASE words in a prompt of that length."""
    for begin in range(length):
        for end in range(begin + 1, min(begin + MAX_PHRASE, length) + 1):
            yield begin, end


def best_of(candidates: Iterable[Candidate], n: int) -> list[Candidate]:
    """The n of highest objective; equals in the order of their texts, so that a seed decides nothing here."""
    return heapq.nsmallest(n, candidates, key=lambda candidate: (-candidate.objective, candidate.prompt))


def swapped(prompt: Prompt, i: int, j: int) -> Prompt:
    """The prompt with two words exchanged."""
    words = list(prompt)
    words[i], words[j] = words[j], words[i]
    return tuple(words)
