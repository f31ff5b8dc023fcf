"""Collect what many hands drew of the world's objects, for training: `pip install resvg-py`, then
`python scripts/make_drawings.py FOLDER`.

In: the packages of `drawing_sources.py`, downloaded once below FOLDER. Out, in FOLDER/drawings/: for each source one
WebP atlas of 72-pixel sprites and a JSON list of (object, file) for its tiles, and `grounds.webp`, square pieces of
photographs. Below FOLDER/kept/ lies what no training reads: atlases of Twemoji and EmojiOne 1, and the clip art and
stamps of which the file's name without ending has `zlib.crc32(name) % 3 == 0`, as atlases and one by one.
"""

from __future__ import annotations

import io
import json
import re
import unicodedata
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

import numpy as np
import resvg_py
from drawing_names import ObjectNames, synonyms
from drawing_sources import CLIP_ART, FLASH_CARDS, FONTS, KEPT_FONTS, SCRATCH, STAMPS, SYMBOLA, Font, download
from make_grounds import write_grounds
from make_sprites import CLDR, cldr_names, object_names
from PIL import Image, ImageDraw, ImageFont, ImageOps

from invert.picturebook.render import COLUMNS, SPRITE
from invert.picturebook.world import objects
from kernels.once import OnceParser

DRAWN = 4 * SPRITE  # pixels of a vector drawing before it is cropped and reduced
MOST_OF_ONE = 6  # pictures of one object from one source, so that stars and flags do not crowd out the rest
ALIKE = 0.9  # correlation of shapes from which two drawings of an object count as one
INK = "#4d4d4d"  # of drawings without colors: dark, yet seen on black
PAPER = 40  # difference from a corner's color, summed over the channels, up to which a JPEG's pixels are ground
SPLIT = (CLIP_ART, STAMPS)  # sources a third of which is kept for testing
EXCLUDED = Path(__file__).parent / "drawings_excluded.txt"


@dataclass(frozen=True)
class Drawing:
    """One picture of an object: its name in captions, the file that it comes from, its RGBA pixels."""

    object: str
    file: str
    image: Image.Image


def svg_image(svg: str) -> Image.Image | None:
    """A vector drawing as RGBA; None where it cannot be drawn."""
    try:
        data = resvg_py.svg_to_bytes(svg_string=svg, width=DRAWN)
    except ValueError:
        return None
    return Image.open(io.BytesIO(bytes(data))).convert("RGBA")


