"""Captions are English, and every caption can be read back."""

from __future__ import annotations

import contextlib
import itertools
import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from invert.errors import InputError
from invert.picturebook import grammar
from invert.picturebook.grammar import (
    caption,
    content_words,
    fragment,
    left_out,
    lexicon,
    paraphrases,
    parse,
    sample_training_caption,
    with_article,
)
from invert.picturebook.world import COLORLESS_STYLES, COLORS, Scene, draw_scenes, objects

SPOKEN_WITH_A = ("unicorn", "euro ", "one ")  # vowels on paper, consonants in speech
SPOKEN_WITH_AN = ("hourglass", "x ray")


def scene(name: str, layout: str = "one", tint: str = "", **attributes) -> Scene:
    index = next(i for i, thing in enumerate(objects()) if thing.name == name)
    plain = {"corner": "", "pattern": "plain", "colors": ("white",), "style": "plain"}
    return Scene((index,), (tint,), layout, **{**plain, **attributes})


@pytest.mark.parametrize("seed", range(3))
def test_every_held_out_caption_is_read_back_as_its_scene(seed: int) -> None:
    for drawn in draw_scenes(1500, seed, "held-out"):
        assert parse(caption(drawn), drawn.seed) == drawn


def test_every_object_is_read_back_alone_and_in_twos_with_and_without_a_color() -> None:
    for thing in objects():
        for tint in ("", "green") if thing.tint else ("",):
            for layout in ("one", "small", *(["two"] if thing.plural else [])):
                drawn = scene(thing.name, layout, tint)
                assert parse(caption(drawn)) == drawn, caption(drawn)


@given(seed=st.integers(0, 10**6))
def test_paraphrases_mean_what_the_caption_means(seed: int) -> None:
    for drawn in draw_scenes(2, seed):
        for text in paraphrases(drawn):
            assert parse(text, drawn.seed) == drawn, text
            assert left_out(text, drawn) == (), text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a fox next to an umbrella", ()),
        ("an umbrella under a fox", ()),
        ("two owl", ()),
        ("a fox, an owl and a rocket", ("rocket",)),  # a scene has two objects at most
        ("a small fox beside a huge, huge owl", ("small", "huge")),
        ("3 foxes", ("3",)),
    ],
)
def test_words_that_say_nothing_of_the_scene_are_left_out(text: str, words: tuple[str, ...]) -> None:
    assert left_out(text, parse(text)) == words


def test_the_article_follows_the_sound() -> None:
    for thing in objects():
        for phrase in (thing.name, f"orange {thing.name}", f"red {thing.name}"):
            vowel = phrase[0] in "aeiou" and not phrase.startswith(SPOKEN_WITH_A)
            expected = "an" if vowel or phrase.startswith(SPOKEN_WITH_AN) else "a"
            assert with_article(phrase) == f"{expected} {phrase}"


@pytest.mark.parametrize(
    ("drawn", "expected"),
    [
        (scene("owl"), "an owl on a white background"),
        (scene("fox", "two"), "two foxes on a white background"),
        (scene("hippopotamus", "small"), "a small hippopotamus on a white background"),
        (scene("wolf", "two", "orange"), "two orange wolves on a white background"),
        (scene("slice of cake", "two"), "two slices of cake on a white background"),
        (scene("broccoli", tint="blue"), "blue broccoli on a white background"),
        (scene("wood", "two"), "two pieces of wood on a white background"),
        (scene("heart hands"), "heart hands on a white background"),
        (scene("milky way"), "the milky way on a white background"),
        (scene("statue of liberty", tint="red"), "the red statue of liberty on a white background"),
        (scene("hammer and pick", "two"), "two hammers and picks on a white background"),
        (scene("x ray"), "an x ray on a white background"),
        (
            scene("unicorn", "corner", corner="top left", style="black and white", colors=("gray",)),
            "a black and white picture of a unicorn in the top left corner on a gray background",
        ),
        (
            scene("unicorn", pattern="striped", colors=("orange", "teal"), style="pixel art"),
            "a pixel art picture of a unicorn on a striped orange and teal background",
        ),
    ],
)
def test_captions_read_like_this(drawn: Scene, expected: str) -> None:
    assert caption(drawn) == expected


def test_no_caption_holds_two_articles_in_a_row() -> None:
    for thing in objects():
        for layout in ("one", *(["two"] if thing.plural else [])):
            words = caption(scene(thing.name, layout)).split()
            articles = {"a", "an", "the", "two"}
            assert not any(a in articles and b in articles for a, b in itertools.pairwise(words)), words


def test_names_are_distinct_and_spelled_in_plain_letters() -> None:
    names = [thing.name for thing in objects()]
    plurals = [thing.plural for thing in objects() if thing.plural]
    assert len(set(names)) == len(names) >= 900 and len(set(plurals)) == len(plurals)
    assert all(re.fullmatch(r"[a-z]+( [a-z]+)*", name) for name in (*names, *plurals))


def test_houses_alone_are_one_pictograph_and_two_houses_are_two_of_another() -> None:
    together, twice = parse("houses on a red background"), parse("two houses on a red background")
    assert objects()[together.objects[0]].name == "houses" and together.layout == "one"
    assert objects()[twice.objects[0]].name == "house" and twice.layout == "two"


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("A Fox", "a fox on a white background"),
        ("fox, owl", "a fox to the left of an owl on a white background"),
        ("an owl to the right of a fox", "a fox to the left of an owl on a white background"),
        ("a fox under the sun, blurry", "a blurry picture of a sun above a fox on a white background"),
        ("foxes", "two foxes on a white background"),
        (
            "a fox above a red umbrella on a striped blue and white background, pencil sketch",
            "a pencil sketch of a fox above a red umbrella on a striped blue and white background",
        ),
        ("a black-and-white picture of a fox", "a black and white picture of a fox on a white background"),
        (
            "a red heart to the right of a blue heart",
            "a blue heart to the left of a red heart on a white background",
        ),
        ("two cats on a black and white background", "two cats on a black background"),
    ],
)
def test_what_people_type_is_understood(typed: str, meant: str) -> None:
    assert caption(parse(typed)) == meant


def test_a_prompt_without_any_object_is_one_sentence() -> None:
    with pytest.raises(InputError, match="no object of picturebook is named in 'quantum chromodynamics'"):
        parse("quantum chromodynamics")


@given(text=st.text(max_size=60))
def test_any_text_is_a_scene_or_one_sentence(text: str) -> None:
    with contextlib.suppress(InputError):
        assert isinstance(parse(text), Scene)


def test_spoken_captions_and_fragments_stay_within_the_lexicon_and_follow_their_seed() -> None:
    words = set(lexicon())
    for i, drawn in enumerate(draw_scenes(300, 5)):
        said = [sample_training_caption(drawn, random.Random(i)) for _ in range(2)]
        assert said[0] == said[1]
        part = fragment(said[0], random.Random(i))
        assert part and set(re.findall(r"[a-z]+", f"{said[0]} {part}")) <= words


def test_styles_without_hue_name_no_hue() -> None:
    hues = set(COLORS) - {"black", "gray", "white"}
    for drawn in draw_scenes(2000, 1):
        if drawn.style in COLORLESS_STYLES:
            assert not hues & {*drawn.tints, *drawn.colors}


def test_content_words_leave_the_joining_words_out() -> None:
    text = "a pencil sketch of a fox to the left of two red umbrellas on a striped background"
    assert content_words(text) == ["pencil", "sketch", "fox", "left", "two", "red", "umbrellas", "striped"]
    assert grammar.mentioned_objects(text)[0][1:] == ("", False)
