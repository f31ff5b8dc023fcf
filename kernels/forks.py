"""Whether numba can start threads in this process: those of GNU's OpenMP end a process that was forked beside them.

They say so on stderr and kill the child, so that a pool of processes waits for its answer for ever. Known here before a
product begins.
"""

from __future__ import annotations

import os
from importlib import import_module

import numba

from kernels.registry import BackendUnavailable

_state = {"inherited": False}  # whether threads of GNU's OpenMP had been started when this process was forked


def check_threads() -> None:
    """BackendUnavailable in a process that was forked after numba had used GNU's OpenMP."""
    if _state["inherited"]:
        raise BackendUnavailable(
            "backend 'numba' was used before this process was forked, and its threads (OpenMP) do not survive that: start "
            "processes by multiprocessing.get_context('spawn'), set NUMBA_THREADING_LAYER=workqueue, or use another backend"
        )


def uses_gnu_openmp() -> bool:
    """Whether numba has started threads, and they are those of GNU's OpenMP; of others a child starts its own."""
    try:
        if numba.threading_layer() != "omp":
            return False
    except ValueError:  # none so far
        return False
    return getattr(import_module("numba.np.ufunc.omppool"), "openmp_vendor", "GNU") == "GNU"


def _look_back() -> None:
    _state["inherited"] = _state["inherited"] or uses_gnu_openmp()


if hasattr(os, "register_at_fork"):  # not on Windows, which forks nothing
    os.register_at_fork(after_in_child=_look_back)
