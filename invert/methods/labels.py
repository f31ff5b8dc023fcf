"""The label lists that CLIP Interrogator ranks: what it knows of the world, in its own five tables.

A bundle may bring lists that cover its world; otherwise they are the package's own files, read from
where it is installed.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

from invert.bundle import ModelBundle
from invert.errors import MissingExtraError

MISSING = "CLIP Interrogator is not installed: pip install 'prompt-inversion[compare]'"
# clip-interrogator 0.6.0 writes these into its code; its other lists are files.
SITES = (
    "Artstation", "behance", "cg society", "cgsociety", "deviantart", "dribble", "flickr", "instagram", "pexels",
    "pinterest", "pixabay", "pixiv", "polycount", "reddit", "shutterstock", "tumblr", "unsplash", "zbrush central",
)  # fmt: skip


@dataclass(frozen=True)
class LabelTables:
    """One list a table, under the package's names for them."""

    artists: tuple[str, ...]
    flavors: tuple[str, ...]
    mediums: tuple[str, ...]
    movements: tuple[str, ...]
    trendings: tuple[str, ...]
    negative: tuple[str, ...]


def labels_of(bundle: ModelBundle) -> LabelTables:
    """The bundle's own lists, or the package's.

    Raises:
        MissingExtraError: the bundle has none and the package is not installed.
    """
    return bundle.labels or package_labels()


def package_labels() -> LabelTables:
    """The lists of the installed clip-interrogator; MissingExtraError where it is missing."""
    folder = package_data()
    artists = read(folder / "artists.txt")
    trendings = [*SITES, *(f"{start} on {site}" for start in ("trending", "featured") for site in SITES)]
    return LabelTables(
        artists=(*(f"by {name}" for name in artists), *(f"inspired by {name}" for name in artists)),
        flavors=read(folder / "flavors.txt"),
        mediums=read(folder / "mediums.txt"),
        movements=read(folder / "movements.txt"),
        trendings=(*trendings, *(f"{site} contest winner" for site in SITES)),
        negative=read(folder / "negative.txt"),
    )


def package_data() -> Path:
    """Where the package keeps its lists; found without importing it, so that this outlives its imports."""
    spec = importlib.util.find_spec("clip_interrogator")
    if spec is None or spec.origin is None:
        raise MissingExtraError(MISSING)
    return Path(spec.origin).parent / "data"


def read(path: Path) -> tuple[str, ...]:
    return tuple(line.strip() for line in path.read_text(encoding="utf-8", errors="replace").splitlines())
