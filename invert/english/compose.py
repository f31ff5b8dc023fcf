"""Starts for a search, composed slot by slot: what is there, before what, in which medium, in what colors.

A retrieved prompt is seldom near a picture that nobody described yet. So a description is put together from its parts:
the nouns nearest to the picture, alone and in pairs, then a background, a place, a medium and colors, each tried on the
few best descriptions so far (beam search over slots). Prompts are judged by the search's own objective.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from torch import Tensor

from invert.encoding import encode_prompts, never, until
from invert.english.corpus import PromptWriter, with_article
from invert.english.tables import Entry, entries
from invert.latents import LatentTable
from invert.lexicon import Prompt
from invert.models.clip import Clip
from invert.search import Search
from invert.together import Steps

BEAM = 6  # descriptions kept from slot to slot
N_NOUNS = 40  # nouns tried alone, those nearest to the target
N_ANCHORS = 12  # of them, the best in their first trial: tried in pairs
N_RETRIED = 160  # nouns tried in the best descriptions, once the rest of them stands
N_FREQUENT = 512  # nouns that tell how far cosines spread: two files of latents
N_MODIFIERS = 40  # adjectives and participles tried before a noun, those nearest to the target
MODIFIER_KINDS = ("adj", "ing", "past")
MIN_MODIFIER_ZIPF = 3.2
SHARE_OF_NOUNS, SHARE_OF_WORDS = 0.5, 0.65  # of the time for encoding: until when nouns, and until when all words
BATCH = 128  # descriptions scored before the budget is looked at


@dataclass(frozen=True)
class Description:
    """A description by its slots; the noun slots are indices of the composer's nouns."""

    noun: int
    modifier: str = ""
    color: str = ""
    size: str = ""
    relation: str = ""
    other: int | None = None
    other_color: str = ""
    other_modifier: str = ""
    place: str = ""
    pattern: str = ""
    ground: str = ""
    second_ground: str = ""
    medium: str = ""


