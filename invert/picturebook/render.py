"""Scenes to pictures: a batched renderer in plain torch, on any device.

In: a list of `Scene`s. Out: images (B, 3, size, size), float32 in 0..1. Sprites are premultiplied
RGBA, placed by one affine `grid_sample` a slot; backgrounds are formulas of the pixel's position.
The jitter of a scene comes from its seed, so the same scene is always the same picture.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, replace
from functools import cache
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from invert.picturebook.world import ATLAS, COLORS, PATTERNS, STYLES, Scene, objects

SPRITE = 72  # pixels
COLUMNS = 32
LUMA = (0.299, 0.587, 0.114)
CORNER_CENTERS = {
    "top left": (-0.45, -0.45),
    "top right": (0.45, -0.45),
    "bottom left": (-0.45, 0.45),
    "bottom right": (0.45, 0.45),
}


@cache
def _atlas() -> Tensor:
    """Sprites (N, 4, 72, 72) uint8, colors premultiplied by alpha."""
    with Image.open(ATLAS) as image:
        pixels = np.asarray(image.convert("RGBA"))
    rows = pixels.shape[0] // SPRITE
    tiles = pixels.reshape(rows, SPRITE, COLUMNS, SPRITE, 4).transpose(0, 2, 4, 1, 3).reshape(-1, 4, SPRITE, SPRITE)
    tiles = tiles[: len(objects())].astype(np.float32)
    tiles[:, :3] *= tiles[:, 3:] / 255
    return torch.from_numpy(tiles.round().astype(np.uint8))


@cache
def sprites(device: torch.device, level: int) -> Tensor:
    """Mip level of the atlas: (N, 4, 72 / 2^level, …) uint8 on the device."""
    tiles = _atlas().to(device)
    if level == 0:
        return tiles
    return torch.cat([F.avg_pool2d(part.float(), 2**level).round().byte() for part in tiles.split(256)])


class Artwork(Protocol):
    """What scenes are drawn with: the pictures of the objects, and the grounds that have no name."""

    def choose(self, thing: int, rng: random.Random) -> int:
        """The tile to draw an object with, by its index in `objects()`."""

    def tiles(self, indices: list[int], level: int, device: torch.device) -> Tensor:
        """Premultiplied RGBA tiles (B, 4, s, s) in 0..1, s the 72 pixels of a sprite halved `level` times."""

    def vary(self, tiles: Tensor, slots: list[Slot]) -> Tensor:
        """The tinted tiles (B, 4, s, s) as they are drawn, of the same shape."""

    def grounds(self, rngs: list[random.Random], size: int, device: torch.device) -> Tensor:
        """Grounds (B, 3, size, size) in 0..1 of the scenes that name no background."""

    def paint(self, grounds: Tensor, rngs: list[random.Random]) -> Tensor:
        """The grounds (B, 3, size, size) that have a name, as they are drawn."""


class Atlas:
    """The world's own artwork: one sprite an object, drawn as it is, on gray where a background has no name."""

    def choose(self, thing: int, rng: random.Random) -> int:
        return thing

    def tiles(self, indices: list[int], level: int, device: torch.device) -> Tensor:
        return sprites(device, level)[torch.tensor(indices, device=device)].float() / 255

    def vary(self, tiles: Tensor, slots: list[Slot]) -> Tensor:
        return tiles

    def grounds(self, rngs: list[random.Random], size: int, device: torch.device) -> Tensor:
        return torch.full((len(rngs), 3, size, size), 0.5, device=device)

    def paint(self, grounds: Tensor, rngs: list[random.Random]) -> Tensor:
        return grounds


@dataclass(frozen=True)
class Slot:
    """One object in the picture: center in -1..1, half its side as a share of the picture's, radians.

    thing: its index in `objects()`. sprite: the tile that it is drawn with.
    """

    thing: int
    sprite: int
    x: float
    y: float
    scale: float
    angle: float
    mirrored: bool
    tint: str


def _slots(scene: Scene, rng: random.Random, jitter: float) -> list[Slot]:
    """Place the scene's sprites. `jitter` 0 is the tidy default, 1 the augmented training."""

    def slot(k: int, x: float, y: float, scale: float) -> Slot:
        wobble = 0.04 + 0.06 * jitter
        return Slot(
            thing=scene.objects[k],
            sprite=scene.objects[k],
            x=x + rng.uniform(-wobble, wobble),
            y=y + rng.uniform(-wobble, wobble),
            scale=scale * rng.uniform(0.92 - 0.1 * jitter, 1.05),
            angle=rng.gauss(0, 0.04 + 0.12 * jitter),
            mirrored=jitter > 0 and objects()[scene.objects[k]].flip and rng.random() < 0.5,
            tint=scene.tints[k],
        )

    match scene.layout:
        case "one":
            return [slot(0, 0, 0, 0.78)]
        case "small":
            return [slot(0, 0, 0, 0.36)]
        case "corner":
            return [slot(0, *CORNER_CENTERS[scene.corner], 0.46)]
        case "two":
            return [slot(0, -0.48, 0, 0.47), slot(0, 0.48, 0, 0.47)]
        case "beside":
            return [slot(0, -0.48, 0, 0.48), slot(1, 0.48, 0, 0.48)]
        case "above":
            return [slot(0, 0, -0.48, 0.48), slot(1, 0, 0.48, 0.48)]
    raise ValueError(f"unknown layout {scene.layout!r}")


