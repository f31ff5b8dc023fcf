"""Which words a prompt may hold, and sentences segmented into them."""

from __future__ import annotations

import pytest

from invert.errors import InputError
from invert.lexicon import Lexicon, Word, contains_phrase
from invert.models.clip import Clip
from invert.picturebook.grammar import caption, terms
from invert.picturebook.models import trained_token_ids
from invert.picturebook.world import draw_scenes

NONE: frozenset[str] = frozenset()


def test_picturebook_offers_the_words_of_its_captions(picturebook: Clip, picturebook_lexicon: Lexicon) -> None:
    assert {word.text for word in picturebook_lexicon.words} == set(terms())
    assert picturebook_lexicon.word("owls").ids == tuple(picturebook.tokenizer.encode("owls"))


def test_banned_words_are_left_out_in_whatever_case(picturebook_lexicon: Lexicon) -> None:
    kept = {word.text for word in picturebook_lexicon.without(["Fox", " owl "]).words}
    assert kept == {text for text in terms() if {"fox", "owl"}.isdisjoint(text.split())}


def test_words_of_untrained_tokens_are_left_out(picturebook: Clip) -> None:
    encode = picturebook.tokenizer.encode
    own = Lexicon.of_texts(["fox", "owl", "fox", "zeitgeist"], NONE, encode, trained_token_ids())
    assert [word.text for word in own.words] == ["fox", "owl"]
    assert len(Lexicon.of_texts(["fox", "zeitgeist"], NONE, encode)) == 2


def test_a_lexicon_without_words_is_one_sentence(picturebook: Clip, picturebook_lexicon: Lexicon) -> None:
    with pytest.raises(InputError, match="vocabulary is empty"):
        Lexicon.of_texts(["zeitgeist"], NONE, picturebook.tokenizer.encode, trained_token_ids())
    with pytest.raises(InputError, match="vocabulary is empty: ban fewer words"):
        picturebook_lexicon.without(word.text for word in picturebook_lexicon.words)


def test_a_text_that_holds_no_token_is_one_sentence(picturebook_lexicon: Lexicon) -> None:
    with pytest.raises(InputError, match="holds nothing that the model's tokenizer can read"):
        picturebook_lexicon.word("  ")


def test_words_are_found_by_their_tokens_shortest_first(picturebook_lexicon: Lexicon) -> None:
    (fox,) = picturebook_lexicon.word("fox").ids
    found = [picturebook_lexicon.words[i] for i in picturebook_lexicon.words_with_token[fox]]
    assert found[0].text == "fox"
    assert [len(word.ids) for word in found] == sorted(len(word.ids) for word in found)


def test_a_banned_phrase_is_found_as_whole_words_only() -> None:
    fox, face = Word("fox", (1,)), Word("fox face", (1, 2))
    assert contains_phrase((fox,), ["fox"]) and contains_phrase((face,), ["fox"])
    assert contains_phrase((fox, Word("face", (2,))), ["fox face"])
    foxes = Word("foxes", (3,))
    assert not contains_phrase((foxes, face), ["face fox"]) and not contains_phrase((foxes,), ["fox"])


def test_a_prompt_is_its_template_of_function_words_and_its_content(picturebook_lexicon: Lexicon) -> None:
    prompt = picturebook_lexicon.segment("a palm tree on a red background")
    assert [word.text for word in picturebook_lexicon.template(prompt)] == ["a", "on", "a", "background"]
    assert picturebook_lexicon.content(prompt) == ["palm tree", "red"]


def test_the_longest_phrase_that_fits_is_one_word(picturebook: Clip, picturebook_lexicon: Lexicon) -> None:
    phrase = max((word.text for word in picturebook_lexicon.words), key=lambda text: len(text.split()))
    assert len(phrase.split()) > 1
    own = Lexicon.of_texts([*phrase.split(), phrase, "a"], NONE, picturebook.tokenizer.encode)
    assert [word.text for word in own.segment(f"a {phrase} a")] == ["a", phrase, "a"]
    begun = phrase.split()[:-1]
    assert [word.text for word in own.segment(f"{' '.join(begun)} a")] == [*begun, "a"]


def test_every_caption_is_segmented_into_words_that_say_it_again(picturebook: Clip, picturebook_lexicon: Lexicon) -> None:
    for scene in draw_scenes(60, 9):
        prompt = picturebook_lexicon.segment(caption(scene))
        assert " ".join(word.text for word in prompt) == caption(scene).replace(",", "")
        assert all(word.text in picturebook_lexicon.index_of for word in prompt)
        assert all(word.ids == tuple(picturebook.tokenizer.encode(word.text)) for word in prompt)


def test_case_commas_and_unknown_words_do_not_stop_a_segmentation(picturebook_lexicon: Lexicon) -> None:
    assert [word.text for word in picturebook_lexicon.segment("A Fox,  zeitgeist.")] == ["a", "fox", "zeitgeist"]
    assert picturebook_lexicon.segment(" ") == ()
