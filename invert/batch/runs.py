"""An output folder belongs to one configuration: its rows can be compared, and no picture is there twice.

`_invert.json` says which. A run has a lock in the folder from its claim to its end, named by its configuration, before it
looks at others' locks: of two that begin at once in a folder that nothing came of, at most one takes it.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from invert.batch.locks import Lock, break_if_stale, publish
from invert.batch.shards import ENDING, digest
from invert.batch.sources import LOCKS, RUN_FILE
from invert.batch.sweeping import remove_empty
from invert.batch.work import locked
from invert.errors import InputError

RUN_LOCK = "run-"  # what the locks of runs begin with, before the digest of the configuration


@contextlib.contextmanager
def claim(out: Path, configuration: Mapping[str, Any]) -> Iterator[None]:
    """Make the folder, which takes results of this configuration alone from now on; within the context a run is at work in it.

    Raises:
        InputError: it holds results of another one, a run of another one is at work in it, or it cannot be written.
    """
    current = json.loads(json.dumps(configuration))
    with contextlib.ExitStack() as stack:
        with _told(out):
            stack.callback(_leave, out)
            lock = _registered(out, current)
            if lock is not None:
                stack.enter_context(lock)
            _take(out, current)
        yield


@contextlib.contextmanager
def _told(out: Path) -> Iterator[None]:
    """Errors as sentences."""
    file = out / RUN_FILE
    try:
        yield
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"cannot write into {out}: {error.strerror}; choose a writable `out`") from error
    except ValueError as error:
        raise InputError(f"{file} is damaged: delete it where you know that its results are of this configuration") from error


def _registered(out: Path, current: dict[str, Any]) -> Lock | None:
    """The lock of this run; None where the folder may only be read, and is of this configuration: its results may be counted."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        return locked(out / LOCKS / f"{RUN_LOCK}{digest(current)[:16]}-{secrets.token_hex(8)}.lock")
    except OSError as error:
        try:
            owner = _owner(out)
        except OSError:
            raise error from None
        if owner != current:
            raise
        return None


def _take(out: Path, current: dict[str, Any]) -> None:
    """Put this configuration into the file, in the place of one of which nothing came."""
    _write(out, current)
    earlier = _owner(out)
    if earlier == current:
        return
    used, at_work = any(out.glob(f"*{ENDING}")), _is_at_work(out, current)
    earlier = _owner(out)  # another run of this configuration may have taken it meanwhile, and begun
    if earlier != current and (used or at_work):
        holds = "holds results of another configuration" if used else "has a run of another configuration at work in it"
        raise InputError(f"{out} {holds} ({_difference(earlier, current)}): give another `out`")
    _write(out, current, replace=True)


def _owner(out: Path) -> Any:
    return json.loads((out / RUN_FILE).read_text())


def _write(out: Path, configuration: Mapping[str, Any], replace: bool = False) -> None:
    """Whole, where there is none yet, or in its place: at no moment there is none, which others could take for free."""
    file = out / RUN_FILE
    if file.exists() and not replace:
        return
    partial = file.with_name(f"{RUN_FILE}.{secrets.token_hex(4)}")
    try:
        partial.write_text(json.dumps(configuration, sort_keys=True, indent=1))
        if replace:
            os.replace(partial, file)
        else:
            publish(partial, file)
    finally:
        partial.unlink(missing_ok=True)


def _is_at_work(out: Path, current: dict[str, Any]) -> bool:
    """Whether a living process holds a lock that is no run's of this configuration."""
    own = f"{RUN_LOCK}{digest(current)[:16]}-"
    others = [path for path in (out / LOCKS).glob("*.lock") if not path.name.startswith(own)]
    return any(not break_if_stale(path) for path in others)


def _leave(out: Path) -> None:
    """Remove the locks of runs that were killed, and folders that are empty."""
    with contextlib.suppress(OSError):
        for path in (out / LOCKS).glob(f"{RUN_LOCK}*.lock"):
            break_if_stale(path)
    remove_empty(out)


def _difference(earlier: Any, current: dict[str, Any]) -> str:
    """The first option that differs."""
    known = earlier if isinstance(earlier, dict) else {}
    for name in sorted({*known, *current}):
        if known.get(name) != current.get(name):
            return f"`{name}` was {json.dumps(known.get(name))} and is {json.dumps(current.get(name))}"
    return "its form"
