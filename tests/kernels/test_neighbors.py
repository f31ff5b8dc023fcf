"""Our package shares its import name with Hugging Face's `kernels`: transformers must not take ours for it."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version


def test_transformers_and_diffusers_import_beside_us_and_do_not_take_us_for_their_own() -> None:
    import diffusers
    import transformers
    from transformers.utils import is_kernels_available

    import kernels

    assert diffusers.__version__ and transformers.__version__
    assert hasattr(kernels, "nearest_centers") and not is_kernels_available()


def test_our_version_stays_below_the_one_that_transformers_looks_for() -> None:
    assert tuple(map(int, version("prompt-inversion").split(".")[:2])) < (0, 10)


def test_importing_the_package_loads_neither_torch_nor_numba() -> None:
    program = "import sys, kernels; raise SystemExit(bool({'torch', 'numba', 'triton', 'jax'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
