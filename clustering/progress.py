"""Progress of long fits on standard error, where it is asked for.

In: how many steps there are at most; out: a function that is told of each step, or None where nobody asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from clustering.params import bad_parameter, integer

Report = Callable[[int, float], None]  # told how many steps are made, and a figure


@contextmanager
def progress(estimator: Any, steps: int, figure: str) -> Iterator[Report | None]:
    """A bar for the estimator's `verbose`, which must be a bool or an int of at least 0; figure: what the number says."""
    if not isinstance(estimator.verbose, bool):
        try:
            integer(estimator, "verbose", 0)
        except ValueError:
            raise bad_parameter(estimator, "verbose", "an int in the range [0, inf) or a bool") from None
    if not estimator.verbose:
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(figure + " {task.fields[value]:.3g}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(type(estimator).__name__, total=steps, value=0.0)
        yield lambda step, value: bar.update(task, completed=step, value=value)
