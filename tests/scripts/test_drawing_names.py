"""Drawings are trained on under the name of what they show, cut out of their ground."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

SCRIPTS = Path(__file__).parents[2] / "scripts"
sys.path.insert(0, str(SCRIPTS))
import drawing_sources  # noqa: E402
from drawing_names import ObjectNames  # noqa: E402


@pytest.mark.parametrize(
    ("icon", "name"),
    [
        ("fox", "fox"),
        ("cherries", "cherry"),
        ("hot-dog", "hot dog"),
        ("aubergine", "eggplant"),
        ("snowflake-2", "snowflake"),
        ("fox-head", "fox"),
        ("cat-head", "cat face"),
        ("cat-face", "cat face"),
        ("fire-fox", None),
        ("fox-tail", None),
        ("cats-and-dogs", None),
        ("head", None),
    ],
)
def test_an_icon_shows_an_object_only_under_its_whole_name(icon: str, name: str | None) -> None:
    world = {"fox": "foxes", "cherry": "cherries", "hot dog": "", "eggplant": "", "snowflake": "", "cat": "cats", "cat face": ""}
    assert ObjectNames(world, {"aubergine": "eggplant"}).find_icon(icon) == name


def test_whatever_is_excluded_names_a_source() -> None:
    lines = (SCRIPTS / "drawings_excluded.txt").read_text(encoding="utf8").split("\n")
    sources = {font.name for font in drawing_sources.FONTS} | set(drawing_sources.DEBIAN) | {"*"}
    patterns = [line for line in lines if line and not line.startswith("#")]
    assert {line.partition("/")[0] for line in patterns} <= sources and all(line.partition("/")[2] for line in patterns)
    assert len(set(patterns)) == len(patterns)


def test_a_flash_card_loses_the_ground_around_its_drawing_and_keeps_the_white_within(tmp_path: Path) -> None:
    make_drawings = pytest.importorskip("make_drawings", reason="resvg-py is not installed", exc_type=ImportError)
    card = Image.new("RGB", (64, 64), "white")
    ImageDraw.Draw(card).ellipse((12, 12, 52, 52), "white", "black", 6)
    card.save(tmp_path / "egg.jpg", quality=90)
    alpha = make_drawings.raster_image(tmp_path / "egg.jpg").getchannel("A")
    assert (alpha.getpixel((1, 1)), alpha.getpixel((62, 40)), alpha.getpixel((32, 32))) == (0, 0, 255)
