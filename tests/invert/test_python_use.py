"""What researchers and engineers do from Python: odd values, contexts of torch, threads, interrupts, phrases that are banned."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from invert.config import InvertConfig
from invert.errors import InputError
from invert.history import COSINE
from invert.inverter import Inverter
from invert.methods import METHODS, Method, get_method
from invert.methods.configs import NoConfig
from invert.report import Entry, report_page

TINY = {"soft_steps": 2, "restarts": 2, "tokens": 4, "budget": 3000}


def test_negative_seeds_are_seeds(inverter, pictures):
    first, again = (inverter.invert(pictures[0], **TINY, seed=-1) for _ in range(2))
    assert first.prompt == again.prompt and first.seed == -1


@pytest.mark.parametrize("context", [torch.no_grad, lambda: torch.autocast("cpu", dtype=torch.bfloat16)])
def test_a_context_of_torch_changes_nothing(inverter, pictures, context, monkeypatch, tmp_path):
    monkeypatch.setenv("INVERT_CACHE", str(tmp_path))
    corpus = ("a fox on a red background", "two clocks", "a lobster")
    with context():
        inside = inverter.invert(pictures[0], method="retrieve", corpus=corpus, top=3)
    outside = inverter.invert(pictures[0], method="retrieve", corpus=corpus[::-1], top=3)  # another list, encoded anew
    assert [prompt for prompt, _ in inside.alternatives] == [prompt for prompt, _ in outside.alternatives]
    assert [score for _, score in inside.alternatives] == pytest.approx([score for _, score in outside.alternatives], abs=2e-4)
    with context():
        assert inverter.invert(pictures[0], **TINY).prompt == inverter.invert(pictures[0], **TINY).prompt


def test_ctrl_c_ends_a_batch(inverter, pictures, monkeypatch):
    asked = []

    def run(task, config):
        asked.append(task)
        task.history.report_candidate("a fox", 0.3)
        raise KeyboardInterrupt

    monkeypatch.setitem(METHODS._known, "mine", Method("mine", 1, NoConfig, run, metric=COSINE))
    found = inverter.invert_batch(pictures[:3], method="mine")
    assert len(asked) == len(found) == 1 and found[0].interrupted


def test_distilling_with_required_words_starts_from_the_text_and_grows_by_them_alone(inverter):
    text = "a lobster to the left of a palm tree on a teal background"
    found = inverter.distill(text, must_include=("lobster",), soft_steps=0, budget=800)
    assert found.score == pytest.approx(1, abs=1e-3) and len(found.tokens) <= len(text.split())
    short = inverter.distill("lobster", must_include=("lobster",), soft_steps=0, budget=2000)
    assert len(short.tokens) == len(inverter.clip.tokenizer.encode("lobster"))


def test_random_search_keeps_to_max_tokens(inverter, pictures):
    found = inverter.invert(pictures[0], method="random", tokens=16, max_tokens=2, budget=500)
    assert len(found.tokens) <= 2


@pytest.mark.parametrize("method", ["nearest", "pez", "gcg"])
def test_a_banned_phrase_is_in_no_prompt(inverter, pictures, method):
    first = inverter.invert(pictures[0], method=method, tokens=2, budget=400, top=5)
    banned = first.prompt
    assert " " in banned
    try:
        found = inverter.invert(pictures[0], method=method, tokens=2, budget=400, top=5, ban=(banned,))
    except InputError as error:
        assert "every prompt that was found holds a banned phrase" in str(error)
    else:
        assert all(f" {banned} " not in f" {prompt} " for prompt, _ in found.alternatives)


def test_a_captioner_may_give_one_text_and_nothing_but_text(inverter, pictures):
    found = inverter.invert(pictures[0], **TINY, caption=lambda pictures: "a lobster on a beach")
    assert [one.text for one in found.captions] == ["a lobster on a beach"]
    with pytest.raises(InputError, match="`caption` gave something else than text"):
        inverter.invert(pictures[0], **TINY, caption=lambda pictures: [None])


def test_a_string_is_one_entry_of_a_bundle(inverter):
    words = {word.text for word in inverter.bundle.lexicon.words} - {
        word.text for word in inverter.bundle.with_(ban="lobster").lexicon.words
    }
    assert words == {"lobster"}
    assert inverter.bundle.with_(corpus="a fox").corpus.prompts == ("a fox",)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"seed": 1.5}, "`seed` is 1.5: give a whole number"),
        ({"tokens": "8"}, "`tokens` is '8': give a whole number"),
        ({"corpus": ["a", float("nan")]}, "`corpus` holds nan: give texts alone"),
        ({"ban": [None]}, "`ban` holds None: give texts alone"),
        ({"method": None}, "`method` is None: give a text"),
        ({"init_prompt": 5}, "`init_prompt` is 5: give a text"),
        ({"target": "middle"}, "unknown `target` 'middle'"),
    ],
)
def test_what_is_no_option_is_named(given, named):
    with pytest.raises(InputError, match=named):
        InvertConfig(**given)


def test_numbers_and_lists_of_numpy_are_taken():
    config = InvertConfig(seed=np.int64(3), budget=1e4, corpus=np.array(["a fox", "a dog"]))
    assert (config.seed, config.budget, config.corpus) == (3, 10_000, ("a fox", "a dog"))
    assert type(config.seed) is type(config.budget) is int


def test_two_lists_with_line_breaks_are_two_lists(inverter, pictures, monkeypatch, tmp_path):
    monkeypatch.setenv("INVERT_CACHE", str(tmp_path))
    for corpus in (("a lobster\na palm tree", "on a beach"), ("a lobster", "a palm tree\non a beach")):
        found = inverter.invert(pictures[0], method="retrieve", corpus=corpus, top=2)
        for prompt, score in found.alternatives:
            assert score == pytest.approx(inverter.rate(prompt, pictures[0]).score, abs=2e-3)


def test_threads_have_their_own_phrases(inverter, pictures):
    def asked(i: int) -> bool:
        return f"category {i % 4}" in inverter.analyze(pictures[0], phrases={f"category {i % 4}": ["a fox"]}).categories

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as pool:
            assert all(pool.map(asked, range(40)))
    finally:
        sys.setswitchinterval(interval)


def test_another_bundle_takes_the_place_of_what_was_derived_from_the_first(inverter, pictures):
    own = Inverter(inverter.bundle)
    own.invert(pictures[0], method="retrieve", ban=("zebra",))
    own.bundle = own.bundle.with_(corpus=["a fox"])
    assert own.invert(pictures[0], method="retrieve", ban=("zebra",)).prompt == "a fox"


def test_a_method_that_cannot_be_imported_does_not_stand_in_the_way_of_others(inverter, pictures, monkeypatch):
    names = METHODS.names
    monkeypatch.setattr(type(METHODS), "names", lambda self: [*names(), "broken"] if self is METHODS else [])
    with pytest.raises(InputError, match="the method 'pez' cannot follow `must_include`"):
        inverter.invert(pictures[0], method="pez", must_include=("beach",))


def test_a_report_shows_pictures_of_any_mode(inverter, pictures):
    result = inverter.rate("a fox", pictures[0])
    page = report_page([Entry("x", [pictures[0].convert("CMYK")], [result])])
    assert page.count("<img") == 2  # the picture, and the curve


def test_the_generator_is_loaded_before_the_clock():
    assert all(get_method(name).prepare is not None for name in ("ph2p", "textual-inversion"))
