"""The command lines that the pages show are taken by the commands themselves: options that there are, and that go together."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from experiments.harness import runner
from invert.cli import command, encode, run, serve, shards
from invert.cli.options import Options, parser
from invert.cli.outputs import Outputs

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "experiments" / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
CHECKS: dict[str, tuple[type, Callable[[Any], object]]] = {
    "invert": (Options, lambda options: command.check_alone(options) or command.check(options, Outputs.of(options))),
    "run": (run.RunOptions, run.check),
    "shards": (shards.ShardOptions, shards.check),
    "serve": (serve.ServeOptions, serve.check),
    "encode": (encode.EncodeOptions, lambda options: None),
}


def shown(script: ModuleType) -> Iterator[list[str]]:
    """The words of every command line of the pages that runs `invert`, what runs it (`uvx`) taken off."""
    for page in PAGES:
        for block in script.blocks(page.read_text(encoding="utf-8")):
            for line in block.text.replace("\\\n", " ").splitlines() if block.language in script.SHELLS else ():
                command = line.removeprefix("$ ")
                if command.startswith(("invert ", "uvx ")):
                    words = shlex.split(command, comments=True)
                    yield words[words.index("invert") :]


def test_every_line_with_invert_is_taken(script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script.scratch(tmp_path)
    (tmp_path / "folder" / "with" / "a" / "model").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    taken = 0
    for words in shown(script):
        name, rest = (words[1], words[2:]) if words[1] in CHECKS else ("invert", words[1:])
        options_type, check = CHECKS[name]
        seen: list[object] = []

        def read(options: object, check: Callable[[Any], object] = check, seen: list[object] = seen) -> int:
            check(options)
            seen.append(options)
            return 0

        parser(read, options_type)(rest, standalone_mode=False)
        assert seen, words
        taken += 1
    assert taken > 40


def test_every_experiment_that_is_named_is_there() -> None:
    named = set()
    for page in PAGES:
        for run_of in re.findall(r"python -m experiments run ([a-z0-9 -]+)", page.read_text(encoding="utf-8")):
            named.update(word for word in run_of.split(" --")[0].split())
    assert len(named) > 20
    assert named <= set(runner.names())
