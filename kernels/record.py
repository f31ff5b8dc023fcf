"""The file of figures that a measurement ends with: whether it can be written is known before anything is measured."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


def obstacle(path: Path) -> str:
    """Why no record can be written there, as a sentence; "" where it can. Nothing is made or changed."""
    if str(path) == "-":
        return "figures are written into a file, not to standard output: give --json a path, such as bench.json"
    if "\0" in str(path):
        return "--json has a null character: give another path"
    folder = path.parent
    if path.is_dir():
        return f"--json {path} is a folder: give a file in it, such as {path / 'bench.json'}"
    if not folder.is_dir():
        return f"--json {path}: there is no folder {folder}: make it, or give another path"
    if not os.access(path if path.exists() else folder, os.W_OK):
        return f"--json {path} may not be written: give another path"
    return ""


def write(path: Path, record: dict[str, Any]) -> None:
    """Write the record; ValueError of one sentence where that fails all the same, as on a full disk."""
    try:
        path.write_text(json.dumps(record, indent=1) + "\n")
    except OSError as error:
        raise ValueError(f"cannot write {path}: {error.strerror}; the figures above are all there is of it") from error
