"""The table of `--compare`: one row a method."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from invert.cli.terminal import encoding_of, say
from invert.escape import escaped
from invert.result import Result

COLUMNS = ("method", "prompt", "score", "judge", "seconds", "token passes")


def comparison(label: str, results: Sequence[Result]) -> Table:
    """Prompt, cosine under the model and under the judge, and cost of every method."""
    encoding = encoding_of(sys.stdout)
    table = Table(*COLUMNS, title=Text(escaped(label, encoding)))
    for result in results:
        similarity = "" if result.judge is None else f"{result.judge:.3f}"
        cost = f"{result.forward_tokens + result.backward_tokens:,}"
        figures = (f"{result.score:.3f}", similarity, f"{result.seconds:.1f}", cost)
        table.add_row(*(Text(escaped(cell, encoding)) for cell in (result.method, result.prompt, *figures)))
    return table


def print_comparison(label: str, results: Sequence[Result]) -> None:
    """The comparison on stdout."""
    print_table(comparison(label, results))


def print_table(table: Table) -> None:
    """The table on stdout, as wide as the terminal."""
    console = Console()
    with console.capture() as captured:
        console.print(table)
    say(captured.get().removesuffix("\n"))
