"""Discrete search: prompts to start from in, the prompt that is most probable given the target out.

A prompt is a sequence of whole words. Its objective is the cosine with the target plus a prior on
language, minus a stated penalty per token, so the search chooses length and order itself. A few prompts
are kept (a beam). Each is changed by one move: a word replaced, inserted or deleted, two swapped,
a phrase taken from a retrieved prompt, or a crossover with a start. The gradient on its token embeddings
says which of thousands of replacements are worth scoring (HotFlip: Ebrahimi et al., arXiv 1712.06751),
and replacements that prove good alone are tried in pairs. Where nothing improves any more, the best
prompt of each template is searched more widely.

The prompts of a round are made and scored together, as tensors of word numbers (`invert.rounds`), and several
searches may share the text encoder (`invert.together`).
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from invert.bundle import ModelBundle
from invert.charging import Batch, prefetched
from invert.config import SearchConfig
from invert.found import Pool, ScoreCache, Scored
from invert.history import History
from invert.lexicon import Lexicon, Prompt, Word, contains_phrase, text_of, token_count
from invert.moves import Prompts, phrases_of
from invert.prior.batched import batched
from invert.rounds import Round
from invert.scorer import FINALISTS, PromptScorer
from invert.together import Steps, alone
from invert.word_table import PAD

if TYPE_CHECKING:
    from invert.prior.rescoring import Rescorer

MAX_REPEATS = 2  # of a content word: a color may be the fox's and the background's
MISSING_PENALTY = 1.0  # cosine taken off for a required word that is not there: more than any prompt can win


@dataclass(frozen=True)
class Candidate:
    """A prompt, its cosine with the target, and its objective (with language and length in it)."""

    words: Prompt
    score: float
    objective: float

    @cached_property
    def prompt(self) -> str:
        return text_of(self.words)


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
        language: Rescorer | None = None,
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
            language: a language model that proposes words, and judges the best prompts of each round; None for the prior alone.
        """
        self.bundle, self.scorer, self.history, self.config = bundle, scorer, history, config
        self.lexicon: Lexicon = bundle.lexicon
        self.prior = bundle.prior
        self.required, self.proposal_words = tuple(required), torch.tensor(proposal_words, dtype=torch.long)
        self.banned, self.retrieved = tuple(banned), tuple(retrieved)
        self.table = bundle.lexicon.table.copy()
        self.batched_prior = batched(self.prior, self.table)
        self.language, self.rescored = language, set[int]()  # keys of the prompts that the model has judged
        if language is not None:
            self.batched_prior = language.proposing(self.batched_prior, self)
        self.cache = ScoreCache()
        self.anchors: tuple[str, ...] = ()  # words that composed starts try first
        self.required_numbers = self.table.number([self.required])[0][0]

    # Rules ------------------------------------------------------------------------------------

    def allowed(self, prompt: Prompt) -> bool:
        """Short enough, nothing banned, no word twice in a row, no content word more often than MAX_REPEATS."""
        if not prompt or token_count(prompt) > self.config.max_tokens or not self.scorer.fits(prompt):
            return False
        if any(a == b for a, b in itertools.pairwise(prompt)) or contains_phrase(prompt, self.banned):
            return False
        content = self.lexicon.content(prompt)
        return len(set(content)) == len(content) or max(Counter(content).values()) <= MAX_REPEATS

    def allowed_rows(self, rows: Tensor) -> Tensor:
        """`allowed` (N,) of rows (N, L)."""
        tokens = self.table.token_counts(rows)
        most = min(self.config.max_tokens, self.scorer.clip.max_prompt_tokens)
        twice = ((rows[:, 1:] == rows[:, :-1]) & (rows[:, 1:] != PAD)).any(1)
        said = self.table.columns.says[rows].sort(1).values
        repeated = ((said[:, MAX_REPEATS:] == said[:, :-MAX_REPEATS]) & (said[:, MAX_REPEATS:] != 0)).any(1)
        fine = (tokens > 0) & (tokens <= most) & ~twice & ~repeated
        if self.banned:
            for i in fine.nonzero()[:, 0].tolist():
                fine[i] = not contains_phrase(self.table.prompt(rows[i]), self.banned)
        return fine

    def missing(self, prompt: Prompt) -> int:
        """How many required words the prompt lacks."""
        return sum(word not in prompt for word in self.required)

    def missing_rows(self, rows: Tensor) -> Tensor:
        """`missing` (N,) of rows (N, L)."""
        return len(self.required) - (rows[:, None] == self.required_numbers[:, None]).any(2).sum(1)

    def terms(self, rows: Tensor, tokens: Tensor, missing: Tensor) -> tuple[Tensor, Tensor]:
        """What rows (N, L) of so many tokens earn by their language, and lose by length and missing words: (N,) float64."""
        language = self.batched_prior.log_probs(rows, (rows != PAD).sum(1)) - self.prior.per_token * tokens.double()
        penalty = self.config.token_penalty * tokens.double() + MISSING_PENALTY * missing
        return self.config.language_weight * language, penalty

    # The beam ---------------------------------------------------------------------------------

    def evaluate(self, prompts: Iterable[Prompt], shared: int = 0) -> list[Candidate]:
        """Score the allowed ones of prompts that share their first `shared` words; report the best."""
        return alone(self.evaluating(prompts, shared), self.scorer.clip)

    def evaluating(self, prompts: Iterable[Prompt], shared: int = 0) -> Steps[list[Candidate]]:
        """`evaluate`, step by step."""
        found = yield from self._evaluated(list(dict.fromkeys(prompts)), shared)
        return self.candidates(found, range(len(found.keys)))

    def _evaluated(self, prompts: list[Prompt], shared: int = 0) -> Steps[Scored]:
        rows = self.table.number(prompts)[0]
        prompt = torch.zeros(len(rows), dtype=torch.long)
        batch = Batch(self, rows, prompt, prompt + shared, prompt)
        yield from prefetched(self, [(batch, batch.groups)])
        yield from batch.replayed(batch.groups, at_any_cost=True)
        return batch.scored()

    def run(self, initial_prompts: Sequence[Prompt]) -> list[Candidate]:
        """Every prompt that was scored, best first; stops when the budget is spent or nothing improves."""
        pool = alone(self.steps(initial_prompts), self.scorer.clip)
        return self.candidates(pool.found, pool.best_first().tolist())

    def steps(self, initial_prompts: Sequence[Prompt]) -> Steps[Pool]:
        """`run`, step by step; what it returns is not sorted yet."""
        pool = Pool(self.table)
        pool.add((yield from self._evaluated(list(dict.fromkeys(initial_prompts)))))
        self._judge_language(pool)
        parents = self._prompts(pool, torch.arange(len(pool)))
        sources = Prompts(*self.table.number(self.retrieved))
        n = self.config.first_round_sources
        phrases = phrases_of(Prompts(sources.rows[:n], sources.lengths[:n]), self.batched_prior)
        expanded: set[int] = set()
        refined = False
        for turn in range(self.config.rounds):
            width = self.config.beam if turn else len(pool)  # each initial prompt has its chance as it is built
            fresh = pool.diverse_top_k(width)
            fresh = fresh[[key not in expanded for key in pool.found.keys[fresh].tolist()]]
            expanded.update(pool.found.keys[fresh].tolist())
            one = Round(self, parents, phrases)
            grow = one.expand
            if not len(fresh) and not refined:  # nothing improves: once more, with many more words
                refined, grow = True, one.refine
                fresh = pool.diverse_top_k(self.config.n_refined)
            if not len(fresh) or self.scorer.budget.exhausted:
                break
            for new in (yield from grow(self._prompts(pool, fresh))):
                pool.add(new)
            self._judge_language(pool)
            (best,) = pool.best(1)
            self.history.record("search", turn, float(pool.found.scores[best]), pool.text(best))
            if not turn:
                phrases = phrases_of(sources, self.batched_prior)
        return pool

    def _judge_language(self, pool: Pool) -> None:
        if self.language is not None:
            self.language.rescore(self, pool)

    def _prompts(self, pool: Pool, chosen: Tensor) -> Prompts:
        rows = pool.found.rows[chosen]
        lengths = (rows != PAD).sum(1)
        return Prompts(rows[:, : int(lengths.max())] if len(lengths) else rows, lengths)

    # Choosing ---------------------------------------------------------------------------------

    def candidates(self, found: Scored, order: Iterable[int]) -> list[Candidate]:
        """The prompts of those indices."""
        chosen = torch.tensor(list(order), dtype=torch.long)  # a few of thousands
        parts = (part[chosen].tolist() for part in (found.rows, found.scores, found.objectives))
        words = self.table.words
        return [Candidate(tuple(words[n] for n in row if n), score, worth) for row, score, worth in zip(*parts, strict=True)]

    def distinct(self, pool: Pool, n: int) -> list[Candidate]:
        """The n best prompts that lack nothing, of different content: those that differ in more than function words."""
        chosen: dict[frozenset[str], int] = {}
        found, order = self.compared_exactly(pool.found, pool.best_first().tolist())
        for i in order:
            if not found.missing[i]:
                chosen.setdefault(frozenset(self.lexicon.content(self.table.prompt(found.rows[i]))), i)
            if len(chosen) == n:
                break
        return self.candidates(found, chosen.values())

    def compared_exactly(self, found: Scored, order: list[int]) -> tuple[Scored, list[int]]:
        """What was found, best first; where the model has less than float32, the best of it scored once more in that."""
        exact, first = self.scorer.exact, order[:FINALISTS]
        if exact is self.scorer:
            return found, order
        scores, objectives = found.scores.clone(), found.objectives.clone()
        again = exact.score([self.table.prompt(found.rows[i]) for i in first])
        scores[first] = torch.tensor(again, dtype=scores.dtype, device=scores.device)
        objectives[first] += (scores - found.scores)[first].to(objectives)
        first.sort(key=lambda i: -float(objectives[i]))
        return replace(found, scores=scores, objectives=objectives), first + order[FINALISTS:]
