"""The documentation builds without a warning, opens without a network, and its links hold on GitHub too."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html import unescape
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DOCS = sorted((ROOT / "docs").rglob("*.md"))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, check=False
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_every_page_is_built_and_asks_no_other_host_for_anything(site: Path) -> None:
    pages = {path.relative_to(site).as_posix(): path.read_text(encoding="utf-8") for path in site.rglob("*.html")}
    assert {"index.html", "measured.html", "how-to/comfyui.html"} <= pages.keys()
    for name, page in pages.items():
        loaded = re.findall(r'<(?:script|img|iframe|source)[^>]+src="([^"]+)"', page)
        loaded += re.findall(r'<link[^>]+rel="(?:stylesheet|preconnect|icon)"[^>]*>', page)
        assert not [one for one in loaded if "//" in one], name


def test_every_link_within_the_site_leads_to_a_place_of_it(site: Path) -> None:
    pages = {path.resolve(): path.read_text(encoding="utf-8") for path in site.rglob("*.html") if path.name != "404.html"}
    places = {path: {"", *re.findall(r'\bid="([^"]+)"', page)} for path, page in pages.items()}
    dead = []
    for path, page in pages.items():
        for link in re.findall(r'<a\b[^>]*\bhref="([^":]+)"', page):
            target, _, anchor = link.partition("#")
            at = (path.parent / target).resolve() if target else path
            if at.suffix == ".html" and unescape(anchor) not in places.get(at, set()):
                dead.append(f"{path.name} → {link}")
    assert sum(page.count("<a ") for page in pages.values()) > 500 and dead == []


def test_pictures_from_outside_are_on_the_site(site: Path) -> None:
    home = (site / "index.html").read_text(encoding="utf-8")
    shown = re.findall(r'src="(assets/[^"]+\.png)"', home)
    assert len(shown) >= 6 and all((site / path).is_file() for path in shown)


def test_the_reference_shows_signatures_and_arguments(site: Path) -> None:
    reference = (site / "reference" / "inverter.html").read_text(encoding="utf-8")
    assert 'id="invert.Inverter.invert_batch"' in reference and "asked between batches" in reference


@pytest.mark.parametrize("page", DOCS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_relative_links_lead_to_files_of_the_repository(page: Path) -> None:
    """As GitHub follows them; pages that the site alone has are reached through the files that they are made of."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    links = [link for link in re.findall(r"\]\(([^)\s#]+)", text) if ":" not in link]
    assert [link for link in links if not (page.parent / link).exists()] == []
