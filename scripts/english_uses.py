"""How often an English word names something that a picture can show, of all that it is written for: "left" seldom does.

WordNet counts how often each sense of a word was met in texts whose senses were told by hand (cntlist.rev, from SemCor).
A verb's count goes to its forms by their frequencies, so that "saw" is what somebody did before it is a tool.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

PARTS = {"2": "verb", "3": "adj", "4": "adv", "5": "adj"}  # WordNet's numbers of parts of speech; 1 is a noun
FORMS = {"adj": "adj", "adv": "adv", "verb": "verb", "ing": "verb", "past": "verb"}  # kinds of words → parts of speech
UNMET = 0.5  # observations that a use counts as before it is met
FIRST, OTHER = 0.5, 0.3  # those of a noun that names something visible by its first sense, and by another one
PLACES = frozenset({"location", "group", "possession", "shape"})  # seldom what a picture is of
OF_PLACES = 0.2  # part of their uses that counts
SELDOM, SELDOM_ADVERB = 0.02, 0.15  # share of its uses below which a word is not taken for a noun; of one that is an adverb


class Uses:
    """What texts use words for."""

    def __init__(
        self,
        folder: Path,
        noun_kinds: Mapping[int, str],
        verb_forms: Iterable[tuple[str, Iterable[str]]],
        frequency_of: Callable[[str], float],
    ) -> None:
        """Count.

        Args:
            folder: of WordNet's files.
            noun_kinds: WordNet's lexicographer files of nouns → kinds.
            verb_forms: each verb with its inflected forms.
            frequency_of: how frequent a word is as it is written, whatever it means.
        """
        self.nouns: dict[str, Counter[str]] = defaultdict(Counter)
        self.others: dict[str, Counter[str]] = defaultdict(Counter)
        for line in (folder / "cntlist.rev").read_text().splitlines():
            key, _, n = line.split()
            lemma, _, sense = key.replace("_", " ").partition("%")
            part, file = sense.split(":")[:2]
            if part == "1":
                self.nouns[lemma][noun_kinds[int(file)]] += int(n)
            else:
                self.others[lemma][PARTS[part]] += int(n)
        self.verbs: dict[str, float] = defaultdict(float)
        for lemma, forms in verb_forms:
            frequency = {form: frequency_of(form) for form in {lemma, *forms}}
            total = sum(frequency.values()) or 1
            for form, of_form in frequency.items():
                self.verbs[form] += self.others[lemma]["verb"] * of_form / total

    def visible_share(self, text: str, kinds: Sequence[str], visible: frozenset[str]) -> float:
        """Share of a word's uses that name something of the visible kinds; 0 where that is too seldom to take it for a noun."""
        if "function" in kinds:
            return 0.0
        named = self.nouns[text].copy()
        if text in visible:  # "person" is the kind itself
            named[text] += named.pop("top", 0)
        plain = [kind.removesuffix("-name") for kind in kinds]
        senses = [kind for kind in plain if kind in visible]
        seen = sum(n * part_that_counts(kind) for kind, n in named.items() if kind in visible)
        if senses:
            seen += (FIRST if plain[0] == senses[0] else OTHER) * part_that_counts(senses[0])
        parts = {FORMS[kind] for kind in kinds if kind in FORMS}
        others = self.verbs[text] + self.others[text]["adj"] + self.others[text]["adv"]
        share = seen / (named.total() + others + UNMET * (1 + len(parts)))
        return share if share >= (SELDOM_ADVERB if "adv" in parts else SELDOM) else 0.0


def part_that_counts(kind: str) -> float:
    return OF_PLACES if kind in PLACES else 1.0
