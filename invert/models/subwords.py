"""Tokenizers of transformers behind our protocol: sentencepiece, Gemma, WordPiece, whatever the library reads.

Nothing is assumed of a vocabulary's marks or special tokens. The frame is read off rows that the library itself pads
and cuts, then checked on others; a word's ids inside a prompt are what follows when a word stands before it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

from invert.errors import InputError
from invert.models.checks import SAMPLES
from invert.models.tokenizer import Frame

LEAD = "a"  # the word before a word that does not begin a prompt
MARKS = "▁ĠĊ"  # what vocabularies write for a space before a token
CONTINUES = "##"  # what WordPiece writes where a word goes on
Rows = Callable[[list[str]], Sequence[list[int]]]


class SubwordTokenizer:
    """A tokenizer of transformers, as a model's own text pipeline uses it."""

    def __init__(self, name: str, tokenizer: Any, rows: Rows, length: int, clean: Callable[[str], str], pads: bool) -> None:
        """Find out how it frames prompts.

        Args:
            name: of the model, for errors.
            tokenizer: with `__call__`, `decode` and `convert_ids_to_tokens`.
            rows: texts → rows of `length` ids, special tokens and padding included, as the library makes them.
            length: the model's context.
            clean: what the pipeline does to a text before it is tokenized.
            pads: whether the tower reads the padding.

        Raises:
            InputError: the rows are of a kind that no frame describes.
        """
        self.name, self.tokenizer, self.clean = name, tokenizer, clean
        self.first_differs = False
        self.first_differs = any(self._encode_after(text) != self.encode(text) for text in SAMPLES)
        self.frame = self._frame(rows, length, pads)
        self._check(rows, length)

    def encode(self, text: str) -> list[int]:
        return self._encode_all([text])[0]

    def encode_next(self, text: str) -> list[int]:
        return self._encode_after(text) if self.first_differs else self.encode(text)

    def decode(self, ids: list[int]) -> str:
        return self.tokenizer.decode(ids)

    def text(self, token: int) -> str:
        return (self.tokenizer.convert_ids_to_tokens(token) or "").lstrip(MARKS).removeprefix(CONTINUES)

    def whole_word(self, token: int) -> str | None:
        return self._whole_words.get(token)

    @cached_property
    def _whole_words(self) -> dict[int, str]:
        """Token → the word that it spells wherever it stands."""
        tokens = self.tokenizer.convert_ids_to_tokens(list(range(len(self.tokenizer))))
        marked = any(token and token[0] in MARKS for token in tokens)
        begin = {i: t for i, t in enumerate(tokens) if t and (t[0] in MARKS if marked else not t.startswith(CONTINUES))}
        texts = {i: token.lstrip(MARKS) for i, token in begin.items()}
        lead = len(self.encode(LEAD))
        encoded = self._encode_all([f"{LEAD} {text}" for text in texts.values()])
        return {i: text for (i, text), ids in zip(texts.items(), encoded, strict=True) if text and ids[lead:] == [i]}

    def _encode_all(self, texts: list[str]) -> list[list[int]]:
        cleaned = [self.clean(text) for text in texts]
        return (
            [list(ids) for ids in self.tokenizer(cleaned, add_special_tokens=False, verbose=False)["input_ids"]] if texts else []
        )

    def _encode_after(self, text: str) -> list[int]:
        return self.encode(f"{LEAD} {text}")[len(self.encode(LEAD)) :]

    def _frame(self, rows: Rows, length: int, pads: bool) -> Frame:
        """The frame that a short and an overlong prompt show."""
        short, long = SAMPLES[0], " ".join(SAMPLES * length)
        short_row, long_row = (list(row) for row in rows([short, long]))
        ids, long_ids = self.encode(short), self.encode(long)
        begin = next((i for i in range(len(short_row)) if ids and short_row[i : i + len(ids)] == ids), None)
        if begin is None or len(long_row) != length:
            raise self._refused()
        kept = 0  # of the overlong prompt
        while begin + kept < length and long_row[begin + kept] == long_ids[kept]:
            kept += 1
        return Frame(tuple(short_row[:begin]), tuple(long_row[begin + kept :]), short_row[-1], length if pads else None)

    def _check(self, rows: Rows, length: int) -> None:
        """Rows of the library's own equal ours, and prompts read as their words do one after the other."""
        most = length - self.frame.n_special
        texts = ["", *SAMPLES, " ".join(SAMPLES * length)]
        for text, row in zip(texts, rows(texts), strict=True):
            ours = self.frame.row(self.encode(text)[:most])
            if [*ours, *[self.frame.pad] * (length - len(ours))] != list(row):
                raise self._refused()
        for text in SAMPLES:
            first, *others = text.split()
            if self.encode(text) != [*self.encode(first), *(token for word in others for token in self.encode_next(word))]:
                raise self._refused()

    def _refused(self) -> InputError:
        return InputError(
            f"the tokenizer of {self.name!r} frames or joins words in a way that is not supported: give a model whose "
            "prompts are words between special tokens, padded on the right"
        )
