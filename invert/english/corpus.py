"""Prompts as people write them for photographs and art, made from the word lists and phrase tables by seed.

Each prompt is a subject, in about half of them with a second one, often with what it does, where it is or before what,
sometimes after a medium and followed by styles. Nouns come as often as the square root of their frequency, so that the
corpus holds many of them. A model's search starts from the nearest prompts, and the prior is learned from all.
"""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Callable, Iterator, Sequence

from invert.english.tables import Entry, entries, phrases

MIN_ZIPF = 2.3  # of a noun: rarer ones name what few people would
PHRASE_PENALTY = 1.2  # Zipf: a phrase's frequency is estimated from its words', which makes it look more frequent than it is
KIND_WEIGHTS = {"person": 0.5, "phenomenon": 0.5, "object": 0.7, "animal": 1.5}  # times as often as other kinds
COLORS = tuple(
    "red orange yellow green blue purple pink brown black white gray gold silver turquoise teal violet beige cyan "  # noqa: SIM905
    "magenta".split()
)
SIZES = ("small", "big", "large", "tiny", "huge", "tall", "long", "little", "giant")
LOOKS = tuple(
    "old new young cute beautiful shiny wooden metal plastic golden broken dirty clean wet fluffy fat thin round square "  # noqa: SIM905
    "colorful dark bright simple ornate modern ancient vintage rusty soft furry happy sad angry sleepy cartoon".split()
)
PATTERNS = ("striped", "dotted", "checkered", "plain", "blurred", "gradient", "patterned", "textured", "spotted", "wavy")
COUNTS = ("two", "three", "four", "five", "a pair of", "a group of", "many", "several")
RELATIONS = (
    "and", "with", "next to", "beside", "above", "below", "under", "on top of", "behind", "in front of", "near",
    "to the left of", "to the right of", "inside", "on",
)  # fmt: skip
HOLDS = ("holding", "with", "carrying", "looking at", "wearing", "riding", "eating", "chasing")
PICTURES = ("picture", "photo", "photo", "image", "drawing", "painting", "illustration", "sketch", "render", "portrait")
MODIFIERS = ("styles", "quality", "moods", "colors", "lighting")  # tables of what may stand before "picture"
MODIFIER = re.compile(r"(?!in |no |from |made )[a-z0-9-]+(?: [a-z-]+)?")
POSITION = re.compile(r"(?:in|at|on) the |from |facing |in an? ")
VOWEL_SOUND = re.compile(r"(?!uni|use|usu|eu|ewe|one\b|once\b|u[bk])[aeiou]|hour|honest|heir|x-")


def with_article(phrase: str) -> str:
    """ "owl" → "an owl", "unicorn" → "a unicorn"."""
    return f"{'an' if VOWEL_SOUND.match(phrase) else 'a'} {phrase}"


def noun_zipf(entry: Entry) -> float:
    """How frequent a noun is, a phrase without what the estimate adds; 0 where it names nothing visible."""
    return 0.0 if entry.visible_zipf is None else entry.visible_zipf - (PHRASE_PENALTY if " " in entry.text else 0)


def noun_weight(entry: Entry) -> float:
    """How often a noun is written about, beside others."""
    return 10 ** (noun_zipf(entry) / 2) * KIND_WEIGHTS.get(entry.visible_kind or "", 1)


