"""Matrix multiplication from three Python loops to the hardware's limit, and the distance kernel built on it.

In: NumPy arrays or torch tensors; out: the same kind, on the same device, in the same dtype. `matmul` is what
`clustering` and `experiments` call; `BACKENDS` is the ladder, one file of one idea each. Importing this
package loads neither torch nor numba and never touches a GPU: what is used is loaded when it is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kernels.api import matmul as matmul
    from kernels.pairwise import nearest_centers as nearest_centers
    from kernels.registry import BACKENDS as BACKENDS
    from kernels.registry import BackendUnavailable as BackendUnavailable
    from kernels.registry import available as available

DISTRIBUTION = "prompt-inversion"  # tells this package from another distribution's of the same name

_HOME = {
    "matmul": "api",
    "nearest_centers": "pairwise",
    "BACKENDS": "registry",
    "BackendUnavailable": "registry",
    "available": "registry",
}
__all__ = ["BACKENDS", "BackendUnavailable", "available", "matmul", "nearest_centers"]


def __getattr__(name: str) -> Any:
    """Load a public name from its module on first use and keep it here."""
    if name not in _HOME:
        raise AttributeError(f"module 'kernels' has no attribute {name!r}")
    value = getattr(import_module(f"kernels.{_HOME[name]}"), name)
    globals()[name] = value
    return value