def sprite(image: Image.Image) -> Image.Image | None:
    """The picture cropped to its ink, centered on a square of SPRITE pixels; None where there is no ink."""
    box = image.getchannel("A").point(lambda a: 255 * (a > 8)).getbbox()
    if box is None or min(box[2] - box[0], box[3] - box[1]) < 4:
        return None
    fitted = ImageOps.contain(image.crop(box), (SPRITE, SPRITE), Image.Resampling.LANCZOS)
    square = Image.new("RGBA", (SPRITE, SPRITE))
    square.paste(fitted, ((SPRITE - fitted.width) // 2, (SPRITE - fitted.height) // 2))
    return square


def slug(name: str) -> str:
    """ "flag: Côte d’Ivoire" → "flag-cote-d-ivoire", as icon sets spell names."""
    plain = unicodedata.normalize("NFKD", name.replace("’", "").replace("&", "and")).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9]+", "-", plain.lower()).strip("-")


def font_drawings(font: Font, folder: Path, emoji: dict[str, str], cldr: dict[str, str], names: ObjectNames) -> Iterator[Drawing]:
    """The pictographs of a font that show objects of the world.

    emoji: character → object. cldr: character → CLDR's name. names: for the icons that stand for no character.
    """
    package = folder / "npm" / font.name / "package"
    if font.kind == "files":
        for character, name in emoji.items():
            code = "-".join(f"{ord(c):04x}" for c in character)
            paths = [package / "assets" / f"{form}.webp" for form in (code, f"{code}-fe0f")]
            if path := next((path for path in paths if path.exists()), None):
                yield Drawing(name, path.name, Image.open(path).convert("RGBA"))
        return
    icons = IconSet(package)
    if font.kind == "words":
        found = ((names.find_icon(icon), icon) for icon in icons.icons)
    else:
        found = ((name, icons.find(character, cldr[character])) for character, name in emoji.items())
    for name, icon in found:
        if name and icon and not excluded(font.name, icon) and (image := svg_image(icons.svg(icon))):
            yield Drawing(name, icon, image)


def glyph_drawings(path: Path, emoji: dict[str, str]) -> Iterator[Drawing]:
    """The glyphs of an outline font that show objects of the world, in ink."""
    font = ImageFont.truetype(path, DRAWN)
    missing = bytes(font.getmask("\U0010fffd"))
    for character, name in emoji.items():
        character = character.removesuffix("\ufe0f")
        code = f"{ord(character):04x}" if len(character) == 1 else ""
        if code and not excluded(SYMBOLA, code) and bytes(font.getmask(character)) != missing:
            image = Image.new("RGBA", (3 * DRAWN, 3 * DRAWN))
            ImageDraw.Draw(image).text((DRAWN, DRAWN), character, INK, font)
            yield Drawing(name, code, image)


class IconSet:
    """An Iconify package: icon bodies by name, found by CLDR's name, by code points or by Unicode's name."""

    def __init__(self, package: Path) -> None:
        stored = json.loads((package / "icons.json").read_text())
        self.icons = stored["icons"]
        self.size = stored.get("width", 16), stored.get("height", 16)
        self.aliases = {name: row["parent"] for name, row in stored.get("aliases", {}).items()}
        self.codes = json.loads((package / "chars.json").read_text())
        self.joined = {name.replace("-", ""): name for name in [*self.icons, *self.aliases]}

    def find(self, character: str, name: str) -> str | None:
        """The icon of a character that CLDR calls `name`."""
        code = "-".join(f"{ord(c):x}" for c in character)
        unicode_name = unicodedata.name(character, "") if len(character) == 1 else ""
        joined = (self.joined.get(slug(text).replace("-", "")) for text in (name, unicode_name) if text)
        for icon in (
            slug(name),
            f"person-{slug(name)}",
            self.codes.get(code),
            self.codes.get(code.replace("-fe0f", "")),
            *joined,
        ):
            icon = self.aliases.get(icon, icon)
            if icon in self.icons:
                return str(icon)
        return None

    def svg(self, name: str) -> str:
        icon = self.icons[name]
        left, top = icon.get("left", 0), icon.get("top", 0)
        width, height = icon.get("width", self.size[0]), icon.get("height", self.size[1])
        return (
            f'<svg color="{INK}" xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
            f'viewBox="{left} {top} {width} {height}">{icon["body"]}</svg>'
        )


def stamp_files(folder: Path) -> Iterator[tuple[Path, str]]:
    """(picture, description) of each stamp that has one."""
    for path in sorted((folder / "debian/usr/share/tuxpaint/stamps").rglob("*")):
        text = path.with_suffix(".txt")
        if path.suffix in (".png", ".svg") and text.exists():
            yield path, text.read_text(encoding="utf8", errors="replace").split("\n")[0]


def clip_art_files(folder: Path) -> Iterator[tuple[Path, str]]:
    """(picture, title) of each clip art; the title may be empty."""
    for path in sorted((folder / "debian/usr/share/openclipart/svg").rglob("*.svg")):
        title = re.search(r"<dc:title>\s*([^<]*)</dc:title>", path.read_text(encoding="utf8", errors="replace"))
        yield path, title[1].strip() if title else ""


def flash_card_files(folder: Path) -> Iterator[tuple[Path, str]]:
    """(picture, word) of each flash card."""
    for path in sorted((folder / "debian/usr/share/games/pysiogame/res/images/art4apps").rglob("*.jpg")):
        yield path, path.stem


def costume_files(folder: Path) -> Iterator[tuple[Path, str]]:
    """(picture, "") of each costume of Scratch: only the start of a file's name says what it shows."""
    for path in sorted((folder / "debian/usr/share/scratch/Media/Costumes").rglob("*")):
        if path.suffix in (".png", ".gif") and "Letters" not in path.parts:
            yield path, ""


def kept_for_testing(path: Path) -> bool:
    """Whether no training may read the file: a third of all, by name."""
    return zlib.crc32(path.stem.encode()) % 3 == 0


@cache
def excluded_files() -> tuple[str, ...]:
    return tuple(line for line in EXCLUDED.read_text(encoding="utf8").split("\n") if line and not line.startswith("#"))


def excluded(source: str, stem: str) -> bool:
    """Whether the file of a source shows something else than its name says."""
    return any(fnmatchcase(f"{source}/{stem}", pattern) for pattern in excluded_files())


def raster_image(path: Path) -> Image.Image:
    """A picture as RGBA; one that cannot be transparent loses the ground that its corners belong to."""
    image = Image.open(path)
    if path.suffix != ".jpg":
        return image.convert("RGBA")
    filled, mark = image.convert("RGB"), (255, 0, 255)
    for corner in ((0, 0), (image.width - 1, 0), (0, image.height - 1), (image.width - 1, image.height - 1)):
        ImageDraw.floodfill(filled, corner, mark, thresh=PAPER)
    ground = (np.asarray(filled) == mark).all(-1)
    cut = image.convert("RGBA")
    cut.putalpha(Image.fromarray(np.where(ground, 0, 255).astype(np.uint8)))
    return cut


def named_drawings(source: str, files: Iterator[tuple[Path, str]], names: ObjectNames) -> Iterator[tuple[Drawing, bool]]:
    """(drawing, kept for testing) of the files whose titles name an object, MOST_OF_ONE of each and kind at most."""
    count: Counter[tuple[str, bool]] = Counter()
    seen: set[str] = set()
    for path, title in files:
        name, kept = names.find(title) or names.find_in_file_name(path.stem), source in SPLIT and kept_for_testing(path)
        if name is None or path.stem in seen or count[name, kept] >= MOST_OF_ONE or excluded(source, path.stem):
            continue
        seen.add(path.stem)  # many a file lies in two folders
        svg = path.suffix == ".svg"
        image = svg_image(path.read_text(encoding="utf8", errors="replace")) if svg else raster_image(path)
        if image is not None:
            count[name, kept] += 1
            yield Drawing(name, path.name, image), kept


def write_atlas(drawings: list[Drawing], path: Path) -> None:
    """Pack sprites into PATH.webp and list their objects and files in PATH.json."""
    tiles = [(drawing, tile) for drawing in drawings if (tile := sprite(drawing.image))]
    atlas = Image.new("RGBA", (COLUMNS * SPRITE, -(-len(tiles) // COLUMNS) * SPRITE))
    for i, (_, tile) in enumerate(tiles):
        atlas.paste(tile, (i % COLUMNS * SPRITE, i // COLUMNS * SPRITE))
    atlas.save(path.with_suffix(".webp"), quality=88, method=4)
    rows = [[drawing.object, drawing.file] for drawing, _ in tiles]
    path.with_suffix(".json").write_text(json.dumps(rows, ensure_ascii=False))
    print(f"{path.name}: {len(tiles)} sprites of {len({row[0] for row in rows})} objects", flush=True)


def unlike(drawings: list[Drawing], kept: list[Drawing]) -> list[Drawing]:
    """Those that are not one of the kept drawings in another color or under another name: makers draw in series."""
    shapes: dict[str, list[np.ndarray]] = {}
    for drawing in kept:
        shapes.setdefault(drawing.object, []).append(shape(drawing.image))
    return [
        drawing
        for drawing in drawings
        if all(likeness(shape(drawing.image), other) < ALIKE for other in shapes.get(drawing.object, ()))
    ]


def likeness(a: np.ndarray, b: np.ndarray) -> float:
    """Correlation of two shapes; 0 where one of them is even all over."""
    return float(np.corrcoef(a, b)[0, 1]) if a.std() > 0 and b.std() > 0 else 0.0


def shape(image: Image.Image) -> np.ndarray:
    """Alpha and lightness of a drawing at 24 × 24 pixels, flat; colors are left out."""
    tile = sprite(image) or Image.new("RGBA", (SPRITE, SPRITE))
    small = tile.resize((24, 24), Image.Resampling.BOX)
    return np.concatenate([np.asarray(channel, dtype=float).ravel() for channel in (small.getchannel("A"), small.convert("L"))])


def write_kept(drawings: list[Drawing], folder: Path) -> None:
    """Store the drawings that are kept for testing, one PNG each, with their truths."""
    folder.mkdir(parents=True, exist_ok=True)
    truths = {}
    for drawing in drawings:
        name = f"{Path(drawing.file).stem}.png"
        if sprite(drawing.image):
            ImageOps.contain(drawing.image.crop(drawing.image.getbbox()), (DRAWN, DRAWN)).save(folder / name)
            truths[name] = drawing.object
    (folder / "truths.json").write_text(json.dumps(truths, indent=1, ensure_ascii=False))
    print(f"{folder.name}, kept for testing: {len(truths)} of {len(set(truths.values()))} objects", flush=True)


def main() -> None:
    parser = OnceParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=Path("training"), help="downloads and atlases go below it")
    folder = parser.parse_args().folder
    download(folder)
    output = folder / "drawings"
    output.mkdir(parents=True, exist_ok=True)
    cldr = folder / "debian" / CLDR
    world = {thing.name: thing.plural for thing in objects()}
    emoji = {e: name for e, given in object_names(cldr).items() if (name := given.removeprefix("=")) in world}
    (folder / "kept").mkdir(exist_ok=True)
    names = ObjectNames(world, synonyms(cldr, emoji))
    for font in (*FONTS, *KEPT_FONTS):
        drawings = list(font_drawings(font, folder, emoji, cldr_names(cldr), names))
        write_atlas(drawings, (output if font in FONTS else folder / "kept") / font.name)
    symbola = folder / "debian/usr/share/fonts/truetype/ancient-scripts/Symbola_hint.ttf"
    write_atlas(list(glyph_drawings(symbola, emoji)), output / SYMBOLA)
    kept: list[Drawing] = []
    for source, files in (
        (CLIP_ART, clip_art_files(folder)),
        (STAMPS, stamp_files(folder)),
        (SCRATCH, costume_files(folder)),
        (FLASH_CARDS, flash_card_files(folder)),
    ):
        found = list(named_drawings(source, files, names))
        own = [drawing for drawing, is_kept in found if is_kept]
        kept += own
        write_atlas(unlike([drawing for drawing, is_kept in found if not is_kept], kept), output / source)
        if own:
            write_atlas(own, folder / "kept" / source)
            write_kept(own, folder / "kept" / source)
    write_grounds(folder, output / "grounds.webp")


if __name__ == "__main__":
    main()
