"""The search on tensors finds, counts and reports what the plain one does; side by side, searches find what they find alone."""

from __future__ import annotations

import copy
import dataclasses
import random

import pytest

from invert import together as together_module
from invert.budget import Budget
from invert.bundle import ModelBundle
from invert.config import SearchConfig
from invert.corpus import Corpus
from invert.history import History
from invert.lexicon import Prompt, Word
from invert.prior.class_ngram import ClassNgramPrior
from invert.scorer import PromptScorer
from invert.search import Search
from invert.together import together
from tests.invert import plain_search

SMALL = {"max_tokens": 6, "rounds": 4, "replacements": 6, "insertions": 3, "pair_pool": 4, "pairs": 12, "beam": 3, "n_refined": 2}
SENTENCES = ("a w1 w2 the w3", "the w1 w2 w4 w5", "a w6 w2 w3", "a w1 w7 the w3", "w8 a w9 on w1")
REQUIRED, BANNED = (Word("w50", (50,)),), ("w4 w5", "w9")


def row(*tokens: int) -> Prompt:
    return tuple(Word(f"w{token}", (token,)) for token in tokens)


STRANGER = Word("w3 indeed", (3, 17))  # of two tokens, and in no lexicon
CASES = {
    "no language": {},
    "learned": {"corpus": SENTENCES},
    "phrases": {"corpus": SENTENCES, "retrieved": [row(1, 5, 9, 3), row(6, 8, 3), (*row(1), STRANGER)]},
    "required and banned": {"corpus": SENTENCES, "required": REQUIRED, "banned": BANNED, "proposed": (7, 21, 40, 9)},
    "little budget": {"corpus": SENTENCES, "budget": 900, "proposed": range(5)},
    "less": {"budget": 150},
    "no pairs": {"corpus": SENTENCES, "pairs": 0, "first_round_sources": 1, "retrieved": [row(1, 2), row(3, 4, 5)]},
}


class Wrapped:
    """A prior of someone else's, which knows nothing of tables."""

    def __init__(self, prior: ClassNgramPrior) -> None:
        self._prior = prior

    def __getattr__(self, name: str):
        if name not in ("per_token", "log_prob", "slot_log_probs", "likely_words", "cut_points", "contexts"):
            raise AttributeError(name)
        return getattr(self._prior, name)


@pytest.fixture
def bundle_of(toy_bundle):
    return lambda corpus=(): dataclasses.replace(toy_bundle, corpus=Corpus(tuple(corpus)))


def searching(kind, bundle: ModelBundle, target, budget=None, required=(), proposed=(), banned=(), retrieved=(), **config):
    scorer, settings = PromptScorer(bundle.clip, target, Budget(budget)), SearchConfig(**{**SMALL, **config})
    return kind(bundle, scorer, History(), settings, required, proposed, banned, retrieved)


def starts(seed: int) -> list[Prompt]:
    rng = random.Random(seed)
    return [row(*rng.choices(range(12), k=rng.randint(1, 7))) for _ in range(3)] + [(*row(1), STRANGER, *row(2))]


def outcome(search, found) -> tuple:
    """All that a search tells, scores aside; two prompts whose scores differ in the last bit may change places."""
    entries = [(entry.step, entry.prompt) for entry in search.history.entries]
    budget = search.scorer.budget
    words = {candidate.words for candidate in found}
    return len(found), words, entries, search.history.best_prompt, budget.forward_tokens, budget.backward_tokens


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("seed", range(3))
def test_the_search_on_tensors_agrees_with_the_plain_one(bundle_of, toy_target, case, seed):
    options = dict(CASES[case])
    bundle = bundle_of(options.pop("corpus", ()))
    slow, fast = (searching(kind, bundle, toy_target, **options) for kind in (plain_search.Search, Search))
    expected, found = slow.run(starts(seed)), fast.run(starts(seed))
    assert outcome(fast, found) == outcome(slow, expected)
    assert [c.score for c in found] == pytest.approx([c.score for c in expected], abs=1e-6)
    assert [c.objective for c in found] == pytest.approx([c.objective for c in expected], abs=1e-6)


