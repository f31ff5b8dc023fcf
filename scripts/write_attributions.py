"""Write who made what picturebook's weights were trained on: `python scripts/write_attributions.py training`.

In: the folder that `make_drawings.py` filled. Out, in invert/picturebook/licences/: the copyright files of the Debian packages
as they are, and `drawings.txt`: every font with its licence, the files of the other sources, and who made which clip art.
"""

from __future__ import annotations

import html
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from drawing_sources import CLDR, CLIP_ART, DEBIAN, FLASH_CARDS, FONTS, SCRATCH, STAMPS, SYMBOLA

from kernels.once import OnceParser

OUTPUT = Path(__file__).parent.parent / "invert" / "picturebook" / "licences"
HEAD = """What picturebook's CLIP and judge were trained on, beside its own sprites

All of it was drawn at 72 × 72 pixels, on other grounds, in other colors and shapes, and none of it is in this distribution.
The weights are what was learned from it. Twemoji, EmojiOne 1 and a third of the clip art and stamps were kept from training.
"""
LISTED = {STAMPS: "Tux Paint's stamps", SCRATCH: "Costumes of Scratch 1.4", FLASH_CARDS: "Flash cards"}
CREATOR = re.compile(r"<dc:creator>.*?<dc:title>\s*([^<]*)</dc:title>", re.DOTALL)


def main() -> None:
    parser = OnceParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=Path("training"), help="what make_drawings.py filled")
    folder = parser.parse_args().folder
    for package in DEBIAN:
        if package != CLDR:  # make_sprites.py has copied it
            shutil.copyfile(folder / "debian/usr/share/doc" / package / "copyright", OUTPUT / f"{package}.txt")
    (OUTPUT / "drawings.txt").write_text("\n".join([HEAD, *fonts(), *clip_art(folder), *others(folder)]) + "\n", encoding="utf8")


def fonts() -> Iterator[str]:
    """A line a font."""
    yield "Fonts, from npm packages where no other source is named:\n"
    yield from (f"- {font.name}: {font.package} {font.version}; {font.licence}; {font.source}" for font in FONTS)
    yield f"- Symbola: Debian package {SYMBOLA}; {DEBIAN[SYMBOLA]}"


def clip_art(folder: Path) -> Iterator[str]:
    """A line a drawing of the Open Clip Art Library, with the name that its file gives as its maker's."""
    yield f"\nOpen Clip Art Library, from the Debian package {CLIP_ART}; {DEBIAN[CLIP_ART]}:\n"
    files = {path.name: path for path in (folder / "debian/usr/share/openclipart/svg").rglob("*.svg")}
    yield from (f"- {name}: {maker(files[name])}" for name in drawn(folder, CLIP_ART))


def maker(path: Path) -> str:
    """Who drew a clip art, as its own metadata say."""
    found = CREATOR.search(path.read_text(encoding="utf8", errors="replace"))
    return (html.unescape(html.unescape(found[1])).strip() if found else "") or "no name in the file"


def others(folder: Path) -> Iterator[str]:
    """For each further source, a line of the names of its files."""
    for package, title in LISTED.items():
        yield f"\n{title}, from the Debian package {package}; {DEBIAN[package]}:\n"
        yield ", ".join(drawn(folder, package))


def drawn(folder: Path, package: str) -> list[str]:
    """The files of a package that were trained on."""
    rows = json.loads((folder / "drawings" / f"{package}.json").read_text(encoding="utf8"))
    return sorted({file for _, file in rows})


if __name__ == "__main__":
    main()
