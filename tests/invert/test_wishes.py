"""What users may ask of an inversion beside its picture: words to hold, words to leave out, lengths, corpora, settings."""

from __future__ import annotations

import pytest

from invert.bundle import ModelBundle, generic_bundle
from invert.config import InvertConfig
from invert.errors import InputError
from invert.inverter import Inverter
from invert.lexicon import Word
from invert.methods.configs import GcgConfig, PezConfig
from invert.methods.invert import too_long
from invert.picturebook.bundle import FUNCTION_WORDS
from invert.picturebook.grammar import caption
from invert.picturebook.world import draw_scenes

TINY = {"soft_steps": 2, "restarts": 1, "tokens": 4, "budget": 4000}
CAPTIONS = tuple(dict.fromkeys(caption(scene) for scene in draw_scenes(300, 8)))
QUICK = {**TINY, "corpus": CAPTIONS}  # where it matters little what the language was learned from
START = {
    "corpus": CAPTIONS,
    "budget": 1,
    "token_penalty": 0.0,
    "language_weight": 0.0,
    "soft_steps": 0,
    "restarts": 1,
    "tokens": 2,
}  # no search


@pytest.fixture(scope="module")
def result(inverter, pictures):
    return inverter.invert(pictures[0], **TINY, top=4)


def content(prompt: str) -> set[str]:
    return set(prompt.split()) - FUNCTION_WORDS


def holds(prompt: str, text: str) -> bool:
    return f" {text} " in f" {prompt} "


# Wishes -------------------------------------------------------------------------------------------


def test_the_search_starts_from_the_users_prompt_as_well(inverter):
    text = "two owls to the left of a green umbrella"
    kept = inverter.distill(text, InvertConfig(**START, init_prompt=text.upper()))
    assert kept.prompt == text and kept.score == pytest.approx(1, abs=1e-4)


def test_required_words_are_in_every_prompt(inverter, pictures):
    found = inverter.invert(pictures[0], **QUICK, must_include=(" Umbrella", "owl", "owl"), top=3)
    assert len(found.alternatives) == 3
    assert all(holds(prompt, "umbrella") and holds(prompt, "owl") for prompt, _ in found.alternatives)


def test_required_words_are_kept_to_without_any_budget_for_a_search(inverter, pictures):
    found = inverter.invert(pictures[0], **START, must_include=("umbrella", "owl"))
    assert holds(found.prompt, "umbrella") and holds(found.prompt, "owl")


def test_required_words_that_do_not_fit_are_one_sentence(inverter, pictures):
    with pytest.raises(InputError, match="required words do not fit into one prompt: require fewer, or raise `max_tokens`"):
        inverter.invert(pictures[0], **START, max_tokens=2, must_include=("fox", "owl", "umbrella"))


@pytest.mark.parametrize("effort", [QUICK, START], ids=["search", "starts alone"])
def test_banned_words_are_in_no_prompt_in_whatever_case_they_are_given(inverter, pictures, result, effort):
    banned = sorted(content(result.prompt))[:3]
    ban = tuple(f" {word.upper()}" for word in banned)
    found = inverter.invert(pictures[0], **effort, ban=ban, init_prompt=result.prompt, top=3)
    assert not any(holds(prompt, word) for prompt, _ in found.alternatives for word in banned)


def test_a_banned_phrase_is_not_put_together_from_its_words(inverter):
    phrase = next(text for text in inverter.bundle.lexicon.index_of if len(text.split()) == 2)
    wanted = f"a {phrase} on a red background"
    free = inverter.distill(wanted, InvertConfig(**START, init_prompt=wanted))
    assert holds(free.prompt, phrase)
    found = inverter.distill(wanted, InvertConfig(**QUICK, init_prompt=wanted, ban=(phrase,), top=3))
    assert not any(holds(prompt, phrase) for prompt, _ in found.alternatives)


@pytest.mark.parametrize("ban", ["Fox", "fox ", "red fox"])
def test_what_is_required_and_banned_is_one_sentence(ban):
    with pytest.raises(InputError, match="is both required and banned: drop it from `must_include` or `ban`"):
        InvertConfig(must_include=("a Red fox",), ban=(ban,))
    assert InvertConfig(must_include=("foxes", "fox"), ban=("fox terrier",)).ban


@pytest.mark.parametrize("most", [1, 2, 3])
def test_a_prompt_is_no_longer_than_asked_for(inverter, pictures, most):
    found = inverter.invert(pictures[0], **{**QUICK, "budget": 1500}, max_tokens=most, init_prompt="a fox on a red background")
    assert 1 <= len(found.tokens) <= most


