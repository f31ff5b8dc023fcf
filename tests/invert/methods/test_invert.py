"""Where our own method's search begins and which words it is given, on the bundled model."""

from __future__ import annotations

from invert.corpus import encoded_corpus
from invert.methods.invert import NEAR, STARTS, content_words, near_captions, starts
from invert.scorer import text_of
from invert.search import JOINING


def joins(row) -> tuple[str, ...]:
    return tuple(word.text for word in row if word.text in JOINING)


def test_near_captions_are_the_corpus_nearest_and_say_nothing_banned(problem):
    posed = problem()
    near = near_captions(posed)
    nearest = encoded_corpus(posed.clip).nearest(posed.target, NEAR)
    assert [text_of(row) for row in near] == [caption for caption, _ in nearest]
    colour = near[0][-2].text
    rest = near_captions(problem(ban=(colour,)))
    assert rest and not any(colour in text_of(row).split() for row in rest)


def test_the_search_starts_from_captions_that_are_built_differently(problem):
    posed = problem(init_prompt="a fox", must_include=("umbrella",))
    near = near_captions(posed)
    begun = starts(posed, near)
    captions = begun[1:-1]
    assert text_of(begun[0]) == "a fox" and text_of(begun[-1]) == "umbrella"
    assert captions[0] == near[0] and len(captions) == STARTS
    built = list(dict.fromkeys(joins(row) for row in near))
    assert [joins(row) for row in captions][: len(built)] == built[:STARTS]


def test_the_words_of_near_captions_are_those_that_say_what_is_there(problem):
    posed = problem()
    near = near_captions(posed)
    words = [posed.vocabulary.words[i].text for i in content_words(near, posed.vocabulary)]
    said = {word.text for row in near for word in row}
    assert len(set(words)) == len(words) and set(words) == {text for text in said if text not in JOINING}


def test_a_short_limit_shortens_the_starts(problem):
    posed = problem(max_tokens=3)
    assert all(1 <= sum(len(word.ids) for word in row) <= 3 for row in starts(posed, near_captions(posed)))
