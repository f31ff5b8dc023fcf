"""The label lists that CLIP Interrogator ranks: what it knows of the world, in its own five tables.

For picturebook they cover the whole world (every object with its article and doubled, every colour,
background, style and layout), so that its knowledge is ours. For other models they are the package's
own files, read from where it is installed.
"""

from __future__ import annotations

import importlib.util
import itertools
from dataclasses import dataclass
from pathlib import Path

from invert.errors import InputError
from invert.models.clip import Clip
from invert.picturebook.grammar import STYLE_FORMS, with_article
from invert.picturebook.world import COLOURS, CORNERS, PATTERNS, objects

MISSING = "CLIP Interrogator is not installed: pip install 'prompt-inversion[compare]'"
# clip-interrogator 0.6.0 writes these into its code; its other lists are files.
SITES = (
    "Artstation", "behance", "cg society", "cgsociety", "deviantart", "dribble", "flickr", "instagram", "pexels",
    "pinterest", "pixabay", "pixiv", "polycount", "reddit", "shutterstock", "tumblr", "unsplash", "zbrush central",
)  # fmt: skip


@dataclass(frozen=True)
class Labels:
    """One list a table, under the package's names for them."""

    artists: tuple[str, ...]
    flavors: tuple[str, ...]
    mediums: tuple[str, ...]
    movements: tuple[str, ...]
    trendings: tuple[str, ...]
    negative: tuple[str, ...]


def labels_for(clip: Clip) -> Labels:
    """picturebook's world, or the package's lists for any other model."""
    return picturebook_labels() if clip.known_tokens is not None else package_labels()


def picturebook_labels() -> Labels:
    """Everything that a caption of picturebook can say, as phrases of the captions themselves."""
    things = objects()
    single = [with_article(thing.name) if thing.countable else thing.name for thing in things]
    doubled = [f"two {thing.plural}" for thing in things if thing.plural]
    styles = [form.replace("{}", " ").strip(", ") for forms in STYLE_FORMS.values() for form in forms]
    styles = [style.removesuffix(" of") for style in styles if style]
    corners = [f"in the {corner} corner" for corner in CORNERS]
    layouts = ["small", "two", "to the left of", "to the right of", "above", "below", *corners]
    pairs = [" and ".join(pair) for pair in itertools.combinations(COLOURS, 2)]
    patterned = [f"{pattern} {pair}" for pattern in PATTERNS[1:] for pair in pairs]
    backgrounds = [f"on {with_article(f'{look} background')}" for look in [*COLOURS, *patterned]]
    return Labels(
        artists=tuple(layouts),
        flavors=tuple(dict.fromkeys([*single, *doubled])),
        mediums=tuple(dict.fromkeys(styles)),
        movements=tuple(COLOURS),
        trendings=tuple(backgrounds),
        negative=tuple(style for style in STYLE_FORMS if style != "plain"),
    )


def package_labels() -> Labels:
    """The lists of the installed clip-interrogator; InputError where it is missing."""
    folder = package_data()
    artists = read(folder / "artists.txt")
    trendings = [*SITES, *(f"{start} on {site}" for start in ("trending", "featured") for site in SITES)]
    return Labels(
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
        raise InputError(MISSING)
    return Path(spec.origin).parent / "data"


def read(path: Path) -> tuple[str, ...]:
    return tuple(line.strip() for line in path.read_text(encoding="utf-8", errors="replace").splitlines())
