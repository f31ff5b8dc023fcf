"""Which words a prompt may use, and the nearest of them to an embedding.

A `Word` is what a reader sees: a whole word of one token or, in a bundled model's lexicon, a fixed
phrase of a few ("palm tree"). Tokens that training never touched, special tokens and fragments stay out. The FAISS index over
the token rows is cached on disk under the table's hash, with the table's own nearest-neighbour
distances: an embedding farther from every row than those are from each other has no word.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import NamedTuple

import faiss
import numpy as np
import torch
from torch import Tensor

from invert.cache import cache_folder, write_whole
from invert.errors import InputError
from invert.models.clip import Clip
from invert.picturebook.grammar import terms

END_OF_WORD = "</w>"
# Words that join others; a search needs them at hand whatever the picture shows.
GLUE = (
    "a",
    "an",
    "the",
    "of",
    "to",
    "on",
    "in",
    "and",
    "with",
    "at",
    "two",
    "left",
    "right",
    "above",
    "below",
    "small",
    "large",
    "picture",
    "background",
)
NO_WORD_PERCENTILE = 95  # of the table's own nearest-neighbour distances


class Word(NamedTuple):
    """A whole word, or a fixed phrase of words, and its token ids. A tuple, because a search hashes millions of them."""

    text: str
    ids: tuple[int, ...]


class Vocabulary:
    """The words allowed in a prompt and a nearest-neighbour index over their tokens' rows.

    words: each once. token_ids: (T,) int64, the distinct tokens of those words. rows: (T, D), their
    embeddings, on the model's device.
    """

    def __init__(self, clip: Clip, words: Sequence[Word]) -> None:
        self.clip = clip
        self.words = tuple(words)
        distinct = sorted({token for word in words for token in word.ids})
        self.token_ids = torch.tensor(distinct, device=clip.device)
        self.rows = clip.token_embeddings[self.token_ids]
        self.position = {token: row for row, token in enumerate(distinct)}
        self.by_text = {word.text: i for i, word in enumerate(self.words)}

    def __len__(self) -> int:
        return len(self.words)

    @cached_property
    def words_with_token(self) -> dict[int, list[int]]:
        """Token id → indices of the words that hold it, those of fewest tokens first."""
        found: dict[int, list[int]] = {}
        for i, word in sorted(enumerate(self.words), key=lambda pair: len(pair[1].ids)):
            for token in word.ids:
                found.setdefault(token, []).append(i)
        return found

    def word(self, text: str) -> Word:
        """The word of that text, from the vocabulary or else from the model's own tokenizer."""
        if text in self.by_text:
            return self.words[self.by_text[text]]
        ids = tuple(self.clip.tokenizer.encode(text))
        if not ids:
            raise InputError(f"{text!r} holds nothing that the model's tokenizer can read: use letters or digits")
        return Word(text, ids)

    @cached_property
    def _phrases(self) -> dict[str, list[list[str]]]:
        """First word → the words that begin with it, split, the longest first."""
        found: dict[str, list[list[str]]] = {}
        for parts in sorted((word.text.split() for word in self.words), key=len, reverse=True):
            found.setdefault(parts[0], []).append(parts)
        return found

    def cut(self, sentence: str) -> tuple[Word, ...]:
        """A sentence as words, the longest phrase that fits first; what the vocabulary lacks word by word."""
        rest = re.findall(r"[^\s,.]+", sentence.lower())
        row: list[Word] = []
        while rest:
            fits = (parts for parts in self._phrases.get(rest[0], ()) if rest[: len(parts)] == parts)
            parts = next(fits, rest[:1])
            row.append(self.word(" ".join(parts)))
            rest = rest[len(parts) :]
        return tuple(row)

    @cached_property
    def means(self) -> Tensor:
        """(W, D): the mean of each word's token rows."""
        table = self.clip.token_embeddings
        return torch.stack([table[list(word.ids)].mean(0) for word in self.words])

    @cached_property
    def _index(self) -> tuple[faiss.Index, np.ndarray]:
        rows = self.rows.detach().float().cpu().numpy()
        index, nearest = _cached_index(np.ascontiguousarray(rows))
        if self.clip.device.type == "cuda" and hasattr(faiss, "StandardGpuResources"):
            index = faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), self.clip.device.index or 0, index)
        return index, nearest

    def nearest_tokens(self, embeddings: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """The k nearest rows to embeddings (N, D): (ids (N, k) int64, Euclidean distances (N, k)).

        Neighbours come sorted; both results lie on the embeddings' device.
        """
        queries = np.ascontiguousarray(embeddings.detach().float().cpu().numpy())
        squared, found = self._index[0].search(queries, min(k, len(self.rows)))
        ids = self.token_ids.cpu().numpy()[found]
        distances = np.sqrt(np.maximum(squared, 0))
        return torch.from_numpy(ids).to(embeddings.device), torch.from_numpy(distances).to(embeddings.device)

    @cached_property
    def no_word_distance(self) -> float:
        """Beyond this distance (Euclidean) from every row an embedding has no word."""
        return float(np.percentile(self._index[1], NO_WORD_PERCENTILE))


def _cached_index(rows: np.ndarray) -> tuple[faiss.Index, np.ndarray]:
    """(exact L2 index, each row's distance to its nearest other row), read back if the table is known."""
    digest = hashlib.sha256(repr(rows.shape).encode() + rows.tobytes()).hexdigest()[:16]
    folder = cache_folder()
    index_file, distances_file = folder / f"{digest}.faiss", folder / f"{digest}.npy"
    try:
        index, distances = faiss.read_index(str(index_file)), np.load(distances_file)
        if (index.ntotal, index.d) == rows.shape and distances.shape == (len(rows),):
            return index, distances
    except (RuntimeError, OSError, ValueError, EOFError):
        pass  # not there, or damaged: made again below
    index = faiss.IndexFlatL2(rows.shape[1])
    index.add(rows)
    squared, _ = index.search(rows, min(2, len(rows)))
    distances = np.sqrt(np.maximum(squared[:, -1], 0))
    write_whole(index_file, lambda path: faiss.write_index(index, path))
    write_whole(distances_file, lambda path: np.save(path, distances))
    return index, distances


def build_vocabulary(clip: Clip, ban: Iterable[str] = (), words: Iterable[str] | None = None) -> Vocabulary:
    """The vocabulary of a model: its lexicon if it has one, else every single-token English word.

    ban: words that may not appear, in any case. words: use these instead of the model's own.
    Raises InputError where nothing is left.
    """
    banned = {text.strip().lower() for text in ban}
    if words is None and clip.known_tokens is not None:
        words = terms()
    chosen = _encoded(clip, words) if words is not None else _single_token_words(clip)
    kept = [word for word in chosen if word.text not in banned and banned.isdisjoint(word.text.split())]
    if not kept:
        raise InputError("the vocabulary is empty: ban fewer words, or give a list that the model can read")
    return Vocabulary(clip, kept)


def _encoded(clip: Clip, words: Iterable[str]) -> list[Word]:
    known = None if clip.known_tokens is None else set(clip.known_tokens)
    encoded = (Word(text, tuple(clip.tokenizer.encode(text))) for text in dict.fromkeys(words))
    return [word for word in encoded if word.ids and (known is None or known.issuperset(word.ids))]


def _single_token_words(clip: Clip) -> list[Word]:
    """Tokens that are whole lower-case ASCII words ("fox</w>"): readable, and free of byte debris."""
    words = []
    for token in range(len(clip.token_embeddings)):
        if token in (clip.start_id, clip.end_id):
            continue
        raw = clip.token_text(token)
        text = raw.removesuffix(END_OF_WORD)
        if raw.endswith(END_OF_WORD) and re.fullmatch(r"[a-z]{2,}|a", text):
            words.append(Word(text, (token,)))
    return words
