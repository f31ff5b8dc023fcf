"""The results of a batch as one zip: beside each picture's name its prompt as text, and everything as JSON."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from pathlib import Path, PurePath

from invert.app.service import Row


def write_zip(rows: Sequence[Row], path: Path) -> None:
    """NAME.txt and NAME.json of every picture that has a prompt; problems.txt of those that have none."""
    names = distinct([PurePath(row.label).stem for row in rows])
    problems = [f"{row.label}: {row.problem}\n" for row in rows if row.result is None]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, row in zip(names, rows, strict=True):
            if row.result is not None:
                archive.writestr(f"{name}.txt", row.result.prompt + "\n")
                archive.writestr(f"{name}.json", json.dumps({"image": row.label, **row.result.to_json()}, indent=1) + "\n")
        if problems:
            archive.writestr("problems.txt", "".join(problems))


def distinct(names: Sequence[str]) -> list[str]:
    """The names with a number where one comes again: ["a", "a"] → ["a", "a-2"]."""
    taken: set[str] = {"problems"}
    found = []
    for name in names:
        n, free = 1, name
        while free in taken:
            n += 1
            free = f"{name}-{n}"
        taken.add(free)
        found.append(free)
    return found
