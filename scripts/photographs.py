"""Pictures of things that picturebook does not know: photographs without an object of its world, faces, pages of text.

The photographs lie in packages of Debian and PyPI, which `download` fetches once below a folder; none of them goes into
the wheel or into training. Each is for setting the threshold of doubt (`is_tuned_on`) or for reporting what came of it, by
a hash of its name. Faces are those of scikit-image's excerpt of Labeled Faces in the Wild.
"""

from __future__ import annotations

import random
import subprocess
import sys
import tarfile
import textwrap
import zipfile
import zlib
from pathlib import Path

import matplotlib
import numpy as np
from drawing_sources import unpack_debian
from PIL import Image, ImageDraw, ImageFont
from sklearn.datasets import load_sample_images

SIDE = 160  # pixels of a piece or page: reading it makes it smaller still
PIECES = 4  # of each photograph, beside its whole
FACES = 100  # of scikit-image's excerpt, whose other half shows no faces
DEBIAN = {  # package → photographs of it that show no object of the world
    "tuxpaint-data": (
        "usr/share/tuxpaint/templates",
        "burnt_bark cliff corn_maze jellyfish mossy_bark mossy_log mudstone ocean_splash redwoods_above rocks "
        "sun_behind_leaves trees_above trees_at_dusk wool_mill_machine",
    ),
    "lomiri-wallpapers-16.04": (
        "usr/share/backgrounds",
        "Bridge_by_Sander_Klootwijk Dragonfly_by_Bolly aitzgorri_by_Aitzol_Berasategi analogpattern_by_Peter_Nerlich "
        "life_by_Aitzol_Berasategi picosdeeuropa_by_Aitzol_Berasategi seeding_by_Clements_Engelhardt",
    ),
    "plasma-workspace-wallpapers": (
        "usr/share/wallpapers",
        "BytheWater ColdRipple DarkestHour OneStandsOut Path Volna summer_1am",
    ),
    "opencv-doc": (
        "usr/share/doc/opencv-doc/examples",
        "data/aero1 data/aero3 data/basketball1 data/board data/graf1 data/leuvenA data/stuff data/sudoku "
        "data/text_defocus data/text_motion data/imageTextN hfs/data/001 reg/LR_05 text/scenetext02 text/scenetext03 "
        "text/scenetext04 ximgproc/stanford",
    ),
}
PYPI = {  # package with its version → the folder in it, its pictures
    "scikit-image==0.25.2": (
        "skimage/data",
        "cell grass gravel hubble_deep_field ihc microaneurysms moon page retina text",
    ),
    "face_recognition==1.3.0": (
        "face_recognition-1.3.0/tests/test_images",
        "biden obama obama2 obama3",
    ),
}
FACES_FILE = "skimage/data/lfw_subset.npy"
LICENCES = {
    "tuxpaint-data": "GPL 2, © Bill Kendrick and others",
    "lomiri-wallpapers-16.04": "CC BY-SA 4.0, by the photographers that the files are named after",
    "plasma-workspace-wallpapers": "LGPL 3 and CC BY-SA 4.0, KDE's Visual Design Group and the photographers",
    "opencv-doc": "Apache 2.0, the OpenCV team",
    "scikit-image==0.25.2": "BSD and public domain, see its data/README.txt",
    "face_recognition==1.3.0": "MIT; official portraits of the United States government",
}


def download(folder: Path) -> None:
    """Fetch every package that the folder lacks: debian/NAME/ and pypi/NAME/.

    Raises:
        OSError, subprocess.CalledProcessError: a package cannot be had.
    """
    for package in DEBIAN:
        if not (folder / "debian" / package).exists():
            unpack_debian(package, folder / "debian" / package)
    for package in PYPI:
        target = folder / "pypi" / package
        if not target.exists():
            target.mkdir(parents=True)
            pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "--no-build-isolation"]
            source = "--no-binary=face_recognition"  # its wheel has no pictures
            subprocess.run([*pip, source, "--dest", str(target), package], check=True)
            unpack_archive(next(target.iterdir()), target)


