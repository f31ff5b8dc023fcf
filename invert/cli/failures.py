"""Every way in which the command may end, as one sentence on stderr and an exit status."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable

import typer

from invert.cli.interrupts import Interrupted, Interrupts
from invert.cli.terminal import OutputError, complain, noted
from invert.errors import InputError

FAILURE, BAD_INPUT, BROKEN_PIPE = 1, 2, 141  # exit statuses; of signals: 128 and their number
# typer may carry its own copy of click: its base of all usage errors is found from one of them.
UsageError: type[Exception] = next(base for base in typer.BadParameter.__mro__ if base.__name__ == "ClickException")


def guarded(work: Callable[[], object], interrupts: Interrupts, debug: bool) -> int:
    """The exit status of the work, whatever becomes of it."""
    if sys.stdout is not None and hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        with noted(), interrupts.handled(), interrupts.while_importing():
            status = work()
        return status if isinstance(status, int) else 0
    except typer.Exit as error:
        return error.exit_code
    except SystemExit:  # so typer ends where the reader of the help has gone
        return BROKEN_PIPE
    except BaseException as error:
        if debug:
            traceback.print_exc()
        return status_of(error, interrupts)


def status_of(error: BaseException, interrupts: Interrupts) -> int:
    """Say what went wrong, in one sentence, and return the exit status for it."""
    if isinstance(error, KeyboardInterrupt | Interrupted | typer.Abort) or interrupts.received is not None:
        complain(interrupts.sentence)
        return interrupts.status
    if isinstance(error, BrokenPipeError) or (isinstance(error, OutputError) and error.broken):
        return BROKEN_PIPE
    if isinstance(error, InputError | OutputError):
        complain(error)
        return BAD_INPUT
    if isinstance(error, UsageError):
        complain(getattr(error, "format_message", error.__str__)())
        return BAD_INPUT
    if isinstance(error, OSError):  # --help into a full disk, for one
        complain(f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}")
        return BAD_INPUT
    complain(internal_error(error))
    return FAILURE


def internal_error(error: BaseException, doing: str = "") -> str:
    """The sentence for an error that is nobody's input. doing: for example " while inverting a.png"."""
    memory = isinstance(error, MemoryError) or "OutOfMemory" in type(error).__name__
    return f"{'out of memory' if memory else 'internal error'}{doing}: {type(error).__name__}: {error}; --debug shows where"
