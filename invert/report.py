"""What a person looks at: the trace as a PNG, and one self-contained HTML page.

Effects live here and in `cli`: everything is drawn from `Result`s that are already complete.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean as mean
from textwrap import wrap
from typing import TYPE_CHECKING

from PIL import Image

from invert.captions import WordGain
from invert.escape import as_html as shown
from invert.escape import escaped
from invert.files import write_output
from invert.images import thumbnail
from invert.result import GeneratedImage, Result

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from invert.analysis import Analysis

SHOWN_SIZE = 512  # pixels of a picture
SHOWN_MOVES = 8  # words that polishing moved farthest
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


def embedded(content: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"


def picture(image: Image.Image) -> str:
    buffer = io.BytesIO()
    thumbnail(image, SHOWN_SIZE).save(buffer, "PNG")
    return embedded(buffer.getvalue())


def gallery(title: str, drawn: list[GeneratedImage] | None) -> str:
    """Images side by side, each with how near it comes to the picture; nothing where nothing was drawn."""
    figures = "".join(
        f'<figure><img alt="seed {image.seed}" src="{picture(image.image)}">'
        f"<figcaption>{shown(image.problem) or measures(image)}</figcaption></figure>"
        for image in drawn or []
    )
    return f'<h2>{title}</h2><div class="drawn">{figures}</div>' if figures else ""


def measures(image: GeneratedImage) -> str:
    """How near an image comes to the picture."""
    return f"judge {image.judge:.2f} · pixels {image.pixels:.2f} · colors {image.colors:.2f}"


def lost_in_words(result: Result) -> str:
    """Words, soft prompt and polished embeddings beside each other, and which words the polishing moved farthest."""
    if not (result.drawn and result.polished is not None and result.polished_drawn):
        return ""
    rows = {"in words": result.drawn, "soft, before words": result.soft_drawn, "polished": result.polished_drawn}
    cells = "".join(
        f"<tr><td>{name}<td>{mean(i.judge for i in images):.3f}<td>{mean(i.pixels for i in images):.3f}"
        f"<td>{mean(i.colors for i in images):.3f}"
        for name, images in rows.items()
        if images
    )
    gained = mean(i.judge for i in result.polished_drawn) - mean(i.judge for i in result.drawn)
    moved = sorted(zip(result.polished.moved.tolist(), result.tokens, strict=False), key=lambda pair: -pair[0])
    words = " · ".join(f"{shown(token.text)} {distance:.2f}" for distance, token in moved[:SHOWN_MOVES])
    kept = "" if result.polished.error < result.polished.start_error else " Nothing explained it better than the words."
    return (
        f"<h2>What was lost in the words</h2><table><tr><th>drawn from<th>judge<th>pixels<th>colors{cells}</table>"
        f"<p>By the judge the polished embeddings come {abs(gained):.3f} {'nearer to' if gained > 0 else 'less near to'} the "
        f"picture than the words. Their denoising error is {result.polished.error:.4f}, that of the words "
        f"{result.polished.start_error:.4f}.{kept}</p>"
        f"<p>How far the embeddings of its words moved, the farthest first: {words}</p>"
    )


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
    carried = f'<p class="name">carries: {shown(entry.carried)}</p>' if entry.carried else ""
    return f'<section>{pictures}<div><p class="name">{shown(entry.label)}</p>{carried}{found}</div></section>'


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
    drawn = "".join(gallery(f"Drawn from the prompt of {shown(r.method)}", r.drawn) for r in results)
    drawn += gallery("Drawn from the soft prompt, before any word was chosen", best.soft_drawn)
    drawn += gallery("Drawn from the prompt's embeddings, polished through the denoiser", best.polished_drawn)
    drawn += lost_in_words(best)
    drawn += f'<p class="name">{shown(best.soft_obstacle)}</p>' if best.soft_obstacle else ""
    return (
        f'<p class="prompt">{shown(best.prompt)}</p>'
        f'<table class="results"><tr><th>method<th>prompt<th>cosine{"<th>judge" if judged else ""}<th>time{rows}</table>'
        f"{captions(best)}{drawn}"
        f"<details><summary>Soft prompt (struck out: no word is near)</summary><p>{soft}</p></details>"
        f"<details><summary>Concepts of the restarts</summary><table><tr><th>restarts<th>words{concepts}</table></details>"
        f'<details><summary>Curves</summary><img class="curve" alt="{shown(metrics_of(best))} by step" '
        f'src="{embedded(png(trace_figure(best)))}">'
        "</details>"
    )
