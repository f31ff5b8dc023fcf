"""Numba's CUDA kernels without a GPU, in its simulator; a file of its own, so that another worker can take it."""

from __future__ import annotations

from collections.abc import Callable

import pytest


@pytest.mark.long
def test_numba_kernels_are_right_without_a_gpu(assert_pass: Callable[..., None]) -> None:
    assert_pass("NUMBA_ENABLE_CUDASIM", "cuda_cases.py")
