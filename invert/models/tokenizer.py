"""How a model reads text: a tokenizer without special tokens, and the row that its prompts are put into.

The core knows no library's marks. It asks a `Tokenizer` for ids, for the word that a token spells, and for the ids of
a word that follows another one: a byte-pair vocabulary of CLIP's marks where a word ends, a sentencepiece one where it
begins, and Gemma's reads a prompt's first word as other tokens than the same word later on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

END_OF_WORD = "</w>"  # how a byte-pair token of CLIP's says that a word ends with it


@dataclass(frozen=True)
class Frame:
    """What stands around a prompt's tokens in the row that the text tower reads.

    Attributes:
        before: special tokens that a row begins with; CLIP's start-of-text.
        after: those that follow the prompt; CLIP's end-of-text.
        pad: the token that rows are filled up with.
        length: of every row, where the tower reads the padding too; None where a row may end with its prompt.
    """

    before: tuple[int, ...]
    after: tuple[int, ...]
    pad: int
    length: int | None = None

    @property
    def n_special(self) -> int:
        """Positions that no prompt can have."""
        return len(self.before) + len(self.after)

    def row(self, ids: Sequence[int]) -> list[int]:
        """A prompt's token ids between the special ones, not padded."""
        return [*self.before, *ids, *self.after]

    def positions(self, tokens: int) -> int:
        """Positions that the tower runs for a prompt of so many tokens, padding included."""
        return tokens + self.n_special if self.length is None else self.length


class Tokenizer(Protocol):
    """Text ↔ token ids of a model; special tokens are its `frame`'s."""

    @property
    def frame(self) -> Frame:
        """What stands around a prompt's tokens."""

    @property
    def first_differs(self) -> bool:
        """Whether a prompt's first word has other ids than the same word after another one."""

    def encode(self, text: str) -> list[int]:
        """The ids of a text that begins a prompt."""

    def encode_next(self, text: str) -> list[int]:
        """The ids of a text that follows another word and a space."""

    def decode(self, ids: list[int]) -> str:
        """The text of token ids."""

    def text(self, token: int) -> str:
        """A token's own text, without the mark of a word's begin or end."""

    def whole_word(self, token: int) -> str | None:
        """The word that the token spells alone, in any place of a prompt; None where it is a part of words."""


def next_encoder(tokenizer: Tokenizer) -> Callable[[str], list[int]] | None:
    """`encode_next` for a `Lexicon`; None where it makes no difference."""
    return tokenizer.encode_next if tokenizer.first_differs else None


@dataclass(frozen=True)
class BytePairTokenizer:
    """CLIP's byte-pair encoding: a token that ends a word is marked "</w>".

    Attributes:
        encoder: text → ids, without special tokens.
        decoder: ids → text.
        raw: id → the token as the vocabulary writes it, "fox</w>"; None where no token has the id, as in rows that only
            fill a table up to a round number.
        start_id: start-of-text.
        end_id: end-of-text.
        padding: the token and the length that rows are padded to, where the tower reads the padding.
    """

    encoder: Callable[[str], list[int]]
    decoder: Callable[[list[int]], str]
    raw: Callable[[int], str | None]
    start_id: int
    end_id: int
    padding: tuple[int, int] | None = None
    first_differs: bool = False

    @property
    def frame(self) -> Frame:
        pad, length = (self.end_id, None) if self.padding is None else self.padding
        return Frame((self.start_id,), (self.end_id,), pad, length)

    def encode(self, text: str) -> list[int]:
        return self.encoder(text)

    def encode_next(self, text: str) -> list[int]:
        return self.encoder(text)

    def decode(self, ids: list[int]) -> str:
        return self.decoder(ids)

    def text(self, token: int) -> str:
        return (self.raw(token) or "").removesuffix(END_OF_WORD)

    def whole_word(self, token: int) -> str | None:
        raw = self.raw(token) or ""
        return raw.removesuffix(END_OF_WORD) if raw.endswith(END_OF_WORD) else None
