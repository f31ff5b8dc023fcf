"""`python -m experiments list` and `python -m experiments run NAME…`."""

from __future__ import annotations

import difflib
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from experiments.harness import runner
from invert.errors import InputError
from invert.models.device import pick_device

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)


@app.command("list")
def list_all() -> None:
    """Every experiment with the question that it answers."""
    table = Table("experiment", "what it finds out")
    for name in runner.names():
        table.add_row(name, runner.summary(name))
    Console().print(table)


@app.command()
def run(
    names: Annotated[list[str], typer.Argument(help="Experiments to run; `list` shows them.")],
    quick: Annotated[bool, typer.Option("--quick", help="A small version, in minutes.")] = False,
    seed: Annotated[int, typer.Option(help="The same seed gives the same figures, times aside.")] = 0,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    results: Annotated[Path, typer.Option(help="Where JSON and pictures go.")] = runner.RESULTS,
) -> None:
    """Run experiments and write their JSON and pictures."""
    known = runner.names()
    for name in names:
        if name not in known:
            close = difflib.get_close_matches(name, known, 1)
            hint = f" (did you mean {close[0]}?)" if close else ""
            print(f"experiments: unknown experiment {name!r}{hint}: choose one of {', '.join(known)}", file=sys.stderr)
            raise typer.Exit(2)
    try:
        chosen = pick_device(device)
    except InputError as error:
        print(f"experiments: {error}", file=sys.stderr)
        raise typer.Exit(2) from error
    for name in names:
        print(runner.run(name, quick, seed, chosen, results))


if __name__ == "__main__":
    app()
