"""Which object of the world a picture shows, told by the name or description that its maker gave it.

In: a title such as "A happy snail." or "full moon". Out: the name of one of picturebook's objects, or None. Exact
names come first, then plurals, then synonyms that Unicode CLDR lists for exactly one object, then the head noun of a
short phrase. A title that speaks of two things, or of an object inside another word, shows none.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path

ARTICLE = re.compile(r"^(?:a|an|the|some|one|this is an?|this is)\s+")
# Where the head of a phrase ends: "a slice of pizza" keeps its "of", for names hold such phrases.
AFTER_HEAD = re.compile(
    r"\b(?:with|in|on|at|from|for|by|playing|dancing|eating|sitting|standing|flying|that|which|is|resembles)\b"
)
TWO_THINGS = re.compile(r"\b(?:and|or|vs)\b|&|\+")
LONGEST = 4  # words of a title whose last one may be taken for its head
# CLDR's keywords that name a kind, a mood or a part rather than the thing, and English words of two meanings.
TOO_WIDE = frozenset((Path(__file__).parent / "wide_words.txt").read_text(encoding="utf8").split())


def singular(word: str) -> str:
    """The singular of a regular English plural; other words as they are."""
    if re.search(r"(?:ss|us|is)$", word) or len(word) < 4:
        return word
    if word.endswith("ies"):
        return word[:-3] + "y"
    if re.search(r"(?:x|ch|sh|ss|z|o)es$", word):
        return word[:-2]
    return word.removesuffix("s")


def plain(title: str) -> str:
    """A title as words: lower case, no article, numbers, file endings or punctuation."""
    words = re.sub(r"[^a-z’'&+ -]+", " ", title.lower().replace("_", " ")).replace("’s", "s").replace("'s", "s").replace("-", " ")
    return ARTICLE.sub("", " ".join(words.split())).strip()


def synonyms(cldr: Path, emoji: dict[str, str]) -> dict[str, str]:
    """Keyword → object, for CLDR's keywords that belong to exactly one object and name no wider kind.

    cldr: the folder common/ of CLDR. emoji: character → object name.
    """
    found: list[tuple[str, str]] = []
    for folder in ("annotations", "annotationsDerived"):
        for row in ElementTree.parse(cldr / folder / "en.xml").getroot().iter("annotation"):
            name = emoji.get(row.get("cp", ""))
            if name is not None and row.get("type") is None:
                found += [(plain(word), name) for word in (row.text or "").split("|")]
    uses = Counter(word for word, _ in found)
    return {word: name for word, name in found if uses[word] == 1 and len(word) > 2 and word not in TOO_WIDE}


class ObjectNames:
    """Finds the object that a title names."""

    def __init__(self, names: dict[str, str], synonyms: dict[str, str]) -> None:
        """names: object name → its plural ("" for none). synonyms: further word → object name."""
        self.exact = {name: name for name in names} | {plural: name for name, plural in names.items() if plural}
        self.other = {word: name for word, name in synonyms.items() if word not in self.exact}

    def find(self, title: str) -> str | None:
        """The object shown under the title, or None."""
        words = plain(title)
        for phrase in (words, AFTER_HEAD.split(words)[0].strip()):
            if phrase and (name := self._look_up(phrase)):
                return name
        if TWO_THINGS.search(words):
            return None
        head = AFTER_HEAD.split(words)[0].split(" of ")[0].split()
        if not 2 <= len(head) <= LONGEST:
            return None
        for start in range(1, len(head)):  # the longest name at the phrase's end
            phrase = " ".join(head[start:])
            if phrase not in TOO_WIDE and (name := self._look_up(phrase, synonyms=False)):
                return name
        return None

    def find_icon(self, icon: str) -> str | None:
        """The object that an icon such as "hot-dog" is named exactly after, or None.

        "fox-head" shows the fox, "cat-head" the cat's face: the world has one.
        """
        words = plain(icon)
        thing = re.sub(r" (?:head|face)$", "", words)
        return self._look_up(words) or (self.exact.get(f"{thing} face") or self.exact.get(thing) if thing != words else None)

    def find_in_file_name(self, stem: str) -> str | None:
        """The object that a file name such as "apple_bitten_dan_gerhard_01" starts with, or None.

        Names of makers follow the title in them, so only whole names of the world count, the longest first.
        """
        words = plain(stem).split()
        starts = (" ".join(words[:length]) for length in range(min(LONGEST, len(words)), 0, -1))
        return next((name for start in starts if start not in TOO_WIDE and (name := self._look_up(start, synonyms=False))), None)

    def _look_up(self, phrase: str, synonyms: bool = True) -> str | None:
        *before, last = phrase.split()
        for form in (phrase, " ".join([*before, singular(last)])):
            if form in self.exact:
                return self.exact[form]
            if synonyms and form in self.other:
                return self.other[form]
        return None
