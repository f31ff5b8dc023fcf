"""The world of picturebook: its objects, its attributes, and scenes drawn from them by seed.

A `Scene` is plain data; `grammar` says it in English, `render` draws it. Training never sees the
held-out pairs of objects and combinations of attributes, so a held-out scene tests composition.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

ATLAS = Path(__file__).parent / "sprites.webp"
TABLE = ATLAS.with_name("objects.tsv")

COLORS = {
    "red": (220, 40, 40),
    "orange": (245, 140, 30),
    "yellow": (250, 220, 60),
    "green": (50, 160, 70),
    "teal": (30, 170, 170),
    "blue": (45, 90, 220),
    "purple": (130, 60, 190),
    "pink": (250, 150, 190),
    "brown": (130, 85, 50),
    "black": (25, 25, 25),
    "gray": (135, 135, 135),
    "white": (245, 245, 245),
}
GRAYS = ("black", "gray", "white")
PATTERNS = ("plain", "striped", "checkered", "dotted")
STYLES = ("plain", "pencil sketch", "black and white", "pixel art", "blurry", "neon", "sepia")
STYLE_WEIGHTS = (6, 1, 1, 1, 1, 1, 1)  # how often each is drawn
COLORLESS_STYLES = ("pencil sketch", "black and white", "sepia")  # show no hue, so captions name none
LAYOUTS = ("one", "small", "two", "beside", "above", "corner")
CORNERS = ("top left", "top right", "bottom left", "bottom right")
HELD_OUT_SHARE = 8  # one pair of objects, or combination of attributes, in 8 is never trained on


@dataclass(frozen=True)
class Object:
    """A pictograph and how it is spoken of. `plural` is "" where the thing cannot be doubled."""

    name: str
    plural: str
    countable: bool  # takes "a" or "an"
    flip: bool  # a mirror image is still the thing
    tint: bool  # may be recolored


@dataclass(frozen=True)
class Scene:
    """A picture as its attributes.

    objects: one or two indices into `objects()`; with two, the first is on the left or above.
    tints: one color name or "" per object. corner: one of CORNERS for the corner layout, else "".
    colors: one color for a plain background, two in COLORS order for a pattern, none for a ground
    that has no name, such as a photograph. seed: where
    exactly things lie (jitter of position, size and angle).
    """

    objects: tuple[int, ...]
    tints: tuple[str, ...]
    layout: str
    corner: str
    pattern: str
    colors: tuple[str, ...]
    style: str
    seed: int = 0


@cache
def objects() -> tuple[Object, ...]:
    """The objects in the atlas, in its order, from the table beside it."""
    rows = [line.split("\t") for line in TABLE.read_text(encoding="utf8").splitlines()]
    return tuple(Object(name, plural, *(flag == "1" for flag in flags)) for name, plural, *flags in rows)


@cache
def _countable_twice() -> tuple[int, ...]:
    """Indices of the objects that have a plural."""
    return tuple(i for i, thing in enumerate(objects()) if thing.plural)


def held_out(scene: Scene) -> bool:
    """Whether the scene belongs to the held-out split: its pair of objects, or its combination."""
    if len(scene.objects) == 2:
        key = ("pair", *sorted(scene.objects))
    else:
        key = ("combination", *scene.objects, scene.layout, scene.pattern, scene.style, *scene.colors[:1])
    return zlib.crc32(repr(key).encode()) % HELD_OUT_SHARE == 0


def _draw_colors(rng: random.Random, pattern: str, style: str) -> tuple[str, ...]:
    palette = GRAYS if style in COLORLESS_STYLES else tuple(COLORS)
    chosen = rng.sample(palette, 1 if pattern == "plain" else 2)
    return tuple(sorted(chosen, key=list(COLORS).index))


def _draw_tint(rng: random.Random, thing: Object, style: str) -> str:
    if not thing.tint or style in COLORLESS_STYLES or rng.random() < 0.6:
        return ""
    return rng.choice(tuple(COLORS))


def draw_tints(rng: random.Random, scene: Scene) -> tuple[str, ...]:
    """Other tints for the scene's objects; "" for most, and for all in a style without colors."""
    return tuple(_draw_tint(rng, objects()[i], scene.style) for i in scene.objects)


def draw_scene(rng: random.Random, style_weights: Sequence[int] = STYLE_WEIGHTS) -> Scene:
    """One scene of any split."""
    layout = rng.choices(LAYOUTS, (3, 1, 2, 4, 4, 2))[0]
    style = rng.choices(STYLES, style_weights)[0]
    pattern = rng.choice(PATTERNS)
    things = objects()
    if layout == "two":
        chosen = [rng.choice(_countable_twice())]
    else:
        chosen = rng.sample(range(len(things)), 2 if layout in ("beside", "above") else 1)
    return Scene(
        objects=tuple(chosen),
        tints=tuple(_draw_tint(rng, things[i], style) for i in chosen),
        layout=layout,
        corner=rng.choice(CORNERS) if layout == "corner" else "",
        pattern=pattern,
        colors=_draw_colors(rng, pattern, style),
        style=style,
        seed=rng.getrandbits(31),
    )


def draw_scenes(n: int, seed: int, split: str = "train") -> list[Scene]:
    """n scenes of one split, "train" or "held-out"; the same seed gives the same scenes."""
    rng = random.Random(f"{split}-{seed}")
    scenes: list[Scene] = []
    while len(scenes) < n:
        scene = draw_scene(rng)
        if held_out(scene) == (split == "held-out"):
            scenes.append(scene)
    return scenes


def change_one(scene: Scene, rng: random.Random) -> Scene:
    """Make a hard negative: the scene with one attribute changed, so that contrast teaches details."""
    other = draw_scene(rng)
    kinds = ["style", "background", "tint", "layout"] + ["swap"] * 2 * (len(scene.objects) == 2)
    kind = rng.choice(kinds)
    seed = rng.getrandbits(31)
    if kind == "swap":
        if rng.random() < 0.3:  # the same places, the colors exchanged
            tints = tuple(t if objects()[i].tint else "" for i, t in zip(scene.objects, scene.tints[::-1], strict=True))
            return replace(scene, tints=tints, seed=seed)
        return replace(scene, objects=scene.objects[::-1], tints=scene.tints[::-1], seed=seed)
    if kind == "tint" and scene.style not in COLORLESS_STYLES:
        return replace(scene, tints=draw_tints(rng, scene), seed=seed)
    if kind == "layout" and scene.layout != "two":
        if len(scene.objects) == 2:
            return replace(scene, layout="above" if scene.layout == "beside" else "beside", seed=seed)
        layout = rng.choice(("one", "small", "corner"))
        return replace(scene, layout=layout, corner=rng.choice(CORNERS) if layout == "corner" else "", seed=seed)
    if kind == "style" and (other.style in COLORLESS_STYLES) == (scene.style in COLORLESS_STYLES):
        return replace(scene, style=other.style, seed=seed)
    pattern = other.pattern
    return replace(scene, pattern=pattern, colors=_draw_colors(rng, pattern, scene.style), seed=seed)
