"""`invert NAME …`: found before anything is loaded, and ended as the main command is."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pytest
import typer

from invert.cli.interrupts import Interrupts
from invert.cli.options import parser
from invert.cli.subcommands import SUBCOMMANDS, SubCommand
from invert.errors import InputError


@dataclass(frozen=True)
class CountOptions:
    """Options of the command that these tests add."""

    things: Annotated[list[str] | None, typer.Argument(help="Things.")] = None
    only_first: Annotated[bool, typer.Option("--only-first", help="One.")] = False
    end: Annotated[str, typer.Option(help="How.")] = "well"
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False


def count_command(interrupts: Interrupts) -> typer.Typer:
    def count(options: CountOptions) -> int:
        if options.end == "badly":
            raise InputError("`only_first` is odd: leave it out")
        if options.end == "internally":
            raise RuntimeError("broke")
        if options.end == "early":
            os.kill(os.getpid(), signal.SIGTERM)
        if not options.things:
            return 2
        print(len(options.things))
        return 0

    interrupts.importing = False
    return parser(count, CountOptions, "Count things.")


@pytest.fixture(autouse=True)
def counting(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("invert.cli.count_command", count_command, raising=False)
    monkeypatch.setitem(SUBCOMMANDS, "count", SubCommand("invert.cli:count_command", "count things", "a count"))
    monkeypatch.chdir(tmp_path)


def test_a_subcommand_takes_the_words_behind_it(command):
    done = command("count", "a", "b")
    assert (done.status, done.out, done.err) == (0, "2\n", "")


@pytest.mark.parametrize(
    ("words", "status", "sentence"),
    [
        (["--end", "badly"], 2, "invert: --only-first is odd: leave it out"),
        (["--color"], 2, "invert: No such option: --color"),
        (["--end", "internally"], 1, "invert: internal error: RuntimeError: broke; --debug shows where"),
    ],
)
def test_its_failures_are_one_sentence_and_a_status(command, words, status, sentence):
    done = command("count", *words)
    assert done.status == status and done.out == "" and done.sentences == [sentence]


def test_its_signals_have_the_statuses_of_shells_and_a_sentence_of_its_own(command):
    done = command("count", "--end", "early")
    assert done.status == 143 and done.sentences == ["invert: terminated before there was a count"]


def test_debug_shows_its_tracebacks(command):
    assert "Traceback" in command("count", "--end", "internally", "--debug").err


@pytest.mark.parametrize("word", ["-h", "--help"])
def test_it_has_a_help_of_its_own_and_the_main_help_names_it(command, word):
    own = command("count", word)
    assert own.status == 0 and "invert count" in own.out and "--only-first" in own.out and "--method" not in own.out
    assert "invert count: count things" in " ".join(command(word).out.replace("│", " ").split())


def test_a_file_of_its_name_is_reachable_and_that_is_said(command, tmp_path):
    (tmp_path / "count").write_bytes(b"no picture")
    done = command("count", "a")
    assert done.status == 0 and done.sentences == [
        "invert: note: count is a sub-command: write ./count where the file of that name is meant"
    ]
    assert "./count is not an image" in command("./count").err


def test_the_flags_of_a_subcommand_do_not_leak_into_the_main_commands_sentences(command):
    command("count", "--end", "badly")
    assert "--negative is empty" in command("a.png", "--negative", "").err
