"""Invert: an image in, the prompt out that makes a text-to-image model draw it again.

    from invert import Inverter
    result = Inverter.load("picturebook").invert("image.png")

Public names are loaded when they are used, so that importing a part of the package stays cheap.
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from invert.analysis import Analysis as Analysis
    from invert.budget import Budget as Budget
    from invert.bundle import ModelBundle as ModelBundle
    from invert.bundle import load_bundle as load_bundle
    from invert.config import InvertConfig as InvertConfig
    from invert.errors import InputError as InputError
    from invert.inverter import Inverter as Inverter
    from invert.methods import Method as Method
    from invert.methods import register as register
    from invert.models.clip import Clip as Clip
    from invert.models.loading import load_clip as load_clip
    from invert.models.open_clip import from_open_clip as from_open_clip
    from invert.models.transformers import from_transformers as from_transformers
    from invert.result import Result as Result

try:
    import clustering as clustering  # its import says where another distribution's `kernels` stands in for ours
except ImportError as error:
    if error.name == "kernels" and Path(sys.argv[0] if sys.argv else "").stem == "invert":  # the command: a sentence alone
        sys.exit(f"invert: {error}")
    raise

__version__ = "0.1.0"  # of the distribution too. Below 0.10: see pyproject.toml

_HOME = {
    "Analysis": "analysis",
    "Budget": "budget",
    "Clip": "models.clip",
    "InputError": "errors",
    "InvertConfig": "config",
    "Inverter": "inverter",
    "Method": "methods",
    "ModelBundle": "bundle",
    "Result": "result",
    "from_open_clip": "models.open_clip",
    "from_transformers": "models.transformers",
    "load_bundle": "bundle",
    "load_clip": "models.loading",
    "register": "methods",
}
__all__ = [
    "Analysis", "Budget", "Clip", "InputError", "InvertConfig", "Inverter", "Method", "ModelBundle", "Result",
    "from_open_clip", "from_transformers", "load_bundle", "load_clip", "register",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """Load a public name from its module on first use and keep it here."""
    if name not in _HOME:
        raise AttributeError(f"module 'invert' has no attribute {name!r}")
    value = getattr(import_module(f"invert.{_HOME[name]}"), name)
    globals()[name] = value
    return value
