"""Cut grounds for the training's pictures from photographs, wallpapers and paintings."""

from __future__ import annotations

import io
import itertools
import random
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from qt_resources import read_resources
from training_artwork import GROUND

from invert.picturebook.render import COLUMNS

GROUNDS = 2048  # pieces
PLAIN = 8  # largest standard deviation of a piece's red, green or blue, of 255, below which it is left out
LONGEST = 1200  # side of a photograph, pixels
GCOMPRIS_GROUNDS = {  # collection of GCompris → those of its pictures that show no object of the world alone
    "explore_monuments": r"/(?!statue)\w*\.webp$",
    "details": r"_background\.webp$",
    "categorization": r"/(dam|solar|geothermal)\d*\.webp$|/monuments/(?!statue)\w*\.webp$",
}


def ground_photographs(folder: Path) -> Iterator[Image.Image]:
    """Wallpapers, and GCompris's photographs and paintings of buildings and landscapes, RGB."""
    wallpapers = folder / "debian/usr/share/backgrounds"
    for path in sorted(path for path in wallpapers.rglob("*") if path.suffix in (".jpg", ".jpeg", ".png")):
        yield Image.open(path).convert("RGB")
    for collection, pattern in GCOMPRIS_GROUNDS.items():
        files = read_resources(folder / f"debian/usr/share/gcompris-qt/rcc/{collection}.rcc")
        for name in sorted(name for name in files if re.search(pattern, name)):
            yield Image.open(io.BytesIO(files[name])).convert("RGB")


def ground_pieces(photographs: list[Image.Image]) -> Iterator[Image.Image]:
    """Square pieces of photographs in turn, of many sizes, without end; what is of one color would have a name."""
    rng = random.Random(0)
    for picture in itertools.cycle(photographs):
        side = round(min(picture.size) * rng.uniform(0.15, 0.9))
        x, y = rng.randrange(picture.width - side), rng.randrange(picture.height - side)
        piece = picture.crop((x, y, x + side, y + side)).resize((GROUND, GROUND), Image.Resampling.LANCZOS)
        if np.asarray(piece).std((0, 1)).max() >= PLAIN:
            yield piece


def write_grounds(folder: Path, output: Path) -> None:
    """Write pieces of photographs as one atlas.

    folder: what `drawing_sources.download` filled. output: a WebP file.
    """
    photographs = [ImageOps.contain(picture, (LONGEST, LONGEST)) for picture in ground_photographs(folder)]
    atlas = Image.new("RGB", (COLUMNS * GROUND, GROUNDS // COLUMNS * GROUND))
    for i, piece in enumerate(itertools.islice(ground_pieces(photographs), GROUNDS)):
        atlas.paste(piece, (i % COLUMNS * GROUND, i // COLUMNS * GROUND))
    atlas.save(output, quality=85)
    print(f"{output.name}: {GROUNDS} pieces of {len(photographs)} photographs", flush=True)
