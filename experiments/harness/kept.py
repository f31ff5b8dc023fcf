"""Rows of a long experiment, written down as they are measured: a run that was broken off goes on where it was.

In: an experiment's options and what measures a row; out: the row, measured now or read back. The file lies beside the
results, as `results/NAME-unfinished.json`, until the experiment has all of its rows.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from experiments.harness.runner import Context, machine

Row = dict[str, Any]


class Kept:
    """Rows by their names. Those of another seed, size, machine or version of a package are not taken."""

    def __init__(self, context: Context) -> None:
        self.file = context.path("unfinished.json")
        here = {key: value for key, value in machine(context.device).items() if key != "date"}
        self.setting = {"quick": context.quick, "seed": context.seed, "machine": here}
        found = json.loads(self.file.read_text()) if self.file.is_file() else {}
        self.rows: dict[str, Row] = found["rows"] if found.get("setting") == self.setting else {}

    def row(self, name: str, measure: Callable[[], Row]) -> Row:
        """The row of this name."""
        if name not in self.rows:
            self.rows[name] = measure()
            part = self.file.with_suffix(".part")
            part.write_text(json.dumps({"setting": self.setting, "rows": self.rows}))
            part.replace(self.file)
        return self.rows[name]

    def finish(self) -> None:
        """All rows are in the results: forget them here."""
        self.file.unlink(missing_ok=True)