class Composer:
    """Composes descriptions of one model's targets; the nouns are encoded once."""

    def __init__(self, clip: Clip, writer: PromptWriter) -> None:
        self.clip, self.writer = clip, writer
        singular = [(noun, False) for noun in writer.nouns]
        plural = [(noun, True) for noun in writer.nouns if noun.plural and writer.knows(noun.plural) and writer.knows("two")]
        self.nouns: list[tuple[Entry, bool]] = [*singular, *plural]
        taken = {*writer.colors, *writer.sizes}
        self.modifiers = [
            one.text
            for one in entries()
            if one.zipf >= MIN_MODIFIER_ZIPF
            and one.kinds[0] in MODIFIER_KINDS
            and one.text not in taken
            and writer.knows(one.text)
        ]

    @cached_property
    def numbers(self) -> dict[str, list[int]]:
        """A noun's text, singular or plural → its index."""
        found: dict[str, list[int]] = {}
        for i, (noun, many) in enumerate(self.nouns):
            found.setdefault(str(noun.plural) if many else noun.text, []).append(i)
        return found

    @property
    def noun_prompts(self) -> list[str]:
        """Each noun in a short prompt of its own."""
        return [f"a picture of {self.text(Description(i))}" for i in range(len(self.nouns))]

    @property
    def modifier_prompts(self) -> list[str]:
        """Each modifier before a noun that says nothing."""
        return [f"a picture of {with_article(f'{text} thing')}" for text in self.modifiers]

    def encode(self, seconds: float | None = None) -> tuple[int, int]:
        """Encode nouns and modifiers, the most frequent first, as `ModelBundle.encode` has it."""
        began, total, known = time.perf_counter(), len(self.nouns) + len(self.modifiers), self.__dict__
        if sum(len(known[name][0]) for name in ("noun_latents", "modifier_latents") if name in known) < total:
            up = [never if seconds is None else until(began + seconds * share) for share in (SHARE_OF_NOUNS, SHARE_OF_WORDS)]
            self.noun_latents = encode_prompts(self.clip, self.noun_prompts, up[0], in_order=True)
            if self.modifiers:
                self.modifier_latents = encode_prompts(self.clip, self.modifier_prompts, up[1], in_order=True)
        return len(self.noun_latents[0]) + (len(self.modifier_latents[0]) if self.modifiers else 0), total

    @cached_property
    def noun_latents(self) -> tuple[list[int], LatentTable]:
        """The nouns that are encoded, by their indices, and their latents (N, E)."""
        return encode_prompts(self.clip, self.noun_prompts, in_order=True)

    @cached_property
    def modifier_latents(self) -> tuple[list[int], LatentTable]:
        """The modifiers that are encoded, by their indices, and their latents (M, E)."""
        return encode_prompts(self.clip, self.modifier_prompts, in_order=True)

    def spread(self, target: Tensor) -> float:
        """Standard deviation of the target's (E,) cosines with the nouns that are written most."""
        return float(self.frequent_nouns.cosines(target).std(correction=0))

    @cached_property
    def frequent_nouns(self) -> LatentTable:
        """Latents of the most frequent nouns: few, so that a search on a corpus of the user's own need not encode all."""
        return encode_prompts(self.clip, self.noun_prompts[:N_FREQUENT], in_order=True)[1]

    @staticmethod
    def nearest(known: tuple[list[int], LatentTable], target: Tensor, k: int) -> list[int]:
        """Of texts with latents the indices of the k nearest to the target (E,), nearest first."""
        indices, latents = known
        return [indices[row] for row in latents.nearest(target[None], k)[1][0].tolist()]

    def prompts(self, search: Search, target: Tensor) -> Steps[list[Prompt]]:
        """Descriptions of the target (E,), best first, as prompts of the search's lexicon, step by step."""
        nearest = self.nearest(self.noun_latents, target, N_RETRIED)
        anchors = [i for text in search.anchors for i in self.numbers.get(text, ())]
        nearest = list(dict.fromkeys([*anchors, *nearest]))
        run = _Beam(self, search)
        alone = yield from run.best([Description(i) for i in nearest[:N_NOUNS]], N_ANCHORS)
        pairs = [replace(a, relation="and", other=b.noun) for a, b in itertools.permutations(alone, 2)]
        yield from run.keep([*alone, *pairs] if "and" in self.writer.relations else alone)
        yield from self._frame(run)
        yield from self._nouns(run, nearest[:N_NOUNS])
        if self.modifiers:
            best = self.nearest(self.modifier_latents, target, N_MODIFIERS)
            words = ["", *(self.modifiers[i] for i in best), *(self.nouns[i][0].text for i in nearest[:N_ANCHORS])]
            yield from run.vary("modifier", words, width=2)
            yield from run.vary("other_modifier", words, lambda d: d.other is not None, width=2)
        yield from run.vary("noun", nearest, width=2)
        yield from run.vary("other", nearest, lambda d: d.other is not None, width=2)
        yield from self._colors(run)
        return [search.lexicon.segment(self.text(description)) for description in run.beam]

    def _frame(self, run: _Beam) -> Steps[None]:
        """Before what, where, and in which medium."""
        writer, tables = self.writer, self.writer.tables
        yield from run.vary("ground", ["", *writer.colors])
        yield from self._grounds(run)
        yield from run.vary("medium", ["", *tables["mediums"], *self.plain_mediums], width=2)
        yield from run.vary("place", ["", *writer.positions, *tables["places"]], width=2)

    def _grounds(self, run: _Beam) -> Steps[None]:
        writer = self.writer
        yield from run.vary("second_ground", ["", *writer.colors], lambda d: bool(d.ground))
        yield from run.vary("pattern", ["", *writer.patterns], lambda d: bool(d.ground))
        yield from run.vary("ground", ["", *writer.colors])

    def _nouns(self, run: _Beam, nouns: Sequence[int]) -> Steps[None]:
        """What is there, in what color and size, and how two things stand to each other."""
        yield from self._colors(run)
        yield from run.vary("size", ["", *self.writer.sizes])
        yield from run.vary("noun", nouns)
        if "and" in self.writer.relations:
            alone = [d for d in run.beam if d.other is None]
            yield from run.keep([*run.beam, *(replace(d, relation="and", other=i) for d in alone[:2] for i in nouns)])
        yield from run.vary("other", [None, *nouns], lambda d: d.other is not None)
        yield from run.vary("relation", self.writer.relations, lambda d: d.other is not None)

    def _colors(self, run: _Beam) -> Steps[None]:
        yield from run.vary("color", ["", *self.writer.colors])
        yield from run.vary("other_color", ["", *self.writer.colors], lambda d: d.other is not None)
        yield from self._grounds(run)

    @cached_property
    def plain_mediums(self) -> list[str]:
        """ "a blurry picture": the commonest medium with each adjective of the tables."""
        return [with_article(f"{adjective} picture") for adjective in dict.fromkeys(self.writer.modifiers)]

    def text(self, d: Description) -> str:
        parts = [self._noun_phrase(d.noun, d.size, d.color, d.modifier)]
        if d.other is not None:
            parts += [d.relation, self._noun_phrase(d.other, "", d.other_color, d.other_modifier)]
        parts.append(d.place)
        if d.ground:
            colors = f"{d.ground} and {d.second_ground}" if d.second_ground else d.ground
            parts.append("on " + with_article(" ".join(filter(None, [d.pattern, colors, "background"]))))
        scene = " ".join(filter(None, parts))
        return f"{d.medium} of {scene}" if d.medium else scene

    def _noun_phrase(self, i: int, size: str, color: str, modifier: str) -> str:
        noun, many = self.nouns[i]
        words = " ".join(filter(None, [size, color, modifier, noun.plural if many else noun.text]))
        if many:
            return f"two {words}"
        if noun.plural:
            return with_article(words)
        return f"the {words}" if noun.kinds[0].endswith("-name") else words


