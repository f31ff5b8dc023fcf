"""What a person looks at: the trace as a PNG, and one self-contained HTML page.

Effects live here and in `cli`: everything is drawn from `Result`s that are already complete.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING

from PIL import Image

from invert.captions import WordGain
from invert.escape import as_html as shown
from invert.escape import escaped
from invert.files import write_output
from invert.report_drawings import embedded, gallery, picture, round_trip
from invert.result import Result

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from invert.analysis import Analysis

SHOWN_STEPS = 24  # winning prompts below the curves
SHOWN_TITLE = 3  # lines of the prompt above them
WIDEST_LINE, LINE_HEIGHT = 88, 0.16  # of the curves' text, in characters and inches
STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif }
body { max-width: 60rem; margin: 0 auto; padding: 1rem }
section { display: flex; flex-wrap: wrap; gap: 1.5rem; margin-bottom: 2rem; border-top: 1px solid #8886; padding-top: 1rem }
section > img { width: 12rem; height: 12rem; object-fit: contain; image-rendering: pixelated }
section > div { flex: 1 1 18rem; min-width: 0 }
h2 { font-size: 1rem; margin: 1rem 0 .25rem }
.drawn { display: flex; flex-wrap: wrap; gap: .75rem }
figure { margin: 0; width: 8rem; font-size: .8rem }
figure img { width: 8rem; height: 8rem; object-fit: contain; image-rendering: pixelated }
.beside { display: grid; gap: .5rem; justify-content: start; font-size: .8rem }
.beside figure, .beside img { width: 100%; height: auto }
.curve { width: 100%; background: #fff; border-radius: .5rem }
.name { margin: 0; opacity: .7; overflow-wrap: anywhere }
.prompt { font-size: 1.25rem; margin: 0 0 .5rem }
td, th { text-align: left; padding: .1rem .8rem .1rem 0; vertical-align: top; overflow-wrap: anywhere }
th, .results td:not(:nth-child(2)) { white-space: nowrap }
summary { margin-top: 1rem; cursor: pointer }
.none { opacity: .6; text-decoration: line-through }
@media (max-width: 40rem) {
  .results tr:first-child, .results td:empty { display: none }
  .results tr { display: flex; flex-wrap: wrap; column-gap: .8rem; margin-bottom: .75rem }
  .results td { order: 1; padding: 0; font-size: .85rem; opacity: .8 }
  .results td:nth-child(2) { order: 0; flex: 0 0 100%; font-size: 1rem; opacity: 1 }
  .results td[title]::before { content: attr(title) " " }
}
@media print { :root { color-scheme: light } }
"""


@dataclass(frozen=True)
class Entry:
    """One prompt on the page, or an analysis.

    Attributes:
        label: what its images are called.
        pictures: the images.
        results: of every method in order; may be empty where there is an analysis.
        analysis: the phrases that the images are nearest to, where that was asked for.
        carried: the prompt in the picture's own file; "" where there is none.
    """

    label: str
    pictures: list[Image.Image]
    results: list[Result]
    analysis: Analysis | None = None
    carried: str = ""


def trace_figure(result: Result) -> Figure:
    """The best value of every step, one color a stage, and the prompts that won on the way."""
    from matplotlib.figure import Figure  # a slow import; a figure without pyplot needs no display

    won = {step.prompt: step for step in result.history if step.prompt}
    lines = [
        line
        for prompt, step in list(won.items())[-SHOWN_STEPS:]
        for line in wrap(f"{step.value:.3f}  {escaped(prompt)}", WIDEST_LINE, subsequent_indent=" " * 7)
    ]
    below = LINE_HEIGHT * (len(lines) + 1)
    figure = Figure(figsize=(7, 3.6 + below), layout="constrained")
    curve, winners = figure.subplots(2, 1, height_ratios=(3.6, below))
    offset = 0
    for stage in dict.fromkeys(step.stage for step in result.history):
        values = [step.value for step in result.history if step.stage == stage]
        curve.plot(range(offset, offset + len(values)), values, label=stage, marker="o" if len(values) == 1 else "")
        offset += len(values)
    title = "\n".join(wrap(escaped(result.prompt), WIDEST_LINE)[:SHOWN_TITLE])
    curve.set(xlabel="step", ylabel=metrics_of(result), title=title)
    curve.title.set_parse_math(False)  # a dollar sign in a prompt is a dollar sign
    curve.spines[["top", "right"]].set_visible(False)
    if offset:
        curve.legend(frameon=False)
    winners.axis("off")
    winners.text(0, 1, "\n".join(lines), va="top", family="monospace", fontsize=8, parse_math=False)
    return figure


def metrics_of(result: Result) -> str:
    """What the values of the history are: "cosine", "denoising error"."""
    return ", ".join(dict.fromkeys(step.metric for step in result.history)) or "cosine"


