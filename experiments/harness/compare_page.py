"""The comparison as one self-contained page: tables, plots, and pictures with everyone's prompts.

Shown are the first pictures of each kind, not chosen ones, and then the pictures on which our word F1
falls farthest behind the best other method.
"""

from __future__ import annotations

import html
import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from PIL import Image

from experiments.harness.pictures import Picture
from experiments.harness.records import RunRecord
from experiments.harness.statistics import QUALITY
from experiments.harness.tables import TITLES, interval, seconds, token_passes
from invert.report import STYLE, embedded

FIRST, WORST = 12, 12  # pictures of each kind shown in order; pictures where ours does worst
PLOTS = ("pareto.png", "over-optimisation.png")
MORE_STYLE = """
body { max-width: 90rem }
h2 { font-size: 1.4rem; margin-top: 2rem }
.wide { overflow-x: auto }
.figures { font-size: .85rem }
.figures td { white-space: nowrap }
.plot { width: 100%; max-width: 60rem; background: #fff }
"""


def write_page(
    path: Path, found: dict[str, Any], differences: dict[str, Any], records: list[RunRecord], pictures: list[Picture]
) -> None:
    """Write report.html beside the plots that it embeds."""
    parts = ["<h1>Prompt inversion compared</h1>"]
    for kind, summary in found.items():
        parts += [f"<h2>{kind} pictures</h2>", means_table(summary), "<h3>invert minus the other, paired</h3>"]
        parts.append(differences_table(differences[kind]))
    parts += [f'<img class="plot" alt="{name}" src="{embedded((path.parent / name).read_bytes())}">' for name in PLOTS]
    for kind in found:
        shown = [picture for picture in pictures if picture.kind == kind][:FIRST]
        parts += [f"<h2>The first {len(shown)} {kind} pictures</h2>", *(section(picture, records) for picture in shown)]
    worst = worst_of_ours(pictures, records)
    parts += [f"<h2>The {len(worst)} pictures on which invert falls farthest behind</h2>"]
    parts += [section(picture, records) for picture in worst]
    path.write_text(
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width, '
        f'initial-scale=1"><title>Prompt inversion compared</title><style>{STYLE}{MORE_STYLE}</style>{"".join(parts)}</html>'
    )


def table(header: Iterable[str], lines: Iterable[Iterable[str]], kind: str = "figures") -> str:
    """kind: "figures", whose cells stay on one line, or "prompts"."""
    head = "".join(f"<th>{cell}" for cell in header)
    body = "".join("<tr>" + "".join(f"<td>{cell}" for cell in line) for line in lines)
    return f'<div class="wide {kind}"><table><tr>{head}{body}</table></div>'


def means_table(summary: dict[str, Any]) -> str:
    lines = []
    for method, row in summary.items():
        cost = [f"{row['tokens']['mean']:.0f}", seconds(row), f"{token_passes(row):,.0f}"]
        lines.append([method, str(row["pictures"]), *(interval(row[m]) for m in QUALITY), *cost])
    return table(["method", "pictures", *(TITLES[m] for m in QUALITY), "tokens", "seconds", "token passes"], lines)


def differences_table(differences: dict[str, Any]) -> str:
    lines = [[method, str(row["pictures"]), *(signed(row[m]) for m in QUALITY)] for method, row in differences.items()]
    return table(["against", "pictures", *(TITLES[m] for m in QUALITY)], lines)


def signed(cell: dict[str, float]) -> str:
    return f"{cell['mean']:+.3f} [{cell['low']:+.3f}, {cell['high']:+.3f}]"


def worst_of_ours(pictures: list[Picture], records: list[RunRecord]) -> list[Picture]:
    """Pictures by the lead of the best other method over ours in word F1, the largest first."""
    behind: dict[tuple[str, str], float] = {}
    for picture in pictures:
        here = [run for run in records if (run["kind"], run["picture"]) == (picture.kind, picture.name)]
        ours = [run["word_f1"] for run in here if run["method"] == "invert"]
        others = [run["word_f1"] for run in here if run["method"] not in ("invert", "oracle")]
        if ours and others:
            behind[picture.kind, picture.name] = max(others) - min(ours)
    ranked = sorted(
        (picture for picture in pictures if behind.get((picture.kind, picture.name), 0) > 0),
        key=lambda picture: -behind[picture.kind, picture.name],
    )
    return ranked[:WORST]


def section(picture: Picture, records: list[RunRecord]) -> str:
    """One picture: the truth, and every method's prompt of its first seed."""
    mine = [r for r in records if (r["kind"], r["picture"], r["seed"]) == (picture.kind, picture.name, 0)]
    lines = [
        [r["method"], html.escape(r["prompt"]), f"{r['word_f1']:.2f}", f"{r['judge']:.3f}", f"{r['forward'] + r['backward']:,}"]
        for r in mine
    ]
    prompts = table(["method", "prompt", "word F1", "judge", "token passes"], lines, "prompts")
    truth = html.escape(picture.truth)
    return f'<section><img alt="" src="{thumbnail(picture.image)}"><div><p class="prompt">{truth}</p>{prompts}</div></section>'


def thumbnail(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return embedded(buffer.getvalue())
