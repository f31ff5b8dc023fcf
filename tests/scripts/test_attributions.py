"""Whoever made what the weights were trained on is named beside them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LICENCES = ROOT / "invert" / "picturebook" / "licences"
sys.path.insert(0, str(ROOT / "scripts"))
import drawing_sources  # noqa: E402
import write_attributions  # noqa: E402


def test_every_source_of_training_is_named_with_its_licence() -> None:
    drawings, overview = ((LICENCES / name).read_text(encoding="utf8") for name in ("drawings.txt", "README.txt"))
    for font in drawing_sources.FONTS:
        assert f"{font.package} {font.version}; {font.licence}" in drawings
    for package, licence in drawing_sources.DEBIAN.items():
        assert package in (drawing_sources.CLDR, *drawing_sources.GROUNDS) or f"{package}; {licence}" in drawings
        assert (LICENCES / f"{package}.txt").stat().st_size > 500 and f"{package}.txt" in overview
    assert not [font.package for font in drawing_sources.KEPT_FONTS if font.package in drawings]


@pytest.mark.parametrize(
    ("metadata", "name"),
    [
        ("<dc:creator><cc:Agent><dc:title>K &amp;amp; Y</dc:title></cc:Agent></dc:creator>", "K & Y"),
        ("<dc:title>A bee</dc:title>", "no name in the file"),
        ("<dc:creator><cc:Agent><dc:title> </dc:title></cc:Agent></dc:creator>", "no name in the file"),
    ],
)
def test_the_maker_of_a_clip_art_is_who_its_file_names(tmp_path: Path, metadata: str, name: str) -> None:
    (tmp_path / "bee.svg").write_text(f"<svg>{metadata}</svg>")
    assert write_attributions.maker(tmp_path / "bee.svg") == name
