"""Draw scenes with what many hands drew: the artwork of picturebook's fourth training phase.

In: the atlases that `make_drawings.py` wrote. Out: an `Artwork` for `render`: a random drawing of each object, its hue,
contrast, shape and outline varied, and grounds of photographs, gradients, textures and clutter. Randomness comes from
each scene's own stream, so the same scene is always the same picture.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from invert.picturebook.render import COLUMNS, LUMA, SPRITE, Slot, sprites
from invert.picturebook.world import COLORS, objects

OWN_SHARE = 0.3  # how often an object is drawn by the world's own sprite
REAL_SHARE = 0.4  # among the others, how often clip art, a stamp, a costume or a flash card where the object has one
REAL = ("openclipart-svg", "tuxpaint-stamps-default", "scratch", "pysiogame")
INKED = ("fluent-ink", "game-icons", "temaki", "fonts-symbola")  # drawn in one dark ink
INKED_SHARE = 0.12  # how often a font's drawing is one of those: they are many, and pictures in one ink are few
PAINTED_SHARE = 0.5  # of the grounds that have a name
GROUND = 96  # pixels of a piece of a photograph
PHOTOGRAPHS_SHARE = 0.75  # of the grounds without a name; the others are gradients, textures and clutter


def unpack(path: Path) -> Tensor:
    """The tiles of an atlas, premultiplied RGBA (N, 4, 72, 72) uint8; the padding at its end comes along."""
    pixels = np.asarray(Image.open(path).convert("RGBA"))
    rows = pixels.shape[0] // SPRITE
    tiles = pixels.reshape(rows, SPRITE, COLUMNS, SPRITE, 4).transpose(0, 2, 4, 1, 3).reshape(-1, 4, SPRITE, SPRITE)
    colors = tiles[:, :3].astype(np.float32) * tiles[:, 3:] / 255
    return torch.from_numpy(np.concatenate([colors.round().astype(np.uint8), tiles[:, 3:]], 1))


def photographs(folder: Path) -> Tensor:
    """Square pieces of photographs (N, 3, 96, 96) uint8, from the folder of the atlases."""
    atlas = np.asarray(Image.open(folder / "grounds.webp").convert("RGB"))
    pieces = atlas.reshape(-1, GROUND, COLUMNS, GROUND, 3).transpose(0, 2, 4, 1, 3).reshape(-1, 3, GROUND, GROUND)
    return torch.from_numpy(pieces.copy())


class ManyHands:
    """Every drawing of every object, on one device.

    tile_sources: the source of each tile, "own" for the world's sprites, which come first.
    """

    def __init__(self, folder: Path, device: torch.device) -> None:
        """folder: of the atlases.

        Raises:
            FileNotFoundError: the folder holds no atlas.
        """
        found = sorted(folder.glob("*.json"))
        if not found:
            raise FileNotFoundError(f"{folder} holds no drawings; `python scripts/make_drawings.py` collects them")
        index = {thing.name: i for i, thing in enumerate(objects())}
        parts, self.tile_sources = [sprites(torch.device("cpu"), 0)], ["own"] * len(index)
        self.fonts: list[list[int]] = [[] for _ in index]  # object → its tiles by other fonts
        self.inked: list[list[int]] = [[] for _ in index]  # object → its tiles by INKED
        self.real: list[list[int]] = [[] for _ in index]  # object → its tiles by REAL
        for path in found:
            names = [name for name, _ in json.loads(path.read_text(encoding="utf8"))]
            table = self.real if path.stem in REAL else self.inked if path.stem in INKED else self.fonts
            for offset, name in enumerate(names):
                table[index[name]].append(len(self.tile_sources) + offset)
            parts.append(unpack(path.with_suffix(".webp"))[: len(names)])
            self.tile_sources += [path.stem] * len(names)
        full = torch.cat(parts).to(device)
        half = torch.cat([F.avg_pool2d(part.float(), 2).round().byte() for part in full.split(256)])
        self.levels = (full, half)
        self.photographs = photographs(folder).to(device)

    def choose(self, thing: int, rng: random.Random) -> int:
        """The world's own sprite, a font's pictograph, or one of REAL of the object."""
        by_fonts = self.inked[thing] if self.inked[thing] and rng.random() < INKED_SHARE else self.fonts[thing]
        if rng.random() < OWN_SHARE or not (by_fonts or self.real[thing]):
            return thing
        if self.real[thing] and (rng.random() < REAL_SHARE or not by_fonts):
            return rng.choice(self.real[thing])
        return rng.choice(by_fonts)

    def tiles(self, indices: list[int], level: int, device: torch.device) -> Tensor:
        """See `Artwork.tiles`."""
        return self.levels[level].to(device)[torch.tensor(indices, device=device)].float() / 255

    def vary(self, tiles: Tensor, slots: list[Slot]) -> Tensor:
        """Some tiles in another hue, contrast, perspective, with an outline, as a line drawing, or partly hidden.

        What is drawn in one ink takes a tint for its ink: shade is all that `render` left of it.
        """
        inked = [i for i, slot in enumerate(slots) if slot.tint and self.tile_sources[slot.sprite] in INKED]
        for i in inked:
            ink = torch.tensor(COLORS[slots[i].tint], device=tiles.device)[:, None, None] / 255
            tiles[i, :3] = ink * tiles[i, 3:]
        rng = random.Random(repr([(s.sprite, s.x, s.angle) for s in slots[:1]]) + str(len(slots)))
        for chance, change in CHANGES:
            mine = [i for i, slot in enumerate(slots) if rng.random() < chance and may_change(change, slot)]
            if mine:
                tiles[mine] = change(tiles[mine], rng)
        return tiles

    def grounds(self, rngs: list[random.Random], size: int, device: torch.device) -> Tensor:
        """Photographs most of all, gradients, textures, and clutter of other objects."""
        images = torch.empty(len(rngs), 3, size, size, device=device)
        for i, rng in enumerate(rngs):
            if rng.random() < PHOTOGRAPHS_SHARE:
                images[i] = self._photograph(rng, size)
            elif (kind := rng.random()) < 0.3:
                images[i] = gradient(rng, size, device)
            elif kind < 0.7:
                images[i] = texture(rng, size, device)
            else:
                images[i] = self._clutter(rng, size, device)
        return images

    def paint(self, grounds: Tensor, rngs: list[random.Random]) -> Tensor:
        """Half of the named grounds under uneven light, as brushes and lamps leave it."""
        for i, rng in enumerate(rngs):
            if rng.random() < PAINTED_SHARE:
                grounds[i] *= uneven_light(rng, grounds.shape[-1], grounds.device)
        return grounds.clamp_(0, 1)

    def _photograph(self, rng: random.Random, size: int) -> Tensor:
        """A part of a piece, mirrored or not, in other light and colors: there are fewer photographs than pictures of them."""
        piece = self.photographs[rng.randrange(len(self.photographs))]
        side = rng.randint(GROUND // 2, GROUND)
        x, y = rng.randint(0, GROUND - side), rng.randint(0, GROUND - side)
        part = piece[None, :, y : y + side, x : x + side].float() / 255
        if rng.random() < 0.5:
            part = part.flip(-1)
        image = F.interpolate(part, (size, size), mode="bilinear", antialias=True, align_corners=False)[0]
        gray = image.mean(0, keepdim=True)
        tint = torch.tensor([rng.uniform(0.85, 1.15) for _ in range(3)], device=image.device)[:, None, None]
        return (gray + (image - gray) * rng.uniform(0.4, 1.5)).mul(tint * rng.uniform(0.6, 1.25)).clamp(0, 1)

    def _clutter(self, rng: random.Random, size: int, device: torch.device) -> Tensor:
        """Small faded tiles of anything over a gradient."""
        image = gradient(rng, size, device)
        for _ in range(rng.randint(3, 7)):
            side = rng.randint(size // 8, size // 4)
            tile = self.levels[1][rng.randrange(len(self.levels[1]))][None].to(device).float() / 255
            tile = F.interpolate(tile, (side, side), mode="area")[0] * rng.uniform(0.3, 0.7)
            x, y = rng.randrange(size - side), rng.randrange(size - side)
            part = image[:, y : y + side, x : x + side]
            image[:, y : y + side, x : x + side] = part * (1 - tile[3:]) + tile[:3]
        return image


def color(rng: random.Random, device: torch.device) -> Tensor:
    """A random color (3, 1, 1): a named one half of the time."""
    rgb = rng.choice(list(COLORS.values())) if rng.random() < 0.5 else tuple(rng.randrange(256) for _ in range(3))
    return torch.tensor(rgb, device=device)[:, None, None] / 255


def gradient(rng: random.Random, size: int, device: torch.device) -> Tensor:
    """A slant from one color to another, (3, size, size)."""
    angle = rng.uniform(0, 2 * math.pi)
    line = torch.linspace(-0.5, 0.5, size, device=device)
    along = (line[None, :] * math.cos(angle) + line[:, None] * math.sin(angle) + 0.5).clamp(0, 1)
    return color(rng, device) * along + color(rng, device) * (1 - along)


def texture(rng: random.Random, size: int, device: torch.device) -> Tensor:
    """Smooth noise of a random grain and slant between two colors, (3, size, size)."""
    noise = torch.Generator().manual_seed(rng.getrandbits(31))
    grain = torch.rand(1, 1, rng.randint(3, 24), rng.randint(3, 24), generator=noise).to(device)
    field = F.interpolate(grain, (size, size), mode="bilinear", align_corners=False)[0]
    return (color(rng, device) * field + color(rng, device) * (1 - field)).clamp(0, 1)


def uneven_light(rng: random.Random, size: int, device: torch.device) -> Tensor:
    """Factors about 1: a slope, and strokes along the rows or the columns, (1, size, size)."""
    line = torch.linspace(-1, 1, size, device=device)
    slope = line[None, :] * rng.uniform(-0.15, 0.15) + line[:, None] * rng.uniform(-0.15, 0.15)
    noise = torch.Generator().manual_seed(rng.getrandbits(31))
    strokes = torch.rand(1, 1, rng.randint(2, 8), rng.randint(8, 48), generator=noise).to(device) - 0.5
    strokes = F.interpolate(strokes, (size, size), mode="bilinear", align_corners=False)[0, 0]
    return 1 + slope + (strokes if rng.random() < 0.5 else strokes.T) * rng.uniform(0, 0.6)


def shift_hue(tiles: Tensor, rng: random.Random) -> Tensor:
    """Turn colors about the gray axis by up to 25 degrees, and stretch or fade them."""
    angle, third = math.radians(rng.uniform(-25, 25)), 1 / 3
    cos, sin = math.cos(angle), math.sin(angle) * math.sqrt(third)
    same, next_, last = cos + (1 - cos) * third, (1 - cos) * third - sin, (1 - cos) * third + sin
    turn = torch.tensor([[same, next_, last], [last, same, next_], [next_, last, same]], device=tiles.device)
    light = luminance(tiles)
    turned = torch.einsum("ij,bjhw->bihw", turn, tiles[:, :3])
    return with_colors(tiles, light + (turned - light) * rng.uniform(0.6, 1.3))


def shift_light(tiles: Tensor, rng: random.Random) -> Tensor:
    """Darker or brighter, with more or less contrast."""
    alpha, contrast = tiles[:, 3:], rng.uniform(0.6, 1.3)
    return with_colors(tiles, (tiles[:, :3] - 0.5 * alpha) * contrast + (0.5 + rng.uniform(-0.12, 0.12)) * alpha)


def draw_lines(tiles: Tensor, rng: random.Random) -> Tensor:
    """A line drawing: dark edges on white, as much clip art is."""
    light, alpha = luminance(tiles), tiles[:, 3:]
    edges = (light - F.avg_pool2d(light, 5, 1, 2)).abs() + (alpha - F.avg_pool2d(alpha, 3, 1, 1)).abs()
    paper = (1 - edges * rng.uniform(4, 9)).clamp(0.05, 1)
    return with_colors(tiles, (paper * alpha).expand(-1, 3, -1, -1))


def fade_to_gray(tiles: Tensor, rng: random.Random) -> Tensor:
    """Black and white."""
    return with_colors(tiles, luminance(tiles).expand(-1, 3, -1, -1))


def add_outline(tiles: Tensor, rng: random.Random) -> Tensor:
    """A white or dark border, as stickers have."""
    wide = F.max_pool2d(tiles[:, 3:], 5, 1, 2)
    border = (1.0 if rng.random() < 0.6 else 0.08) * (wide - tiles[:, 3:])
    return torch.cat([(tiles[:, :3] + border).clamp(0, 1), wide], 1)


def slant(tiles: Tensor, rng: random.Random) -> Tensor:
    """A perspective: narrower, sheared and drawn together towards one side."""
    size = tiles.shape[-1]
    line = torch.linspace(-1, 1, size, device=tiles.device)
    y, x = torch.meshgrid(line, line, indexing="ij")
    depth = 1 + rng.uniform(-0.25, 0.25) * x + rng.uniform(-0.25, 0.25) * y
    stretch = rng.uniform(0.8, 1.25)
    across, down = x * stretch + rng.uniform(-0.2, 0.2) * y, y / stretch + rng.uniform(-0.2, 0.2) * x
    grid = torch.stack([across / depth, down / depth], -1)
    return F.grid_sample(tiles, grid.expand(len(tiles), -1, -1, -1), align_corners=True)


def hide_part(tiles: Tensor, rng: random.Random) -> Tensor:
    """Cut a rectangle of up to a third of each side away."""
    size = tiles.shape[-1]
    width, height = (rng.randint(size // 8, size // 3) for _ in range(2))
    x, y = rng.randrange(size - width), rng.randrange(size - height)
    tiles = tiles.clone()
    tiles[:, :, y : y + height, x : x + width] = 0
    return tiles


def luminance(tiles: Tensor) -> Tensor:
    """(B, 4, h, w) → (B, 1, h, w), premultiplied."""
    return (tiles[:, :3] * torch.tensor(LUMA, device=tiles.device)[:, None, None]).sum(1, keepdim=True)


def with_colors(tiles: Tensor, colors: Tensor) -> Tensor:
    """The tiles in other premultiplied colors (B, 3, h, w), kept within 0 and alpha."""
    return torch.cat([torch.minimum(colors.clamp(min=0), tiles[:, 3:]), tiles[:, 3:]], 1)


Change = Callable[[Tensor, random.Random], Tensor]
CHANGES: tuple[tuple[float, Change], ...] = (
    (0.25, shift_hue), (0.3, shift_light), (0.08, draw_lines), (0.05, fade_to_gray),
    (0.12, add_outline), (0.3, slant), (0.1, hide_part),
)  # fmt: skip
RECOLORING: tuple[Change, ...] = (shift_hue, draw_lines, fade_to_gray)


def may_change(change: Change, slot: Slot) -> bool:
    """Whether the caption stays true: what is named by its color keeps it."""
    if change not in RECOLORING:
        return True
    thing = objects()[slot.thing]
    return not slot.tint and thing.tint and not set(thing.name.split()) & set(COLORS)
