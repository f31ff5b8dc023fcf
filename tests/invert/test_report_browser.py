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
WIDTHS = (360, 1200)  # of a phone and of a wide screen, in CSS pixels
# The page stands in a frame of each width, and what the browser made of them is written into the title.
FRAME = '<iframe style="border:0;height:900px;width:{width}px" srcdoc="{page}"></iframe>'
FRAMES = """<!doctype html><title></title>{frames}
<script>onload = () => {{
  document.title = JSON.stringify([...document.querySelectorAll("iframe")].map(frame => {{
    const inner = frame.contentDocument, pictures = [...inner.images], seen = pictures.filter(x => x.checkVisibility());
    return {{
      scroll: inner.documentElement.scrollWidth,
      broken: pictures.filter(x => !x.naturalWidth).length,
      seen: seen.length,
      narrowest: Math.min(...seen.map(x => x.getBoundingClientRect().width)),
      text: inner.defaultView.getComputedStyle(inner.querySelector(".prompt")).color,
    }}
  }}))
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


def laid_out(page: str, scheme: int, folder: Path) -> dict[int, Layout]:
    """Width → layout, under a preferred color scheme: 0 is dark, 1 light."""
    frames = "".join(FRAME.format(width=width, page=html.escape(page)) for width in WIDTHS)
    (folder / "frame.html").write_text(FRAMES.format(frames=frames), encoding="utf-8")
    flags = (f"--user-data-dir={folder / 'profile'}", f"--blink-settings=preferredColorScheme={scheme}")
    command = [str(BROWSER), *FLAGS, *flags, "--window-size=1400,1000", "--virtual-time-budget=10000", "--dump-dom"]
    done = subprocess.run([*command, str(folder / "frame.html")], capture_output=True, text=True, check=True)
    found = re.search(r"<title>(.*?)</title>", done.stdout)
    assert found, done.stderr
    return {width: Layout(**layout) for width, layout in zip(WIDTHS, json.loads(html.unescape(found[1])), strict=True)}


@pytest.fixture(scope="module")
def light(page: str, tmp_path_factory: pytest.TempPathFactory) -> dict[int, Layout]:
    return laid_out(page, 1, tmp_path_factory.mktemp("light"))


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_is_wider_than_the_screen_and_every_picture_is_seen(light: dict[int, Layout], width: int) -> None:
    layout = light[width]
    assert layout.scroll <= width
    assert layout.broken == 0
    assert layout.seen == 1 + 3 * 4  # the picture, and the four of both methods and of the soft prompt
    assert layout.narrowest >= 100


def test_the_text_is_light_on_dark_where_that_is_preferred(page: str, light: dict[int, Layout], tmp_path: Path) -> None:
    dark = laid_out(page, 0, tmp_path)
    brightness = [sum(map(int, re.findall(r"\d+", found[1200].text)[:3])) for found in (light, dark)]
    assert brightness[0] < 100 and brightness[1] > 600
