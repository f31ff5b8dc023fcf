"""Triton's kernels without a GPU, in its interpreter.

What that cannot show is named at the end of the test report (`conftest.py`) and checked by
`python -m kernels.bench --check`.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest


@pytest.mark.long
def test_triton_kernels_are_right_without_a_gpu(assert_pass: Callable[..., None]) -> None:
    assert_pass("TRITON_INTERPRET", "triton_cases.py", "lloyd_cases.py", "shift_cases.py")
