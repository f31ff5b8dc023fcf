"""The language prior: a proper distribution over classes, in favour of sentences; and cutting texts into its words."""

from __future__ import annotations

import math
import random
from collections import Counter

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon

from invert.language import END, RARE, START, UNSEEN, Language, divergences, word_classes
from invert.models.clip import Clip
from invert.picturebook.grammar import caption
from invert.picturebook.world import draw_scenes, objects
from invert.vocabulary import Vocabulary, build_vocabulary


def classes_of(sentences: list[list[str]]) -> dict[str, str]:
    return word_classes(sentences, Counter(text for sentence in sentences for text in sentence))


def captions(n: int, seed: int) -> list[str]:
    return [caption(scene) for scene in draw_scenes(n, seed)]


@pytest.fixture(scope="module")
def language(picturebook_words: Vocabulary) -> Language:
    return Language(captions(600, 5), picturebook_words)


@pytest.fixture(scope="module")
def learned(picturebook_words: Vocabulary) -> Language:
    """From as many captions as the product learns from."""
    return Language(captions(8000, 5), picturebook_words)


# Probabilities ------------------------------------------------------------------------------------


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_after_any_classes_the_probabilities_of_what_follows_sum_to_one(language, data):
    contexts = st.sampled_from([*language.classes, START, "a class that no sentence has"])
    context = tuple(data.draw(contexts) for _ in range(language.order - 1))
    steps = [language.step(context, c) for c in [*language.classes, END]]
    assert math.fsum(map(math.exp, steps)) == pytest.approx(1, abs=1e-12)
    assert all(math.isfinite(step) for step in steps)


def test_steps_are_absolutely_discounted_counts(picturebook_words):
    tiny = Language(["a fox", "the owl"], picturebook_words, order=3)
    assert tiny.classes == sorted(["a", "the", "fox", "owl", UNSEEN])  # and END: six things that may follow
    alone = (1 - 0.5 + 0.5 * 5 / 6) / 6  # fox once among six steps, of five kinds
    after_a = 1 - 0.5 + 0.5 * alone
    assert tiny.step(("fox", "a"), "fox") == pytest.approx(math.log(after_a))
    assert tiny.step((START, "a"), "fox") == pytest.approx(math.log(1 - 0.5 + 0.5 * after_a))
    assert tiny.step(("fox", "a"), UNSEEN) == pytest.approx(math.log(0.5 * (0.5 * 5 / 6 / 6)))


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


def test_a_word_that_the_corpus_lacks_is_of_the_unseen_class_where_there_are_no_rare_words(picturebook_words):
    tiny = Language(["a fox"], picturebook_words)
    assert tiny.of(picturebook_words.word("owl")) == UNSEEN
    fox, owl = (tiny.log_probability(picturebook_words.cut(text)) for text in ("a fox", "a owl"))
    assert -math.inf < owl < fox


def test_a_word_that_the_corpus_lacks_is_of_the_class_where_words_are_met_once(learned, picturebook_words):
    """Every name was met often, many a plural just once: what was not met is most probably a plural."""
    new = [word for thing in objects() for word in picturebook_words.cut(thing.plural) if word.text not in learned.class_of]
    assert len(new) > 100 and {learned.of(word) for word in new} == {"after two"}
    few, one = picturebook_words.cut("two"), picturebook_words.cut("a")
    tail = picturebook_words.cut("on a red background")
    assert learned.log_probability((*few, new[0], *tail)) > learned.log_probability((*one, new[0], *tail)) + 3


def test_a_joining_word_that_the_corpus_lacks_is_no_noun(picturebook_words):
    corpus = [text for text in captions(8000, 5) if " above " not in text]
    language = Language(corpus, picturebook_words)
    assert language.of(picturebook_words.word("above")) == UNSEEN
    assert language.of(picturebook_words.word("fox")) != UNSEEN


def test_a_corpus_that_is_told_in_parts_gives_the_same_classes(language, picturebook_words, monkeypatch):
    monkeypatch.setattr("invert.language.PART", 7)
    assert Language(captions(600, 5), picturebook_words).class_of == language.class_of


# Classes ------------------------------------------------------------------------------------------


