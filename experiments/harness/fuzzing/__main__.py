"""One part alone: `python -m experiments.harness.fuzzing pictures --count 1000 --seed 3`."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from experiments.fuzz import COUNTS, run_part


def main(
    part: Annotated[str, typer.Argument(help=f"One of {', '.join(COUNTS)}.")],
    count: Annotated[int | None, typer.Option(help="How many inputs; by default as many as the experiment tries.")] = None,
    seed: Annotated[int, typer.Option(help="The same seed makes the same inputs.")] = 0,
) -> None:
    """Try the inputs and print what was found; exit status 1 where anything was."""
    if part not in COUNTS:
        raise typer.BadParameter(f"unknown part {part!r}: choose one of {', '.join(COUNTS)}")
    found = run_part(part, COUNTS[part] if count is None else count, seed)
    print(json.dumps(found.to_json(), indent=1))
    raise typer.Exit(bool(found.findings))


if __name__ == "__main__":
    typer.run(main)
