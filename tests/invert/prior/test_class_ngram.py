"""The class n-gram prior: a proper distribution over classes, in favor of sentences."""

from __future__ import annotations

import math
import random
from collections import Counter

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon

from invert.lexicon import Lexicon
from invert.picturebook.grammar import caption
from invert.picturebook.world import draw_scenes, objects
from invert.prior.class_ngram import UNSEEN, ClassNgramPrior
from invert.prior.uniform import UniformPrior
from invert.prior.word_classes import END, RARE, START, divergences, word_classes


def classes_of(sentences: list[list[str]]) -> dict[str, str]:
    return word_classes(sentences, Counter(text for sentence in sentences for text in sentence))


def captions(n: int, seed: int) -> list[str]:
    return [caption(scene) for scene in draw_scenes(n, seed)]


@pytest.fixture(scope="module")
def prior(picturebook_lexicon: Lexicon) -> ClassNgramPrior:
    return ClassNgramPrior(captions(600, 5), picturebook_lexicon)


@pytest.fixture(scope="module")
def learned(picturebook_lexicon: Lexicon) -> ClassNgramPrior:
    """From as many captions as the product learns from."""
    return ClassNgramPrior(captions(8000, 5), picturebook_lexicon)


# Probabilities ------------------------------------------------------------------------------------


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_after_any_classes_the_probabilities_of_what_follows_sum_to_one(prior, data):
    contexts = st.sampled_from([*prior.classes, START, "a class that no sentence has"])
    context = tuple(data.draw(contexts) for _ in range(prior.order - 1))
    steps = [prior.step(context, c) for c in [*prior.classes, END]]
    assert math.fsum(map(math.exp, steps)) == pytest.approx(1, abs=1e-12)
    assert all(math.isfinite(step) for step in steps)


def test_steps_are_absolutely_discounted_counts(picturebook_lexicon):
    tiny = ClassNgramPrior(["a fox", "the owl"], picturebook_lexicon, order=3)
    assert tiny.classes == sorted(["a", "the", "fox", "owl", UNSEEN])  # and END: six things that may follow
    alone = (1 - 0.5 + 0.5 * 5 / 6) / 6  # fox once among six steps, of five kinds
    after_a = 1 - 0.5 + 0.5 * alone
    assert tiny.step(("fox", "a"), "fox") == pytest.approx(math.log(after_a))
    assert tiny.step((START, "a"), "fox") == pytest.approx(math.log(1 - 0.5 + 0.5 * after_a))
    assert tiny.step(("fox", "a"), UNSEEN) == pytest.approx(math.log(0.5 * (0.5 * 5 / 6 / 6)))


def test_a_sentence_is_likelier_than_its_words_in_another_order(prior, picturebook_lexicon):
    rng = random.Random(0)
    for sentence in captions(40, 6):
        row = picturebook_lexicon.segment(sentence)
        likely = prior.log_prob(row)
        assert prior.log_prob(row[::-1]) < likely
        assert prior.log_prob(tuple(rng.sample(row, len(row)))) <= likely


def test_a_ground_that_something_stands_above_is_no_sentence(prior, picturebook_lexicon):
    """Each three words in a row are a caption's; the five are not."""
    whole, odd = (picturebook_lexicon.segment(f"a fox {joint} a red background") for joint in ("on", "above"))
    trigrams = ClassNgramPrior(captions(600, 5), picturebook_lexicon, order=3)

    def loss(prior: ClassNgramPrior) -> float:
        return prior.log_prob(whole) - prior.log_prob(odd)

    assert loss(prior) > loss(trigrams) + 1


def test_a_sentence_that_breaks_off_is_less_likely_than_a_whole_one(prior, picturebook_lexicon):
    whole = picturebook_lexicon.segment("a fox on a red background")
    assert prior.log_prob(whole[:-1]) < prior.log_prob(whole)


def test_words_of_one_class_may_stand_for_each_other(prior, picturebook_lexicon):
    by_class: dict[str, list] = {}
    for word in picturebook_lexicon.words:
        by_class.setdefault(prior.class_of(word), []).append(word)
    first, second = next(words for name, words in by_class.items() if len(words) > 1 and name != UNSEEN)[:2]
    tail = picturebook_lexicon.segment("on a red background")
    assert prior.log_prob((first, *tail)) == prior.log_prob((second, *tail))


def test_a_word_that_the_corpus_lacks_is_of_the_unseen_class_where_there_are_no_rare_words(picturebook_lexicon):
    tiny = ClassNgramPrior(["a fox"], picturebook_lexicon)
    assert tiny.class_of(picturebook_lexicon.word("owl")) == UNSEEN
    fox, owl = (tiny.log_prob(picturebook_lexicon.segment(text)) for text in ("a fox", "a owl"))
    assert -math.inf < owl < fox


