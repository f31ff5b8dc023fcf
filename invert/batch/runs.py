"""An output folder belongs to one configuration: its rows can be compared, and no picture is there twice."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from invert.batch.locks import publish
from invert.batch.shards import digest
from invert.batch.sources import RUN_FILE
from invert.errors import InputError


def claim(out: Path, configuration: Mapping[str, Any]) -> str:
    """The configuration's digest; the folder is made, and takes results of this configuration alone from now on.

    Raises:
        InputError: it holds results of another one, or cannot be written.
    """
    text = json.dumps(configuration, sort_keys=True, indent=1)
    file = out / RUN_FILE
    try:
        out.mkdir(parents=True, exist_ok=True)
        if not file.exists():
            partial = out / f"{RUN_FILE}.{secrets.token_hex(4)}"
            try:
                partial.write_text(text)
                publish(partial, file)
            finally:
                partial.unlink(missing_ok=True)
        earlier = json.loads(file.read_text())
    except OSError as error:
        raise InputError(f"cannot write into {out}: {error.strerror}; choose a writable `out`") from error
    except ValueError as error:
        raise InputError(f"{file} is damaged: delete it where you know that its results are of this configuration") from error
    current = json.loads(text)
    if earlier != current:
        raise InputError(f"{out} holds results of another configuration ({_difference(earlier, current)}): give another `out`")
    return digest(current)


def _difference(earlier: Any, current: dict[str, Any]) -> str:
    """The first option that differs."""
    known = earlier if isinstance(earlier, dict) else {}
    for name in sorted({*known, *current}):
        if known.get(name) != current.get(name):
            return f"`{name}` was {json.dumps(known.get(name))} and is {json.dumps(current.get(name))}"
    return "its form"