def _place(canvas: Tensor, rows: Tensor, slots: list[Slot], artwork: Artwork) -> None:
    """Composite one slot of each picture in `rows` over the canvas (B, 3, S, S), in place."""
    device, size = canvas.device, canvas.shape[-1]
    side = np.array([s.scale for s in slots]) * size
    for level in (0, 1):  # the level whose resolution fits, so that small sprites do not alias
        mine = np.flatnonzero((side < 0.62 * SPRITE) == bool(level))
        if len(mine) == 0:
            continue
        chosen = [slots[i] for i in mine]
        pick = rows[torch.from_numpy(mine).to(device)]
        tiles = artwork.tiles([s.sprite for s in chosen], level, device)
        tiles = artwork.vary(_tinted(tiles, [s.tint for s in chosen]), chosen)
        drawn = F.grid_sample(
            tiles, F.affine_grid(_inverse_affine(chosen, device), [len(chosen), 4, size, size], False), align_corners=False
        )
        canvas[pick] = canvas[pick] * (1 - drawn[:, 3:]) + drawn[:, :3]


def _inverse_affine(slots: list[Slot], device: torch.device) -> Tensor:
    """Picture coordinates → sprite coordinates, (B, 2, 3)."""
    rows = []
    for s in slots:
        cos, sin = math.cos(s.angle) / s.scale, math.sin(s.angle) / s.scale
        sign = -1.0 if s.mirrored else 1.0
        rows.append([[sign * cos, sign * sin, -sign * (cos * s.x + sin * s.y)], [-sin, cos, sin * s.x - cos * s.y]])
    return torch.tensor(rows, device=device)


def _tinted(tiles: Tensor, tints: list[str]) -> Tensor:
    """Recolor premultiplied sprites (B, 4, h, w): the tint's hue, the sprite's light and shade."""
    mine = [i for i, tint in enumerate(tints) if tint]
    if not mine:
        return tiles
    rgb = torch.tensor([COLORS[tints[i]] for i in mine], device=tiles.device)[:, :, None, None] / 255
    part = tiles[mine]
    alpha = part[:, 3:]
    light = (part[:, :3] * torch.tensor(LUMA, device=tiles.device)[:, None, None]).sum(1, keepdim=True)
    shade = light / alpha.clamp(min=1e-3)
    # Dark strokes stay dark and highlights stay light; the middle takes the color.
    color = torch.where(shade < 0.55, rgb * (0.25 + 1.364 * shade), rgb + (1 - rgb) * (shade - 0.55) * 0.9)
    tiles[mine] = torch.cat([(0.85 * color * alpha + 0.15 * part[:, :3]).clamp(0, 1), alpha], 1)
    return tiles


def _backgrounds(scenes: list[Scene], rngs: list[random.Random], size: int, device: torch.device, artwork: Artwork) -> Tensor:
    """(B, 3, size, size): plain, stripes, checks or dots in one or two colors, the artwork's grounds without any."""
    images = torch.empty(len(scenes), 3, size, size, device=device)
    named = [i for i, scene in enumerate(scenes) if scene.colors]
    unnamed = [i for i, scene in enumerate(scenes) if not scene.colors]
    if named:
        mine = [rngs[i] for i in named]
        images[named] = artwork.paint(_patterns([scenes[i] for i in named], mine, size, device), mine)
    if unnamed:
        images[unnamed] = artwork.grounds([rngs[i] for i in unnamed], size, device)
    return images


