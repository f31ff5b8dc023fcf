"""picturebook's CLIP as an unknown model: the English bundle whole, and without each of its parts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from invert.bundle import ModelBundle
from invert.corpus import Corpus
from invert.english.bundle import learn_prior, trained_words
from invert.english.compose import Composer, _Beam
from invert.english.corpus import PromptWriter
from invert.english.tables import phrases
from invert.methods.labels import LabelTables
from invert.together import Steps

GROUND = "background"
MUTE = ("a picture",)  # a corpus that holds nothing to start from
LISTS = {  # CLIP Interrogator's lists → our tables
    "mediums": ("mediums",),
    "movements": ("styles",),
    "flavors": ("subjects", "places", "moods", "colors", "lighting", "materials", "weather", "composition", "camera"),
    "trendings": ("quality",),
    "artists": ("actions",),  # we list no artists: what is done takes their slot
}


class Ungrounded(Composer):
    """Composes descriptions that stand before nothing."""

    def _frame(self, run: _Beam) -> Steps[None]:
        yield from run.vary("medium", ["", *self.writer.tables["mediums"], *self.plain_mediums], width=2)
        yield from run.vary("place", ["", *self.writer.positions, *self.writer.tables["places"]], width=2)

    def _grounds(self, run: _Beam) -> Steps[None]:
        yield from ()


def not_composed(bundle: ModelBundle) -> ModelBundle:
    """It starts from the nearest prompts of the corpus."""
    return replace(bundle, compose=None, encode_words=None)


def without_corpus(bundle: ModelBundle) -> ModelBundle:
    """It has no prompts to start from, and the prior that they teach all the same."""
    return replace(bundle, corpus=Corpus(MUTE), compose=None, encode_words=None, learn_prior=lambda corpus, lexicon: bundle.prior)


def without_phrases(bundle: ModelBundle) -> ModelBundle:
    """Single words alone."""
    single = tuple(word for word in bundle.lexicon.words if " " not in word.text)
    return replace(bundle, lexicon=replace(bundle.lexicon, words=single))


def without_frequencies(bundle: ModelBundle) -> ModelBundle:
    """All words of a class are alike to its prior."""
    return replace(bundle, learn_prior=partial(learn_prior, frequency=None))


def without_grounds(bundle: ModelBundle) -> ModelBundle:
    """Every sentence about a background left out, of the corpus, of what it teaches, and of the composed starts."""
    kept = tuple(text for text in bundle.corpus.prompts if GROUND not in text.split())
    composer = Ungrounded(bundle.clip, PromptWriter(trained_words(bundle.clip)))
    return replace(bundle, corpus=Corpus(kept), compose=composer.prompts, encode_words=composer.encode)


def with_own_lists(bundle: ModelBundle) -> ModelBundle:
    """CLIP Interrogator's method gets our tables in place of the package's lists."""
    tables = phrases()
    lists = {name: tuple(phrase for table in of for phrase in tables.get(table, ())) for name, of in LISTS.items()}
    return replace(bundle, labels=LabelTables(**lists, negative=("blurry",)))


CHANGES: dict[str, Callable[[ModelBundle], ModelBundle]] = {
    "not-composed": not_composed,
    "without-corpus": without_corpus,
    "without-phrases": without_phrases,
    "without-frequencies": without_frequencies,
    "without-background": without_grounds,
    "own-lists": with_own_lists,
}
