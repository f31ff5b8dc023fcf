"""Pictures that a Parquet file names by path and that could not be read, listed for each result that lacks them.

Nothing in the Parquet file changes when such a picture comes back, so that the list alone says when the result is to be
made again.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from pathlib import Path

from invert.batch.states import UNREADABLE, readable_state
from invert.files import write_file


def listed(file: Path) -> list[str]:
    """The paths in a list; none where there is no list."""
    try:
        return [json.loads(line) for line in file.read_text().splitlines()]
    except OSError:
        return []


def has_come(file: Path) -> bool:
    """Whether one of the pictures in a list can be read by now."""
    return any(readable_state(path) != UNREADABLE for path in listed(file))


def keep(file: Path, paths: Sequence[str]) -> None:
    """Write the list, or remove it where it would be empty; OSError where that fails."""
    if paths:
        file.parent.mkdir(exist_ok=True)
        write_file(file, "".join(json.dumps(path) + "\n" for path in paths).encode())
        return
    file.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # there is none, or it holds lists of other results
        file.parent.rmdir()
