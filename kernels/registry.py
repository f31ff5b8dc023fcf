"""The ladder as a table: which backends there are, what each needs, and which can run here.

In: a backend's name and the kind of device; out: its `matmul` function, or one sentence that says why it
cannot run and which extra to install. Nothing is imported until a backend is asked for.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

HALF, SINGLE, DOUBLE = ("float16", "bfloat16"), ("float32",), ("float64",)
FLOATS = HALF + SINGLE + DOUBLE


class BackendUnavailable(ImportError):
    """The backend is known but cannot run here; the sentence says what is missing."""


@dataclass(frozen=True)
class Backend:
    """One step of the ladder; `module` holds `matmul(a, b) -> c` on checked, non-empty 2-D tensors."""

    module: str  # below kernels.backends
    idea: str  # the one idea of the step
    devices: tuple[str, ...]  # torch device types that it takes
    dtypes: tuple[str, ...] = FLOATS  # torch dtype names that it takes
    needs: str | None = None  # importable module it cannot do without
    imports: str | None = None  # what its file imports of that, and what has to succeed
    extra: str | None = None  # extra of prompt-inversion that brings that module
    emulator: str | None = None  # environment variable that lets it take CPU tensors, without a GPU
    differentiable: bool = False  # whether torch's autograd sees through it
    takes_block: bool = False  # whether its thread block can be chosen


_NUMBA_CUDA: dict[str, Any] = {
    "devices": ("cuda",),
    "needs": "numba_cuda",
    "imports": "numba.cuda",
    "extra": "gpu",
    "emulator": "NUMBA_ENABLE_CUDASIM",
}
_TORCH: dict[str, Any] = {"devices": ("cpu", "cuda"), "differentiable": True}

BACKENDS: dict[str, Backend] = {
    "python": Backend("loops", "three loops, one multiplication at a time", ("cpu",)),
    "broadcast": Backend("broadcast", "one broadcast product for each row", **_TORCH),
    "einsum": Backend("einsum", "the product written as an index expression", **_TORCH),
    "numpy": Backend("numpy_blas", "NumPy's BLAS", ("cpu",)),
    "numba": Backend("numba_cpu", "packed blocks that fit the caches, tiles that fit the registers", ("cpu",)),
    "torch": Backend("torch_blas", "the vendor's library: oneDNN or MKL on CPU, cuBLAS on CUDA", **_TORCH),
    "jax": Backend("jax_xla", "compiled by XLA", ("cpu", "cuda"), needs="jax", imports="jax", extra="jax"),
    "numba-cuda-naive": Backend("cuda_naive", "one CUDA thread for each element", takes_block=True, **_NUMBA_CUDA),
    "numba-cuda-tiled": Backend("cuda_tiled", "tiles shared by a thread block", takes_block=True, **_NUMBA_CUDA),
    "numba-cuda": Backend("cuda_blocked", "8 x 8 results in each thread's registers, 16-byte loads", **_NUMBA_CUDA),
    "triton": Backend(
        "triton_tiles",
        "tensor cores",
        ("cuda",),
        dtypes=HALF + SINGLE,
        needs="triton",
        imports="triton",
        extra="gpu",
        emulator="TRITON_INTERPRET",
    ),
}


def emulated(backend: Backend) -> bool:
    """Whether this process runs the backend's kernels on the CPU, in its simulator or interpreter."""
    return backend.emulator is not None and os.environ.get(backend.emulator, "0") not in ("", "0")


def unavailable_reason(name: str, device: str) -> str | None:
    """None if backend `name` can take tensors of this device type here, else one sentence that says why not."""
    backend = BACKENDS[name]
    if backend.needs and not emulated(backend) and not is_installed(backend.needs):
        return (
            f"backend {name!r} needs {backend.needs.replace('_', '-')}, which is not installed: "
            f"pip install 'prompt-inversion[{backend.extra}]'"
        )
    if emulated(backend):
        return None if device == "cpu" else f"backend {name!r} is emulated here ({backend.emulator}=1) and takes CPU arrays"
    if device not in backend.devices:
        return f"backend {name!r} takes {' and '.join(backend.devices)} tensors, not {device}"
    if backend.imports and (error := import_error(backend.imports)) is not None:
        return (
            f"backend {name!r} cannot import {backend.imports}, which is installed but does not fit what else is "
            f"({error}): pip install --upgrade 'prompt-inversion[{backend.extra}]'"
        )
    return None


@cache
def is_installed(module: str) -> bool:
    """Whether a module can be found, without importing it; looked up once, as a look takes as long as a small product."""
    return find_spec(module) is not None


@cache
def import_error(module: str) -> str | None:
    """None if a module can be imported, else what its import raised and the NumPy beside it, in a few words.

    A module that is installed may still fail: numba-cuda does beside a NumPy that has dropped what it calls.
    """
    try:
        import_module(module)
    except Exception as error:  # whatever another package raises while it is imported
        words = str(error).split("\n")[0]
        return f"{type(error).__name__}: {words}; NumPy {version('numpy')}"
    return None


def available(device: str = "cpu") -> list[str]:
    """Names of the backends that can run here on tensors of this device type, in the ladder's order."""
    return [name for name in BACKENDS if unavailable_reason(name, device) is None]


@cache
def load(name: str) -> Callable[..., Any]:
    """The `matmul` function of backend `name`."""
    function: Callable[..., Any] = import_module(f"kernels.backends.{BACKENDS[name].module}").matmul
    return function
