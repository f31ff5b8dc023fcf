"""Draw the out-of-domain pictures, pictographs and drawings by others on photographs and painted ground, with truths.

Three kinds of 100 pictures each: Twemoji's pictographs (`experiments/foreign/`), and of what `make_drawings.py` kept
for testing, Tux Paint's stamps (`foreign/stamps/`) and Open Clip Art (`foreign/clip-art/`). None of it comes from our
renderer: other drawings, sizes, places and grounds. In: the folder that `make_drawings.py` filled, which holds CLDR's names
too; for Twemoji, the folder img/twitter/64 of the npm package emoji-datasource-twitter; scikit-learn's two photographs.
Run once: `python scripts/make_foreign.py training`, and for Twemoji again `--twemoji img/twitter/64`.
"""

from __future__ import annotations

import json
import random
from dataclasses import asdict
from pathlib import Path

import numpy as np
from drawing_sources import CLIP_ART, STAMPS
from make_sprites import CLDR, object_names
from PIL import Image, ImageFilter
from sklearn.datasets import load_sample_images

from invert.picturebook.render import COLUMNS, SPRITE
from invert.picturebook.world import ATLAS, COLORS, Scene, held_out, objects
from kernels.once import OnceParser

OUTPUT = Path(__file__).parent.parent / "experiments" / "foreign"
PICTURES, SIDE, SEED = 100, 160, 20  # pictures, pixels
# Fonts draw many things in ways of their own (Twemoji's "robot" is another robot), and a picture nobody can
# name has no truth. Kept is the share of objects that both fonts draw most alike, by pixels, not by a model.
ALIKE_SHARE = 1 / 3
# Layout → centers and side of the pictographs as shares of the picture: another size than our renderer's.
PLACES = {
    "one": ([(0.5, 0.5)], 0.62),
    "two": ([(0.27, 0.5), (0.73, 0.5)], 0.38),
    "beside": ([(0.26, 0.5), (0.74, 0.5)], 0.4),
    "above": ([(0.5, 0.26), (0.5, 0.74)], 0.4),
}


def main() -> None:
    parser = OnceParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=Path("training"), help="what make_drawings.py filled")
    parser.add_argument("--twemoji", type=Path, help="img/twitter/64: draw the pictures of Twemoji instead")
    options = parser.parse_args()
    if options.twemoji:
        drawn = alike(foreign_sprites(options.twemoji, options.folder / "debian" / CLDR))
        draw_pictures(Pictographs(drawn), SEED, OUTPUT)
        return
    for seed, (kind, package) in enumerate((("stamps", STAMPS), ("clip-art", CLIP_ART)), SEED + 1):
        draw_pictures(Drawings(options.folder / "kept" / package), seed, OUTPUT / kind)


class Pictographs:
    """One pictograph an object; an object is drawn once."""

    layouts, held_out = tuple(PLACES), True

    def __init__(self, drawn: dict[int, Image.Image]) -> None:
        self.drawn, self.unused = drawn, list(drawn)

    def take(self, scene: Scene) -> list[Image.Image]:
        """The pictographs of a scene's objects, which are used up."""
        self.unused = [i for i in self.unused if i not in scene.objects]
        return [self.drawn[i] for i in scene.objects]


class Drawings:
    """Several drawings of an object; each is drawn once before one is drawn again. Most pictures hold one object."""

    layouts, held_out = ("one",) * 6 + ("beside", "above"), False  # the drawings themselves were never trained on

    def __init__(self, folder: Path) -> None:
        """folder: PNGs and truths.json, file → object name."""
        index = {thing.name: i for i, thing in enumerate(objects())}
        truths = json.loads((folder / "truths.json").read_text(encoding="utf8"))
        self.all = [(index[name], folder / file) for file, name in truths.items()]
        self.left = list(self.all)

    @property
    def unused(self) -> list[int]:
        """The objects of the drawings that are left, each as often as it has some."""
        if len({thing for thing, _ in self.left}) < 2:
            self.left = list(self.all)
        return [thing for thing, _ in self.left]

    def take(self, scene: Scene) -> list[Image.Image]:
        """A drawing of each object of a scene, which is used up."""
        rows = [next(row for row in self.left if row[0] == thing) for thing in scene.objects]
        self.left = [row for row in self.left if row not in rows]
        images = [Image.open(path).convert("RGBA") for _, path in rows]
        return [image.crop(image.getbbox()) for image in images]


def draw_pictures(source: Pictographs | Drawings, seed: int, output: Path) -> None:
    """Write PICTURES JPEGs and their truths.json."""
    rng = random.Random(seed)
    photographs = [Image.fromarray(photo) for photo in load_sample_images().images]
    output.mkdir(exist_ok=True)
    truths = []
    for number in range(PICTURES):
        ground = ("photograph", "painted")[number % 2]
        scene = draw_scene(rng, source, ground)
        sprites = source.take(scene)
        canvas = crop(rng, rng.choice(photographs)) if ground == "photograph" else painted(rng, scene.colors[0])
        centers, share = PLACES[scene.layout]
        for k, center in enumerate(centers):
            place(rng, canvas, sprites[min(k, len(sprites) - 1)], center, share)
        file = f"{number:03}.jpg"
        canvas.save(output / file, quality=88)
        fields = {"colours" if name == "colors" else name: value for name, value in asdict(scene).items()}  # as published
        truths.append({"file": file, "ground": ground, **fields, "objects": [objects()[i].name for i in scene.objects]})
    (output / "truths.json").write_text(json.dumps(truths, indent=1) + "\n")


