"""`python -m experiments list`, `python -m experiments run NAME…` and `python -m experiments golden`."""

from __future__ import annotations

import difflib
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.table import Table

from experiments.harness import golden, runner
from invert.errors import InputError
from invert.inverter import Inverter
from invert.models.device import pick_device
from kernels.once import OnceEach

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)


@app.command("list")
def list_all() -> None:
    """Every experiment with the question that it answers."""
    table = Table("experiment", "what it finds out")
    for name in runner.names():
        table.add_row(name, runner.summary(name))
    Console().print(table)


@app.command(cls=OnceEach)
def run(
    names: Annotated[list[str], typer.Argument(help="Experiments to run; `list` shows them.")],
    quick: Annotated[bool, typer.Option("--quick", help="A small version, in minutes.")] = False,
    seed: Annotated[int, typer.Option(help="The same seed gives the same figures, times aside.")] = 0,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    results: Annotated[Path, typer.Option(help="Where JSON and pictures go.")] = runner.RESULTS,
) -> None:
    """Run experiments and write their JSON and pictures; exit status 1 where one of them found that something fails."""
    known = runner.names()
    for name in names:
        if name not in known:
            close = difflib.get_close_matches(name, known, 1)
            hint = f" (did you mean {close[0]}?)" if close else ""
            fail(f"unknown experiment {name!r}{hint}: choose one of {', '.join(known)}")
    try:
        chosen = pick_device(device)
    except InputError as error:
        fail(str(error))
    failed = False
    for name in names:
        try:
            path = runner.run(name, quick, seed, chosen, results)
        except InputError as error:
            fail(str(error))
        print(path)
        failed |= json.loads(path.read_text()).get("failed", False)
    raise typer.Exit(int(failed))


@app.command("golden")
def check_golden(
    methods: Annotated[list[str] | None, typer.Argument(help="Methods to check; all where none is named.")] = None,
    record: Annotated[bool, typer.Option("--record", help="Record what is found now, for a method that was revised.")] = False,
) -> None:
    """Run every method on the golden pictures again and compare its prompts with the recorded ones; 1 where one changed."""
    chosen = methods or golden.NAMES
    for name in chosen:
        if name not in golden.NAMES:
            fail(f"no golden prompts of {name!r}: choose among {', '.join(golden.NAMES)}")
    inverter = Inverter.load(device="cpu")
    if record:
        for line in golden.record(inverter, chosen):
            print(line, flush=True)
        return
    counts: Counter[str] = Counter()
    try:
        for found in golden.check(inverter, chosen):
            print(found, flush=True)
            counts[found.verdict] += 1
    except InputError as error:
        fail(str(error))
    print(f"{counts['same']} same, {counts['tie']} ties, {counts['changed']} changed")
    raise typer.Exit(1 if counts["changed"] else 0)


def fail(sentence: str) -> NoReturn:
    """Say what is wrong with the input; exit status 2."""
    print(f"experiments: {sentence}", file=sys.stderr)
    raise typer.Exit(2)


if __name__ == "__main__":
    app()
