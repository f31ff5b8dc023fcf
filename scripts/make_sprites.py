"""Draw picturebook's sprites: Noto Color Emoji glyphs, named after Unicode CLDR, packed in one picture.

In: the font and CLDR files (Debian: fonts-noto-color-emoji, unicode-cldr-core) and
`object_names.tsv`, which renames or drops what CLDR alone would name badly.
Out, in `invert/picturebook`: `sprites.webp`, a lossless 32-column atlas of 72-pixel RGBA sprites (a
fifth smaller than a PNG), `objects.tsv`, the table of its objects, and both licences. Run once:
`python scripts/make_sprites.py`.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from kernels.once import OnceParser

FONT = "usr/share/fonts/truetype/noto/NotoColorEmoji.ttf"  # below the root of a Debian system
CLDR = "usr/share/unicode/cldr/common"
PACKAGES = ("fonts-noto-color-emoji", "unicode-cldr-core")
OUTPUT = Path(__file__).parent.parent / "invert" / "picturebook"
OVERRIDES = Path(__file__).parent / "object_names.tsv"
SIZE, COLUMNS, FONT_SIZE = 72, 32, 109  # pixels; Noto's bitmaps come in one size only, 109

# What CLDR lists beside things: signs, buttons, arrows, gestures and variants told apart by a detail.
NOT_AN_OBJECT = re.compile(
    r"button|arrow|o’clock|thirty|^(no|non)[ -]|circle$|square$|diamond$|triangle pointed|question"
    r"|exclamation|dash$|prohibited|mark$|medium|multiply|plus$|minus$|divide$|equals|infinity"
    r"|dollar sign|currency|trade|asterisk|loop$|[^e] suit$|symbol|hole$|ZZZ|exhaling|gesturing"
    r"|pouting|bowing|facepalm|shrug|tipping|raising|deaf|massage|haircut|index pointing|tone"
    r"|hair$|bald|person in|in lotus|Aries|Taurus|Gemini|Cancer|Leo$|Virgo|Libra|Scorpio$|Sagit"
    r"|Capri|Aquar|Pisces|Ophi|oncoming|without|post office|level slider|vibration|phone off"
    r"|antenna bars|information|litter in|potable|room$|restroom|closet|passport|customs|claim"
    r"|left lugg|crossing|under eigh|place of|clockwise|circled|backhand|-facing|departure"
    r"|arrival|lowered|high volume|muted|low volume|incoming|locked with|middle finger|person fr"
)
FIRST_EMOJI = 0x1F000  # the annotations below this also name punctuation and mathematics
LOW_EMOJI = range(0x2300, 0x2B60)  # the older pictographs; their text forms are filtered by name
# The sprites that a mirror image would falsify: writing, and left or right in the name.
NO_FLIP = re.compile(r"left|right|sign|flag|banknote|map|globe|book|newspaper|calendar|keyboard|hundred")
COLORS_IN_NAME = re.compile(r"\b(gold|silver|bronze|rainbow|x ray|flag|zebra|panda)\b")
IRREGULAR = {
    "man": "men", "woman": "women", "wolf": "wolves", "mouse": "mice", "tooth": "teeth",
    "foot": "feet", "leaf": "leaves", "loaf": "loaves", "knife": "knives", "person": "people",
    "fish": "fish", "sheep": "sheep", "deer": "deer", "bison": "bison", "ox": "oxen",
    "child": "children", "scarf": "scarves", "elf": "elves", "shrimp": "shrimp", "squid": "squid",
    "pufferfish": "pufferfish", "dice": "dice", "hippopotamus": "hippos", "cactus": "cacti",
    "potato": "potatoes", "tomato": "tomatoes", "volcano": "volcanoes", "mango": "mangoes",
    "hero": "heroes", "superhero": "superheroes", "mosquito": "mosquitoes", "dress": "dresses",
    "merman": "mermen", "snowman": "snowmen", "torso": "torsos",
}  # fmt: skip
UNCOUNTED = {
    "broccoli", "coral", "sushi", "oden", "ice", "spaghetti", "money", "jewelry", "luggage", "bread",
    "salt", "cloth", "tempura", "karate", "tennis", "lacrosse", "badminton", "popcorn", "bacon",
    "curry rice", "flying money", "shaved ice", "fondue", "custard", "soap",
    "milky way", "camping", "construction", "cooking", "wood", "heart hands", "bookmarked pages",
    "mount fuji", "tokyo tower", "santa claus", "mrs claus",
}  # fmt: skip
# Plurals of whole phrases, for which no rule would do; "" forbids a pair.
PLURALS = {
    "wood": "pieces of wood", "heart hands": "pairs of heart hands",
    "bookmarked pages": "stacks of bookmarked pages", "mount fuji": "mount fujis",
    "tokyo tower": "tokyo towers", "santa claus": "santa clauses", "mrs claus": "mrs clauses", "herb": "",
    "sheaf of rice": "sheaves of rice", "fleur de lis": "fleur de lis",
    "hammer and pick": "hammers and picks", "hammer and wrench": "hammers and wrenches",
    "fork with a knife": "forks with knives", "face rolling its eyes": "faces rolling eyes",
    "monkey covering its eyes": "monkeys covering eyes", "monkey covering its ears": "monkeys covering ears",
    "monkey covering its mouth": "monkeys covering mouths",
    "woman in a headscarf": "women in headscarves", "man in a round cap": "men in round caps",
}  # fmt: skip


def plural(name: str) -> str:
    """ "slice of cake" → "slices of cake": English plural of the phrase's head noun."""
    if name in PLURALS:
        return PLURALS[name]
    head, *rest = re.split(r"( (?:of|in|on|at|with|and|holding|covering|rolling|blowing|crying|facing) )", name, maxsplit=1)
    words = head.split(" ")
    if words[-1] in ("up", "down", "out") and len(words) > 1:
        return plural(words[0]) + " " + " ".join(words[1:] + rest)
    noun = words[-1]
    if noun in IRREGULAR:
        noun = IRREGULAR[noun]
    elif re.search(r"(s|x|z|ch|sh)$", noun):
        noun += "es"
    elif re.search(r"[^aeiou]y$", noun):
        noun = noun[:-1] + "ies"
    else:
        noun += "s"
    return " ".join([*words[:-1], noun]) + "".join(rest)


