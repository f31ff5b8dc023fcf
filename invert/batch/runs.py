"""An output folder belongs to one configuration: its rows can be compared, and no picture is there twice."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from invert.batch.locks import publish
from invert.batch.shards import ENDING
from invert.batch.sources import RUN_FILE
from invert.batch.work import LOCKS
from invert.errors import InputError


def claim(out: Path, configuration: Mapping[str, Any]) -> None:
    """Make the folder, which takes results of this configuration alone from now on.

    Raises:
        InputError: it holds results of another one, or cannot be written.
    """
    file, current = out / RUN_FILE, json.loads(json.dumps(configuration))
    try:
        out.mkdir(parents=True, exist_ok=True)
        _write(file, current)
        earlier = json.loads(file.read_text())
        if earlier != current and not _in_use(out):  # of a run that did nothing
            file.unlink()
            _write(file, current)
            earlier = current
    except OSError as error:
        raise InputError(f"cannot write into {out}: {error.strerror}; choose a writable `out`") from error
    except ValueError as error:
        raise InputError(f"{file} is damaged: delete it where you know that its results are of this configuration") from error
    if earlier != current:
        raise InputError(f"{out} holds results of another configuration ({_difference(earlier, current)}): give another `out`")


def _write(file: Path, configuration: Mapping[str, Any]) -> None:
    """Whole, where there is none yet."""
    if file.exists():
        return
    partial = file.with_name(f"{RUN_FILE}.{secrets.token_hex(4)}")
    try:
        partial.write_text(json.dumps(configuration, sort_keys=True, indent=1))
        publish(partial, file)
    finally:
        partial.unlink(missing_ok=True)


def _in_use(out: Path) -> bool:
    """Whether the folder holds results, or a run is at work in it."""
    locks = out / LOCKS
    return any(out.glob(f"*{ENDING}")) or (locks.is_dir() and any(locks.iterdir()))


def _difference(earlier: Any, current: dict[str, Any]) -> str:
    """The first option that differs."""
    known = earlier if isinstance(earlier, dict) else {}
    for name in sorted({*known, *current}):
        if known.get(name) != current.get(name):
            return f"`{name}` was {json.dumps(known.get(name))} and is {json.dumps(current.get(name))}"
    return "its form"
