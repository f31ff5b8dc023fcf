"""The page in a real browser: headless Chromium lays it out as a phone and as a wide screen would.

Skipped where no Chromium is installed (Debian: `apt-get install chromium`).
"""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from PIL import Image

from invert.history import HistoryEntry
from invert.report import Entry, write_report
from invert.result import ConceptWords, GeneratedImage, Result, SoftToken

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")

# Quiet and offline; a browser that is run as root refuses its own sandbox.
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync")
PROMPT = "a lobster to the left of a palm tree on a dotted teal and black background " * 4
# The page stands in a frame of a device's width, and what the browser made of it is written into the title.
FRAME = """<!doctype html><title></title><iframe style="border:0;height:900px;width:{width}px" srcdoc="{page}"></iframe>
<script>onload = () => {{
  const inner = document.querySelector("iframe").contentDocument, pictures = [...inner.images];
  const seen = pictures.filter(x => x.checkVisibility());
  document.title = JSON.stringify({{
    scroll: inner.documentElement.scrollWidth,
    broken: pictures.filter(x => !x.naturalWidth).length,
    seen: seen.length,
    narrowest: Math.min(...seen.map(x => x.getBoundingClientRect().width)),
    text: inner.defaultView.getComputedStyle(inner.querySelector(".prompt")).color,
  }})
}}</script>"""


@dataclass(frozen=True)
class Layout:
    """What the browser made of the page: widths in CSS pixels, the text's color, and its pictures."""

    scroll: int
    broken: int
    seen: int
    narrowest: float
    text: str


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory, found: Result) -> str:
    drawn = [
        GeneratedImage(Image.new("RGB", (64, 64), color), i, 0.9, 0.1, 0.2)
        for i, color in enumerate(("red", "teal", "gold", "gray"))
    ]
    result = replace(
        found,
        prompt=PROMPT,
        history=[HistoryEntry("soft", 0, 0.2), HistoryEntry("search", 0, 0.5, PROMPT)],
        alternatives=[(PROMPT, 0.5), ("a fox", 0.4)],
        soft_tokens=[SoftToken("fox-owl", 0.1, True)] * 16,
        concepts=[ConceptWords(("fox", "wolf") * 8, 0.5)],
        drawn=drawn,
        soft_drawn=drawn,
        judge=0.4,
    )
    path = tmp_path_factory.mktemp("report") / "page.html"
    write_report([Entry("a.png", [Image.new("RGB", (512, 512), "navy")], [result, replace(result, method="pez")])], path)
    return path.read_text(encoding="utf-8")


def laid_out(page: str, width: int, folder: Path, *flags: str) -> Layout:
    (folder / "frame.html").write_text(FRAME.format(width=width, page=html.escape(page)), encoding="utf-8")
    profile = f"--user-data-dir={folder / 'profile'}"
    command = [str(BROWSER), *FLAGS, profile, *flags, "--window-size=1400,1000", "--virtual-time-budget=10000", "--dump-dom"]
    done = subprocess.run([*command, str(folder / "frame.html")], capture_output=True, text=True, check=True)
    found = re.search(r"<title>(.*?)</title>", done.stdout)
    assert found, done.stderr
    return Layout(**json.loads(html.unescape(found[1])))


@pytest.mark.parametrize("width", [360, 1200])
def test_nothing_is_wider_than_the_screen_and_every_picture_is_seen(page: str, width: int, tmp_path: Path) -> None:
    layout = laid_out(page, width, tmp_path)
    assert layout.scroll <= width
    assert layout.broken == 0
    assert layout.seen == 1 + 3 * 4  # the picture, and the four of both methods and of the soft prompt
    assert layout.narrowest >= 100


def test_the_text_is_light_on_dark_where_that_is_preferred(page: str, tmp_path: Path) -> None:
    light = laid_out(page, 1200, tmp_path, "--blink-settings=preferredColorScheme=1")
    dark = laid_out(page, 1200, tmp_path, "--blink-settings=preferredColorScheme=0")
    brightness = [sum(map(int, re.findall(r"\d+", layout.text)[:3])) for layout in (light, dark)]
    assert brightness[0] < 100 and brightness[1] > 600
