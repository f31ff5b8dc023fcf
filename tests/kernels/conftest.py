"""Says at the end of a test run what it could not show: nothing about a GPU is left out in silence."""

from __future__ import annotations

from typing import Any

import torch

from kernels.checks import CHECKS, name_of


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if not torch.cuda.is_available():
        terminalreporter.write_line("Only a GPU can show the following: python -m kernels.bench --check")
        for check in CHECKS:
            terminalreporter.write_line(f"  {name_of(check)}")