def write_trace(result: Result, path: Path) -> None:
    """Save the trace figure; InputError where the file cannot be written."""
    write_output(path, trace_png(result))


def trace_png(result: Result) -> bytes:
    """The trace figure as a PNG."""
    return png(trace_figure(result))


def png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()


def write_report(entries: Sequence[Entry], path: Path) -> None:
    """Save the page; InputError where the file cannot be written."""
    write_output(path, report_page(entries).encode())


def report_page(entries: Sequence[Entry]) -> str:
    """One page for all."""
    body = "\n".join(section(entry) for entry in entries)
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Invert</title><style>{STYLE}</style><h1>Invert</h1>{body}</html>"
    )


def section(entry: Entry) -> str:
    """One image, or several together: what was found for them."""
    pictures = "".join(f'<img alt="" src="{picture(image)}">' for image in entry.pictures)
    found = (prompts(entry.results) if entry.results else "") + (phrases(entry.analysis) if entry.analysis else "")
    notes = [f"carries: {entry.carried}"] if entry.carried else []
    notes += [entry.results[0].doubt] if entry.results and entry.results[0].doubt else []
    named = "".join(f'<p class="name">{shown(text)}</p>' for text in (entry.label, *notes))
    return f"<section>{pictures}<div>{named}{found}</div></section>"


def phrases(analysis: Analysis) -> str:
    """The best phrases of each category."""
    rows = "".join(
        f"<tr><td>{'' if i else shown(category)}<td>{shown(phrase)}<td>{score:.3f}"
        for category, best in analysis.categories.items()
        for i, (phrase, score) in enumerate(best)
    )
    return f"<h2>Nearest phrases</h2><table><tr><th>category<th>phrase<th>cosine{rows}</table>"


def judge_cell(result: Result, prompt: str) -> str:
    """A prompt's cosine under the judge, which looks at the best prompt of each method."""
    judged = prompt == result.prompt and result.judge is not None
    return f'<td title="judge">{result.judge:.3f}' if judged else "<td>"


def captions(result: Result) -> str:
    """What the captioner said, what is left of it, and what each word earned; nothing where none was asked."""
    if not result.captions:
        return ""
    rows = "".join(
        f"<tr><td>caption<td>{earnings(one.words)}<td>{one.score:.3f}"
        + (f"<tr><td>shortened<td>{shown(one.shortened)}<td>{one.shortened_score:.3f}" if one.shortened else "")
        for one in result.captions
    )
    rows += f"<tr><td>prompt<td>{earnings(result.words)}<td>{result.score:.3f}"
    return (
        f"<h2>From the caption to the prompt</h2><table><tr><th><th>words, and the cosine that each earns<th>cosine{rows}</table>"
    )


def earnings(words: Sequence[WordGain]) -> str:
    """Words with what they earn; those that cost something are struck out."""
    return " ".join(
        f'<span class="{"word" if one.gain > 0 else "none"}">{shown(one.word)}</span>&nbsp;<small>{one.gain:+.3f}</small>'
        for one in words
    )


def folded(title: str, content: str) -> str:
    """Content behind a line to click on; nothing where there is none."""
    return f"<details><summary>{title}</summary>{content}</details>" if content else ""


def prompts(results: Sequence[Result]) -> str:
    """Prompts by method, the soft prompt in words, concepts, and the curve."""
    best = results[0]
    judged = any(r.judge is not None for r in results)
    rows = "".join(
        f'<tr><td>{shown(r.method)}<td>{shown(prompt)}<td title="cosine">{score:.3f}'
        f"{judge_cell(r, prompt) if judged else ''}<td>{r.seconds:.1f}&nbsp;s"
        for r in results
        for prompt, score in r.alternatives
    )
    soft = " · ".join(
        f'<span class="{"word" if token.has_word else "none"}" title="distance {token.distance:.3f}">{shown(token.text)}</span>'
        for token in best.soft_tokens
    )
    concepts = "".join(f"<tr><td>{concept.share:.0%}<td>{shown(', '.join(concept.words))}" for concept in best.concepts)
    drawn = round_trip(best) + "".join(gallery(f"Drawn from the prompt of {shown(r.method)}", r.drawn) for r in results[1:])
    return (
        f'<p class="prompt">{shown(best.prompt)}</p>'
        f'<table class="results"><tr><th>method<th>prompt<th>cosine{"<th>judge" if judged else ""}<th>time{rows}</table>'
        f"{captions(best)}{drawn}"
        f"{folded('Soft prompt (struck out: no word is near)', f'<p>{soft}</p>' if soft else '')}"
        f"{folded('Concepts of the restarts', f'<table><tr><th>restarts<th>words{concepts}</table>' if concepts else '')}"
        f'<details><summary>Curves</summary><img class="curve" alt="{shown(metrics_of(best))} by step" '
        f'src="{embedded(png(trace_figure(best)))}">'
        "</details>"
    )
