"""What a person looks at: the trace as a PNG, and one self-contained HTML page.

Effects live here and in `cli`: everything is drawn from `Result`s that are already complete.
"""

from __future__ import annotations

import base64
import html
import io
from pathlib import Path

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from PIL import Image

from invert.errors import InputError
from invert.images import thumbnail
from invert.result import Drawn, Result

SHOWN_SIZE = 512  # pixels of a picture
SHOWN_STEPS = 24  # rows of the table of winning prompts
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
.prompt { font-size: 1.25rem; margin: 0 0 .5rem }
td, th { text-align: left; padding: .1rem .8rem .1rem 0; vertical-align: top }
.none { opacity: .6; text-decoration: line-through }
"""


def trace_figure(result: Result) -> Figure:
    """Best cosine by step, one colour a stage, and the prompts that won on the way."""
    figure, (curve, winners) = plt.subplots(2, 1, figsize=(9, 8), height_ratios=(2, 3), layout="constrained")
    offset = 0
    for stage in dict.fromkeys(step.stage for step in result.trace):
        scores = [step.score for step in result.trace if step.stage == stage]
        curve.plot(range(offset, offset + len(scores)), scores, label=stage)
        offset += len(scores)
    curve.set(xlabel="step", ylabel="cosine with the target", title=result.prompt)
    curve.title.set_parse_math(False)  # a dollar sign in a prompt is a dollar sign
    if offset:
        curve.legend()
    won = {step.prompt: step for step in result.trace if step.prompt}
    lines = [f"{step.score:.3f}  {prompt}" for prompt, step in won.items()][-SHOWN_STEPS:]
    winners.axis("off")
    winners.text(0, 1, "\n".join(lines), va="top", family="monospace", fontsize=7, wrap=True, parse_math=False)
    return figure


def write_trace(result: Result, path: Path) -> None:
    """Save the trace figure; InputError where the file cannot be written."""
    path_or_error(path, png(trace_figure(result)))


def png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    plt.close(figure)
    return buffer.getvalue()


def path_or_error(path: Path, content: bytes) -> None:
    try:
        path.write_bytes(content)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}; choose a writable path") from error


def embedded(content: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"


def picture(image: Image.Image) -> str:
    buffer = io.BytesIO()
    thumbnail(image, SHOWN_SIZE).save(buffer, "PNG")
    return embedded(buffer.getvalue())


def gallery(title: str, drawn: list[Drawn] | None) -> str:
    """Images side by side, each with how near it comes to the picture; nothing where nothing was drawn."""
    figures = "".join(
        f'<figure><img alt="seed {image.seed}" src="{picture(image.image)}">'
        f"<figcaption>judge {image.judge:.2f} · pixels {image.pixels:.2f} · colours {image.colours:.2f}</figcaption></figure>"
        for image in drawn or []
    )
    return f'<h2>{title}</h2><div class="drawn">{figures}</div>' if figures else ""


def write_report(done: list[tuple[list[Image.Image], list[Result]]], path: Path) -> None:
    """One page for all: (images of one prompt, results of every method) in order."""
    body = "\n".join(section(images, results) for images, results in done)
    page = (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Invert</title><style>{STYLE}</style><h1>Invert</h1>{body}</html>"
    )
    path_or_error(path, page.encode())


def section(images: list[Image.Image], results: list[Result]) -> str:
    """One image, or several together: prompts by method, the soft prompt in words, concepts, and the curve."""
    best = results[0]
    rows = "".join(
        f"<tr><td>{html.escape(r.method)}<td>{html.escape(prompt)}<td>{score:.3f}<td>{r.seconds:.1f}&nbsp;s"
        for r in results
        for prompt, score in r.alternatives
    )
    soft = " · ".join(
        f'<span class="{"word" if token.has_word else "none"}" title="distance {token.distance:.3f}">'
        f"{html.escape(token.text)}</span>"
        for token in best.soft_tokens
    )
    concepts = "".join(f"<tr><td>{concept.share:.0%}<td>{html.escape(', '.join(concept.words))}" for concept in best.concepts)
    pictures = "".join(f'<img alt="" src="{picture(image)}">' for image in images)
    drawn = "".join(gallery(f"Drawn from the prompt of {html.escape(r.method)}", r.drawn) for r in results)
    drawn += gallery("Drawn from the soft prompt, before any word was chosen", best.soft_drawn)
    return (
        f'<section>{pictures}<div><p class="prompt">{html.escape(best.prompt)}</p>'
        f"<table><tr><th>method<th>prompt<th>cosine<th>time{rows}</table>{drawn}"
        f"<details><summary>Soft prompt (struck out: no word is near)</summary><p>{soft}</p></details>"
        f"<details><summary>Concepts of the restarts</summary><table><tr><th>restarts<th>words{concepts}</table></details>"
        f'<details><summary>Curves</summary><img class="curve" alt="cosine by step" src="{embedded(png(trace_figure(best)))}">'
        "</details></div></section>"
    )
