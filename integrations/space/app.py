"""Invert as a Hugging Face Space; `python app.py` runs the same page on your machine.

The Space's variables choose what it serves: INVERT_MODEL, INVERT_BUNDLE, INVERT_GENERATOR, INVERT_SECONDS.
"""

from __future__ import annotations

import os

from invert import Inverter
from invert.app import Limits, build
from invert.app.server import launch_options

limits = Limits(seconds=float(os.environ.get("INVERT_SECONDS", "60")))
inverter = Inverter.load(os.environ.get("INVERT_MODEL", "picturebook"), os.environ.get("INVERT_BUNDLE") or None)
demo = build(inverter, limits, os.environ.get("INVERT_GENERATOR") or None)

if __name__ == "__main__":
    demo.launch(**launch_options(limits))