def test_common_words_are_their_own_class_and_rare_ones_go_by_what_they_mostly_follow():
    sentences = [["a", "fox"]] * 2000 + [["a", "owl"], ["a", "yak"], ["fox", "yak"], ["a", "yak"], ["owl"]]
    classes = classes_of(sentences)
    assert classes["a"] == "a" and classes["fox"] == "fox"
    assert classes["yak"] == "after a"
    assert classes_of([*sentences, *[["yak", "owl"]] * 2])["owl"] == f"after {RARE}"  # yak is rare itself
    assert classes_of([["emu"], *[["a", "fox"]] * 2000])["emu"] == f"after {START}"


def test_a_rare_word_goes_with_those_that_stand_between_the_same_words_whatever_is_right_before_it():
    """The bats are seen after "brown" only, as the emu is; "two" before that tells them apart."""
    common = [["a", "fox"], ["a", "brown", "fox"], ["two", "cats"], ["two", "brown", "cats"]] * 900
    rare = [[start, name + str(i)] for start, name in (("a", "yak"), ("two", "owls")) for i in range(50)]
    rare += [[start, "brown", name + str(i)] for start, name in (("a", "yak"), ("two", "owls")) for i in range(20)]
    classes = classes_of([*common, *rare, ["two", "brown", "bats"], ["a", "brown", "emu"]])
    assert classes["bats"] == classes["owls30"] == "after two"
    assert classes["emu"] == classes["yak30"] == "after a"


def test_names_and_plurals_are_classes_apart(learned):
    said = [thing for thing in objects() if thing.plural and {thing.name, thing.plural} <= learned.class_of.keys()]
    assert len(said) > 500
    named = [learned.class_of[thing.name] in ("after a", "after an") for thing in said]
    several = [learned.class_of[thing.plural] == "after two" for thing in said]
    assert sum(named) > 0.97 * len(said) and sum(several) > 0.97 * len(said)


def test_every_word_of_the_vocabulary_has_the_number_of_its_class(language, picturebook_words):
    named = [language.classes[i] for i in language.word_class.tolist()]
    assert named == [language.of(word) for word in picturebook_words.words]


def test_common_words_that_are_used_alike_are_one_class(learned):
    classes = learned.class_of
    assert len({classes[word] for word in ("striped", "checkered", "dotted")}) == 1
    assert len({classes[word] for word in ("top left", "top right", "bottom left", "bottom right")}) == 1
    assert classes["above"] == classes["to the left of"] == "like above"
    assert classes["blue"] == classes["teal"] == classes["purple"]
    apart = ["a", "two", "on", "and", "small", "of", "blue", "striped", "above", "sepia", "neon", "background"]
    assert len({classes[word] for word in apart}) == len(apart)


def test_words_between_the_same_words_are_used_apart_in_other_company():
    """Sepia and neon both stand in "a … picture of", but a sepia picture is never red."""
    sentences = [["a", style, "picture", "on", colour] for style in ("neon", "blurry") for colour in ("red", "gray")] * 50
    sentences += [["a", "sepia", "picture", "on", "gray"]] * 100
    classes = classes_of(sentences)
    assert classes["neon"] == classes["blurry"] == "like blurry"
    assert classes["sepia"] == "sepia"


def test_divergence_is_jensen_and_shannons():
    counts = torch.tensor([[3.0, 1.0, 0.0], [6.0, 2.0, 0.0], [0.0, 0.0, 5.0], [1.0, 1.0, 2.0]])
    found = divergences(counts)
    p = (counts / counts.sum(1, keepdim=True)).double().numpy()
    reference = [[jensenshannon(a, b) ** 2 for b in p] for a in p]
    torch.testing.assert_close(found.double(), torch.tensor(reference), rtol=0, atol=1e-6)
    assert found[0, 1].abs() < 1e-6 and found[0, 2] == pytest.approx(math.log(2))


def test_a_style_of_the_beginning_tells_the_colours_of_the_end(learned, picturebook_words):
    gray, hued = (
        learned.log_probability(picturebook_words.cut(f"a sepia picture of a fox on a striped {ground} background"))
        - learned.log_probability(picturebook_words.cut(f"a fox on a striped {ground} background"))
        for ground in ("gray and white", "blue and teal")
    )
    assert gray > 0 > hued + 2


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
