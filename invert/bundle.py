"""Everything that belongs to one model: its CLIP, words, prompts, language, labels, judge and generator.

A `ModelBundle` is the only thing of a model that a method is given, so the core knows no world. A bundle
is found by name in `BUNDLES`; other packages offer theirs under the entry-point group "invert.bundles",
as a function from a `Clip` to a `ModelBundle`.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar, cast

from torch import Tensor

from invert.corpus import Corpus, EncodedCorpus, as_prompts, encode_corpus
from invert.encoding import Exhausted, encode_prompts, never, until
from invert.errors import InputError
from invert.given import entries, function, listed, number, of_kind, plain_text, wrong
from invert.lexicon import ENGLISH_FUNCTION_WORDS, Lexicon, Word
from invert.models.clip import Clip
from invert.models.tokenizer import next_encoder
from invert.one_process import OneProcess
from invert.prior import Prior, learn_prior
from invert.registry import BUNDLES
from invert.target import modality_gap
from invert.token_index import TokenIndex
from invert.zero_shot import ZeroShot

if TYPE_CHECKING:
    from PIL import Image

    from invert.lexicon import Prompt
    from invert.methods.labels import LabelTables
    from invert.search import Search
    from invert.together import Steps

log = logging.getLogger(__name__)
T = TypeVar("T")
GAP_PROMPTS = 256  # words that the mean text latent is taken from, at most
DEFAULT_BUNDLE = "generic"  # of models that bring none


@dataclass(frozen=True, eq=False)
class ModelBundle(OneProcess):
    """A model and what is known of its world. It cannot be pickled: each process loads its own.

    Attributes:
        name: of the bundle.
        clip: the model that prompts are found on.
        lexicon: the words that prompts may hold.
        corpus: prompts to start from; may be empty.
        labels: tables for CLIP Interrogator's methods; None for the package's own.
        phrases: category → phrases, for an analysis; None for the English tables.
        load_evaluator: loads the model that results are judged by; None where the model judges itself.
        generator: name of the text-to-image pipeline that draws prompts; None where it has to be asked for.
        measure_gap: computes the modality gap (E,), mean text latent minus mean image latent; None where
            it cannot be measured.
        learn_prior: makes the prior on language.
        compose: writes initial prompts for a search and its target (E,), best first: a function, or a generator that
            has prompts judged by `yield from search.evaluating(prompts)`, so that several pictures share the text
            encoder; None where the corpus's nearest prompts are all that a search starts from.
        spread: standard deviation of a unit target's (E,) cosines with texts in general, by which language and length are
            weighed: models differ in it severalfold; None where the weights are as `SearchConfig` has them.
        zero_shot: what the model can name, each with a caption by which pictures are classified; None where nobody knows.
        usual_cosine: of prompts with the raw latents of pictures that the model knows; beside `zero_shot` tokens cost more
            below it. None where nothing measured it.
        soft_words: whether a search takes words from soft prompts where the run does not say how many `soft_steps` to make.
        encode_words: encodes what `compose` looks up, within so many seconds, as `encode` does; None where there is nothing.
        examples: draws pictures to try the model on, by name; None where there are none.
        doubt: says of pictures, unit latents (B, E), why the model may not know what each shows: a sentence, or "" where
            it does; None where nothing can tell.
        extends: the bundle whose corpus this one's begins with, and whose latents of it are used here; None where the corpus
            is of one piece.
    """

    loaded_by = "load_bundle(load_clip(…))"

    name: str
    clip: Clip
    lexicon: Lexicon
    corpus: Corpus = field(default_factory=Corpus)
    labels: LabelTables | None = None
    phrases: Mapping[str, Sequence[str]] | None = None
    load_evaluator: Callable[[], Clip] | None = None
    generator: str | None = None
    measure_gap: Callable[[], Tensor] | None = None
    learn_prior: Callable[[Corpus, Lexicon], Prior] = learn_prior
    compose: Callable[[Search, Tensor], list[Prompt] | Steps[list[Prompt]]] | None = None
    spread: Callable[[Tensor], float] | None = None
    zero_shot: ZeroShot | None = None
    usual_cosine: float | None = None
    soft_words: bool = True
    encode_words: Callable[[float | None], tuple[int, int]] | None = None
    examples: Callable[[], Mapping[str, Image.Image]] | None = None
    doubt: Callable[[Tensor], list[str]] | None = None
    extends: ModelBundle | None = None
    _shared: dict[str, Any] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        """InputError where a part is of a wrong kind."""
        plain_text("name", self.name)
        of_kind("clip", self.clip, Clip, "a model as `load_clip` gives it")
        of_kind("lexicon", self.lexicon, Lexicon, "a Lexicon")
        of_kind("corpus", self.corpus, Corpus, "a Corpus")
        if self.zero_shot is not None:
            of_kind("zero_shot", self.zero_shot, ZeroShot, "a ZeroShot, or None")
        if self.usual_cosine is not None and not -1 <= number("usual_cosine", self.usual_cosine) <= 1:
            raise wrong("usual_cosine", self.usual_cosine, "a cosine, -1 to 1, or None")
        for name in FUNCTIONS:
            function(name, getattr(self, name))

    @cached_property
    def token_index(self) -> TokenIndex:
        """Nearest-neighbor search among the token embeddings of the lexicon's words."""
        return TokenIndex(self.clip.token_embeddings, self.lexicon)

    @cached_property
    def prior(self) -> Prior:
        """How likely prompts are as language."""
        return self.learn_prior(self.corpus, self.lexicon)

    @cached_property
    def word_latents(self) -> Tensor:
        """(W, E) float32: unit latent of each word of the lexicon as a prompt of its own, on the model's device."""
        return encode_prompts(self.clip, [word.text for word in self.lexicon.words])[1].tensor()

    @cached_property
    def encoded_corpus(self) -> EncodedCorpus:
        """The corpus with its latents.

        Raises:
            InputError: the corpus is empty.
        """
        return self._with_latents(never)

    def _with_latents(self, exhausted: Exhausted, ahead: bool = False) -> EncodedCorpus:
        """The corpus encoded until time is up, of one that extends a bundle's the new prompts first.

        ahead: the prompts of the bundle that is extended, too; otherwise they are as it has them, encoded once for both.
        """
        before = self.extends
        if before is None:
            return encode_corpus(self.clip, self.corpus.prompts, exhausted)
        new = self.corpus.prompts[len(before.corpus.prompts) :]
        added = encode_corpus(self.clip, new, exhausted) if new else None
        if added is not None and not before.corpus.prompts:
            return added
        known = (before._encode_corpus(exhausted) if ahead else None) or before.encoded_corpus
        return known if added is None else known.followed_by(added)

    def _encode_corpus(self, exhausted: Exhausted) -> EncodedCorpus | None:
        """What of the corpus is encoded by then; kept, but gone on with at the next call. None where there is none."""
        n = len(self.corpus.prompts)
        known: EncodedCorpus | None = self.__dict__.get("encoded_corpus")
        if n and (known is None or len(known.prompts) < n):
            known = self.__dict__["encoded_corpus"] = self._with_latents(exhausted, ahead=True)
        return known

    def corpus_within(self, exhausted: Exhausted) -> EncodedCorpus:
        """`encoded_corpus`, but only as much of it, or of what it adds to a bundle's, as is encoded before time is up.

        Raises:
            InputError: the corpus is empty.
        """
        if "encoded_corpus" in self.__dict__:
            return self.encoded_corpus
        found = self._with_latents(exhausted)
        n, of = len(found.prompts), len(self.corpus.prompts)
        if n == of:
            self.__dict__["encoded_corpus"] = found
        else:
            log.warning("time was up when %s of %s prompts of the corpus were encoded: the rest is left out", f"{n:,}", f"{of:,}")
        return found

    def encode(self, seconds: float | None = None, words: bool = True) -> tuple[int, int]:
        """Encode ahead of the first search what searches look up: how many texts are encoded now, and of how many.

        What lies on disk from before counts, and what is encoded here is kept there.

        Args:
            seconds: to spend on it, the most useful texts first; what is not reached then is left out of this bundle's
                searches until this is called again. None: all of them, however long that takes.
            words: those that starts are composed of, too, and not the corpus alone.
        """
        seconds = None if seconds is None else number("seconds", seconds)
        self.__dict__["_had_its_turn"] = True
        began = time.perf_counter()
        done, total = self.encode_words(seconds) if words and self.encode_words is not None else (0, 0)
        known = self._encode_corpus(never if seconds is None else until(began + seconds))
        return done + (len(known.prompts) if known else 0), total + len(self.corpus.prompts)

    def encode_once(self) -> None:
        """`encode` all, unless that was called before: what was not reached in its seconds then stays left out."""
        if "_had_its_turn" not in self.__dict__:
            self.encode()

    @cached_property
    def modality_gap(self) -> Tensor | None:
        """Mean text latent minus mean image latent (E,); None where nothing measured it."""
        return None if self.measure_gap is None else self.measure_gap()

    def doubt_of(self, latents: Tensor) -> str:
        """Why the model knows none of these pictures (B, E), which share a prompt; "" where it knows one of them."""
        said = [""] if self.doubt is None else self.doubt(latents)
        return said[0] if all(said) else ""

    def evaluator(self) -> Clip:
        """The model that results are judged by, loaded once."""
        return self.clip if self.load_evaluator is None else self.once("evaluator", self.load_evaluator)

    def once(self, key: str, make: Callable[[], T]) -> T:
        """What `make` returns, made at the first call with this key and kept as long as the bundle.

        For tables that a method builds once per model. They may depend on the clip and the labels
        alone: bundles that `with_` derives share them.
        """
        if key not in self._shared:
            self._shared[key] = make()
        return cast(T, self._shared[key])

    def with_(
        self,
        *,
        corpus: Iterable[str] | None = None,
        extend: bool = False,
        ban: Iterable[str] = (),
        gap_images: Sequence[Image.Image] | None = None,
    ) -> ModelBundle:
        """This bundle with some of it exchanged; what stays the same is computed once for both.

        Args:
            corpus: prompts that take the place of the bundle's own; a prior is learned from them.
            extend: they stand beside the bundle's own instead: starts and the prior come from both.
            ban: words that no prompt may hold, in any case.
            gap_images: pictures that the modality gap is measured on.

        Raises:
            InputError: every word is banned, or there is something else than texts and pictures.
        """
        changes: dict[str, Any] = {}
        banned = entries("ban", ban)
        corpus = corpus if corpus is None else entries("corpus", corpus)
        if corpus is not None and extend:
            changes |= {"corpus": self.corpus.extended(corpus), "extends": self}
        elif corpus is not None:
            changes |= {
                "corpus": Corpus(as_prompts(corpus)),
                "extends": None,
                "compose": None,
                "encode_words": None,
            }  # starts come from these prompts then
        if banned:
            changes["lexicon"] = self.lexicon.without(banned)
        if gap_images is not None:
            pictures = pillow_images("gap_images", gap_images)
            changes["measure_gap"] = lambda: gap_by_words(self.clip, self.lexicon, pictures)
        derived = replace(self, **changes)
        object.__setattr__(derived, "_shared", self._shared)
        stale = {name for name, parts in DEPENDS_ON.items() if not changes.keys().isdisjoint(parts)}
        derived.__dict__.update({name: self.__dict__[name] for name in DEPENDS_ON.keys() - stale if name in self.__dict__})
        return derived


