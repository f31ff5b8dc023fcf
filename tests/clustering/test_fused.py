"""Mean shift and DBSCAN as they run on a GPU, without one: in Triton's interpreter, in a process of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.mark.long
def test_fused_mean_shift_and_dbscan_are_right_without_a_gpu() -> None:
    command = [sys.executable, "-m", "pytest", str(HERE / "fused_cases.py"), "-p", "no:cacheprovider", "-rs", "--no-header"]
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=HERE.parent.parent)
    assert ran.returncode == 0, ran.stdout[-4000:] + ran.stderr[-2000:]
    last = ran.stdout.strip().splitlines()[-1]
    assert re.fullmatch(r".*\b\d+ passed\b.*", last) and "skipped" not in last
