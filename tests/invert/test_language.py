"""The language prior: a proper distribution over classes, in favour of sentences; and cutting texts into its words."""

from __future__ import annotations

import math
import random

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from invert.clip import Clip
from invert.language import END, RARE, START, UNSEEN, Language, word_classes
from invert.picturebook.grammar import caption
from invert.picturebook.world import draw_scenes, objects
from invert.vocabulary import Vocabulary, build_vocabulary


def captions(n: int, seed: int) -> list[str]:
    return [caption(scene) for scene in draw_scenes(n, seed)]


@pytest.fixture(scope="module")
def language(picturebook_words: Vocabulary) -> Language:
    return Language(captions(600, 5), picturebook_words)


# Probabilities ------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_after_any_classes_the_probabilities_of_what_follows_sum_to_one(language, data):
    contexts = st.sampled_from([*language.classes, START, "a class that no sentence has"])
    context = tuple(data.draw(contexts) for _ in range(language.order - 1))
    steps = [language.step(context, c) for c in [*language.classes, END]]
    assert math.fsum(map(math.exp, steps)) == pytest.approx(1, abs=1e-12)
    assert all(math.isfinite(step) for step in steps)


def test_steps_are_absolutely_discounted_counts(picturebook_words):
    tiny = Language(["a fox", "a owl"], picturebook_words, order=3)
    assert tiny.classes == sorted(["a", "fox", "owl", UNSEEN])  # and END: five things that may follow
    alone = (1 - 0.5 + 0.5 * 4 / 5) / 6  # fox once among six steps, of four kinds
    after_a = (1 - 0.5 + 0.5 * 2 * alone) / 2
    assert tiny.step(("fox", "a"), "fox") == pytest.approx(math.log(after_a))
    assert tiny.step((START, "a"), "fox") == pytest.approx(math.log((1 - 0.5 + 0.5 * 2 * after_a) / 2))
    assert tiny.step(("fox", "a"), UNSEEN) == pytest.approx(math.log(0.5 * 2 * (0.5 * 4 / 5 / 6) / 2))


def test_a_sentence_is_likelier_than_its_words_in_another_order(language, picturebook_words):
    rng = random.Random(0)
    for sentence in captions(40, 6):
        row = picturebook_words.cut(sentence)
        likely = language.log_probability(row)
        assert language.log_probability(row[::-1]) < likely
        assert language.log_probability(tuple(rng.sample(row, len(row)))) <= likely


def test_a_ground_that_something_stands_above_is_no_sentence(language, picturebook_words):
    """Each three words in a row are a caption's; the five are not."""
    whole, odd = (picturebook_words.cut(f"a fox {joint} a red background") for joint in ("on", "above"))
    trigrams = Language(captions(600, 5), picturebook_words, order=3)

    def loss(language: Language) -> float:
        return language.log_probability(whole) - language.log_probability(odd)

    assert loss(language) > loss(trigrams) + 1


def test_a_sentence_that_breaks_off_is_less_likely_than_a_whole_one(language, picturebook_words):
    whole = picturebook_words.cut("a fox on a red background")
    assert language.log_probability(whole[:-1]) < language.log_probability(whole)


def test_words_of_one_class_may_stand_for_each_other(language, picturebook_words):
    by_class: dict[str, list] = {}
    for word in picturebook_words.words:
        by_class.setdefault(language.of(word), []).append(word)
    first, second = next(words for name, words in by_class.items() if len(words) > 1 and name != UNSEEN)[:2]
    tail = picturebook_words.cut("on a red background")
    assert language.log_probability((first, *tail)) == language.log_probability((second, *tail))


def test_a_word_that_the_corpus_lacks_is_of_the_unseen_class(picturebook_words):
    tiny = Language(["a fox"], picturebook_words)
    assert tiny.of(picturebook_words.word("owl")) == UNSEEN
    fox, owl = (tiny.log_probability(picturebook_words.cut(text)) for text in ("a fox", "a owl"))
    assert -math.inf < owl < fox


# Classes ------------------------------------------------------------------------------------------


def test_common_words_are_their_own_class_and_rare_ones_go_by_what_they_mostly_follow():
    sentences = [["a", "fox"]] * 2000 + [["a", "owl"], ["a", "yak"], ["fox", "yak"], ["a", "yak"], ["owl"]]
    classes = word_classes(sentences)
    assert classes["a"] == "a" and classes["fox"] == "fox"
    assert classes["yak"] == "after a"
    assert word_classes([*sentences, *[["yak", "owl"]] * 2])["owl"] == f"after {RARE}"  # yak is rare itself
    assert word_classes([["emu"], *[["a", "fox"]] * 2000])["emu"] == f"after {START}"


