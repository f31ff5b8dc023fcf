"""Packages that only some commands need: found before anything is loaded, named with the extra that brings them."""

from __future__ import annotations

import importlib.util

from invert.errors import MissingExtraError

EXTRAS = {
    "diffusers": "diffusion",
    "accelerate": "diffusion",
    "clip_interrogator": "compare",
    "jax": "jax",
    "pyarrow": "shards",
    "ray": "ray",
    "sentencepiece": "siglip",
    "gradio": "app",
}  # module → extra


def require(module: str, purpose: str) -> None:
    """MissingExtraError that says what wants the module, and how to install it. Imports nothing.

    purpose: the sentence's beginning, for example "the method 'ph2p'".
    """
    try:
        found = importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):  # a half-imported or half-installed package
        found = False
    if not found:
        raise MissingExtraError(
            f"{purpose} needs the package {module.replace('_', '-')}, which is not installed: "
            f"run pip install 'prompt-inversion[{EXTRAS[module]}]'"
        )