def _patterns(scenes: list[Scene], rngs: list[random.Random], size: int, device: torch.device) -> Tensor:
    """The backgrounds of scenes that name their colors, (B, 3, size, size)."""
    first = torch.tensor([COLORS[s.colors[0]] for s in scenes], device=device)[:, :, None, None] / 255
    second = torch.tensor([COLORS[s.colors[-1]] for s in scenes], device=device)[:, :, None, None] / 255
    offsets = torch.tensor([[r.random() for _ in range(4)] for r in rngs], device=device)
    period = (size * (0.17 + 0.12 * offsets[:, 0]))[:, None, None]  # pixels from one stripe to the next
    angle = (offsets[:, 1] * math.pi)[:, None, None]
    line = torch.arange(size, device=device) + 0.5
    y, x = torch.meshgrid(line, line, indexing="ij")
    along = x * angle.cos() + y * angle.sin() + (offsets[:, 2] * size)[:, None, None]  # (B, S, S)
    tilted = angle * 0.15  # checks and dots lean only a little
    u = 2 * math.pi * ((x * tilted.cos() + y * tilted.sin()) / period + offsets[:, 2, None, None])
    v = 2 * math.pi * ((y * tilted.cos() - x * tilted.sin()) / period + offsets[:, 3, None, None])
    waves = torch.stack(
        [
            torch.full_like(u, 9.0),
            (2 * math.pi * along / period).sin(),
            1.3 * (u / 2).sin() * (v / 2).sin(),
            (u.cos() + v.cos()) - 0.75,
        ],
        1,
    )  # (B, pattern, S, S): above zero where the first color shows
    kind = torch.tensor([PATTERNS.index(s.pattern) for s in scenes], device=device)
    wave = waves[torch.arange(len(scenes), device=device), kind][:, None]
    share = torch.sigmoid(wave * 8)
    return first * share + second * (1 - share)


def luminance(images: Tensor) -> Tensor:
    """(B, 3, H, W) → (B, 1, H, W), Rec. 601 weights."""
    return (images * torch.tensor(LUMA, device=images.device)[:, None, None]).sum(1, keepdim=True)


def blur(images: Tensor, sigma: float) -> Tensor:
    """Gaussian blur with reflected edges."""
    radius = max(1, math.ceil(2.5 * sigma))
    offsets = torch.arange(-radius, radius + 1, device=images.device, dtype=images.dtype)
    kernel = torch.softmax(-(offsets**2) / (2 * sigma**2), 0)
    channels = images.shape[1]
    padded = F.pad(images, (radius,) * 4, mode="reflect")
    padded = F.conv2d(padded, kernel.view(1, 1, -1, 1).repeat(channels, 1, 1, 1), groups=channels)
    return F.conv2d(padded, kernel.view(1, 1, 1, -1).repeat(channels, 1, 1, 1), groups=channels)


def apply_style(images: Tensor, style: str) -> Tensor:
    """Give pictures (B, 3, S, S) one of STYLES."""
    scale = images.shape[-1] / 64
    match style:
        case "plain":
            return images
        case "pencil sketch":
            gray = luminance(images)
            lines = (gray / blur(gray, 2.2 * scale).clamp(min=0.05)).clamp(0, 1) ** 2
            return (0.75 * lines + 0.25 * gray).expand_as(images)
        case "black and white":
            return luminance(images).expand_as(images)
        case "pixel art":
            blocks = F.adaptive_avg_pool2d(images, 32)
            return F.interpolate((blocks * 6).round() / 6, images.shape[-2:], mode="nearest")
        case "blurry":
            return blur(images, 1.2 * scale)
        case "neon":
            edges = (images - blur(images, 1.5 * scale)).abs().amax(1, keepdim=True)
            saturated = (images - luminance(images)) * 1.6 + luminance(images)
            return (0.35 * saturated + (saturated + 0.35) * (edges * 5).clamp(0, 1)).clamp(0, 1)
        case "sepia":
            tone = torch.tensor((1.0, 0.84, 0.62), device=images.device)[:, None, None]
            return (luminance(images) * tone * 0.9 + 0.08).clamp(0, 1)
    raise ValueError(f"unknown style {style!r}")


def render(
    scenes: list[Scene],
    size: int = 64,
    device: torch.device | str = "cpu",
    jitter: float = 0.0,
    artwork: Artwork | None = None,
) -> Tensor:
    """Draw scenes: (B, 3, size, size) float32 in 0..1 on the device.

    jitter: 0 for the picture as defined, up to 1 for training's looser placement and mirroring.
    artwork: what to draw the objects with; the world's own sprites by default.
    """
    device = torch.device(device)
    artwork = artwork or Atlas()
    rngs = [random.Random(scene.seed) for scene in scenes]
    images = _backgrounds(scenes, rngs, size, device, artwork)
    slots = [_slots(scene, rng, jitter) for scene, rng in zip(scenes, rngs, strict=True)]
    slots = [[replace(s, sprite=artwork.choose(s.thing, rng)) for s in row] for row, rng in zip(slots, rngs, strict=True)]
    for k in range(2):
        rows = [i for i, s in enumerate(slots) if len(s) > k]
        if rows:
            _place(images, torch.tensor(rows, device=device), [slots[i][k] for i in rows], artwork)
    for style in STYLES[1:]:
        rows = [i for i, scene in enumerate(scenes) if scene.style == style]
        if rows:
            images[rows] = apply_style(images[rows], style)
    return images
