"""Discrete search on a toy model: it keeps its rules and its budget, values what it says, and puts wrong words right.

What single moves do is tested on the plain search, with which the one on tensors agrees (`test_search_on_tensors.py`).
"""

from __future__ import annotations

import dataclasses
import itertools
import random
from collections import Counter

import pytest
import torch
from torch import Tensor

from invert.budget import Budget
from invert.config import SearchConfig
from invert.corpus import Corpus
from invert.history import History
from invert.lexicon import Prompt, Word
from invert.scorer import PromptScorer
from invert.search import Search
from tests.invert import plain_search
from tests.invert.plain_search import MAX_LOG_PROB_DROP, MAX_PHRASE, MAX_REPEATS, MISSING_PENALTY, Candidate, Move, best_of

SMALL = {"max_tokens": 5, "rounds": 2, "replacements": 8, "insertions": 4, "pair_pool": 4, "pairs": 24, "beam": 2}
SENTENCES = ["w1 w2 w3", "w1 w2 w4 w5", "w6 w2 w3", "w1 w7 w3"]


def row(*tokens: int) -> Prompt:
    return tuple(Word(f"w{token}", (token,)) for token in tokens)


def maker(kind, toy_clip, toy_bundle, toy_target):
    """make(corpus=, budget=, required=, proposed=, banned=, retrieved=, **SearchConfig) → for the hidden "w7 w21 w40"."""

    def search(corpus=(), budget=None, required=(), proposed=(), banned=(), retrieved=(), **config):
        bundle = dataclasses.replace(toy_bundle, corpus=Corpus(tuple(corpus)))
        scorer, settings = PromptScorer(toy_clip, toy_target, Budget(budget)), SearchConfig(**{**SMALL, **config})
        return kind(bundle, scorer, History(), settings, required, proposed, banned, retrieved)

    return search


@pytest.fixture
def make(toy_clip, toy_bundle, toy_target):
    return maker(Search, toy_clip, toy_bundle, toy_target)


@pytest.fixture
def plain(toy_clip, toy_bundle, toy_target):
    return maker(plain_search.Search, toy_clip, toy_bundle, toy_target)


def random_starts(seed: int) -> list[Prompt]:
    rng = random.Random(seed)
    return [row(*rng.choices(range(12), k=rng.randint(1, 7))) for _ in range(5)]


# Rules --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("corpus", [(), SENTENCES], ids=["flat", "learned"])
def test_no_row_is_scored_that_breaks_a_rule(make, seed, corpus):
    search = make(corpus, proposed=range(10), banned=["w3", "w4 w5"])
    starts = [*random_starts(seed), row(1, 1), row(3, 2), row(4, 5), row(1, 2, 1, 2, 1), row(6)]
    found = search.run(starts)
    assert len(found) > 50
    for candidate in found:
        words = [word.text for word in candidate.words]
        assert 1 <= sum(len(word.ids) for word in candidate.words) <= 5
        assert all(a != b for a, b in itertools.pairwise(words))
        assert max(Counter(words).values()) <= MAX_REPEATS
        assert "w3" not in words and ("w4", "w5") not in itertools.pairwise(words)


def test_function_words_may_be_said_more_often(make):
    search = make(max_tokens=9)
    a = Word("a", (1,))
    assert search.lexicon.is_function_word(a)
    assert search.allowed((a, *row(2), a, *row(3), a, *row(4)))
    assert not search.allowed(row(1, 2, 1, 3, 1, 4))


def test_a_row_without_a_required_word_is_worth_less_than_any_with_it(make):
    search = make(required=row(50, 51))
    found = search.run([row(7, 21, 40), row(50, 51)])
    complete = [candidate.objective for candidate in found if not search.missing(candidate.words)]
    lacking = [candidate.objective for candidate in found if search.missing(candidate.words)]
    assert complete and lacking and min(complete) > max(lacking)
    assert {50, 51} <= {token for word in found[0].words for token in word.ids}


def test_required_words_are_put_where_no_start_has_them(make):
    search = make(required=row(50, 51), rounds=4)
    best = search.run([row(7, 21, 40)])[0]
    assert search.missing(best.words) == 0
    assert search.history.best_prompt == best.prompt


# Values -------------------------------------------------------------------------------------------


