"""The words that a prompt may hold, and sentences cut into them.

A `Word` is what a reader sees: a whole word, or a fixed phrase ("palm tree") that a bundle treats as
one. A `Lexicon` is the words of one bundle with its function words, the ones that join others and say
nothing of what a picture shows.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from invert.errors import InputError

if TYPE_CHECKING:
    from invert.word_table import WordTable

# English words that join others: articles, prepositions, conjunctions, pronouns and auxiliaries.
ENGLISH_FUNCTION_WORDS = frozenset(
    """
    a an the this that these those of to on in into onto at by for from with without within over under above below
    beneath beside between behind near around through across along against up down off out and or but nor as than while
    is are was were be been being am has have had do does did will would can could should may might must not no it its
    he she they him his her their there here which who whom whose what where when how some any each every both all
    """.split()  # noqa: SIM905
)

MOST_REMEMBERED = 20_000  # segmented sentences


class Word(NamedTuple):
    """A word or fixed phrase and its token ids. A tuple, because a search hashes millions of them.

    first_ids: its ids where it begins a prompt, if the tokenizer reads it otherwise there.
    """

    text: str
    ids: tuple[int, ...]
    first_ids: tuple[int, ...] | None = None


Prompt = tuple[Word, ...]


def text_of(prompt: Iterable[Word]) -> str:
    return " ".join([word.text for word in prompt])


def word_ids(prompt: Sequence[Word]) -> list[tuple[int, ...]]:
    """The token ids of each word at its place."""
    ids = [word.ids for word in prompt]
    if prompt and prompt[0].first_ids is not None:
        ids[0] = prompt[0].first_ids
    return ids


def ids_of(prompt: Sequence[Word]) -> tuple[int, ...]:
    return tuple(itertools.chain.from_iterable(word_ids(prompt)))


def token_count(prompt: Sequence[Word]) -> int:
    """Tokens of a prompt, special tokens not counted."""
    return sum(map(len, word_ids(prompt)))


def contains_phrase(prompt: Prompt, phrases: Iterable[str]) -> bool:
    """Whether the prompt holds one of the lower-case phrases as whole words."""
    return any(f" {phrase} " in f" {text_of(prompt)} " for phrase in phrases)


def encoded_word(
    text: str, encode: Callable[[str], Sequence[int]], encode_next: Callable[[str], Sequence[int]] | None = None
) -> Word:
    """The word of that text, with its own ids for a prompt's beginning where those differ."""
    first = tuple(encode(text))
    ids = first if encode_next is None else tuple(encode_next(text))
    return Word(text, ids, None if first == ids else first)


@dataclass(frozen=True, eq=False)
class Lexicon:
    """The words allowed in a prompt.

    Attributes:
        words: each once.
        function_words: texts that carry grammar and no content.
        encode: text → token ids, for words of the user's that are not in `words`.
        encode_next: the same for a text that follows another word; None where that makes no difference.
    """

    words: tuple[Word, ...]
    function_words: frozenset[str]
    encode: Callable[[str], Sequence[int]]
    encode_next: Callable[[str], Sequence[int]] | None = None

    def __post_init__(self) -> None:
        if not self.words:
            raise InputError("the vocabulary is empty: ban fewer words, or give a list that the model can read")

    @classmethod
    def of_texts(
        cls,
        texts: Iterable[str],
        function_words: frozenset[str],
        encode: Callable[[str], Sequence[int]],
        trained_token_ids: Iterable[int] | None = None,
        encode_next: Callable[[str], Sequence[int]] | None = None,
    ) -> Lexicon:
        """The lexicon of the given words and phrases.

        Args:
            texts: words or phrases; repeats, and those without any token, are dropped.
            function_words: see the class.
            encode: text → token ids.
            trained_token_ids: drop words with any other token; None keeps all.
            encode_next: see the class.

        Raises:
            InputError: no word is left.
        """
        trained = None if trained_token_ids is None else set(trained_token_ids)
        words = (encoded_word(text, encode, encode_next) for text in dict.fromkeys(texts))
        kept = (
            word for word in words if word.ids and (trained is None or trained.issuperset((*word.ids, *(word.first_ids or ()))))
        )
        return cls(tuple(kept), function_words, encode, encode_next)

    def __len__(self) -> int:
        return len(self.words)

    def without(self, banned: Iterable[str]) -> Lexicon:
        """This lexicon without words that are, or hold, a banned word; case does not matter.

        Raises:
            InputError: no word is left.
        """
        texts = {text.strip().lower() for text in banned}
        kept = (word for word in self.words if word.text not in texts and texts.isdisjoint(word.text.split()))
        return replace(self, words=tuple(kept))

    @cached_property
    def index_of(self) -> dict[str, int]:
        """A word's text → its index in `words`."""
        return {word.text: i for i, word in enumerate(self.words)}

    @cached_property
    def words_with_token(self) -> dict[int, list[int]]:
        """Token id → indices of the words that hold it, those of fewest tokens first."""
        found: dict[int, list[int]] = {}
        for i, word in sorted(enumerate(self.words), key=lambda pair: len(pair[1].ids)):
            for token in word.ids:
                found.setdefault(token, []).append(i)
        return found

    @cached_property
    def table(self) -> WordTable:
        """The words by number."""
        from invert.word_table import WordTable  # needs torch, which a lexicon does not

        return WordTable(self)

    def word(self, text: str) -> Word:
        """The word of that text; one that the lexicon lacks is encoded by the model's tokenizer.

        Raises:
            InputError: the tokenizer finds no token in it.
        """
        if text in self.index_of:
            return self.words[self.index_of[text]]
        word = encoded_word(text, self.encode, self.encode_next)
        if not word.ids:
            raise InputError(f"{text!r} holds nothing that the model's tokenizer can read: use letters or digits")
        return word

    def segment(self, sentence: str) -> Prompt:
        """The sentence as words, by longest match; what the lexicon lacks becomes single words."""
        known = self._segmented.get(sentence)
        if known is None:
            if len(self._segmented) >= MOST_REMEMBERED:
                self._segmented.clear()
            known = self._segmented[sentence] = self._segment(sentence)
        return known

    @cached_property
    def _segmented(self) -> dict[str, Prompt]:
        """Sentences that were segmented: pictures of one kind retrieve the same ones."""
        return {}

    def _segment(self, sentence: str) -> Prompt:
        texts = re.findall(r"[^\s,.]+", sentence.lower())
        words: list[Word] = []
        at = 0
        while at < len(texts):
            for parts, word in self._phrases.get(texts[at], ()):
                if texts[at : at + len(parts)] == parts:
                    words.append(word)
                    at += len(parts)
                    break
            else:
                words.append(self.word(texts[at]))
                at += 1
        return tuple(words)

    @cached_property
    def _phrases(self) -> dict[str, list[tuple[list[str], Word]]]:
        """First word → the entries that begin with it, split, the longest first."""
        found: dict[str, list[tuple[list[str], Word]]] = {}
        for parts in sorted((word.text.split() for word in self.words), key=len, reverse=True):
            found.setdefault(parts[0], []).append((parts, self.word(" ".join(parts))))
        return found

    def is_function_word(self, word: Word) -> bool:
        return word.text in self.function_words

    def template(self, prompt: Prompt) -> Prompt:
        """The prompt's function words in order: how it is built, whatever it names."""
        return tuple(word for word in prompt if word.text in self.function_words)

    def content(self, prompt: Prompt) -> list[str]:
        """The texts of the prompt's other words, in order."""
        return [word.text for word in prompt if word.text not in self.function_words]