def unpack_archive(file: Path, target: Path) -> None:
    """Unpack a wheel or a source distribution."""
    if file.suffix == ".whl":
        with zipfile.ZipFile(file) as wheel:
            wheel.extractall(target)
    else:
        with tarfile.open(file) as archive:
            archive.extractall(target, filter="data")


def is_tuned_on(name: str) -> bool:
    """Whether a picture may set the threshold; the others are reported on."""
    return zlib.crc32(name.encode()) % 2 == 0


def photographs(folder: Path) -> dict[str, Image.Image]:
    """Name → photograph, RGB.

    Raises:
        FileNotFoundError: a package is not there, or has other files.
    """
    found = {"china": Image.fromarray(load_sample_images().images[0])}
    for kind, table in (("debian", DEBIAN), ("pypi", PYPI)):
        for package, (below, names) in table.items():
            for name in names.split():
                found[name] = opened(folder / kind / package / below, name)
    return found


def opened(folder: Path, name: str) -> Image.Image:
    """A picture by its name without ending; KDE's wallpapers are folders of it."""
    for path in (*folder.glob(f"{name}.*"), *folder.glob(f"{name}/contents/screenshot.*")):
        if path.suffix in (".jpg", ".png"):
            return Image.open(path).convert("RGB")
    raise FileNotFoundError(f"{folder} has no picture {name}")


def pieces(photograph: Image.Image, name: str) -> list[Image.Image]:
    """Square pieces of a photograph, of half to all of its shorter side, always the same ones."""
    rng = random.Random(name)
    found = []
    for _ in range(PIECES):
        side = round(min(photograph.size) * rng.uniform(0.5, 0.9))
        x, y = rng.randrange(photograph.width - side), rng.randrange(photograph.height - side)
        found.append(photograph.crop((x, y, x + side, y + side)).resize((SIDE, SIDE), Image.Resampling.LANCZOS))
    return found


def faces(folder: Path) -> dict[str, Image.Image]:
    """Name → face: small, gray, as a camera saw it."""
    pixels = np.load(folder / "pypi" / "scikit-image==0.25.2" / FACES_FILE)[:FACES]
    small = [Image.fromarray((255 * face / face.max()).astype(np.uint8)) for face in pixels]
    return {f"face {i}": face.resize((SIDE, SIDE), Image.Resampling.BICUBIC).convert("RGB") for i, face in enumerate(small)}


def pages(texts: list[str], n: int) -> dict[str, Image.Image]:
    """Name → page of text: in several fonts and sizes, dark on light or the reverse, with margins and paragraphs.

    texts: what stands on them. n: how many.
    """
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    fonts = [folder / f"{name}.ttf" for name in ("DejaVuSans", "DejaVuSerif", "DejaVuSansMono", "STIXGeneral")]
    return {f"page {i}": page(random.Random(f"page {i}"), texts, fonts) for i in range(n)}


def page(rng: random.Random, texts: list[str], fonts: list[Path]) -> Image.Image:
    """One page."""
    width, height = rng.choice(((SIDE * 3, SIDE * 4), (SIDE * 3, SIDE * 3), (SIDE * 4, SIDE * 3)))
    paper, ink = rng.choice((((255,) * 3, (20,) * 3), ((250, 246, 235), (40, 30, 25)), ((28, 30, 34), (220,) * 3)))
    canvas = Image.new("RGB", (width, height), paper)
    draw, size = ImageDraw.Draw(canvas), rng.randint(13, 30)
    font = ImageFont.truetype(rng.choice(fonts), size)
    margin = rng.randint(10, 60)
    columns = max(10, int((width - 2 * margin) / (size * 0.55)))
    y = margin
    while y < height - margin - size:
        for line in textwrap.wrap(rng.choice(texts), columns):
            if y < height - margin - size:
                draw.text((margin, y), line, ink, font)
            y += round(size * 1.3)
        y += size
    return canvas
