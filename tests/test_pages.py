"""The links of the pages outside of docs/ lead to files, and to headings that these files have."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = ["README.md", "CONTRIBUTING.md", "SECURITY.md", "experiments/README.md", "docs/command-line.md", "docs/picturebook.md"]
LINK = re.compile(r'\]\(([^)\s#]*)(#[^)\s]*)?\)|src="([^"#]+)()"')


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub makes of a page's headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {"#" + re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files_and_headings(page: str) -> None:
    text = re.sub(r"^```.*?^```$", "", (ROOT / page).read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    links = [(link or source, anchor) for link, anchor, source, _ in LINK.findall(text) if ":" not in link]
    assert links
    for link, anchor in links:
        target = (ROOT / page).parent / link if link else ROOT / page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), (link, anchor)