def test_a_rare_word_goes_with_those_that_stand_between_the_same_words_whatever_is_right_before_it():
    """The bats are seen after "brown" only, as the emu is; "two" before that tells them apart."""
    common = [["a", "fox"], ["a", "brown", "fox"], ["two", "cats"], ["two", "brown", "cats"]] * 900
    rare = [[start, name + str(i)] for start, name in (("a", "yak"), ("two", "owls")) for i in range(50)]
    rare += [[start, "brown", name + str(i)] for start, name in (("a", "yak"), ("two", "owls")) for i in range(20)]
    classes = word_classes([*common, *rare, ["two", "brown", "bats"], ["a", "brown", "emu"]])
    assert classes["bats"] == classes["owls30"] == "after two"
    assert classes["emu"] == classes["yak30"] == "after a"


def test_names_and_plurals_are_classes_apart(picturebook_words):
    language = Language(captions(8000, 5), picturebook_words)
    said = [thing for thing in objects() if thing.plural and {thing.name, thing.plural} <= language.class_of.keys()]
    assert len(said) > 500
    named = [language.class_of[thing.name] in ("after a", "after an") for thing in said]
    several = [language.class_of[thing.plural] == "after two" for thing in said]
    assert sum(named) > 0.97 * len(said) and sum(several) > 0.97 * len(said)


def test_every_word_of_the_vocabulary_has_the_number_of_its_class(language, picturebook_words):
    named = [language.classes[i] for i in language.word_class.tolist()]
    assert named == [language.of(word) for word in picturebook_words.words]


# Choices ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("insert", [False, True], ids=["replace", "insert"])
@pytest.mark.parametrize("text", ["fox", "a fox", "two owls to the left of a red umbrella on a blue background"])
def test_choices_differ_from_the_whole_rows_log_probability_by_a_constant(language, picturebook_words, text, insert):
    row = picturebook_words.cut(text)
    sample = list(range(0, len(picturebook_words), 97))
    for place in range(len(row) + insert):
        tail = row[place:] if insert else row[place + 1 :]
        whole = [language.log_probability((*row[:place], picturebook_words.words[i], *tail)) for i in sample]
        rest = torch.tensor(whole) - language.choices(row, place, insert)[sample]
        torch.testing.assert_close(rest, rest[:1].expand_as(rest), rtol=0, atol=1e-4)


def test_an_empty_corpus_finds_all_rows_alike(picturebook_words):
    flat = Language((), picturebook_words)
    row = picturebook_words.cut("a fox on a red background")
    assert flat.log_probability(row) == flat.log_probability(row[::-1]) == 0
    for insert in (False, True):
        assert torch.equal(flat.choices(row, 1, insert), torch.zeros(len(picturebook_words)))


# Cutting ------------------------------------------------------------------------------------------


def test_the_longest_phrase_that_fits_is_one_word(picturebook: Clip, picturebook_words):
    phrase = max((word.text for word in picturebook_words.words), key=lambda text: len(text.split()))
    assert len(phrase.split()) > 1
    own = build_vocabulary(picturebook, words=[*phrase.split(), phrase, "a"])
    assert [word.text for word in own.cut(f"a {phrase} a")] == ["a", phrase, "a"]
    begun = phrase.split()[:-1]
    assert [word.text for word in own.cut(f"{' '.join(begun)} a")] == [*begun, "a"]


def test_every_caption_is_cut_into_words_that_say_it_again(picturebook: Clip, picturebook_words):
    for sentence in captions(60, 9):
        row = picturebook_words.cut(sentence)
        assert " ".join(word.text for word in row) == sentence.replace(",", "")
        assert all(word.text in picturebook_words.by_text for word in row)
        assert all(word.ids == tuple(picturebook.tokenizer.encode(word.text)) for word in row)


def test_case_commas_and_unknown_words_do_not_stop_a_cut(picturebook_words):
    assert [word.text for word in picturebook_words.cut("A Fox,  zeitgeist.")] == ["a", "fox", "zeitgeist"]
    assert picturebook_words.cut(" ") == ()


def test_a_token_of_the_corpus_itself_has_its_mean_log_probability(picturebook_words):
    corpus = captions(50, 3)
    learned, rows = Language(corpus, picturebook_words), [picturebook_words.cut(text) for text in corpus]
    tokens = sum(len(word.ids) for row in rows for word in row)
    assert learned.per_token == pytest.approx(sum(map(learned.log_probability, rows)) / tokens)
    assert learned.per_token < 0 and Language((), picturebook_words).per_token == 0
