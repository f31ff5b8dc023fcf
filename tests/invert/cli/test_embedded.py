"""`invert image.png` of a picture that carries a prompt: it is shown, used or left alone."""

from __future__ import annotations

import io
import json
import sys
from types import SimpleNamespace

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from invert.inverter import Inverter

PROMPT = "two alarm clocks"


@pytest.fixture
def carrying(pictures):
    """The first of the pictures carries a prompt."""
    info = PngInfo()
    info.add_text("parameters", f"{PROMPT}\nSteps: 20, Sampler: Euler, Seed: 1")
    Image.new("RGB", (11, 9)).save(pictures[0], pnginfo=info)
    return pictures


def test_a_carried_prompt_is_a_note_and_stdout_stays_the_found_one(run, carrying, tmp_path):
    done = run(*carrying, "--report", tmp_path / "page.html")
    assert done.status == 0 and len(done.out.splitlines()) == 4 and PROMPT not in done.out
    assert done.sentences == [f"invert: note: {carrying[0]} carries a prompt (parameters): {PROMPT}"]
    assert (tmp_path / "page.html").read_text().count(f"carries: {PROMPT}") == 1


def test_ignored_it_is_nowhere(run, carrying):
    done = run(*carrying, "--embedded", "ignore", "--json")
    assert done.err == "" and PROMPT not in done.out and "embedded" not in json.loads(done.out.splitlines()[0])


def test_used_it_stands_in_the_place_of_a_search_with_its_cosine(command, carrying, inverter, monkeypatch):
    monkeypatch.setattr(Inverter, "load", lambda *_, **__: inverter)
    done = command(carrying[0], "--embedded", "use", "--json")
    found = json.loads(done.out)
    assert done.err == "" and found["prompt"] == PROMPT and found["method"] == "embedded"
    assert found["embedded"] == {"prompt": PROMPT, "source": "parameters"}
    assert found["score"] == pytest.approx(inverter.analyze(carrying[0], phrases={"x": [PROMPT]}).categories["x"][0][1], abs=1e-4)


def test_a_picture_on_standard_input_carries_one_too(run, carrying, monkeypatch):
    stream = io.BytesIO(carrying[0].read_bytes())
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=stream))
    done = run("-")
    assert done.out == "a picture of 11 pixels\n" and f"carries a prompt (parameters): {PROMPT}" in done.err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["a.png", "--embedded", "maybe"], "unknown --embedded 'maybe': choose one of use, show, ignore"),
        (["a.png", "b.png", "--together", "--embedded", "use"], "--embedded use takes the prompt that one picture carries"),
        (["--text", "a fox", "--embedded", "use"], "leave it out with --together and --text"),
    ],
)
def test_what_makes_no_sense_is_said(run, words, sentence):
    done = run(*words)
    assert done.status == 2 and sentence in done.err and len(done.sentences) == 1
