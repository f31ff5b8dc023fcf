"""The `invert` command: prompts on stdout and nothing else, all notes on stderr.

Exit status: 0 done, 2 bad input (one sentence on stderr), 130 interrupted and 143 terminated (the best
prompt so far is printed), 141 where the reader of stdout has gone, 1 internal error. In a batch a bad file
does not stop the others, and whatever was computed is written.

Arguments are checked before torch is imported: `options` reads them, `command` checks them, `batch` does
the work, `outputs` writes. `subcommands` lists the commands of their own, `invert NAME …`.
"""

from __future__ import annotations

import gc
import sys
from typing import NoReturn

OBJECTS_BETWEEN_COLLECTIONS = 50_000  # Python's own 700 cost a start 8 % of its processor time, and find hardly a cycle


def main() -> NoReturn:
    """Entry point. Everything is imported in here, so that an interrupted import is one sentence too."""
    gc.set_threshold(OBJECTS_BETWEEN_COLLECTIONS)
    try:
        from invert.cli.subcommands import names_subcommand, run_subcommand

        words = sys.argv[1:]
        if names_subcommand(words):
            status = run_subcommand(words)
        else:
            from invert.cli.command import run_command

            status = run_command(words)
    except KeyboardInterrupt:  # before there was a handler for it
        print("invert: interrupted before there was a prompt", file=sys.stderr)
        status = 130
    sys.exit(status)