def test_a_prior_without_tables_leads_to_the_same_prompts(bundle_of, toy_target):
    bundle = bundle_of(SENTENCES)
    plainly = dataclasses.replace(bundle, learn_prior=lambda corpus, lexicon: Wrapped(ClassNgramPrior(corpus.prompts, lexicon)))
    retrieved = [row(1, 5, 9, 3), row(6, 8, 3)]
    with_tables, without = (searching(Search, one, toy_target, retrieved=retrieved, rounds=2) for one in (bundle, plainly))
    assert outcome(without, without.run(starts(0))) == outcome(with_tables, with_tables.run(starts(0)))


def test_searches_side_by_side_find_what_each_finds_alone(bundle_of, toy_clip):
    bundle = bundle_of(SENTENCES)
    targets = toy_clip.encode_text(["w7 w9", "w1", "w30 w2"]).float()
    budgets = (None, 700, 300)
    both = [
        [searching(Search, bundle, target, budget) for target, budget in zip(targets, budgets, strict=True)] for _ in range(2)
    ]
    alone = [search.run(starts(i)) for i, search in enumerate(both[0])]
    pools = together([search.steps(starts(i)) for i, search in enumerate(both[1])], toy_clip)
    for one, other, found, pool in zip(*both, alone, pools, strict=True):
        beside = other.candidates(pool.found, pool.best_first().tolist())
        assert outcome(other, beside) == outcome(one, found) and beside == found  # to the last bit of every score


def test_rows_follow_the_rules_that_prompts_follow(bundle_of, toy_target):
    search = searching(Search, bundle_of(), toy_target, banned=BANNED, required=REQUIRED)
    rng = random.Random(0)
    prompts = [row(*rng.choices((1, 2, 4, 5, 9, 50), k=rng.randint(1, 8))) for _ in range(400)]
    rows = search.table.number(prompts)[0]
    assert search.allowed_rows(rows).tolist() == [search.allowed(prompt) for prompt in prompts]
    assert search.missing_rows(rows).tolist() == [search.missing(prompt) for prompt in prompts]
    assert 40 < int(search.allowed_rows(rows).sum()) < 360


def test_no_score_is_waited_for_once_time_is_up(bundle_of, toy_target, monkeypatch):
    search = searching(Search, bundle_of(SENTENCES), toy_target, proposed=range(60), max_tokens=12)
    search.scorer.budget = budget = Budget(max_seconds=1000.0)
    score, batches = together_module.cosines_of_rows, []

    def late(*rows):
        batches.append(1)
        if len(batches) == 4:
            budget.max_seconds = 1e-9
        return score(*rows)

    monkeypatch.setattr(together_module, "cosines_of_rows", late)
    found = search.run([row(*range(1, 11))])
    assert found and len(batches) == 4  # the batch that was running then was the last


@pytest.mark.parametrize("shares", [True, False], ids=["causal", "bidirectional"])
def test_words_may_begin_a_prompt_with_other_tokens_and_a_tower_may_share_nothing(toy_bundle, toy_target, shares):
    clip = copy.copy(toy_bundle.clip)
    clip.tower = copy.copy(clip.tower)
    clip.tower.shares_prefixes = shares
    words = tuple(Word(f"w{i}", (i,), (i, 3) if i % 3 else None) for i in range(62))
    lexicon = dataclasses.replace(toy_bundle.lexicon, words=words)
    bundle = dataclasses.replace(toy_bundle, clip=clip, lexicon=lexicon, corpus=Corpus(SENTENCES))
    begun = [tuple(words[i] for i in numbers) for numbers in ((1, 2, 3), (3, 7), (8, 1, 9, 4))]
    slow, fast = (searching(kind, bundle, toy_target, budget=700) for kind in (plain_search.Search, Search))
    assert outcome(slow, slow.run(begun)) == outcome(fast, fast.run(begun))
