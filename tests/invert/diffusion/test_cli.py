"""Drawing on the command line: `--generate`, `--select generator`, and what is said where they make no sense."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from safetensors.torch import load_file

from invert.diffusion.generator import Generator
from invert.diffusion.roundtrip import regenerate
from invert.inverter import Inverter
from invert.models.loading import load_clip
from invert.picturebook.text_encoder import PROMPT_LENGTH
from tests.invert.diffusion.conftest import KINDS, run

QUICK = ("--restarts", "1", "--soft-steps", "2", "--budget", "3000")


def test_the_report_shows_what_the_prompt_and_the_soft_prompt_draw(
    monkeypatch: pytest.MonkeyPatch, picture: Path, picturebook_reader: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.html"
    rows = tmp_path / "rows.safetensors"
    drawing = ("--generate", 2, "--seed", 5, "--generator", picturebook_reader, "--polish-steps", 2, "--report", page, "--json")
    assert run(monkeypatch, picture, *QUICK, *drawing, "--embedding", rows) == 0
    result = json.loads(capsys.readouterr().out)
    every = [result[name] for name in ("drawn", "soft_drawn", "polished_drawn")]
    assert all([image["seed"] for image in images] == [5, 6] for images in every)
    assert all(-1 <= image["judge"] <= 1 and 0 <= image["pixels"] <= 1 for image in result["drawn"])
    text = page.read_text()
    assert text.count("<figure>") == 6 and "What was lost in the words" in text
    (saved,) = load_file(rows).values()
    assert saved.shape == (PROMPT_LENGTH - 2, 192)  # every position of the generator's context, not the soft prompt's 16
    shown = re.findall(r"<figcaption>judge (-?[\d.]+)", text)
    side_by_side = [image for of_seed in zip(*every, strict=True) for image in of_seed]
    assert shown == [f"{image['judge']:.2f}" for image in side_by_side]
    titles = re.search(r'class="beside".*?<figure>', text)
    assert titles and re.findall(r"<b>(.*?)</b>", titles[0]) == ["in words", "soft, before words", "polished"]
    assert re.search(r"How far the embeddings of its words moved.*The \d+ empty places behind them moved by", text)


def test_the_generator_puts_the_prompt_first_whose_images_are_nearest(
    monkeypatch: pytest.MonkeyPatch, picture: Path, picturebook_reader: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    drawing = ("--select", "generator", "--generate", 2, "--generator", picturebook_reader, "--steps", 3)
    assert run(monkeypatch, picture, *QUICK, *drawing, "--top", 3, "--json") == 0
    result = json.loads(capsys.readouterr().out)
    prompts = [alternative["prompt"] for alternative in result["alternatives"]]
    assert len(prompts) == 3 and result["prompt"] == prompts[0]
    generator, judge = Generator.load(str(picturebook_reader), "cpu"), load_clip("picturebook-judge", "cpu")
    generator.config = replace(generator.config, steps=3)
    assert regenerate(generator, judge, Image.open(picture), prompts, seeds=[0, 1]).best_first() == [0, 1, 2]


@pytest.mark.parametrize("kind", KINDS)
def test_any_stable_diffusion_draws_the_prompt_and_says_why_it_does_not_draw_the_soft_one(
    monkeypatch: pytest.MonkeyPatch, picture: Path, kind: str, pipeline_folders: dict[str, Path], inverter: Inverter,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(Inverter, "load", lambda *_, **__: inverter)
    words = ("--method", "nearest", "--restarts", 1, "--soft-steps", 1, "--generate", 1, "--json", "--size", "32x16")
    assert run(monkeypatch, picture, *words, "--steps", 2, "--guidance", 2, "--generator", pipeline_folders[kind]) == 0
    out, err = capsys.readouterr()
    result = json.loads(out)
    assert len(result["drawn"]) == 1 and "soft_drawn" not in result
    assert len(err.splitlines()) == 1 and "the soft prompt is not drawn" in err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--polish-steps", "-1"), "--polish-steps is -1"),
        (("--polish-steps", "5"), "--embedding"),
        (("--polish-steps", "5", "--embedding", "a.safetensors", "--method", "textual-inversion"), "nothing to polish"),
        (("--select", "taste"), "choose one of score, generator"),
        (("--generate", "-1", "--json"), "--generate is -1"),
        (("--generate", "2"), "--report"),
        (("--generate", "2", "--json", "--together"), "one picture"),
        (("--select", "generator", "--text", "a fox"), "one picture"),
    ],
)
def test_drawing_that_makes_no_sense_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, picture: Path, options: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, *(() if "--text" in options else (picture,)), *options) == 2
    out, err = capsys.readouterr()
    assert out == "" and len(err.splitlines()) == 1 and message in err


def test_the_bundled_generator_draws_without_being_asked_for(
    monkeypatch: pytest.MonkeyPatch, picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        run(monkeypatch, picture, *QUICK, "--generate", 2, "--polish-steps", 0, "--report", tmp_path / "page.html", "--json") == 0
    )
    result = json.loads(capsys.readouterr().out)
    assert len(result["drawn"]) == len(result["soft_drawn"]) == 2 and "polished_drawn" not in result
    assert (tmp_path / "page.html").read_text().count("<figure>") == 4
