"""The sub-commands, `invert NAME …`, beside `invert image.png`: looked up before anything heavy is imported.

Each is a function that takes the run's `Interrupts` and gives the command line, made by `invert.cli.options.parser`
from a dataclass of options; its errors, signals and exit statuses are those of the main command.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NamedTuple


class SubCommand(NamedTuple):
    """function: "module:name", imported when it is called. summary: a line of the help. wanted: what a run brings."""

    function: str
    summary: str
    wanted: str


SUBCOMMANDS = {
    "encode": SubCommand("invert.cli.encode:command", "words and prompts for a model, once, resumable", "a table"),
    "run": SubCommand("invert.cli.run:run_command", "captions and tables for folders of pictures, resumable", "a prompt"),
    "serve": SubCommand("invert.cli.serve:command", "a page and an HTTP API over one model", "a page"),
    "shards": SubCommand("invert.cli.shards:shards_command", "tars and Parquet files, on any number of machines", "a shard"),
}


def names_subcommand(words: Sequence[str]) -> bool:
    """Whether the words of the command line begin with a sub-command."""
    return bool(words) and words[0] in SUBCOMMANDS


def run_subcommand(words: Sequence[str]) -> int:
    """The exit status of `invert` with these words, of which the first names a sub-command."""
    from invert.cli.failures import guarded
    from invert.cli.interrupts import Interrupts
    from invert.cli.terminal import complain
    from invert.registry import resolve

    name, *rest = words
    command = SUBCOMMANDS[name]
    interrupts = Interrupts(command.wanted)
    if os.path.isfile(name):
        complain(f"note: {name} is a sub-command: write ./{name} where the file of that name is meant")

    def work() -> object:
        app = resolve(command.function)(interrupts)
        return app(rest, standalone_mode=False, prog_name=f"invert {name}")

    return guarded(work, interrupts, "--debug" in rest)


def summary() -> str:
    """The sub-commands, for the help of the main command."""
    return "  ".join(f"invert {name}: {command.summary}." for name, command in SUBCOMMANDS.items())
