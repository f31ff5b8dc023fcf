"""The report of a big run: pages of a hundred pictures with their prompts, and an index of the pages.

Each page is self-contained. One whose rows have not changed is left as it is, so that a resumed run draws only new ones.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import json
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from invert.escape import as_html
from invert.files import write_output

PER_PAGE = 100
SIDE = 192  # pixels of a picture
INDEX = "index.html"
STYLE = """
:root { color-scheme: light dark; font: 16px/1.4 system-ui, sans-serif }
body { max-width: 80rem; margin: 0 auto; padding: 1rem }
main { display: grid; grid-template-columns: repeat(auto-fill, minmax(12rem, 1fr)); gap: 1rem }
figure { margin: 0; overflow-wrap: anywhere }
figure img { width: 100%; height: 12rem; object-fit: contain; background: #8882; image-rendering: auto }
figcaption small { display: block; opacity: .7 }
.bad { color: #c33 }
nav { margin: 1rem 0 }
"""


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
    firsts: list[str] = []
    page = list(islice(rows, PER_PAGE))
    while page:
        following = list(islice(rows, PER_PAGE))
        write_page(folder, len(firsts), page, last=not following)
        firsts.append(str(page[0]["file_name"]))
        page = following
    write_output(folder / INDEX, index(firsts).encode())
    for old in stale(folder, len(firsts)):
        with contextlib.suppress(OSError):
            old.unlink()
    return len(firsts)


def page_name(number: int) -> str:
    return f"page-{number + 1:05}.html"


def stale(folder: Path, pages: int) -> Iterator[Path]:
    """Pages of an earlier run with more pictures."""
    wanted = {page_name(number) for number in range(pages)}
    yield from (path for path in folder.glob("page-*.html") if path.name not in wanted)


def write_page(folder: Path, number: int, rows: list[dict[str, Any]], last: bool) -> None:
    """One page, unless it is there already."""
    known = json.dumps([number, last, [{**row, "path": ""} for row in rows]], sort_keys=True)
    mark = f"<!-- {hashlib.sha256(known.encode()).hexdigest()} -->"
    path = folder / page_name(number)
    with contextlib.suppress(OSError), open(path, "rb") as file:
        if file.readline().rstrip() == mark.encode():
            return
    links = [f'<a href="{INDEX}">index</a>']
    links += [f'<a href="{page_name(number - 1)}" rel="prev">previous</a>'] if number else []
    links += [] if last else [f'<a href="{page_name(number + 1)}" rel="next">next</a>']
    body = f"<nav>{' · '.join(links)}</nav><main>{''.join(map(figure, rows))}</main>"
    write_output(path, f"{mark}\n{html_page(f'Pictures, page {number + 1}', body)}".encode())


def html_page(title: str, body: str) -> str:
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{STYLE}</style><h1>{title}</h1>{body}</html>"
    )


def index(firsts: list[str]) -> str:
    """A link to each page, with the name of its first picture."""
    items = "".join(f'<li><a href="{page_name(i)}">page {i + 1}</a> from {as_html(name)}' for i, name in enumerate(firsts))
    return html_page("Pictures", f"<ol>{items}</ol>")


def figure(row: dict[str, Any]) -> str:
    """A picture with its prompt, or with why there is none."""
    if "error" in row:
        caption = f"{as_html(row['error'])}<small>{as_html(row['file_name'])}</small>"
        return f'<figure><figcaption class="bad">{caption}</figcaption></figure>'
    score = "" if row["score"] is None else f" · {row['score']:.3f}"
    carried = row.get("embedded")
    embedded = f"<small>carries: {as_html(carried['prompt'])}</small>" if carried and carried["prompt"] != row["prompt"] else ""
    doubt = f"<small>{as_html(row['doubt'])}</small>" if row.get("doubt") else ""
    small = f"<small>{as_html(row['file_name'])} · {as_html(row['method'])}{score}</small>"
    return (
        f"<figure>{thumbnail_of(row['path'])}<figcaption>{as_html(row['prompt'])}{embedded}{doubt}{small}</figcaption></figure>"
    )


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
