"""Runs cases of a kernel without a GPU, and says at the end of a test run what only one could show.

Numba's simulator and Triton's interpreter are switched on by an environment variable that is read when the library
is imported: their cases run in a process of their own.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from kernels.checks import CHECKS, name_of

HERE = Path(__file__).parent


@pytest.fixture
def assert_pass() -> Callable[..., None]:
    """`assert_pass(switch, *files)`: every case of these files passes, and none is skipped, where the switch is on."""

    def run(switch: str, *files: str) -> None:
        command = [sys.executable, "-m", "pytest", *(str(HERE / file) for file in files), "-rs", "--no-header"]
        command += ["-p", "no:cacheprovider", "-p", "no:xdist"]
        ran = subprocess.run(command, env={**os.environ, switch: "1"}, capture_output=True, text=True, cwd=HERE.parent.parent)
        assert ran.returncode == 0, ran.stdout[-4000:] + ran.stderr[-2000:]
        last = ran.stdout.strip().splitlines()[-1]
        assert re.fullmatch(r".*\b\d+ passed\b.*", last) and "skipped" not in last

    return run


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if not torch.cuda.is_available():
        terminalreporter.write_line("Only a GPU can show the following: python -m kernels.bench --check")
        for check in CHECKS:
            terminalreporter.write_line(f"  {name_of(check)}")
