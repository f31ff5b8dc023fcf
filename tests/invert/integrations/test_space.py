"""The Space's one file, imported as Hugging Face runs it, and its header."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

from invert.inverter import Inverter

gradio = pytest.importorskip("gradio")
FOLDER = Path(__file__).parents[3] / "integrations" / "space"


def test_the_file_builds_the_page_of_the_model_that_the_variables_name(
    toy_bundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    loads: list[tuple[str, str | None]] = []
    monkeypatch.setattr(Inverter, "load", lambda *names: loads.append(names) or Inverter(toy_bundle))
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    monkeypatch.setenv("INVERT_MODEL", "ViT-L-14/openai")
    monkeypatch.setenv("INVERT_BUNDLE", "english")
    monkeypatch.setenv("INVERT_SECONDS", "7")
    space = runpy.run_path(str(FOLDER / "app.py"))
    assert loads == [("ViT-L-14/openai", "english")]
    assert isinstance(space["demo"], gradio.Blocks) and not space["demo"].analytics_enabled
    assert any("up to 7" in str(block.label) for block in space["demo"].blocks.values() if hasattr(block, "label"))


def test_the_header_names_the_file_and_a_gradio_that_the_app_runs_on() -> None:
    header = (FOLDER / "README.md").read_text(encoding="utf-8").split("---")[1]
    fields = dict(re.findall(r"^(\w+): *(.+)$", header, re.M))
    assert fields["sdk"] == "gradio" and (FOLDER / fields["app_file"]).exists()
    assert fields["sdk_version"].split(".")[0] == "6" and len(fields["short_description"]) <= 60
    assert "prompt-inversion[app" in (FOLDER / "requirements.txt").read_text(encoding="utf-8")
