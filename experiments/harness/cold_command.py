"""`invert` in a process of its own: what it prints, how long it takes, what memory it needs."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

# The process tells the peak of its own memory: getrusage would count the parent's, at the fork.
PROGRAM = """
import sys
from invert.cli import main
try:
    main()
finally:
    print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")), file=sys.stderr)
"""


class Run(NamedTuple):
    """One run: what it printed, wall seconds (interpreter start included) and peak MiB."""

    printed: str
    seconds: float
    peak_mib: float


def timed_command(cache: Path, *words: object, environment: Mapping[str, str] | None = None) -> Run:
    """Run the command with these words and that cache folder, and with more variables in its environment."""
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *map(str, words)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, **(environment or {}), "INVERT_CACHE": str(cache)},
    )
    seconds = time.perf_counter() - began
    return Run(done.stdout.strip(), seconds, int(done.stderr.split()[-1]) / 1024)