class PromptWriter:
    """Writes prompts with those words only that `knows` takes."""

    def __init__(self, knows: Callable[[str], bool] = lambda text: True) -> None:
        """knows: whether a phrase may be used: a model whose training vocabulary is known learns no others."""
        self.nouns = [one for one in entries() if noun_zipf(one) >= MIN_ZIPF and one.visible_kind and knows(one.text)]
        self.cumulative = list(itertools.accumulate(map(noun_weight, self.nouns)))
        self.tables = {name: [phrase for phrase in table if knows(phrase)] for name, table in phrases().items()}
        self.colors, self.sizes, self.looks, self.patterns, self.counts, self.relations, self.holds = (
            [text for text in words if knows(text)] for words in (COLORS, SIZES, LOOKS, PATTERNS, COUNTS, RELATIONS, HOLDS)
        )
        self.modifiers = [phrase for table in MODIFIERS for phrase in self.tables[table] if MODIFIER.fullmatch(phrase)]
        self.pictures = [text for text in PICTURES if knows(text)]
        self.positions = [phrase for phrase in self.tables["composition"] if POSITION.match(phrase)]
        self.knows = knows

    def prompts(self, n: int, seed: int = 0) -> tuple[str, ...]:
        """n distinct prompts; fewer where the known words do not give as many."""
        rng = random.Random(seed)
        found: dict[str, None] = {}
        for prompt in itertools.islice(self._stream(rng), 4 * n):
            found[prompt] = None
            if len(found) == n:
                break
        return tuple(found)

    def _stream(self, rng: random.Random) -> Iterator[str]:
        while True:
            yield self.prompt(rng)

    def prompt(self, rng: random.Random) -> str:
        """One prompt."""
        parts = [self._scene(rng)]
        if rng.random() < 0.35:
            parts[0] = self._in_medium(parts[0], rng)
        if rng.random() < 0.3:
            tables = rng.sample(
                ("styles", "lighting", "composition", "quality", "moods", "colors", "camera", "weather"), rng.randint(1, 2)
            )
            parts += [rng.choice(self.tables[table]) for table in tables if self.tables[table]]
        return ", ".join(parts)

    def _in_medium(self, scene: str, rng: random.Random) -> str:
        if rng.random() < 0.4 and self.modifiers and self.pictures:
            medium = with_article(f"{rng.choice(self.modifiers)} {rng.choice(self.pictures)}")
        else:
            medium = self._choose(self.tables["mediums"], rng)
        return f"{medium} of {scene}" if medium else scene

    def _scene(self, rng: random.Random) -> str:
        if rng.random() < 0.04:
            return self._choose(self.tables["subjects"], rng) or self._thing(rng)[0]
        text, noun, plural = self._thing(rng)
        draw = rng.random()
        if draw < 0.28:
            other = self._thing(rng)[0]
            linking = self.holds if noun.visible_kind in ("person", "animal") and rng.random() < 0.5 else self.relations
            text = f"{text} {self._choose(linking, rng)} {other}"
        elif draw < 0.40 and not plural:
            text = f"{text} {self._choose(self.tables['actions'], rng)}"
        draw = rng.random()
        if draw < 0.25:
            text = f"{text} on {self._ground(rng)}"
        elif draw < 0.5:
            text = f"{text} {self._choose(self.tables['places'], rng)}"
        if rng.random() < 0.12:
            position = self._choose(self.positions, rng)
            text = text.replace(" on ", f" {position} on ", 1) if text.endswith(" background") else f"{text} {position}"
        return text.strip()

    def _thing(self, rng: random.Random) -> tuple[str, Entry, bool]:
        """A noun phrase, its noun, and whether it is plural."""
        noun = rng.choices(self.nouns, cum_weights=self.cumulative)[0]
        adjectives = []
        if rng.random() < 0.12 and self.sizes:
            adjectives.append(rng.choice(self.sizes))
        if rng.random() < 0.15 and self.looks:
            adjectives.append(rng.choice(self.looks))
        if rng.random() < 0.35 and self.colors:
            adjectives.append(rng.choice(self.colors))
        if rng.random() < 0.08:  # "an ice hockey stick"
            adjectives.append(rng.choices(self.nouns, cum_weights=self.cumulative)[0].text)
        many = rng.random() < 0.2 and noun.plural and self.knows(noun.plural) and bool(self.counts)
        words = " ".join([*adjectives, noun.plural if many else noun.text])
        if many:
            return f"{rng.choice(self.counts)} {words}", noun, True
        if not noun.plural:  # what has no plural is not counted: "snow"
            return ("the " if noun.kinds[0].endswith("-name") else "") + words, noun, False
        return ("the " + words if rng.random() < 0.08 else with_article(words)), noun, False

    def _ground(self, rng: random.Random) -> str:
        """What the subject stands before."""
        colors = rng.sample(self.colors, min(len(self.colors), 2 if rng.random() < 0.25 else 1))
        pattern = [rng.choice(self.patterns)] if self.patterns and rng.random() < 0.3 else []
        return with_article(" ".join([*pattern, " and ".join(colors), "background"]).replace("  ", " ").strip())

    @staticmethod
    def _choose(options: Sequence[str], rng: random.Random) -> str:
        return rng.choice(options) if options else ""
