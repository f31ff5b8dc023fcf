"""Runs of the command in this process, with the bundled model or with a stand-in that needs no model."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image

import invert.cli
from invert.analysis import Analysis
from invert.inverter import Inverter
from invert.models.tokenizer import BytePairTokenizer
from invert.result import Result


@dataclass(frozen=True)
class Done:
    """What a run left: exit status and both streams."""

    status: int
    out: str
    err: str

    @property
    def sentences(self) -> list[str]:
        return self.err.splitlines()


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """command("image.png", "--json") → Done, in this process."""

    def run(*words: object) -> Done:
        monkeypatch.setattr(sys, "argv", ["invert", *map(str, words)])
        with pytest.raises(SystemExit) as exit:
            invert.cli.main()
        out, err = capsys.readouterr()
        return Done(int(exit.value.code or 0), out, err)

    return run


class LightInverter:
    """Names a picture by its size, at once. `answers` replaces what happens at the i-th picture: an exception is raised."""

    def __init__(self, found: Result) -> None:
        tokenizer = BytePairTokenizer(list, str, str, 0, 1)
        self.clip = SimpleNamespace(
            name="light", device="cpu", dtype=torch.float32, tokenizer=tokenizer, table_widths=(8,), turns=None
        )
        self.bundle = SimpleNamespace(
            name="light", generator=None, soft_words=True, encode=self.encode, load_evaluator=object, labels=object
        )  # without a generator nothing is polished
        self.encoded: Any = (7, 7)
        self.encodings: list[tuple[float | None, bool]] = []
        self.found, self.calls = found, 0
        self.answers: dict[int, Any] = {}

    def invert_joint(self, pictures: list[Image.Image], config: Any, **_: Any) -> Result:
        answer = self.answers.get(self.calls, f"a picture of {pictures[0].width} pixels")
        self.calls += 1
        if isinstance(answer, BaseException):
            raise answer
        if callable(answer):
            answer = answer()
        if isinstance(answer, Result):
            return answer
        return replace(self.found, prompt=answer, alternatives=[(answer, 0.5)], method=config.method, seed=config.seed)

    def analyze(self, pictures: list[Image.Image], top: int, *, phrases: dict[str, tuple[str, ...]], **_: Any) -> Analysis:
        answer = self.answers.get(self.calls, f"{pictures[0].width} pixels")
        self.calls += 1
        if isinstance(answer, BaseException):
            raise answer
        tables = {"sizes": (answer, "many pixels", "few pixels"), **phrases}
        return Analysis({category: [(phrase, 0.5) for phrase in table[:top]] for category, table in tables.items()}, "light")

    def bundle_for(self, config: Any) -> Any:
        return self.bundle

    def encode(self, seconds: float | None, words: bool) -> tuple[int, int]:
        self.encodings.append((seconds, words))
        if isinstance(self.encoded, BaseException):
            raise self.encoded
        return self.encoded

    def distill(self, text: str, config: Any, **more: Any) -> Result:
        return self.invert_joint([Image.new("RGB", (len(text), 1))], config, **more)


@pytest.fixture
def light(monkeypatch: pytest.MonkeyPatch, found: Result) -> LightInverter:
    """The stand-in that `run` works with."""
    inverter = LightInverter(found)
    monkeypatch.setattr(Inverter, "load", lambda *_, **__: inverter)
    return inverter


@pytest.fixture
def run(command: Callable[..., Done], light: LightInverter) -> Callable[..., Done]:
    """`command` with the stand-in."""
    return command


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    """Four pictures, 11 to 14 pixels wide."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    paths = [folder / f"{width}.png" for width in (11, 12, 13, 14)]
    for width, path in zip((11, 12, 13, 14), paths, strict=True):
        Image.new("RGB", (width, 9), "teal").save(path)
    return paths


@pytest.fixture(autouse=True)
def signals_are_heard() -> Iterator[None]:
    """A test run in the background is started with signals ignored (nohup, a shell's &); a user's terminal is not."""
    handlers = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL, signal.SIGHUP: signal.SIG_DFL}
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
