"""Words and prompts are encoded ahead of the first picture, for a while; `invert encode` takes all the time that it needs."""

from __future__ import annotations

import pytest
import torch

from invert.inverter import Inverter

NOTE = (
    "invert: note: 5 of the 7 words and prompts of this bundle are encoded for 'light', and looked up. They are kept, and the "
    "next run goes on; `invert encode` with the same model and bundle encodes them all"
)


@pytest.mark.parametrize(
    ("multiplies", "hint"), [(False, ""), (True, ". On this processor --dtype bfloat16 takes about half the time")]
)
def test_a_processor_that_multiplies_bfloat16_is_made_known(run, light, pictures, monkeypatch, multiplies, hint):
    monkeypatch.setattr("invert.cli.loading.multiplies_bfloat16", lambda: multiplies)
    light.encoded = 5, 7
    assert run(pictures[0]).sentences == [NOTE + hint]
    light.clip.dtype = torch.bfloat16
    assert run(pictures[0]).sentences == [NOTE]


def test_what_time_does_not_suffice_for_is_told_and_the_prompt_comes(run, light, pictures, monkeypatch):
    monkeypatch.setattr("invert.cli.loading.multiplies_bfloat16", lambda: False)
    light.encoded = 5, 7
    done = run(pictures[0])
    assert (done.status, done.out, done.sentences) == (0, "a picture of 11 pixels\n", [NOTE])
    assert run(pictures[0], "--encode-seconds", 3).status == 0
    assert light.encodings == [(40.0, True), (3.0, True)]


def test_once_all_is_encoded_nothing_is_said(run, pictures):
    assert run(pictures[0]).err == ""


def test_methods_that_look_nothing_up_wait_for_nothing(run, light, pictures):
    run(pictures[0], "--method", "pez")
    run(pictures[0], "--method", "retrieve")
    assert light.encodings == [(40.0, False)]


def test_a_corpus_of_the_users_counts_against_the_seconds_of_the_search(run, light, pictures, tmp_path):
    (tmp_path / "corpus.txt").write_text("a fox\n")
    run(pictures[0], "--corpus", tmp_path / "corpus.txt", "--seconds", 5)
    assert light.encodings == []
    run(pictures[0], "--corpus", tmp_path / "corpus.txt", "--corpus-mode", "extend", "--seconds", 5)
    assert light.encodings == [(40.0, True)]  # the bundle's own


def test_the_command_encodes_all_and_prints_nothing(run, light):
    done = run("encode", "--bundle", "english")
    assert (done.status, done.out) == (0, "") and light.encodings == [(None, True)]
    assert done.sentences == ["invert: the words and prompts of 'light' are encoded for 'light'"]


def test_the_command_loads_the_model_as_a_search_would(run, light, monkeypatch):
    monkeypatch.setattr(Inverter, "load", lambda *words: light if words[-2:] == ((2.0, 1.0), True) else pytest.fail(str(words)))
    assert run("encode", "--model-weights", "2,1", "--low-memory").status == 0


def test_stopped_it_says_that_nothing_is_lost(run, light):
    light.encoded = KeyboardInterrupt()
    done = run("encode")
    assert done.status == 130
    assert done.sentences == ["invert: interrupted: what is encoded by now is kept, start it again to go on"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["a.png", "--encode-seconds", "0"], "--encode-seconds is 0.0: give more than 0"),
        (["a.png", "--encode-seconds", "inf"], "--encode-seconds is inf: give more than 0"),
        (["encode", "--model", ""], "--model is empty: give a name or a path"),
        (["encode", "--dtype", "int8"], "unknown --dtype 'int8'"),
        (["encode", "--bundle", "german"], "unknown bundle 'german'"),
        (["encode", "--corpus-mode", "extend"], "--corpus-mode says what a --corpus does to the bundle's own: give one"),
        (["encode", "--corpus", "nowhere.txt"], "the --corpus nowhere.txt cannot be read"),
    ],
)
def test_bad_input_is_one_sentence(run, light, words, sentence):
    done = run(*words)
    assert done.status == 2 and len(done.sentences) == 1 and sentence in done.sentences[0] and light.encodings == []
