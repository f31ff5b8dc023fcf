"""The command as a user runs it: a process of its own, with the real model."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

MAIN = "from invert.cli import main; main()"


@dataclass(frozen=True)
class Done:
    status: int
    out: str
    err: str


def process(words: list[str], stdin: bytes | None = None, **more: Any) -> Done:
    """The command as a user runs it."""
    made = subprocess.run([sys.executable, "-c", MAIN, *words], input=stdin, capture_output=True, timeout=300, **more)
    return Done(made.returncode, made.stdout.decode(), made.stderr.decode())


def expect(result: Done, status: int, lines: int | None = None) -> str | None:
    """Why a process did not end as it should."""
    said = result.err.splitlines()
    if result.status != status or "Traceback" in result.err:
        return f"status {result.status} instead of {status}: {result.err[-300:]}"
    if any(not one.startswith("invert: ") for one in said):
        return f"stderr holds {result.err[:300]!r}"
    if lines is not None and len(result.out.splitlines()) != lines:
        return f"{result.out[:300]!r} instead of {lines} lines"
    return None


def picture_in(here: Path) -> str:
    Image.new("RGB", (64, 64), "teal").save(here / "picture.png")
    return str(here / "picture.png")


def helped(here: Path) -> str | None:
    return expect(process(["-h"], cwd=here), 0)


def inverted(here: Path) -> str | None:
    """Without a home, and with a cache that cannot be."""
    environment = {**os.environ, "INVERT_CACHE": "/proc/none", "HOME": "/proc/none"}
    return expect(process(["--seconds", "1", picture_in(here)], env=environment), 0, 1)


def piped(here: Path) -> str | None:
    with open(picture_in(here), "rb") as picture:
        return expect(process(["-", "--seconds", "1"], picture.read()), 0, 1)


def damaged_cache(here: Path) -> str | None:
    """The second run meets the first one's cache with its tails zeroed, and finds the same prompt."""
    environment = {**os.environ, "INVERT_CACHE": str(here / "cache")}
    words = [picture_in(here), "--budget", "50000", "--soft-steps", "5", "--restarts", "1"]
    first = process(words, env=environment)
    kept = [path for path in (here / "cache").rglob("*") if path.is_file()]
    for path in kept:
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2] + bytes(len(content) - len(content) // 2))
    second = process(words, env=environment)
    if first.out != second.out:
        return f"{second.out!r} after damage, {first.out!r} before"
    return expect(first, 0, 1) or expect(second, 0, 1)


def interrupted(here: Path) -> str | None:
    """Ctrl-C at some moment: 130 and one sentence, or done before it."""
    running = subprocess.Popen(
        [sys.executable, "-c", MAIN, picture_in(here)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    time.sleep(4)
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=120)
    return expect(Done(running.returncode, out, err), 130 if running.returncode else 0)


def in_little_memory(here: Path) -> str | None:
    """With one tower in memory at a time the prompt is the same."""
    words = [picture_in(here), "--budget", "20000"]
    whole, turns = process(words), process([*words, "--low-memory"])
    if whole.out != turns.out:
        return f"{turns.out!r} in little memory, {whole.out!r} without"
    return expect(whole, 0, 1) or expect(turns, 0, 1)


PROCESSES: tuple[tuple[str, Callable[[Path], str | None]], ...] = (
    ("help", helped),
    ("no home, no cache", inverted),
    ("standard input", piped),
    ("a cache that is damaged between two runs", damaged_cache),
    ("Ctrl-C", interrupted),
    ("little memory", in_little_memory),
)
