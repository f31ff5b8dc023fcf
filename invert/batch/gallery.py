"""The report of a big run: pages of a hundred pictures with their prompts, and an index of the pages, some pictures of each.

Each page is self-contained. One whose rows have not changed is left as it is, so that a resumed run draws only new ones.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import json
import re
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from statistics import fmean
from typing import Any

from invert.escape import as_html
from invert.files import write_output

PER_PAGE = 100
SIDE = 192  # pixels of a picture
INDEX_PICTURES = 100  # that the index shows of all pages together: some 10 kB each
INDEX = "index.html"
LAYOUT = 2  # of a page: raised where what is written of the same rows changes, so that pages of before are drawn again
FIGURE = re.compile(r'<figure id="(\d+)">(<img .*?)</figure>', re.DOTALL)  # that shows a picture, on a page of ours
STYLE = """
:root { color-scheme: light dark; font: 16px/1.4 system-ui, sans-serif }
body { max-width: 80rem; margin: 0 auto; padding: 1rem }
.pictures { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(12rem, 45%), 1fr)); gap: 1rem }
.pictures > a { color: inherit; text-decoration: none }
.pictures > a:is(:hover, :focus-visible) figcaption { text-decoration: underline }
section { margin-bottom: 2rem; border-top: 1px solid #8886 }
h2 { font-size: 1rem; font-weight: normal; overflow-wrap: anywhere }
figure { margin: 0; overflow-wrap: anywhere }
figure:target { outline: 3px solid; outline-offset: .4rem }
figure img { width: 100%; height: 12rem; object-fit: contain; background: #8882; image-rendering: auto }
figcaption small { display: block; opacity: .7 }
.bad { color: #c33 }
nav { margin: 1rem 0 }
"""


@dataclass(frozen=True)
class Page:
    """What the index says of a page.

    Attributes:
        first, last: names of its first and last picture.
        scores: cosines of those that have one.
        done: pictures with a prompt.
        failed: pictures without.
    """

    first: str
    last: str
    scores: array[float]
    done: int
    failed: int


def write_gallery(folder: Path, rows: Iterable[dict[str, Any]]) -> int:
    """Pages of the rows, and the index; how many pages there are.

    Args:
        folder: made where it is missing.
        rows: a journal's, each with "path" and "file_name" besides; those of errors too.

    Raises:
        InputError: a page cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows = iter(rows)
    pages: list[Page] = []
    page = list(islice(rows, PER_PAGE))
    while page:
        following = list(islice(rows, PER_PAGE))
        write_page(folder, len(pages), page, last=not following)
        pages.append(page_of(page))
        page = following
    write_output(folder / INDEX, index(folder, pages).encode())
    for old in stale(folder, len(pages)):
        with contextlib.suppress(OSError):
            old.unlink()
    return len(pages)


def page_of(rows: Sequence[dict[str, Any]]) -> Page:
    """What the index says of a page with these rows."""
    good = [row for row in rows if "error" not in row]
    scores = array("d", (row["score"] for row in good if row["score"] is not None))
    return Page(str(rows[0]["file_name"]), str(rows[-1]["file_name"]), scores, len(good), len(rows) - len(good))


def page_name(number: int) -> str:
    return f"page-{number + 1:05}.html"


def stale(folder: Path, pages: int) -> Iterator[Path]:
    """Pages of an earlier run with more pictures."""
    wanted = {page_name(number) for number in range(pages)}
    yield from (path for path in folder.glob("page-*.html") if path.name not in wanted)


def write_page(folder: Path, number: int, rows: list[dict[str, Any]], last: bool) -> None:
    """One page, unless it is there already."""
    known = json.dumps([LAYOUT, number, last, [{**row, "path": ""} for row in rows]], sort_keys=True)
    mark = f"<!-- {hashlib.sha256(known.encode()).hexdigest()} -->"
    path = folder / page_name(number)
    with contextlib.suppress(OSError), open(path, "rb") as file:
        if file.readline().rstrip() == mark.encode():
            return
    links = [f'<a href="{INDEX}">index</a>']
    links += [f'<a href="{page_name(number - 1)}" rel="prev">previous</a>'] if number else []
    links += [] if last else [f'<a href="{page_name(number + 1)}" rel="next">next</a>']
    figures = "".join(figure(row, place) for place, row in enumerate(rows, 1))
    nav = f"<nav>{' · '.join(links)}</nav>"
    body = f'{nav}<main class="pictures">{figures}</main>{nav}'
    write_output(path, f"{mark}\n{html_page(f'Pictures, page {number + 1}', body)}".encode())


def html_page(title: str, body: str) -> str:
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{STYLE}</style><h1>{title}</h1>{body}</html>"
    )


def index(folder: Path, pages: Sequence[Page]) -> str:
    """Every page with pictures of it, each a link to its place there."""
    sections = "".join(section(folder, number, page, len(pages)) for number, page in enumerate(pages))
    scores = array("d", (score for page in pages for score in page.scores))
    every = Page("", "", scores, sum(page.done for page in pages), sum(page.failed for page in pages))
    total = "" if len(pages) == 1 else f"<p>{said(every)}</p>"
    return html_page("Pictures and their prompts", total + sections)


def section(folder: Path, number: int, page: Page, pages: int) -> str:
    """A page in the index: what is on it, and some of its pictures."""
    names = " – ".join(map(as_html, dict.fromkeys((page.first, page.last))))
    return (
        f'<section><h2><a href="{page_name(number)}">Page {number + 1}</a> · {said(page)}<br><small>{names}</small></h2>'
        f"{shown(folder, number, pages)}</section>"
    )


def said(page: Page) -> str:
    """How many pictures have a prompt, and how good the prompts are."""
    counts = f"{page.done:,} picture{'' if page.done == 1 else 's'} with a prompt"
    failed = f', <span class="bad">{page.failed:,} without</span>' if page.failed else ""
    if not page.scores:
        return counts + failed
    return f"{counts}{failed} · cosine {min(page.scores):.3f} to {max(page.scores):.3f}, on average {fmean(page.scores):.3f}"


def shown(folder: Path, number: int, pages: int) -> str:
    """The pictures of a page that stand in the index, taken from the page: no picture is read for it again."""
    each = INDEX_PICTURES // pages
    if not each and number % -(-pages // INDEX_PICTURES):  # more pages than pictures: one of every second, third, ...
        return ""
    try:
        figures = FIGURE.findall((folder / page_name(number)).read_text(encoding="utf-8"))[: each or 1]
    except (OSError, ValueError):  # somebody else's by now
        return ""
    links = (f'<a href="{page_name(number)}#{place}"><figure>{content}</figure></a>' for place, content in figures)
    return f'<div class="pictures">{"".join(links)}</div>'


def figure(row: dict[str, Any], place: int) -> str:
    """A picture with its prompt, or with why there is none. place: on its page, from 1."""
    if "error" in row:
        caption = f"{as_html(row['error'])}<small>{as_html(row['file_name'])}</small>"
        return f'<figure id="{place}"><figcaption class="bad">{caption}</figcaption></figure>'
    score = "" if row["score"] is None else f" · cosine {row['score']:.3f}"
    carried = row.get("embedded")
    embedded = f"<small>carries: {as_html(carried['prompt'])}</small>" if carried and carried["prompt"] != row["prompt"] else ""
    doubt = f"<small>{as_html(row['doubt'])}</small>" if row.get("doubt") else ""
    small = f"<small>{as_html(row['file_name'])} · {as_html(row['method'])}{score}</small>"
    caption = f"<figcaption>{as_html(row['prompt'])}{embedded}{doubt}{small}</figcaption>"
    return f'<figure id="{place}">{thumbnail_of(row["path"])}{caption}</figure>'


def thumbnail_of(path: str) -> str:
    """A small JPEG of the picture as it is now; nothing where it cannot be read any more."""
    from invert.images import load_image, thumbnail

    try:
        image = thumbnail(load_image(path), SIDE)
    except ValueError:  # InputError: moved away, or changed since
        return ""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=80)
    return f'<img alt="" loading="lazy" src="data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}">'