def test_a_value_is_cosine_and_language_less_length_and_what_is_missing(make):
    search = make(SENTENCES, required=row(2), language_weight=0.01, token_penalty=0.002)
    clip, target = search.scorer.clip, search.scorer.target
    for candidate in search.run([row(1, 2, 3)])[::37]:
        ids = clip.frame.row([word.ids[0] for word in candidate.words])
        cosine = float(clip.encode_embeddings(clip.embed(torch.tensor([ids])))[0].float() @ target)
        beyond = search.prior.log_prob(candidate.words) - search.prior.per_token * len(candidate.words)
        value = cosine + 0.01 * beyond - 0.002 * len(candidate.words)
        value -= MISSING_PENALTY * (row(2)[0] not in candidate.words)
        assert candidate.score == pytest.approx(cosine, abs=1e-6)
        assert candidate.objective == pytest.approx(value, abs=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_the_result_is_worth_at_least_as_much_as_every_start(make, seed):
    search = make(SENTENCES)
    starts = random_starts(seed)
    values = [candidate.objective for candidate in search.evaluate(starts)]
    found = search.run(starts)
    assert found[0].objective >= max(values)
    assert [c.objective for c in found] == sorted((c.objective for c in found), reverse=True)
    assert len({c.words for c in found}) == len(found)
    assert search.history.best_prompt == found[0].prompt and search.history.best_objective == found[0].objective


@pytest.mark.parametrize("wrong", [(7, 33, 40), (5, 21, 40), (21, 7, 40), (7, 40), (7, 21, 30, 40), (7, 2, 3)])
def test_what_is_wrong_with_the_hidden_prompt_is_put_right(make, wrong):
    search = make(proposed=[7, 21, 40], rounds=4, insertions=8, replacements=16, token_penalty=0.0)
    assert search.run([row(*wrong)])[0].prompt == "w7 w21 w40"


def test_a_penalty_that_no_word_can_earn_leaves_one_word(make):
    assert len(make(token_penalty=2.0).run([row(7, 21, 40)])[0].words) == 1


def test_a_weight_on_language_leads_to_what_the_corpus_says(make):
    best = make(SENTENCES, language_weight=10.0, rounds=5, token_penalty=0.0).run([row(3, 1)])[0]
    assert best.prompt in SENTENCES


def test_a_language_that_knows_nothing_still_lets_the_search_climb(make):
    search = make(proposed=())
    start = search.evaluate([row(1, 2, 3)])[0]
    found = search.run([row(1, 2, 3)])
    assert found[0].objective > start.objective and found[0].score == pytest.approx(
        found[0].objective + search.config.token_penalty * len(found[0].words), abs=1e-6
    )


def test_starts_that_no_rule_allows_give_nothing(make):
    assert make(max_tokens=2).run([row(1, 2, 3)]) == []


def test_the_same_search_twice_is_the_same(make):
    first, again = (make(SENTENCES, proposed=[7, 8]).run(random_starts(1)) for _ in range(2))
    assert first == again


# Budget -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("budget", [1, 60, 300, 1000])
def test_a_budget_is_overspent_by_less_than_the_batch_that_spends_it(make, budget, monkeypatch):
    search, before = make(proposed=range(10), budget=budget, rounds=9), []
    spent = search.scorer.budget
    pay = spent.spend
    monkeypatch.setattr(spent, "spend", lambda **cost: (before.append(spent.token_passes), pay(**cost)))
    found = search.run(random_starts(2))
    assert found and spent.token_passes >= budget
    assert before[-1] < budget  # no batch starts after the budget is spent


# Moves --------------------------------------------------------------------------------------------


@pytest.fixture
def before_and_moves(plain) -> tuple[plain_search.Search, Prompt, list[Move]]:
    search, start = plain(proposed=range(20, 30)), row(1, 2, 3, 4)
    return search, start, list(search.moves(start))


def test_a_crossover_joins_two_rows_where_both_go_on_with_one_class(plain):
    search = plain(SENTENCES)
    parents = (row(6, 2, 3), row(1, 7, 3))
    start = row(1, 2, 4, 5)
    of = search.prior.class_of
    moves = list(search.crossovers(start, parents))
    assert moves and all(move.words[: move.slot] == start[: move.slot] for move in moves)
    for move in moves:
        both = [(a, b) for parent in (start, *parents) for a, b in ((start, parent), (parent, start))]
        cuts = [
            (a, i, b)
            for a, b in both
            for i in range(len(a))
            if a[:i] == move.words[:i] and b[-len(move.words[i:]) :] == move.words[i:]
        ]
        assert any(of(a[i]) == of(move.words[i]) for a, i, _ in cuts)
    assert row(1, 2, 3) in [move.words for move in moves]  # the beginning of one, the end of another


def test_a_phrase_too_many_is_dropped_and_a_missing_one_taken_from_a_start(plain):
    corpus = ["w1 w7 w2 w21", "w7 w2 w21 w3 w40", "w1 w5", "w7 w2 w6"] * 3
    search = plain(corpus, max_tokens=8)
    rows = [move.words for move in search.crossovers(row(1, 7, 2, 6), [row(7, 2, 21, 3, 40)])]
    assert row(7, 2, 6) in rows and row(1, 7, 2, 21, 3, 40) in rows


def test_a_phrase_is_exchanged_for_one_that_stands_between_like_words(plain):
    search = plain(SENTENCES, retrieved=[row(1, 5, 9, 3), row(6, 8, 3), row(1, 8)])
    found = [move.words for move in search.phrase_swaps(row(1, 2, 4, 3), search.phrases_of(search.retrieved))]
    assert row(1, 5, 9, 3) in found  # w2 w4 between w1 and w3 becomes w5 w9
    assert row(1, 8) in found  # w2 w4 w3 between w1 and the end becomes w8
    assert row(1, 8, 3) not in found  # nothing near says w8 between w1 and w3
    assert all(
        move.words[: move.slot] == row(1, 2, 4, 3)[: move.slot]
        for move in search.phrase_swaps(row(1, 2, 4, 3), search.phrases_of(search.retrieved))
    )


def test_only_short_phrases_change_hands(plain):
    search = plain(SENTENCES, retrieved=[row(1, *range(10, 10 + MAX_PHRASE + 1), 3)])
    assert list(search.phrase_swaps(row(1, 2, 3), search.phrases_of(search.retrieved))) == []
    shorter = plain(SENTENCES, retrieved=[row(1, *range(10, 10 + MAX_PHRASE), 3)])
    assert [move.words for move in shorter.phrase_swaps(row(1, 2, 3), shorter.phrases_of(shorter.retrieved))] == [
        shorter.retrieved[0]
    ]


def test_without_a_language_no_row_takes_anything_from_another(plain):
    search = plain(retrieved=[row(1, 2)])
    assert list(search.crossovers(row(1, 2, 3), [row(1, 2)])) == []
    assert list(search.phrase_swaps(row(1, 2, 3), search.phrases_of(search.retrieved))) == []


def test_what_is_no_language_is_not_scored(plain, monkeypatch):
    search, scored = plain(SENTENCES, retrieved=[row(1, 2, 3)]), []
    start = row(1, 2, 3)
    monkeypatch.setattr(search, "evaluate", lambda rows, shared=0: scored.extend(rows) or [])
    search.expand(start, [start], search.phrases_of(search.retrieved))
    least = search.prior.log_prob(start) - MAX_LOG_PROB_DROP
    assert scored and min(map(search.prior.log_prob, scored)) >= least
    assert any(search.prior.log_prob(move.words) < least for move in search.moves(start))


def test_a_sweep_tries_more_words_than_a_move_and_leaves_function_words_alone(plain):
    search = plain(replacements=2, refine_replacements=20)
    joint = Word("above", (50,))
    start = (*row(1), joint, *row(3))
    swept = {candidate.words for candidate in search.refine(start)}
    assert all(sum(a != b for a, b in zip(one, start, strict=True)) == 1 and one[1] == joint for one in swept)
    assert 2 * 15 < len(swept) <= 2 * 20


def test_where_a_narrow_search_is_stuck_a_sweep_may_free_it(make):
    narrow = {"replacements": 1, "insertions": 1, "pairs": 0, "rounds": 9}
    starts = [[start] for seed in range(2) for start in random_starts(seed) if make().allowed(start)]
    stuck = [make(**narrow, n_refined=0).run(start)[0].objective for start in starts]
    freed = [make(**narrow, n_refined=2, refine_replacements=62).run(start)[0].objective for start in starts]
    assert all(b >= a for a, b in zip(stuck, freed, strict=True))
    assert sum(b > a + 1e-4 for a, b in zip(stuck, freed, strict=True)) >= 2


def test_every_kind_of_move_is_made_and_nothing_before_its_place_changes(before_and_moves):
    _, start, moves = before_and_moves
    assert all(move.words[: move.slot] == start[: move.slot] for move in moves)
    rows = {move.words for move in moves}
    assert {start[:i] + start[i + 1 :] for i in range(4)} <= rows  # deletions
    assert {row(2, 1, 3, 4), row(4, 2, 3, 1), row(1, 2, 4, 3)} <= rows  # swaps
    assert {row(20, 1, 2, 3, 4), row(1, 2, 3, 4, 20)} <= rows  # insertions
    assert {row(25, 2, 3, 4), row(1, 2, 3, 25)} <= rows  # replacements
    assert {len(changed) for changed in rows} == {3, 4, 5}


def test_a_replacement_names_the_word_that_it_puts(before_and_moves):
    _, start, moves = before_and_moves
    named = [move for move in moves if move.word]
    assert named and all(move.words == (*start[: move.slot], move.word, *start[move.slot + 1 :]) for move in named)
    assert all(move.word != start[move.slot] for move in named)


def test_pairs_are_made_of_two_single_replacements_those_that_add_up_to_most_first(before_and_moves):
    search, start, moves = before_and_moves
    singles = search.evaluate_moves(moves)
    value = {candidate.words: candidate.objective for candidate in singles}
    replaced = {move.words for move in moves if move.word}
    pairs = search.pairs(start, moves, singles)
    assert 0 < len(pairs) <= search.config.pairs
    sums = []
    for pair in pairs:
        changed = [i for i in range(4) if pair.words[i] != start[i]]
        assert len(changed) == 2 and pair.slot == changed[0]
        parts = [(*start[:i], pair.words[i], *start[i + 1 :]) for i in changed]
        assert replaced.issuperset(parts)
        sums.append(sum(value[part] for part in parts))
    assert sums == sorted(sums, reverse=True)


def test_estimated_gains_are_exact_where_the_score_is_linear(plain, toy_clip, toy_bundle):
    search, start = plain(), row(5, 9, 33)
    slope = torch.randn(3, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    search.scorer.score_and_gradient = lambda rows: (None, slope[None])  # the cosine as a linear function of the rows
    for place, estimate in enumerate(search.estimated_gains(start)):
        exact = (toy_bundle.token_index.embeddings - toy_clip.token_embeddings[start[place].ids[0]]) @ slope[place]
        assert estimate.shape == (len(toy_bundle.lexicon),)
        torch.testing.assert_close(estimate.double(), exact, rtol=1e-4, atol=1e-6)
        best = search.replacements(start, place, estimate, 8)
        naive = [toy_bundle.lexicon.words[i] for i in exact.argsort(descending=True)[:8].tolist()]
        assert best == [word for word in naive if word != start[place]]


def test_estimated_gains_point_the_way_on_the_model_itself(plain):
    search, start = plain(), row(5, 9, 33)
    (now,) = search.scorer.score([start])
    estimates = search.estimated_gains(start)
    for place, estimate in enumerate(estimates):
        replaced = [(*start[:place], word, *start[place + 1 :]) for word in search.lexicon.words]
        gains: Tensor = torch.tensor(search.scorer.score(replaced)) - now
        assert torch.corrcoef(torch.stack([estimate, gains]))[0, 1] > 0.5


def test_words_that_language_rules_out_are_not_tried(plain):
    sentences = ["w1 w2 w3"] * 3000 + ["w1 w4 w3"] * 2000
    search = plain(sentences, proposed=range(62))
    tried = search.replacements(row(1, 2, 3), 1, torch.zeros(62), 62)
    assert [word.text for word in tried] == ["w4"]


# Choosing -----------------------------------------------------------------------------------------


def candidate(text: str, value: float) -> Candidate:
    return Candidate(tuple(Word(word, (0,)) for word in text.split()), value, value)


def test_distinct_prompts_differ_in_more_than_function_words(plain):
    found = [candidate("a fox", 0.9), candidate("the fox", 0.95), candidate("fox and owl", 0.5), candidate("owl a fox", 0.6)]
    assert [c.prompt for c in plain().distinct(found, 5)] == ["the fox", "owl a fox"]
    assert [c.prompt for c in plain().distinct(found, 1)] == ["the fox"]


def test_equal_values_are_ordered_by_their_texts():
    found = [candidate(text, 0.5) for text in ("owl", "fox", "yak")]
    assert [c.prompt for c in best_of(found, 2)] == [c.prompt for c in best_of(found[::-1], 2)] == ["fox", "owl"]
