"""The tables of a class n-gram say what it says prompt by prompt, to the last bit."""

from __future__ import annotations

import math
import random

import pytest
import torch

from invert.lexicon import Lexicon, Word
from invert.prior.batched import OneByOne, batched
from invert.prior.category_ngram import SHARE_WEIGHT, UNKNOWN, CategoryNgramPrior
from invert.prior.class_ngram import ClassNgramPrior
from invert.prior.uniform import UniformPrior
from invert.rounds import moved

TEXTS = ["a", "an", "the", "of", "on", "and", "two", "red", "blue", "fox", "owl", "umbrella", "fish"]
TEXTS += ["picture", "background", "palm tree"]
SENTENCES = ["a red fox on the background", "a picture of an owl", "two fish and a palm tree", "a blue umbrella", "a fox"] * 4


def lexicon() -> Lexicon:
    words = tuple(Word(text, tuple(range(i, i + 1 + text.count(" ")))) for i, text in enumerate(TEXTS))
    return Lexicon(words, frozenset(TEXTS[:7]), lambda text: [90 + len(text)])


def initial(text: str) -> str:
    return text if len(text) < 3 else text[0]


@pytest.fixture(params=["learned", "given", "weighed"])
def prior(request):
    if request.param == "learned":
        return ClassNgramPrior(SENTENCES, lexicon(), order=4)
    frequency = {"given": None, "weighed": lambda text: 1.0 + len(text)}[request.param]
    return CategoryNgramPrior(SENTENCES, lexicon(), initial, order=3, frequency=frequency)


@pytest.fixture
def prompts(prior):
    rng = random.Random(0)
    strange = Word("zebra crossing", (95, 96))
    drawn = [tuple(rng.choices([*prior.lexicon.words, strange], k=rng.randint(1, 9))) for _ in range(40)]
    return [*drawn, *(prior.lexicon.segment(sentence) for sentence in SENTENCES[:5])]


def test_log_probs_of_many_prompts_are_those_of_each(prior, prompts):
    table = prior.lexicon.table.copy()
    rows, lengths = table.number(prompts)
    assert batched(prior, table).log_probs(rows, lengths).tolist() == [prior.log_prob(prompt) for prompt in prompts]


@pytest.mark.parametrize("insert", [True, False])
def test_slots_of_many_prompts_are_asked_at_once(prior, prompts, insert):
    table = prior.lexicon.table.copy()
    rows, lengths = table.number(prompts)
    places = [(i, slot) for i, prompt in enumerate(prompts) for slot in range(len(prompt) + insert)]
    prompt, slot = torch.tensor(places).unbind(1)
    found = batched(prior, table).slot_log_probs(rows, lengths, prompt, slot, insert)
    assert torch.equal(found, torch.stack([prior.slot_log_probs(prompts[i], at, insert) for i, at in places]))


def test_a_uniform_prior_answers_for_many_what_it_answers_for_each(prompts):
    flat = UniformPrior(lexicon())
    table = flat.lexicon.table.copy()
    rows, lengths = table.number(prompts)
    many, each = batched(flat, table), OneByOne(flat, table)
    assert type(many) is not OneByOne
    places = torch.zeros(3, dtype=torch.long)
    assert torch.equal(many.log_probs(rows, lengths), each.log_probs(rows, lengths))
    asked = rows, lengths, places, places
    assert torch.equal(many.slot_log_probs(*asked, False), each.slot_log_probs(*asked, False))
    assert many.slot_log_probs(*asked, False).untyped_storage().nbytes() == 4  # one number, however many are asked for
    assert many.likely_words(*asked, 2) is each.likely_words(*asked, 2) is None
    assert many.contexts(rows, lengths) is each.contexts(rows, lengths) is None
    assert torch.equal(many.cuts(rows, lengths, rows[:5], lengths[:5]), each.cuts(rows, lengths, rows[:5], lengths[:5]))


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (4, 1), (4, 5)])
def test_an_expanded_tensor_is_moved_as_what_it_is_expanded_from(shape):
    x = torch.arange(shape[0] * shape[1], dtype=torch.float32).reshape(shape).expand(4, 5)
    assert torch.equal(moved(x, torch.device("cpu")), x)
    assert moved(x, torch.device("meta")).untyped_storage().nbytes() == 4 * shape[0] * shape[1]


def test_cuts_and_contexts_are_those_of_the_prior(prior, prompts):
    table = prior.lexicon.table.copy()
    rows, lengths = table.number(prompts)
    many = batched(prior, table)
    cuts = many.cuts(rows, lengths, rows[:5], lengths[:5])
    assert {tuple(at) for at in cuts[9, 3].nonzero().tolist()} == set(prior.cut_points(prompts[9], prompts[3]))
    before, after = many.contexts(rows, lengths)
    names: dict[int, str] = {}
    for i, prompt in enumerate(prompts):
        for numbers, expected in zip((before, after), prior.contexts(prompt), strict=True):
            found = [names.setdefault(int(n), name) for n, name in zip(numbers[i, : len(expected)], expected, strict=True)]
            assert [*found] == [*expected]


def test_probabilities_out_of_every_state_add_up_to_one(prior):
    tables = prior.tables
    p = tables.costs[:, : tables.end + 1].exp().sum(1)
    torch.testing.assert_close(p, torch.ones_like(p))


def test_words_share_their_class_by_what_was_seen_and_what_is_expected():
    prior = CategoryNgramPrior(SENTENCES, lexicon(), initial, frequency=lambda text: 3.0 if text == "fish" else 1.0)
    by_class: dict[str, float] = {}
    for text, share in prior.log_shares.items():
        by_class[prior.class_by_text[text]] = by_class.get(prior.class_by_text[text], 0.0) + math.exp(share)
    assert list(by_class.values()) == pytest.approx([1.0] * len(by_class))
    # Seen 8 times "fox" and 4 times "fish"; 2 observations are expected, three of four of them "fish".
    assert math.exp(prior.log_shares["fox"]) == pytest.approx((8 + 2 * 1 / 4) / 14)
    assert math.exp(prior.log_shares["fish"]) == pytest.approx((4 + 2 * 3 / 4) / 14)


def test_of_two_words_of_a_class_the_more_frequent_is_likelier():
    prior = CategoryNgramPrior(SENTENCES, lexicon(), initial, frequency=lambda text: 1.0)
    article, fox, fish = (prior.lexicon.word(text) for text in ("a", "fox", "fish"))
    least = prior.log_prob((article, fish)) - prior.log_prob((article, fox))
    assert least == pytest.approx(SHARE_WEIGHT * math.log(5 / 9))


def test_a_word_that_no_sentence_and_no_lexicon_holds_is_as_likely_as_the_rarest_of_unknown_ones():
    prior = CategoryNgramPrior(SENTENCES, lexicon(), lambda text: UNKNOWN if len(text) > 5 else text, frequency=len)
    rarest = min(share for text, share in prior.log_shares.items() if prior.class_by_text[text] == UNKNOWN)
    assert rarest < 0 and prior.own_log_prob(Word("zebra", (95,))) == SHARE_WEIGHT * rarest