def cldr_names(cldr: Path) -> dict[str, str]:
    """Emoji → CLDR short name, from the plain and the derived (joined sequences) annotations."""
    names = {}
    for folder in ("annotations", "annotationsDerived"):
        for row in ElementTree.parse(cldr / folder / "en.xml").getroot().iter("annotation"):
            if row.get("type") == "tts":
                names[row.get("cp", "")] = row.text or ""
    return names


def object_names(cldr: Path) -> dict[str, str]:
    """Emoji → name in captions, after the overrides; every name once."""
    overrides = dict(line.rstrip("\n").split("\t") for line in OVERRIDES.open(encoding="utf8") if not line.startswith("#"))
    chosen: dict[str, str] = {}
    for emoji, name in cldr_names(cldr).items():
        if emoji in overrides:
            name = overrides[emoji]
        elif len(emoji) > 1 or NOT_AN_OBJECT.search(name) or not (ord(emoji) >= FIRST_EMOJI or ord(emoji) in LOW_EMOJI):
            continue
        if name == "-":
            continue
        name = name.lower().replace("’s", "s").replace("’", "").replace("-", " ").replace(".", "").replace("ñ", "n")
        if name != "" and name not in chosen.values():
            chosen[emoji] = name
    return chosen


def draw(emoji: str, font: ImageFont.FreeTypeFont) -> Image.Image | None:
    """The glyph, cropped to its ink and centered on a square; None where the font has no single glyph."""
    canvas = Image.new("RGBA", (320, 160))
    pen = ImageDraw.Draw(canvas)
    # U+FE0F asks for the color picture where the character also has a text form.
    text = emoji if len(emoji) > 1 else emoji + "\ufe0f"
    if pen.textlength(text, font=font) > 140:
        return None
    pen.text((4, 4), text, font=font, embedded_color=True)
    box = canvas.getbbox()
    if box is None:
        return None
    ink = canvas.crop(box)
    side = max(ink.size)
    square = Image.new("RGBA", (side, side))
    square.paste(ink, ((side - ink.width) // 2, (side - ink.height) // 2))
    return square.resize((SIZE, SIZE), Image.Resampling.LANCZOS)


def table_row(name: str) -> str:
    """One line of the object table: name, plural ("" = cannot be doubled), countable, flip, tint."""
    countable = not name.startswith("=") and name not in UNCOUNTED
    name = name.removeprefix("=")
    flip = not NO_FLIP.search(name)
    tint = not COLORS_IN_NAME.search(name)
    return "\t".join(
        [name, plural(name) if countable or name in PLURALS else "", *(str(int(x)) for x in (countable, flip, tint))]
    )


def pictures(root: Path) -> tuple[list[Image.Image], list[str]]:
    """(sprites, their rows of the object table), in CLDR's order."""
    font = ImageFont.truetype(str(root / FONT), FONT_SIZE)
    sprites, rows, seen = [], [], set()
    for emoji, name in object_names(root / CLDR).items():
        sprite = draw(emoji, font)
        if sprite is None or sprite.tobytes() in seen:  # two names for one picture help nobody
            continue
        seen.add(sprite.tobytes())
        sprites.append(sprite)
        rows.append(table_row(name))
    return sprites, rows


def main() -> None:
    parser = OnceParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=OUTPUT, help="folder")
    parser.add_argument("--root", type=Path, default=Path("/"), help="where the two Debian packages are unpacked")
    options = parser.parse_args()
    sprites, rows = pictures(options.root)
    atlas = Image.new("RGBA", (COLUMNS * SIZE, -(-len(sprites) // COLUMNS) * SIZE))
    for i, sprite in enumerate(sprites):
        atlas.paste(sprite, (i % COLUMNS * SIZE, i // COLUMNS * SIZE))
    licences = options.output / "licences"
    licences.mkdir(parents=True, exist_ok=True)
    for package in PACKAGES:
        text = (options.root / f"usr/share/doc/{package}/copyright").read_text(encoding="utf8")
        (licences / f"{package}.txt").write_text(text, encoding="utf8")
    (options.output / "objects.tsv").write_text("".join(f"{row}\n" for row in rows), encoding="utf8")
    path = options.output / "sprites.webp"
    atlas.save(path, lossless=True, exact=True, quality=100, method=6)  # exact: colors below no alpha stay, too
    print(f"{len(sprites)} sprites, {path.stat().st_size / 2**20:.1f} MiB: {path}")


if __name__ == "__main__":
    main()
