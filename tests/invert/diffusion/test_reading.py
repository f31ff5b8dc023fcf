"""What a generator does not read of a prompt is said, where it can be told."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

pytest.importorskip("diffusers")

from invert.app.service import Service
from invert.diffusion.generator import Generator
from invert.diffusion.reading import what_is_cut
from invert.inverter import Inverter


def test_a_prompt_beyond_the_context_is_told() -> None:
    generator = Generator.load("picturebook", device="cpu")
    most = generator.pipeline.tokenizer.model_max_length - 2
    assert what_is_cut(generator, "fox " * most) == ""
    assert what_is_cut(generator, "fox " * (most + 2)) == f"picturebook reads the first {most} of the prompt's {most + 2} tokens"


def test_of_other_generators_nobody_can_tell() -> None:
    assert what_is_cut(SimpleNamespace(name="an endpoint", reads_clip=False), "fox " * 999) == ""


def test_a_drawing_of_the_page_says_it(picturebook_bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    service = Service(Inverter(picturebook_bundle))
    drawn = service.draw("a fox " * 60, images=1)
    assert "reads the first" in drawn[0].caption
    assert "reads the first" not in service.draw("a fox", images=1)[0].caption
