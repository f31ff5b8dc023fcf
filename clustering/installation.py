"""Whether the package `kernels` that Python finds is ours: a distribution of Hugging Face's has the same import name.

Where both are installed, the later one has overwritten the other's files, and imports would fail in
places that say nothing of it. Nothing is imported to find that out.
"""

from __future__ import annotations

from importlib.util import find_spec

MARKER = 'DISTRIBUTION = "prompt-inversion"'  # a line of our kernels/__init__.py
REINSTALL = "pip install --force-reinstall --no-deps prompt-inversion"


def check_kernels() -> None:
    """Look for our `kernels`.

    Raises:
        ImportError: another distribution's stands in its place, or none does; the sentence has the repair.
    """
    spec = find_spec("kernels")
    if spec is None or spec.origin is None:  # a namespace is what an uninstalled `kernels` leaves of ours
        raise ImportError(f"the package kernels of prompt-inversion is missing: run `{REINSTALL}`", name="kernels")
    source = getattr(spec.loader, "get_source", lambda name: None)("kernels")
    if source is not None and MARKER not in source:  # None: compiled files alone
        raise ImportError(
            f"another distribution's package kernels ({spec.origin}) stands where prompt-inversion's should be: "
            f"run `pip uninstall kernels`, then `{REINSTALL}`",
            name="kernels",
        )
