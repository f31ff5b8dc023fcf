"""Which English words may stand for each other: the classes of the class n-gram.

Function words and the words that frame a description ("picture", "background", "corner") are classes of their own; all
others go by what they are: nouns that are counted or not, plurals, colors, sizes, other adjectives, verb forms. Words that
take "an" are kept apart from those that take "a".
"""

from __future__ import annotations

from functools import cache

from invert.english.corpus import COLORS, LOOKS, PATTERNS, PICTURES, SIZES, VOWEL_SOUND
from invert.english.tables import Entry, entries, phrases
from invert.lexicon import ENGLISH_FUNCTION_WORDS
from invert.prior.category_ngram import UNKNOWN

COUNTS = frozenset(["two", "three", "four", "five", "many", "several", "six", "ten"])
FRAME_WORDS = frozenset(
    [*PICTURES, "background", "corner", "side", "center", "middle", "foreground", "view", "shot", "style", "light", "lighting"]
)
ADJECTIVE_TABLES = ("styles", "quality", "moods", "lighting", "weather", "materials")
VERB_FORMS = ("ing", "past", "verb", "adv", "adj")


@cache
def _by_text() -> dict[str, Entry]:
    return {entry.text: entry for entry in entries()}


@cache
def _table_of() -> dict[str, str]:
    return {phrase: table for table in ADJECTIVE_TABLES for phrase in phrases()[table]}


@cache
def _mediums() -> frozenset[str]:
    """What a picture may be: the last words of the mediums' table."""
    return frozenset(phrase.split()[-1] for phrase in phrases()["mediums"])


@cache
def _plurals() -> frozenset[str]:
    return frozenset(entry.plural for entry in entries() if entry.plural)


def category(text: str) -> str:
    """The class of a word or phrase.

    >>> category("owl"), category("the"), category("red"), category("umbrellas")
    ('an noun', 'the', 'color', 'plural')
    """
    if text in ENGLISH_FUNCTION_WORDS or text in FRAME_WORDS:
        return text
    if text in COUNTS:
        return "count"
    return ("an " if VOWEL_SOUND.match(text) else "") + _plain_category(text)


def _plain_category(text: str) -> str:
    for words, name in ((COLORS, "color"), (SIZES, "size"), (PATTERNS, "pattern"), (LOOKS, "adj")):
        if text in words:
            return name
    if text in _mediums():
        return "medium"
    entry = _by_text().get(text)
    if entry is None:
        return "plural" if text in _plurals() else "adj" if text in _table_of() else UNKNOWN
    if "ing" in entry.kinds:
        return "ing"
    if entry.visible_kind:
        if entry.kinds[0].endswith("-name"):
            return "name"
        return "noun" if entry.plural else "mass"
    if text in _plurals() or "plural" in entry.kinds:
        return "plural"
    form = next((kind for kind in entry.kinds if kind in VERB_FORMS), None)
    if entry.kinds[0] in VERB_FORMS:
        return entry.kinds[0]
    if text in _table_of() or form == "adj":
        return "adj"
    return "abstract"
