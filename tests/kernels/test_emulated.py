"""CUDA kernels without a GPU: numba's simulator and Triton's interpreter, each in a process of its own.

Both are switched on by an environment variable that is read when the library is imported. What neither can show
is named at the end of the test report (`conftest.py`) and checked by `python -m kernels.bench --check`.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.mark.parametrize(
    ("switch", "cases"),
    [
        ("NUMBA_ENABLE_CUDASIM", ("cuda_cases.py",)),
        ("TRITON_INTERPRET", ("triton_cases.py", "lloyd_cases.py", "shift_cases.py")),
    ],
)
def test_kernels_are_right_without_a_gpu(switch: str, cases: tuple[str, ...]) -> None:
    files = [str(HERE / file) for file in cases]
    command = [sys.executable, "-m", "pytest", *files, "-p", "no:cacheprovider", "-p", "no:xdist", "-rs", "--no-header"]
    ran = subprocess.run(command, env={**os.environ, switch: "1"}, capture_output=True, text=True, cwd=HERE.parent.parent)
    assert ran.returncode == 0, ran.stdout[-4000:] + ran.stderr[-2000:]
    last = ran.stdout.strip().splitlines()[-1]
    assert re.fullmatch(r".*\b\d+ passed\b.*", last) and "skipped" not in last