class _Beam:
    """The few best descriptions so far."""

    def __init__(self, composer: Composer, search: Search) -> None:
        self.composer, self.search = composer, search
        self.objectives: dict[str, float | None] = {}
        self.beam: list[Description] = []

    def best(self, descriptions: Iterable[Description], n: int) -> Steps[list[Description]]:
        """The n best of distinct descriptions; those that may not be said are left out."""
        by_text = {self.composer.text(d): d for d in descriptions}
        fresh = [text for text in by_text if text not in self.objectives]
        for begin in range(0, len(fresh), BATCH):
            if self.search.scorer.budget.exhausted:
                break
            prompts = {text: self.search.lexicon.segment(text) for text in fresh[begin : begin + BATCH]}
            scored = yield from self.search.evaluating(prompts.values())
            found = {c.words: c.objective for c in scored}
            self.objectives.update({text: found.get(prompt) for text, prompt in prompts.items()})
        rated = [(objective, text) for text in by_text if (objective := self.objectives.get(text)) is not None]
        return [by_text[text] for _, text in sorted(rated, key=lambda pair: (-pair[0], pair[1]))[:n]]

    def keep(self, descriptions: Sequence[Description]) -> Steps[None]:
        self.beam = yield from self.best(descriptions, BEAM)

    def vary(
        self, slot: str, options: Iterable[Any], applies: Callable[[Description], bool] | None = None, width: int = BEAM
    ) -> Steps[None]:
        """Try every option in a slot of the `width` best descriptions that it applies to."""
        chosen = [d for d in self.beam if applies is None or applies(d)][:width]
        yield from self.keep([*self.beam, *(replace(d, **{slot: option}) for d in chosen for option in options)])
