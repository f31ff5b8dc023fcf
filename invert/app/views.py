"""Results as HTML for the page: the curve, tables, the phrases of an analysis. All text of users is escaped here."""

from __future__ import annotations

from collections.abc import Sequence

from invert.analysis import Analysis
from invert.app.service import Row
from invert.history import HistoryEntry
from invert.report import shown
from invert.result import Result

WIDTH, HEIGHT, MARGIN = 600, 180, 30  # of the curve's drawing, in its own units
COLORS = 4  # stages that have a color of their own in the style sheet
POINTS = 400  # of a line, at most


def curve(entries: Sequence[HistoryEntry]) -> str:
    """The best value of every step so far as a line, one color a stage; "" before there are two steps."""
    if len(entries) < 2:
        return ""
    values = [entry.value for entry in entries]
    low, high = min(values), max(values)
    spread = (high - low) or 1.0

    def at(i: int) -> str:
        x = MARGIN + i / (len(entries) - 1) * (WIDTH - 2 * MARGIN)
        y = HEIGHT - MARGIN - (values[i] - low) / spread * (HEIGHT - 2 * MARGIN)
        return f"{x:.1f},{y:.1f}"

    stages = list(dict.fromkeys(entry.stage for entry in entries))
    lines = "".join(
        f'<polyline class="stage-{n % COLORS}" points="{" ".join(at(i) for i in steps_of(entries, stage))}"/>'
        for n, stage in enumerate(stages)
    )
    legend = " ".join(f'<span class="stage-{n % COLORS}">{shown(stage)}</span>' for n, stage in enumerate(stages))
    metric = shown(entries[-1].metric)
    axis = f'<line x1="{MARGIN}" x2="{WIDTH - MARGIN}" y1="{HEIGHT - MARGIN}" y2="{HEIGHT - MARGIN}"/>'
    labels = f'<text x="0" y="20">{metric} {high:.3f}</text><text x="0" y="{HEIGHT - 8}">{low:.3f}</text>'
    labels += f'<text x="{WIDTH}" y="{HEIGHT - 8}" text-anchor="end">{len(entries)} steps</text>'
    drawing = f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{metric} by step">{axis}{lines}{labels}</svg>'
    return f'<div class="curve">{drawing}<p>{legend}</p></div>'


def steps_of(entries: Sequence[HistoryEntry], stage: str) -> list[int]:
    """The places of a stage's steps, thinned out where they are many; the last one stays."""
    places = [i for i, entry in enumerate(entries) if entry.stage == stage]
    kept = places[:: 1 + len(places) // POINTS]
    return kept if kept[-1] == places[-1] else [*kept, places[-1]]


def details(result: Result) -> str:
    """Other prompts, concepts and the soft prompt of a result."""
    others = "".join(f"<tr><td>{shown(prompt)}<td>{score:.3f}" for prompt, score in result.alternatives[1:])
    concepts = "".join(f"<tr><td>{shown(', '.join(one.words))}<td>{one.share:.0%}" for one in result.concepts)
    soft = " ".join(
        f'<span class="{"word" if token.has_word else "none"}">{shown(token.text)}</span>' for token in result.soft_tokens
    )
    parts = [("Other prompts", "prompt<th>cosine", others), ("Concepts of the restarts", "words<th>restarts", concepts)]
    doubt = f'<p class="note" role="status">{shown(result.doubt)}</p>' if result.doubt else ""
    tables = doubt + "".join(f"<h3>{title}</h3>{table(head, rows)}" for title, head, rows in parts if rows)
    return tables + (f"<h3>Soft prompt <small>struck out: no word is near</small></h3><p>{soft}</p>" if soft else "")


def table(head: str, rows: str) -> str:
    return f'<table class="found"><thead><tr><th>{head}</thead><tbody>{rows}</tbody></table>'


def comparison(rows: Sequence[Row]) -> str:
    """Methods, their prompts and what they cost, the best under the judge marked."""
    if not rows:
        return ""
    best = max((row.judge for row in rows if row.judge is not None), default=None)
    return table("method<th>prompt<th>judge<th>cosine<th>seconds", "".join(compared(row, best) for row in rows))


def compared(row: Row, best: float | None) -> str:
    name = f"<td>{shown(row.label)}"
    if row.result is None:
        return f'<tr class="problem">{name}<td colspan="4">{shown(row.problem)}'
    numbers = (("judge", f"{row.judge:.3f}"), ("cosine", f"{row.result.score:.3f}"), ("seconds", f"{row.result.seconds:.1f}"))
    cells = "".join(f'<td class="number" data-of="{of}">{number}' for of, number in numbers)
    winner = ' class="best"' if row.judge == best else ""
    return f"<tr{winner}>{name}<td>{shown(row.result.prompt)}{cells}"


def batch(rows: Sequence[Row], total: int) -> str:
    """The pictures that are done, each with its prompt or a sentence."""
    lines = "".join(
        f'<tr class="problem"><td>{shown(row.label)}<td>{shown(row.problem)}'
        if row.result is None
        else f"<tr><td>{shown(row.label)}<td>{shown(row.result.prompt)}{doubted(row.result)}"
        for row in rows
    )
    return f'<p class="note">{len(rows)} of {total}</p>{table("picture<th>prompt", lines)}'


def doubted(result: Result) -> str:
    """Why the model may not know what a picture shows, small below its prompt."""
    return f"<br><small>{shown(result.doubt)}</small>" if result.doubt else ""


def analysis(found: Analysis) -> str:
    """Every category with its nearest phrases, each with a bar as long as its cosine within the category."""
    return f'<div class="analysis">{"".join(category(*one) for one in found.categories.items())}</div>'


def category(name: str, best: Sequence[tuple[str, float]]) -> str:
    top = max((score for _, score in best), default=0) or 1
    rows = "".join(
        f'<li style="--share:{max(0.0, score / top):.3f}"><span>{shown(phrase)}</span><b>{score:.3f}</b>'
        for phrase, score in best
    )
    return f"<section><h3>{shown(name)}</h3><ol>{rows}</ol></section>"
