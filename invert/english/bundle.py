"""The bundle of every model that brings nothing: English words, a corpus of prompts, their language, and starts.

For a model whose training vocabulary is known (embeddings of tokens that it never met are zero), only words made of
tokens that it met are used.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache

from invert.bundle import ModelBundle
from invert.corpus import Corpus
from invert.english.categories import ADJECTIVE_TABLES, category
from invert.english.compose import Composer
from invert.english.corpus import PromptWriter, noun_weight
from invert.english.tables import entries, phrases
from invert.english.token_ids import KnownIds
from invert.errors import InputError
from invert.lexicon import ENGLISH_FUNCTION_WORDS, Lexicon
from invert.models.clip import Clip
from invert.models.tokenizer import next_encoder
from invert.prior import Prior
from invert.prior.category_ngram import CategoryNgramPrior

NAME = "english"
CORPUS_SIZE = 50_000  # prompts to start from
PRIOR_SIZE = 16_384  # of them, those that the prior is learned from: more change no class's statistics
MAX_STYLE_WORDS = 3  # of an entry of the phrase tables that counts as one adjective


def load(clip: Clip) -> ModelBundle:
    """The English bundle of a model.

    Raises:
        InputError: the model met no English noun in training.
    """
    known, encode_next = KnownIds(clip.tokenizer.encode), next_encoder(clip.tokenizer)
    known_next = None if encode_next is None else KnownIds(encode_next)
    knows = trained_words(clip, known)
    writer = PromptWriter(knows)
    if not writer.nouns:
        raise InputError(f'the model {clip.name!r} met no English noun in training: use `bundle` "generic"')
    composer = Composer(clip, writer)
    texts = [*ENGLISH_FUNCTION_WORDS, *(entry.text for entry in entries()), *style_phrases()]
    lexicon = Lexicon.of_texts(filter(knows, texts), ENGLISH_FUNCTION_WORDS, known, encode_next=known_next)
    for ids in filter(None, (known, known_next)):
        ids.keep()
    return ModelBundle(
        name=NAME,
        clip=clip,
        lexicon=replace(lexicon, encode=clip.tokenizer.encode, encode_next=encode_next),
        corpus=Corpus(writer.prompts(CORPUS_SIZE)),
        learn_prior=learn_prior,
        compose=composer.prompts,
        encode_words=composer.encode,
        spread=composer.spread,
        soft_words=False,  # they earn nothing here: experiments/results/open-world-soft-words.json
    )


def trained_words(clip: Clip, encode: Callable[[str], Sequence[int]] | None = None) -> Callable[[str], bool]:
    """Tells whether the model has met every token of a text in training. encode: its tokenizer's, or what knows its ids."""
    encode = encode or clip.tokenizer.encode
    trained = clip.token_embeddings.any(1).tolist()
    known: dict[str, bool] = {}

    def knows(text: str) -> bool:
        if text not in known:
            ids = encode(text)
            known[text] = bool(ids) and all(trained[token] for token in ids)
        return known[text]

    return knows


def style_phrases() -> list[str]:
    """Phrases of the tables that stand as one adjective does: "pixel art", "award winning"."""
    told = (phrase for table in ADJECTIVE_TABLES for phrase in phrases()[table])
    return [
        phrase for phrase in told if len(phrase.split()) <= MAX_STYLE_WORDS and ENGLISH_FUNCTION_WORDS.isdisjoint(phrase.split())
    ]


@cache
def _noun_weights() -> dict[str, float]:
    """Every noun, singular and plural, with how often it is written about."""
    nouns = [entry for entry in entries() if entry.visible_kind]
    plurals = {entry.plural: noun_weight(entry) for entry in nouns if entry.plural}
    return plurals | {entry.text: noun_weight(entry) for entry in nouns}


def frequency(text: str) -> float:
    """How often a word is expected beside others of its class; words that are no nouns all alike."""
    return _noun_weights().get(text, 1.0)


def learn_prior(corpus: Corpus, lexicon: Lexicon, frequency: Callable[[str], float] | None = frequency) -> Prior:
    """The class n-gram of English classes, whose words are weighed by their frequency; None: words of a class are all alike."""
    return CategoryNgramPrior(corpus.sentences(PRIOR_SIZE), lexicon, category, frequency=frequency)