def test_a_corpus_of_ones_own_is_what_the_search_starts_from(inverter):
    own = ("two owls above a house", "a green umbrella")
    found = inverter.distill("a green umbrella", InvertConfig(**{**START, "corpus": own}))
    assert found.prompt == "a green umbrella"


def test_more_tokens_than_the_model_reads_are_lowered_with_a_note(inverter, pictures, caplog):
    noted = Inverter(inverter.bundle)
    for _ in range(2):
        found = noted.invert(pictures[0], method="nearest", tokens=76, max_tokens=100, restarts=1, soft_steps=1)
    assert found.soft.shape[0] == 75
    assert [record.getMessage() for record in caplog.records] == [
        "`tokens` is 76, but this model reads 75 tokens: taking 75",
        "`max_tokens` is 100, but this model reads 75 tokens: taking 75",
    ]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"tokens": 0}, "`tokens` is 0: give 1 or more"),
        ({"max_tokens": 0}, "`max_tokens` is 0: give 1 or more"),
        ({"budget": 0}, "`budget` is 0: give more than 0, or leave it out"),
        ({"seconds": -1.0}, "`seconds` is -1.0: give more than 0"),
        ({"method": "inverte"}, r"unknown method 'inverte' \(did you mean 'invert'\?\)"),
    ],
)
def test_options_that_make_no_sense_are_one_sentence(inverter, pictures, options, sentence):
    with pytest.raises(InputError, match=sentence):
        inverter.invert(pictures[0], **options)


def test_no_image_at_all_is_one_sentence(inverter):
    with pytest.raises(InputError, match="there is no image to invert"):
        inverter.invert_joint([])


def test_a_bundle_is_derived_once_for_each_corpus_and_list_of_banned_words(inverter):
    def derived(**options) -> ModelBundle:
        return inverter.bundle_for(InvertConfig(**options))

    assert derived() is inverter.bundle
    assert derived(ban=("fox", "owl")) is derived(ban=("owl", "fox")) is not inverter.bundle
    assert derived(corpus=CAPTIONS) is derived(corpus=CAPTIONS) is not derived(corpus=CAPTIONS[:9])
    for i in range(20):
        derived(ban=(f"fox{i}",))
    assert len(inverter._derived) <= 8


def test_several_images_for_invert_name_the_two_that_take_them(inverter, pictures):
    for images in (pictures, tuple(pictures[:1]), []):
        with pytest.raises(InputError, match=r"takes one image: use `invert_batch` .* or `invert_joint`"):
            inverter.invert(images)
    for call in (inverter.invert_batch, inverter.invert_joint):
        for one in (pictures[0], "picture.png"):
            with pytest.raises(InputError, match="a single image is no sequence of images: use `invert`"):
                call(one)


def test_a_methods_own_settings_reach_it(inverter, pictures):
    options = {"method": "pez", "tokens": 4, "target": "raw"}
    one = inverter.invert(pictures[0], **options, method_config=PezConfig(steps=1))
    four = inverter.invert(pictures[0], **options, method_config=PezConfig(steps=4))
    assert (len(one.history), len(four.history)) == (1, 4)


def test_another_methods_settings_are_one_sentence(inverter, pictures):
    with pytest.raises(InputError, match="`method_config` is a GcgConfig, but the method 'pez' takes a PezConfig"):
        inverter.invert(pictures[0], method="pez", method_config=GcgConfig())


@pytest.mark.parametrize("method", ["retrieve", "interrogator-lite-fast"])
def test_methods_that_start_from_a_corpus_start_from_the_users(inverter, pictures, method):
    own = ("two owls above a house", "a green umbrella")
    found = inverter.invert(pictures[0], method=method, corpus=own, top=2)
    assert found.prompt.startswith(own)


def test_retrieval_leaves_out_what_holds_a_banned_word(inverter):
    own = ("two owls above a house", "a green umbrella", "a fox")
    found = inverter.distill("a green umbrella", method="retrieve", corpus=own, ban=("umbrella",), top=3)
    assert sorted(prompt for prompt, _ in found.alternatives) == ["a fox", "two owls above a house"]
    with pytest.raises(InputError, match="every prompt of the corpus holds a banned word"):
        inverter.distill("a fox", method="retrieve", corpus=("a fox",), ban=("fox",))


def test_a_foreign_model_draws_with_no_generator_unless_it_is_named(picturebook, pictures):
    with pytest.raises(InputError, match="'picturebook' brings no generator: give one as `generator`"):
        Inverter(generic_bundle(picturebook)).invert(pictures[0], method="ph2p")


def test_required_words_beyond_the_models_context_are_counted():
    words = tuple(Word(f"w{i}", (i,)) for i in range(9))
    assert too_long(words, 8) == "the required words are 9 tokens, and this model reads 8: require fewer"