def test_a_word_that_the_corpus_lacks_is_of_the_class_where_words_are_met_once(learned, picturebook_lexicon):
    """Every name was met often, many a plural just once: what was not met is most probably a plural."""
    new = [
        word
        for thing in objects()
        for word in picturebook_lexicon.segment(thing.plural)
        if word.text not in learned.class_by_text
    ]
    assert len(new) > 100 and {learned.class_of(word) for word in new} == {"after two"}
    few, one = picturebook_lexicon.segment("two"), picturebook_lexicon.segment("a")
    tail = picturebook_lexicon.segment("on a red background")
    assert learned.log_prob((*few, new[0], *tail)) > learned.log_prob((*one, new[0], *tail)) + 3


def test_a_joining_word_that_the_corpus_lacks_is_no_noun(picturebook_lexicon):
    corpus = [text for text in captions(8000, 5) if " above " not in text]
    prior = ClassNgramPrior(corpus, picturebook_lexicon)
    assert prior.class_of(picturebook_lexicon.word("above")) == UNSEEN
    assert prior.class_of(picturebook_lexicon.word("fox")) != UNSEEN


def test_a_corpus_that_is_told_in_parts_gives_the_same_classes(prior, picturebook_lexicon, monkeypatch):
    monkeypatch.setattr("invert.prior.word_classes.CHUNK", 7)
    assert ClassNgramPrior(captions(600, 5), picturebook_lexicon).class_by_text == prior.class_by_text


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
    said = [thing for thing in objects() if thing.plural and {thing.name, thing.plural} <= learned.class_by_text.keys()]
    assert len(said) > 500
    named = [learned.class_by_text[thing.name] in ("after a", "after an") for thing in said]
    several = [learned.class_by_text[thing.plural] == "after two" for thing in said]
    assert sum(named) > 0.97 * len(said) and sum(several) > 0.97 * len(said)


def test_every_word_of_the_vocabulary_has_the_number_of_its_class(prior, picturebook_lexicon):
    named = [prior.classes[i] for i in prior.word_class.tolist()]
    assert named == [prior.class_of(word) for word in picturebook_lexicon.words]


def test_common_words_that_are_used_alike_are_one_class(learned):
    classes = learned.class_by_text
    assert len({classes[word] for word in ("striped", "checkered", "dotted")}) == 1
    assert len({classes[word] for word in ("top left", "top right", "bottom left", "bottom right")}) == 1
    assert classes["above"] == classes["to the left of"] == "like above"
    assert classes["blue"] == classes["teal"] == classes["purple"]
    apart = ["a", "two", "on", "and", "small", "of", "blue", "striped", "above", "sepia", "neon", "background"]
    assert len({classes[word] for word in apart}) == len(apart)


def test_words_between_the_same_words_are_used_apart_in_other_company():
    """Sepia and neon both stand in "a … picture of", but a sepia picture is never red."""
    sentences = [["a", style, "picture", "on", color] for style in ("neon", "blurry") for color in ("red", "gray")] * 50
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


def test_a_style_of_the_beginning_tells_the_colors_of_the_end(learned, picturebook_lexicon):
    gray, hued = (
        learned.log_prob(picturebook_lexicon.segment(f"a sepia picture of a fox on a striped {ground} background"))
        - learned.log_prob(picturebook_lexicon.segment(f"a fox on a striped {ground} background"))
        for ground in ("gray and white", "blue and teal")
    )
    assert gray > 0 > hued + 2


# Choices ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("insert", [False, True], ids=["replace", "insert"])
@pytest.mark.parametrize("text", ["fox", "a fox", "two owls to the left of a red umbrella on a blue background"])
def test_choices_differ_from_the_whole_rows_log_probability_by_a_constant(prior, picturebook_lexicon, text, insert):
    row = picturebook_lexicon.segment(text)
    sample = list(range(0, len(picturebook_lexicon), 97))
    for place in range(len(row) + insert):
        tail = row[place:] if insert else row[place + 1 :]
        whole = [prior.log_prob((*row[:place], picturebook_lexicon.words[i], *tail)) for i in sample]
        rest = torch.tensor(whole) - prior.slot_log_probs(row, place, insert)[sample]
        torch.testing.assert_close(rest, rest[:1].expand_as(rest), rtol=0, atol=1e-4)


def test_an_empty_corpus_finds_all_rows_alike(picturebook_lexicon):
    flat = UniformPrior(picturebook_lexicon)
    row = picturebook_lexicon.segment("a fox on a red background")
    assert flat.log_prob(row) == flat.log_prob(row[::-1]) == 0
    for insert in (False, True):
        assert torch.equal(flat.slot_log_probs(row, 1, insert), torch.zeros(len(picturebook_lexicon)))


def test_a_token_of_the_corpus_itself_has_its_mean_log_probability(picturebook_lexicon):
    corpus = captions(50, 3)
    learned, rows = ClassNgramPrior(corpus, picturebook_lexicon), [picturebook_lexicon.segment(text) for text in corpus]
    tokens = sum(len(word.ids) for row in rows for word in row)
    assert learned.per_token == pytest.approx(sum(map(learned.log_prob, rows)) / tokens)
    assert learned.per_token < 0 and UniformPrior(picturebook_lexicon).per_token == 0
