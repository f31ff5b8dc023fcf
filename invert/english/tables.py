"""The bundled English data: words with their frequencies and kinds, and phrases by category.

`words.tsv` is written by `scripts/make_english_words.py` from WordNet 3.0 and wordfreq; the phrase files are ours, one
phrase a line, a file a category.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import NamedTuple

VISIBLE_KINDS = frozenset(
    "animal artifact artifact-name body food group location object person phenomenon plant possession shape "  # noqa: SIM905
    "substance".split()
)


class Entry(NamedTuple):
    """An English word or phrase: its Zipf frequency, what it names (the most frequent sense first), its plural or "".

    visible_zipf: the Zipf frequency of those uses that name something visible; None where they are too few to count.
    """

    text: str
    zipf: float
    kinds: tuple[str, ...]
    plural: str
    visible_zipf: float | None

    @property
    def visible_kind(self) -> str | None:
        """What it names in a picture, by the first of its senses that does; by the first of all where the word is rare."""
        if self.visible_zipf is None:
            return None
        n_kinds = 4 if self.zipf >= 2.5 else 1
        return next((kind for kind in self.kinds[:n_kinds] if kind in VISIBLE_KINDS), None)


@cache
def entries() -> tuple[Entry, ...]:
    """All words and phrases, the most frequent first."""
    lines = files(__package__).joinpath("words.tsv").read_text(encoding="utf-8").splitlines()
    fields = (line.split("\t") for line in lines)
    return tuple(
        Entry(text, int(zipf) / 100, tuple(kinds.split(",")), plural, int(visible) / 100 if visible else None)
        for text, zipf, kinds, plural, visible in fields
    )


@cache
def phrases() -> dict[str, tuple[str, ...]]:
    """Category → its phrases, in the order of the file."""
    found = {}
    for file in sorted(files(__package__).joinpath("phrases").iterdir(), key=lambda file: file.name):
        if file.name.endswith(".txt"):
            found[file.name.removesuffix(".txt")] = tuple(file.read_text(encoding="utf-8").splitlines())
    return found
