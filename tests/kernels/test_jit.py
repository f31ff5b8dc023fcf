"""Where numba can write no cache, its functions are compiled without one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from numba.core import caching

from kernels.jit import cached_njit

NO_CACHE = """
from importlib import import_module
import numpy as np
from numba.core import caching
for name in ("CacheImpl", "_CacheImpl"):  # the second is numba's before 0.62
    if hasattr(caching, name):
        getattr(caching, name)._locator_classes = []
from kernels import matmul
assert (matmul(np.eye(3), np.eye(3), "numba") == np.eye(3)).all()
for name in ("bounded", "condensed", "cpu", "groups", "kdtree", "regions", "spanning", "spanning_groups"):
    import_module(f"clustering.{name}")
"""


def test_backends_and_clustering_need_no_cache():
    done = subprocess.run([sys.executable, "-c", NO_CACHE], capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr


def one() -> int:
    return 1


def test_a_function_is_cached_where_it_can_be(monkeypatch):
    assert type(cached_njit()(one)._cache) is not caching.NullCache
    implementation = getattr(caching, "CacheImpl", None) or caching._CacheImpl  # the second is numba's before 0.62
    monkeypatch.setattr(implementation, "_locator_classes", [])
    compiled = cached_njit()(one)
    assert type(compiled._cache) is caching.NullCache and compiled() == 1


def test_other_errors_are_told(monkeypatch):
    monkeypatch.setattr("kernels.jit.njit", lambda **_: lambda _: (_ for _ in ()).throw(RuntimeError("something else")))
    with pytest.raises(RuntimeError, match="something else"):
        cached_njit()(one)
