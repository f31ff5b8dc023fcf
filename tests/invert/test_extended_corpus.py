"""A user's corpus beside the bundle's own: starts and language come from both, and only what is new is encoded."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from invert import encoding
from invert.bundle import ModelBundle, generic_bundle
from invert.cli.command import corpus_key
from invert.config import InvertConfig
from invert.corpus import Corpus
from invert.english import bundle as english
from invert.errors import InputError
from invert.inverter import Inverter
from invert.lexicon import text_of
from invert.prior.class_ngram import ClassNgramPrior
from invert.search import Search

OWN = tuple(f"a fox above {n} houses" for n in range(300))
LINES = ["A fox in a suit", OWN[7], "two owls at sea", "a fox in a suit"]
NEW = ("a fox in a suit", "two owls at sea")


@pytest.fixture
def bundle(picturebook_bundle, tmp_path, monkeypatch) -> ModelBundle:
    """picturebook with a corpus of 300 prompts, which are two files of a cache of the test's own."""
    monkeypatch.setenv("INVERT_CACHE", str(tmp_path))
    return picturebook_bundle.with_(corpus=OWN)


@pytest.fixture
def texts(monkeypatch) -> list[str]:
    """What goes through the text encoder."""
    found, encode = [], encoding.encode
    monkeypatch.setattr(encoding, "encode", lambda clip, prompts: found.extend(prompts) or encode(clip, prompts))
    return found


def test_new_lines_stand_behind_the_bundles_own(bundle):
    both = bundle.with_(corpus=LINES, extend=True)
    assert both.corpus.prompts == (*OWN, *NEW) and tuple(both.corpus.added) == NEW
    assert bundle.with_(corpus=LINES).corpus.prompts == ("a fox in a suit", OWN[7], "two owls at sea")


def test_only_what_is_new_is_encoded(bundle, texts):
    own = bundle.encoded_corpus
    del texts[:]
    both = bundle.with_(corpus=LINES, extend=True)
    assert both.encoded_corpus.prompts == (*OWN, *NEW) and tuple(texts) == NEW
    assert torch.equal(both.encoded_corpus.latents.tensor()[: len(OWN)], own.latents.tensor())
    fresh = dataclasses.replace(bundle)  # as another process has it: from the disk
    assert len(fresh.with_(corpus=LINES, extend=True).encoded_corpus.prompts) == 302 and tuple(texts) == NEW
    assert fresh.with_(corpus=[*NEW, *OWN[:3]]).encode() == (5, 5) and len(texts) == 2 + 5  # in place of them: a list of its own


def test_the_users_lines_are_encoded_first_and_the_next_call_goes_on(bundle, texts):
    both = bundle.with_(corpus=LINES, extend=True)
    assert both.encode(seconds=1e-9) == (2 + 256, 302) and tuple(texts[:2]) == NEW
    assert both.encode() == (302, 302) and len(texts) == 302 and bundle.encoded_corpus.prompts == OWN


def test_within_the_seconds_of_a_search_the_users_lines_are_encoded_and_the_bundles_stay_as_they_are(bundle, texts):
    assert bundle.encode(seconds=1e-9)[0] == 256
    del texts[:]
    both = bundle.with_(corpus=LINES, extend=True)
    assert len(both.corpus_within(lambda: True).prompts) == 258 and tuple(texts) == NEW


def test_a_bundle_without_prompts_has_the_users_alone(toy_bundle):
    both = toy_bundle.with_(corpus=["w1 w2"], extend=True)
    assert both.encoded_corpus.prompts == ("w1 w2",) and both.encode() == (1, 1)
    with pytest.raises(InputError, match="give a `corpus`"):
        _ = toy_bundle.with_(corpus=[" "], extend=True).encoded_corpus


def test_language_is_learned_from_both_and_class_names_teach_none(picturebook):
    corpus = Corpus(tuple(map(str, range(1000)))).extended(f"own {n}" for n in range(100))
    assert corpus.sentences(2000) == list(corpus.prompts)
    sample = corpus.sentences(160)
    assert len(sample) == 160 and sum(text.startswith("own") for text in sample) == 80
    assert Corpus(("a",)).sentences(9) == ["a"] and Corpus(("a",), teaches_prior=False).sentences(9) == []
    names = generic_bundle(picturebook).with_(corpus=NEW, extend=True)
    assert names.corpus.sentences(9) == list(NEW) and isinstance(names.prior, ClassNgramPrior)


def test_a_search_whose_starts_are_composed_starts_from_the_users_nearest_too(picturebook, monkeypatch):
    monkeypatch.setattr(english, "CORPUS_SIZE", 100)
    inverter = Inverter(english.load(picturebook))
    begun: list[list[str]] = []
    steps = Search.steps
    monkeypatch.setattr(Search, "steps", lambda self, starts: begun.append(list(map(text_of, starts))) or steps(self, starts))
    target = "two owls at sea"
    for options in ({}, {"corpus": NEW, "corpus_mode": "extend"}):
        inverter.distill(target, budget=600, init_prompt="a seal", **options)  # and not from the text itself
    plain, both = begun
    assert target not in plain and target in both and len(both) > len(plain)


def test_a_mode_that_does_nothing_is_refused_and_journals_know_of_it():
    with pytest.raises(InputError, match="unknown `corpus_mode` 'add': choose one of replace, extend"):
        InvertConfig(corpus=("a",), corpus_mode="add")
    with pytest.raises(InputError, match="`corpus_mode` says what a `corpus` does to the bundle's own: give one"):
        InvertConfig(corpus_mode="extend")
    keys = {corpus_key(InvertConfig(corpus=of, corpus_mode=how)) for of in (("a",), ("b",)) for how in ("replace", "extend")}
    assert len(keys) == 4 and corpus_key(InvertConfig()) is None
