"""Token ids of the English tables' words under one tokenizer, read back from disk: tokenizing them all takes seconds.

A file belongs to a tokenizer by what it makes of a sample of the words, so models that share a vocabulary share it. All
that is not letters alone is in the sample, since tokenizers that share a vocabulary may clean texts in their own ways.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import cache
from itertools import chain

import numpy as np

from invert.cache import cache_folder, keep_arrays, read_arrays
from invert.english.tables import entries, phrases
from invert.models.fingerprint import ids_of

SAMPLED = 97  # every so manieth word is tokenized to tell which tokenizer it is
NAMES = {"texts", "ids", "lengths"}


@cache
def sample_texts() -> list[str]:
    """Texts of the tables that tell tokenizers apart."""
    words = [entry.text for entry in entries()]
    told = [*words, *chain(*phrases().values())]
    return [*words[::SAMPLED], *(text for text in told if not text.replace(" ", "").isalpha())]


class KnownIds:
    """Text → its token ids, as `encode` gives them."""

    def __init__(self, encode: Callable[[str], Sequence[int]]) -> None:
        self.encode = encode
        sample = [*ids_of(encode), *(tuple(encode(text)) for text in sample_texts())]
        self.file = cache_folder() / f"{hashlib.sha256(repr(sample).encode()).hexdigest()[:16]}.ids.npz"
        self.known = read(read_arrays(self.file))
        self.on_disk = len(self.known)

    def __call__(self, text: str) -> tuple[int, ...]:
        """The ids; they are remembered where they have to be found."""
        ids = self.known.get(text)
        if ids is None:
            ids = self.known[text] = tuple(self.encode(text))
        return ids

    def keep(self) -> None:
        """Write what was found for the next start."""
        if len(self.known) > self.on_disk:
            keep_arrays(self.file, packed(self.known))
            self.on_disk = len(self.known)


def packed(known: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """The table as arrays: texts in UTF-8, one a line, all ids, and how many each text has."""
    return {
        "texts": np.frombuffer("\n".join(known).encode(), np.uint8),
        "ids": np.array([token for ids in known.values() for token in ids], np.int32),
        "lengths": np.array([len(ids) for ids in known.values()], np.int32),
    }


def read(arrays: dict[str, np.ndarray] | None) -> dict[str, tuple[int, ...]]:
    """The table of such arrays; empty where they are none."""
    if arrays is None or set(arrays) != NAMES:
        return {}
    texts, ids = arrays["texts"].tobytes().decode(errors="replace").split("\n"), arrays["ids"].tolist()
    ends = np.cumsum(arrays["lengths"]).tolist()
    if len(texts) != len(ends) or (ends and ends[-1] != len(ids)):
        return {}
    return {text: tuple(ids[begin:end]) for text, begin, end in zip(texts, [0, *ends], ends, strict=False)}