def foreign_sprites(folder: Path, cldr: Path) -> dict[int, Image.Image]:
    """Object index → its pictograph, cropped to its ink."""
    index = {thing.name: i for i, thing in enumerate(objects())}
    found = {}
    for emoji, name in object_names(cldr).items():
        code = "-".join(f"{ord(character):04x}" for character in emoji)
        file = next((path for path in (folder / f"{code}.png", folder / f"{code}-fe0f.png") if path.exists()), None)
        if file is not None and name.removeprefix("=") in index:
            image = Image.open(file).convert("RGBA")
            found[index[name.removeprefix("=")]] = image.crop(image.getbbox())
    return found


def alike(sprites: dict[int, Image.Image]) -> dict[int, Image.Image]:
    """The objects whose pictographs are most like our own, by the correlation of their pixels."""
    atlas = Image.open(ATLAS).convert("RGBA")
    likeness = {}
    for i, image in sprites.items():
        x, y = i % COLUMNS * SPRITE, i // COLUMNS * SPRITE
        own = atlas.crop((x, y, x + SPRITE, y + SPRITE))
        likeness[i] = float(np.corrcoef(pixels(own.crop(own.getbbox())), pixels(image))[0, 1])
    kept = sorted(likeness, key=lambda i: -likeness[i])[: round(len(likeness) * ALIKE_SHARE)]
    return {i: sprites[i] for i in sorted(kept)}


def pixels(image: Image.Image) -> np.ndarray:
    """A pictograph on mid gray as 32 × 32 numbers a channel, flat."""
    ground = Image.new("RGBA", image.size, (128, 128, 128, 255))
    small = Image.alpha_composite(ground, image).convert("RGB").resize((32, 32), Image.Resampling.BOX)
    return np.asarray(small, dtype=float).ravel()


def draw_scene(rng: random.Random, source: Pictographs | Drawings, ground: str) -> Scene:
    """A scene of the source's objects; only a painted ground has a color that a caption could name."""
    allowed = source.unused
    while True:
        layout = rng.choice(source.layouts)
        chosen = tuple(rng.sample(allowed, 2 if layout in ("beside", "above") else 1))
        if len(set(chosen)) < len(chosen):
            continue
        colors = (rng.choice(list(COLORS)),) if ground == "painted" else ()
        scene = Scene(chosen, ("",) * len(chosen), layout, "", "plain", colors, "plain")
        if (held_out(scene) or not source.held_out) and (layout != "two" or objects()[chosen[0]].plural):
            return scene


def crop(rng: random.Random, photograph: Image.Image) -> Image.Image:
    """A square piece of a photograph."""
    side = rng.randrange(180, 400)
    x, y = rng.randrange(photograph.width - side), rng.randrange(photograph.height - side)
    return photograph.crop((x, y, x + side, y + side)).resize((SIDE, SIDE), Image.Resampling.LANCZOS)


def painted(rng: random.Random, color: str) -> Image.Image:
    """Ground in one color as a brush leaves it: strokes of uneven light along a slant, and a gradient."""
    numbers = np.random.default_rng(rng.getrandbits(32))
    noise = Image.fromarray((numbers.random((SIDE * 2, SIDE // 8)) * 255).astype(np.uint8)).resize((SIDE * 2, SIDE * 2))
    strokes = noise.filter(ImageFilter.GaussianBlur(1.5)).rotate(rng.uniform(0, 180), Image.Resampling.BILINEAR)
    inside = strokes.crop((SIDE // 2, SIDE // 2, SIDE // 2 + SIDE, SIDE // 2 + SIDE))
    slope = np.linspace(-0.12, 0.12, SIDE)[:, None] * rng.choice((-1, 1))
    light = 1 + slope + (np.asarray(inside, dtype=float) / 255 - 0.5) * 0.5
    rgb = np.array(COLORS[color])[None, None] * light[..., None]
    return Image.fromarray(rgb.clip(0, 255).astype(np.uint8))


def place(rng: random.Random, canvas: Image.Image, sprite: Image.Image, center: tuple[float, float], share: float) -> None:
    """Paste a pictograph, a little turned and shifted, into the canvas."""
    side = SIDE * share * rng.uniform(0.85, 1.1)
    factor = side / max(sprite.size)
    size = (max(1, round(sprite.width * factor)), max(1, round(sprite.height * factor)))
    turned = sprite.resize(size, Image.Resampling.BICUBIC).rotate(rng.uniform(-8, 8), Image.Resampling.BICUBIC, expand=True)
    x, y = (round(SIDE * (c + rng.uniform(-0.03, 0.03))) for c in center)
    canvas.paste(turned, (x - turned.width // 2, y - turned.height // 2), turned)


if __name__ == "__main__":
    main()
