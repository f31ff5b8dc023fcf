"""What a picture is nearest to: the best phrases of every category, as CLIP Interrogator's analysis shows them.

Phrase tables come from the bundle, or are the English ones. They are encoded once a model, and then an analysis is one
matrix product: nothing is searched.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from invert.corpus import EncodedCorpus
from invert.encoding import encode_prompts
from invert.errors import InputError
from invert.given import entries, listed, wrong
from invert.latents import LatentTable

if TYPE_CHECKING:
    from torch import Tensor

    from invert.bundle import ModelBundle
    from invert.models.clip import Clip

log = logging.getLogger(__name__)
PhraseTables = Mapping[str, Sequence[str]]  # category → phrases
EncodedTables = dict[str, EncodedCorpus]


@dataclass(frozen=True)
class Analysis:
    """The phrases that an image is nearest to.

    Attributes:
        categories: category → its best phrases with their cosines, the best first.
        model: the name of the CLIP that says so.
    """

    categories: dict[str, list[tuple[str, float]]]
    model: str

    def to_json(self) -> dict[str, Any]:
        """Everything as plain JSON types."""
        found = {
            category: [{"phrase": phrase, "score": score} for phrase, score in best] for category, best in self.categories.items()
        }
        return {"analysis": found, "model": self.model}


def rank_phrases(tables: Sequence[EncodedTables], target: Tensor, top: int) -> dict[str, list[tuple[str, float]]]:
    """Category → its phrases nearest to the unit target (E,), with their cosines, best first.

    Tables that share a category are ranked as one; a phrase in several of them counts once.
    """
    found: dict[str, dict[str, float]] = {}
    for table in tables:
        for category, phrases in table.items():
            found.setdefault(category, {}).update(phrases.nearest(target, top))
    return {category: sorted(best.items(), key=lambda pair: -pair[1])[:top] for category, best in found.items()}


def bundle_tables(bundle: ModelBundle) -> EncodedTables:
    """The bundle's own phrase tables, or the English ones, encoded once.

    Of the English ones only phrases whose tokens the model met in training, where that is known.
    """
    return bundle.once("phrase tables", lambda: encode_tables(bundle.clip, known_phrases(bundle)))


def known_phrases(bundle: ModelBundle) -> PhraseTables:
    if bundle.phrases is not None:
        return bundle.phrases
    from invert.english.bundle import trained_words  # with it comes the English data
    from invert.english.corpus import COLORS
    from invert.english.tables import phrases

    knows = trained_words(bundle.clip)
    tables = {**phrases(), "colors": dict.fromkeys((*COLORS, *phrases()["colors"]))}  # the table alone names shades
    return {category: tuple(filter(knows, table)) for category, table in tables.items()}


def phrase_lists(phrases: PhraseTables) -> dict[str, str | tuple[Any, ...]]:
    """A user's phrase tables as they are now, to be told from later ones; what is in them is looked at by `users_tables`.

    Raises:
        InputError: they are no tables by category.
    """
    if not isinstance(phrases, Mapping):
        raise wrong("phrases", phrases, "a dict from each category to a list of phrases")
    tables = {}
    for category, table in phrases.items():
        if not isinstance(category, str):
            raise wrong("phrases", category, "a text", "names a category")
        one = f"a list of phrases for {category!r}"
        tables[category] = table if isinstance(table, str) else listed("phrases", table, one)
    return tables


def users_tables(clip: Clip, tables: PhraseTables) -> EncodedTables:
    """A user's own phrase tables, encoded. Phrases of words that the model never met are noted in the log and left out.

    Raises:
        InputError: there are no phrases, or a category is one string instead of several.
    """
    from invert.english.bundle import trained_words

    knows = trained_words(clip)
    kept = {}
    for category, table in tables.items():
        if isinstance(table, str):
            raise InputError(f"`phrases` gives {category!r} one string: give a list of phrases")
        phrases = list(dict.fromkeys(phrase.strip() for phrase in entries("phrases", table) if phrase.strip()))
        if not phrases:
            raise InputError(f"the category {category!r} of `phrases` is empty: give it one phrase or more")
        kept[category] = tuple(filter(knows, phrases))
        if len(kept[category]) < len(phrases):
            n_unknown, words = len(phrases) - len(kept[category]), "hold words that the model never met and are left out"
            log.warning("%s of the %s phrases of %r %s", f"{n_unknown:,}", f"{len(phrases):,}", category, words)
    return encode_tables(clip, kept)


def encode_tables(clip: Clip, tables: PhraseTables) -> EncodedTables:
    """The tables with their latents, read back from disk where the model encoded them before; empty ones are left out."""
    phrases = tuple(dict.fromkeys(phrase for table in tables.values() for phrase in table))
    if not phrases:
        return {}
    latents = encode_prompts(clip, phrases)[1].tensor()
    index_of = {phrase: i for i, phrase in enumerate(phrases)}
    return {
        category: EncodedCorpus(tuple(table), LatentTable.of(latents[[index_of[phrase] for phrase in table]]))
        for category, table in tables.items()
        if table
    }
