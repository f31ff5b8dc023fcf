"""Folders of small pictures, shards of them, and a mapper that needs no model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from invert.batch.find import Patterns, find_pictures
from invert.batch.journal import Journal
from invert.batch.runner import STATE, Run, RunSettings, Summary
from invert.batch.tiers import Found
from tests.invert.batch.shard_cases import tar_of


class Widths:
    """Names a picture by its width. `answers` replaces what is said of a width: an exception is raised for its batch alone."""

    batch = 4

    def __init__(self) -> None:
        self.seen: list[int] = []
        self.answers: dict[int, Any] = {}

    def prepare(self, image: Any) -> int:
        return image.width

    def __call__(self, prepared: Sequence[int]) -> list[Found | Exception]:
        self.seen += prepared
        return [self.answered(width) for width in prepared]

    def answered(self, width: int) -> Found | Exception:
        answer = self.answers.get(width)
        if isinstance(answer, KeyboardInterrupt):
            raise answer
        if isinstance(answer, Exception | Found):
            return answer
        prompt = answer or f"a picture of {width} pixels"
        return Found(prompt, width / 100, 1, "widths", 0, ((prompt, width / 100),))


@pytest.fixture
def widths() -> Widths:
    return Widths()


def _draw(path: Path, width: int, **more: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (width, 9), "teal").save(path, **more)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Ten pictures, 11 to 20 pixels wide, half of them in a folder within."""
    for width in range(11, 21):
        _draw(tmp_path / "pictures" / ("sub" if width % 2 else ".") / f"{width}.png", width)
    return tmp_path / "pictures"


@pytest.fixture
def perform(widths: Widths, folder: Path) -> Callable[..., Summary]:
    """perform(settings…) runs over the folder's pictures and gives the summary."""

    def performed(out: Path | None = None, load: Any = None, options: Any = None, **settings: Any) -> Summary:
        state = (out or folder) / STATE
        state.mkdir(parents=True, exist_ok=True)
        found = RunSettings(out=out, state=state, **settings)
        pictures = find_pictures([str(folder)], Patterns(), print)
        with Journal(state / "journal.jsonl", options or {}, found.wanted.how) as journal:
            return Run(pictures, journal, found, load or (lambda: widths)).run()

    return performed


@pytest.fixture
def draw() -> Callable[..., Path]:
    """draw(path, width) saves a picture."""
    return _draw


@pytest.fixture
def content() -> Callable[[Path], dict[str, bytes]]:
    """content(folder) → every file below it but the run's own, by its path in it."""
    return _content


def _content(folder: Path) -> dict[str, bytes]:
    paths = [path for path in folder.rglob("*") if path.is_file() and STATE not in path.parts]
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(paths)}


@pytest.fixture
def tars(tmp_path: Path) -> list[Path]:
    """Three tars of five pictures."""
    return [tar_of(tmp_path / f"{i:05d}.tar", 5, 10 * i) for i in range(3)]
