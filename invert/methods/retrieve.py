"""Retrieval: the prompts of a corpus that lie nearest to the target."""

from __future__ import annotations

from invert.bundle import ModelBundle
from invert.errors import InputError
from invert.lexicon import contains_phrase
from invert.methods.configs import NoConfig
from invert.methods.task import InversionOutput, InversionTask


def retrieve(task: InversionTask, config: NoConfig) -> InversionOutput:
    """The corpus's nearest prompts that hold nothing banned, best first.

    Raises:
        InputError: every prompt holds something banned.
    """
    corpus, banned, top = task.encoded_corpus(), task.banned(), task.config.top
    found = corpus.nearest(task.target, len(corpus.prompts) if banned else top)
    if banned:
        found = [pair for pair in found if not contains_phrase(task.bundle.lexicon.segment(pair[0]), banned)][:top]
    if not found:
        raise InputError("every prompt of the corpus holds a banned word: drop some of `ban`, or give another `corpus`")
    task.history.report_candidate(*found[0])
    return InversionOutput(found)


def prepare(bundle: ModelBundle) -> None:
    """Encode the corpus."""
    _ = bundle.encoded_corpus