FUNCTIONS = ("load_evaluator", "measure_gap", "learn_prior", "compose", "spread", "encode_words", "examples", "doubt")
# What a bundle has found → the fields that it was computed from, the clip aside.
DEPENDS_ON = {
    "token_index": {"lexicon"},
    "prior": {"lexicon", "corpus"},
    "encoded_corpus": {"corpus"},
    "word_latents": {"lexicon"},
    "modality_gap": {"measure_gap"},
    "_had_its_turn": {"corpus"},
}


def pillow_images(name: str, images: Sequence[Image.Image]) -> list[Image.Image]:
    """The pictures of a parameter. InputError where there is none, or something else among them."""
    from PIL import Image

    pictures = listed(name, images, "a list of Pillow images")
    for one in pictures:
        if not isinstance(one, Image.Image):
            raise wrong(name, one, "Pillow images alone", "holds")
    if not pictures:
        raise InputError(f"`{name}` is empty: give one picture or more")
    return list(pictures)


def gap_by_words(clip: Clip, lexicon: Lexicon, images: Sequence[Image.Image]) -> Tensor:
    """The modality gap (E,) from images and from prompts that name single words of the lexicon."""
    words = lexicon.words[:: max(1, len(lexicon) // GAP_PROMPTS)]
    return modality_gap(clip, images, [f"a picture of a {word.text}" for word in words])


def load_bundle(clip: Clip, name: str | None = None) -> ModelBundle:
    """The bundle of that name for a model; by default the model's own, or the generic one where it has none.

    Raises:
        InputError: there is no such bundle.
    """
    of_kind("clip", clip, Clip, "a model as `load_clip` gives it")
    if name is None:
        name = clip.name if clip.name in BUNDLES else DEFAULT_BUNDLE
    bundle: ModelBundle = BUNDLES.get(plain_text("bundle", name))(clip)
    return bundle


def generic_bundle(clip: Clip) -> ModelBundle:
    """What a model gets that brings nothing: whole words of one token, and ImageNet's classes to start from."""
    words = single_token_words(clip)
    return ModelBundle(
        name=DEFAULT_BUNDLE,
        clip=clip,
        lexicon=Lexicon(words, ENGLISH_FUNCTION_WORDS, clip.tokenizer.encode, next_encoder(clip.tokenizer)),
        corpus=Corpus(imagenet_phrases(), teaches_prior=False),
    )


def single_token_words(clip: Clip) -> tuple[Word, ...]:
    """Tokens that are whole lower-case ASCII words ("fox"): readable, and free of byte debris.

    A token whose embedding is zero was never trained and is left out.
    """
    tokenizer = clip.tokenizer
    words = []
    for token in clip.token_embeddings.any(1).nonzero().flatten().tolist():
        text = tokenizer.whole_word(token)
        if text is not None and re.fullmatch(r"[a-z]{2,}|a", text):
            words.append(Word(text, (token,), tuple(tokenizer.encode(text)) if tokenizer.first_differs else None))
    return tuple(words)


def imagenet_phrases() -> tuple[str, ...]:
    """The 1,000 ImageNet classes that open_clip ships, each as a short prompt."""
    from open_clip import IMAGENET_CLASSNAMES

    return tuple(dict.fromkeys(f"a photo of a {name}" for name in IMAGENET_CLASSNAMES))
