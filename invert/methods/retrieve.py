"""Retrieval: the prompts of a corpus that lie nearest to the target."""

from __future__ import annotations

from collections.abc import Sequence

from invert.bundle import ModelBundle
from invert.config import InvertConfig
from invert.corpus import EncodedCorpus
from invert.errors import InputError
from invert.lexicon import contains_phrase
from invert.methods.configs import NoConfig
from invert.methods.task import InversionOutput, InversionTask


def retrieve(task: InversionTask, config: NoConfig) -> InversionOutput:
    """The corpus's nearest prompts that hold nothing banned, best first.

    Raises:
        InputError: every prompt holds something banned.
    """
    corpus = without_banned(task.encoded_corpus(), task.bundle, task.banned())
    found = corpus.nearest(task.target, task.config.top)
    task.history.report_candidate(*found[0])
    return InversionOutput(found)


def allowed_corpus(bundle: ModelBundle, ban: Sequence[str]) -> EncodedCorpus:
    """The whole corpus of a bundle without prompts that hold something banned, for many pictures.

    Raises:
        InputError: there is no corpus, or every prompt holds something banned.
    """
    return without_banned(bundle.encoded_corpus, bundle, tuple(text.strip().lower() for text in ban))


def without_banned(corpus: EncodedCorpus, bundle: ModelBundle, banned: Sequence[str]) -> EncodedCorpus:
    """The corpus without prompts that hold one of these phrases in lower case.

    Raises:
        InputError: that leaves none.
    """
    if not banned:
        return corpus
    kept = [i for i, text in enumerate(corpus.prompts) if not contains_phrase(bundle.lexicon.segment(text), tuple(banned))]
    if not kept:
        raise InputError("every prompt of the corpus holds a banned word: drop some of `ban`, or give another `corpus`")
    return corpus.of(kept)


def prepare(bundle: ModelBundle, config: InvertConfig) -> None:
    """Encode the corpus."""
    _ = bundle.encoded_corpus
