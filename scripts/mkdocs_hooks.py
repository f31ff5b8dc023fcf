"""Let the pages of `docs/` link to what lies outside of it, so that the same links work on GitHub and on the site.

In: pages with relative links; out: the site's pages, where `../examples/fox.png` is a copy of that file and
`../experiments/README.md` a page of the site. A link to anything else outside is left, and `mkdocs build --strict` refuses it.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from markdown.extensions.toc import slugify
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent
# Markdown outside of `docs/` → its name on the site.
PAGES = {
    "experiments/README.md": "measured.md",
    "CHANGELOG.md": "changes.md",
    "CONTRIBUTING.md": "contributing.md",
    "integrations/comfyui/README.md": "how-to/comfyui.md",
}
COMPARISON = "comparison.md"  # a section of the README, as a page of its own
PICTURES = ("examples", "experiments/results")  # folders whose pictures pages may show
ENDINGS = {".png", ".gif"}
HEADING = "## Against CLIP Interrogator and others"
LINK = re.compile(r"(\]\()([^)\s#]+)(#[^)\s]*)?(\))")
FENCE = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages and pictures from outside."""
    for source, name in PAGES.items():
        files.append(File.generated(config, name, abs_src_path=str(ROOT / source)))
    files.append(File.generated(config, COMPARISON, content=comparison((ROOT / "README.md").read_text(encoding="utf-8"))))
    for folder in PICTURES:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in ENDINGS:
                name = path.relative_to(ROOT).as_posix()
                files.append(File.generated(config, f"assets/{name}", abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """The page with its links as they are on the site; code blocks stay as they are."""
    return "".join(part if part.startswith("```") else as_on_site(part, page.file.src_uri) for part in FENCE.split(markdown))


def comparison(readme: str) -> str:
    """The README's section with the table of the comparison, as a page."""
    section = readme[readme.index(HEADING) :]
    return section[1 : section.index("\n## ", 1) + 1]


def as_on_site(text: str, name: str) -> str:
    """A text of the page of that name with links to outside of `docs/` turned to their copies."""
    homes = {site: source for source, site in PAGES.items()} | {COMPARISON: "README.md"}
    home = homes.get(name, f"docs/{name}")  # where it stands in the repository

    def turned(match: re.Match[str]) -> str:
        if ":" in match[2] or match[2].startswith("/"):
            return match[0]
        target = posixpath.normpath(posixpath.join(posixpath.dirname(home), match[2]))
        page, anchor = placed(target, match[3] or "")
        return f"{match[1]}{posixpath.relpath(page, posixpath.dirname(name) or '.')}{anchor}{match[4]}"

    return LINK.sub(turned, text)


def placed(target: str, anchor: str) -> tuple[str, str]:
    """Where the site has a place of the repository; what it lacks gets a name that is not found."""
    if target == "README.md":
        headings = re.findall(r"^#+ (.*)", comparison((ROOT / target).read_text(encoding="utf-8")), re.MULTILINE)
        sections = [f"#{slugify(heading, '-')}" for heading in headings]
        if anchor in sections:
            return COMPARISON, "" if anchor == sections[0] else anchor
        return "index.md", anchor
    if target in PAGES:
        return PAGES[target], anchor
    inside = target.startswith("docs/")
    return (target.removeprefix("docs/") if inside else f"assets/{target}"), anchor
