"""How every test runs: one thread a worker, and examples that neither the clock nor chance decides."""

from __future__ import annotations

import gc
import json
import os
from pathlib import Path

if "PYTEST_XDIST_WORKER" in os.environ:  # workers share the cores; before torch is imported
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from hypothesis import HealthCheck, settings

# Modules and collected tests stay to the end: each search through them for garbage would take up to a second.
gc.disable()


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


# A busy machine may not fail a test: no deadline, no limit on how long examples take to be made up.
STEADY = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("quick", **STEADY, max_examples=20, derandomize=True)
settings.register_profile("thorough", **STEADY, max_examples=500)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))


@pytest.fixture(scope="session")
def drawings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Atlases as `make_drawings.py` writes them: a font that draws foxes as red squares, and one gray photograph."""
    from PIL import Image

    from invert.picturebook.render import COLUMNS, SPRITE

    folder = tmp_path_factory.mktemp("drawings")
    atlas = Image.new("RGBA", (COLUMNS * SPRITE, SPRITE))
    atlas.paste((255, 0, 0, 255), (8, 8, SPRITE - 8, SPRITE - 8))
    atlas.save(folder / "squares.webp", lossless=True)
    (folder / "squares.json").write_text(json.dumps([["fox", "fox.svg"]]))
    Image.new("RGB", (COLUMNS * 96, 96), (120, 120, 120)).save(folder / "grounds.webp", lossless=True)
    return folder
