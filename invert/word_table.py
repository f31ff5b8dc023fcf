"""A lexicon's words by number, so that thousands of prompts are one tensor.

A prompt is a row of word numbers (L,), padded with PAD. What a search asks of words (token ids, class of content,
key) are columns that are indexed by such rows. Words that the lexicon lacks, a user's own or a corpus's, are numbered
behind it when they are met.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from invert.keys import mixed, powers
from invert.lexicon import Lexicon, Prompt, Word
from invert.models.tokenizer import Frame

PAD = 0  # the number of no word; the lexicon's words begin at 1


@dataclass(frozen=True, eq=False)
class Columns:
    """What is known of V words, by number.

    Attributes:
        lengths: (V, 2) int64, tokens of each behind other words, and where it begins a prompt.
        ids: (V, 2, longest) int64, its token ids, zeros behind them.
        keys: (V, 2) int64, of its token ids, as `invert.keys` makes them.
        says: (V,) int64, the number of the word whose text it has; 0 for function words, which say nothing.
        joins: (V,) bool, whether it is a function word.
    """

    lengths: Tensor
    ids: Tensor
    keys: Tensor
    says: Tensor
    joins: Tensor


def columns_of(words: Sequence[Word], function_words: frozenset[str], numbers: Sequence[int]) -> Columns:
    """The columns of words whose texts have those numbers."""
    forms = [(word.ids, word.ids if word.first_ids is None else word.first_ids) for word in words]
    longest = max((len(ids) for both in forms for ids in both), default=1)
    lengths = torch.tensor([[len(ids) for ids in both] for both in forms], dtype=torch.long).reshape(len(words), 2)
    ids = torch.tensor([[[*ids, *[0] * (longest - len(ids))] for ids in both] for both in forms], dtype=torch.long)
    ids = ids.reshape(len(words), 2, longest)
    inside = torch.arange(longest) < lengths[..., None]
    joins = torch.tensor([word.text in function_words for word in words], dtype=torch.bool)
    says = torch.tensor(numbers, dtype=torch.long).masked_fill(joins, 0)
    return Columns(lengths, ids, (mixed(ids) * powers(longest) * inside).sum(2), says, joins)


class WordTable:
    """A lexicon's words and those met beside them.

    Attributes:
        words: by number; the first, PAD, is none.
        columns: see `Columns`; PAD has no tokens, says nothing and joins nothing.
    """

    def __init__(self, lexicon: Lexicon) -> None:
        self.lexicon = lexicon
        self.words: list[Word] = [Word("", ()), *lexicon.words]
        self._number: dict[Word, int] = {word: i for i, word in enumerate(self.words)}
        self._said: dict[str, int] = {word.text: i for i, word in reversed(list(enumerate(self.words))) if i != PAD}
        self.columns = self._columns(self.words)

    def copy(self) -> WordTable:
        """A table that may meet words of its own."""
        other = object.__new__(WordTable)
        other.__dict__.update(self.__dict__)
        return other

    def number(self, prompts: Sequence[Prompt]) -> tuple[Tensor, Tensor]:
        """Prompts → rows (N, L) of word numbers, and how many words each has (N,)."""
        self._meet(prompts)
        longest = max(map(len, prompts), default=0)
        number = self._number
        rows = [[*[number[word] for word in prompt], *[PAD] * (longest - len(prompt))] for prompt in prompts]
        lengths = torch.tensor([len(prompt) for prompt in prompts], dtype=torch.long)
        return torch.tensor(rows, dtype=torch.long).reshape(len(prompts), longest), lengths

    def prompt(self, row: Tensor) -> Prompt:
        """A row (L,) of word numbers as a prompt."""
        return tuple(self.words[i] for i in row.tolist() if i != PAD)

    def token_lengths(self, rows: Tensor) -> Tensor:
        """(N, L): tokens of each word of rows (N, L) at its place."""
        return self.columns.lengths[rows, self._form(rows)]

    def token_counts(self, rows: Tensor) -> Tensor:
        """(N,): tokens of each row (N, L)."""
        return self.token_lengths(rows).sum(1)

    def token_keys(self, rows: Tensor) -> Tensor:
        """(N,): a key of the token ids of each row (N, L), however they are cut into words."""
        lengths = self.token_lengths(rows)
        offsets = lengths.cumsum(1) - lengths
        most = rows.shape[1] * self.columns.ids.shape[2] + 1
        return (self.columns.keys[rows, self._form(rows)] * powers(most)[offsets]).sum(1)

    def token_ids(self, rows: Tensor, frame: Frame) -> tuple[Tensor, Tensor]:
        """Padded token ids (N, T) of rows (N, L) between the special tokens, and where the last of each stands (N,)."""
        lengths, form = self.token_lengths(rows), self._form(rows)
        counts, before, after = lengths.sum(1), len(frame.before), len(frame.after)
        ids = torch.full((len(rows), frame.length or int(counts.max()) + before + after), frame.pad, dtype=torch.long)
        ids[:, :before] = torch.tensor(frame.before, dtype=torch.long)
        ids.scatter_(
            1,
            before + counts[:, None] + torch.arange(after),
            torch.tensor(frame.after, dtype=torch.long).expand(len(rows), after),
        )
        piece = torch.arange(self.columns.ids.shape[2])
        inside = piece < lengths[..., None]  # (N, L, longest)
        places = (before + lengths.cumsum(1) - lengths)[..., None] + piece
        row = torch.arange(len(rows))[:, None, None].expand_as(places)
        ids[row[inside], places[inside]] = self.columns.ids[rows, form][inside]
        return ids, before + counts + after - 1

    @staticmethod
    def _form(rows: Tensor) -> Tensor:
        """(L,): 1 for the word that begins a prompt."""
        return (torch.arange(rows.shape[1]) == 0).long()

    def _columns(self, words: Sequence[Word]) -> Columns:
        """Of words that are numbered already."""
        return columns_of(words, self.lexicon.function_words, [self._said.get(word.text, PAD) for word in words])

    def _meet(self, prompts: Sequence[Prompt]) -> None:
        """Number the words that are not known yet."""
        unknown = dict.fromkeys(word for prompt in prompts for word in prompt if word not in self._number)
        if not unknown:
            return
        first = len(self.words)
        numbers = {word: first + i for i, word in enumerate(unknown)}
        self.words = [*self.words, *unknown]
        self._number = {**self._number, **numbers}  # a new one: copies share the old
        self._said = {**{word.text: i for word, i in reversed(numbers.items())}, **self._said}
        self.columns = joined(self.columns, self._columns(list(unknown)))


def joined(a: Columns, b: Columns) -> Columns:
    """The columns of two lists of words, one behind the other."""
    width = max(a.ids.shape[2], b.ids.shape[2])
    ids = [torch.nn.functional.pad(part.ids, (0, width - part.ids.shape[2])) for part in (a, b)]
    rest = [torch.cat([getattr(a, name), getattr(b, name)]) for name in ("lengths", "keys", "says", "joins")]
    return Columns(rest[0], torch.cat(ids), *rest[1:])
