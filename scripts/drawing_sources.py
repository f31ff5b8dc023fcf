"""Where drawings by other hands come from: npm packages and Debian packages, with their licences.

`download` fetches and unpacks them below a folder; what is there already is left alone. None of it goes into the wheel.
KEPT_FONTS are for testing alone.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote
from urllib.request import urlopen

REGISTRY = "https://registry.npmjs.org"
TIMEOUT = 60  # seconds without an answer


@dataclass(frozen=True)
class Font:
    """A set of pictographs in an npm package: `files` named by code points, or as Iconify ships them.

    Of the latter, `icons` are found by the character that they stand for, `words` by their own names.
    """

    name: str
    package: str
    version: str
    kind: str
    licence: str
    source: str


FONTS = (
    Font(
        "fluent-3d",
        "@lobehub/fluent-emoji-3d",
        "1.1.0",
        "files",
        "MIT, © Microsoft Corporation",
        "https://github.com/microsoft/fluentui-emoji",
    ),
    Font(
        "fluent",
        "@iconify-json/fluent-emoji",
        "1.2.7",
        "icons",
        "MIT, © Microsoft Corporation",
        "https://github.com/microsoft/fluentui-emoji",
    ),
    Font(
        "fluent-flat",
        "@iconify-json/fluent-emoji-flat",
        "1.2.6",
        "icons",
        "MIT, © Microsoft Corporation",
        "https://github.com/microsoft/fluentui-emoji",
    ),
    Font("openmoji", "@iconify-json/openmoji", "1.2.29", "icons", "CC BY-SA 4.0, the OpenMoji project", "https://openmoji.org"),
    Font("fxemoji", "@iconify-json/fxemoji", "1.2.2", "icons", "Apache 2.0, Mozilla", "https://github.com/mozilla/fxemoji"),
    Font(
        "noto-blobs",
        "@iconify-json/noto-v1",
        "1.2.5",
        "icons",
        "Apache 2.0, Google Inc.",
        "https://github.com/googlefonts/noto-emoji",
    ),
    Font(
        "emojione-2",
        "@iconify-json/emojione",
        "1.2.3",
        "icons",
        "CC BY 4.0, EmojiOne 2.3, now EmojiTwo",
        "https://github.com/EmojiTwo/emojitwo",
    ),
    Font(
        "fluent-ink",
        "@iconify-json/fluent-emoji-high-contrast",
        "1.2.6",
        "icons",
        "MIT, © Microsoft Corporation",
        "https://github.com/microsoft/fluentui-emoji",
    ),
    Font(
        "streamline",
        "@iconify-json/streamline-emojis",
        "1.2.4",
        "icons",
        "CC BY 4.0, Streamline",
        "https://github.com/webalys-hq/streamline-vectors",
    ),
    Font(
        "game-icons",
        "@iconify-json/game-icons",
        "1.2.4",
        "words",
        "CC BY 3.0, Lorc, Delapouite and the other contributors of game-icons.net",
        "https://github.com/game-icons/icons",
    ),
    Font(
        "icon-park", "@iconify-json/icon-park", "1.2.4", "words", "Apache 2.0, ByteDance", "https://github.com/bytedance/IconPark"
    ),
    Font(
        "icons8", "@iconify-json/flat-color-icons", "1.2.3", "words", "MIT, Icons8", "https://github.com/icons8/flat-color-icons"
    ),
    Font("temaki", "@iconify-json/temaki", "1.2.6", "words", "CC0, Bryan Housel", "https://github.com/rapideditor/temaki"),
)
KEPT_FONTS = (  # never trained on
    Font(
        "twemoji",
        "@iconify-json/twemoji",
        "1.2.5",
        "icons",
        "CC BY 4.0, Twitter, Inc. and other contributors",
        "https://github.com/jdecked/twemoji",
    ),
    Font(
        "emojione-1",
        "@iconify-json/emojione-v1",
        "1.2.3",
        "icons",
        "CC BY-SA 4.0, EmojiOne",
        "https://github.com/joypixels/emojione-legacy",
    ),
)
CLIP_ART, STAMPS, CLDR = "openclipart-svg", "tuxpaint-stamps-default", "unicode-cldr-core"
MATE, LOMIRI, GCOMPRIS = GROUNDS = ("mate-backgrounds", "lomiri-wallpapers-20.04", "gcompris-qt-data")
SCRATCH, FLASH_CARDS, SYMBOLA = "scratch", "pysiogame", "fonts-symbola"
DEBIAN = {
    CLIP_ART: "public domain, the authors of the Open Clip Art Library (each file names its own)",
    STAMPS: "GPL 2, © 2002-2022 Bill Kendrick and the makers of the stamps",
    CLDR: "Unicode License, © Unicode, Inc.",
    SCRATCH: "CC BY-SA 3.0, © 2011 Massachusetts Institute of Technology",
    FLASH_CARDS: "CC BY-SA 3.0, the Art4Apps library by Smart4Kids",
    SYMBOLA: "free for any use, © 2007-2015 George Douros",
    MATE: "GPL 2 and CC BY-SA, the MATE developers and the photographers",
    LOMIRI: "CC BY-SA 4.0, the photographers that the files are named after",
    GCOMPRIS: "GPL 3, the GCompris developers; its photographs and paintings as its copyright file says of each",
}


def download(folder: Path) -> None:
    """Fetch every package that the folder lacks and unpack it: npm/NAME/ and debian/usr/…

    Raises:
        OSError: a registry does not answer, or a file is not what the registry promised.
    """
    for font in (*FONTS, *KEPT_FONTS):
        target = folder / "npm" / font.name
        if not target.exists():
            unpack_npm(font, target)
    for package in DEBIAN:
        mark = folder / "debian" / f"{package}.unpacked"
        if not mark.exists():
            unpack_debian(package, folder / "debian")
            mark.touch()


def unpack_npm(font: Font, target: Path) -> None:
    """Download one package, check it against the registry's own hash, unpack it."""
    with urlopen(f"{REGISTRY}/{quote(font.package, safe='@')}/{font.version}", timeout=TIMEOUT) as answer:
        about = json.load(answer)["dist"]
    with urlopen(about["tarball"], timeout=TIMEOUT) as answer:
        data = answer.read()
    promised = about["integrity"].removeprefix("sha512-")
    if base64.b64encode(hashlib.sha512(data).digest()).decode() != promised:
        raise OSError(f"{font.package} {font.version}: the download is not what the registry promised; try again")
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        archive.extractall(target, filter="data")


def unpack_debian(package: str, target: Path) -> None:
    """Download a Debian package by apt, which checks it, and unpack it without installing."""
    target.mkdir(parents=True, exist_ok=True)
    subprocess.run(["apt-get", "download", "-q", package], cwd=target, check=True, stdout=subprocess.DEVNULL)
    (file,) = target.glob(f"{package}_*.deb")
    subprocess.run(["dpkg-deb", "-x", file.name, "."], cwd=target, check=True)
    file.unlink()
