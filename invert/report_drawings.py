"""What prompts draw, as HTML: words, soft prompt and polished embeddings side by side, and what was lost in the words."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from statistics import fmean as mean

from PIL import Image

from invert.escape import as_html as shown
from invert.images import thumbnail
from invert.result import GeneratedImage, Result

SHOWN_SIZE = 512  # pixels of a picture
SHOWN_MOVES = 8  # words that polishing moved farthest
Columns = Mapping[str, list[GeneratedImage]]  # what images were drawn from → the images


def embedded(content: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"


def picture(image: Image.Image) -> str:
    buffer = io.BytesIO()
    thumbnail(image, SHOWN_SIZE).convert("RGB").save(buffer, "PNG")
    return embedded(buffer.getvalue())


def figure(image: GeneratedImage) -> str:
    """An image with how near it comes to the picture, or why it shows nothing."""
    caption = shown(image.problem) or f"judge {image.judge:.2f} · pixels {image.pixels:.2f} · colors {image.colors:.2f}"
    return f'<figure><img alt="seed {image.seed}" src="{picture(image.image)}"><figcaption>{caption}</figcaption></figure>'


def gallery(title: str, drawn: list[GeneratedImage] | None) -> str:
    """Images in a row; nothing where nothing was drawn."""
    return f'<h2>{title}</h2><div class="drawn">{"".join(map(figure, drawn))}</div>' if drawn else ""


def round_trip(result: Result) -> str:
    """What a result draws; nothing where nothing was drawn."""
    columns = {
        name: images
        for name, images in {
            "in words": result.drawn,
            "soft, before words": result.soft_drawn,
            "polished": result.polished_drawn,
        }.items()
        if images
    }
    obstacle = f'<p class="name">{shown(result.soft_obstacle)}</p>' if result.soft_obstacle else ""
    if len(columns) < 2:
        return gallery(f"Drawn from the prompt of {shown(result.method)}", result.drawn) + obstacle
    return f"{side_by_side(result, columns)}{lost_in_words(result, columns)}{obstacle}"


def side_by_side(result: Result, columns: Columns) -> str:
    """A column for each thing that was drawn, a row for each seed."""
    cells = "".join(f"<b>{name}</b>" for name in columns)
    for seed in dict.fromkeys(image.seed for images in columns.values() for image in images):
        of_seed = (next((image for image in images if image.seed == seed), None) for images in columns.values())
        cells += "".join("<span></span>" if image is None else figure(image) for image in of_seed)
    return (
        f"<h2>Drawn from the prompt of {shown(result.method)}: in words, and as embeddings</h2>"
        f'<div class="beside" style="grid-template-columns: repeat({len(columns)}, minmax(0, 8rem))">{cells}</div>'
    )


def lost_in_words(result: Result, columns: Columns) -> str:
    """How near each comes to the picture on average, and where the polishing moved the prompt."""
    rows = "".join(
        f"<tr><td>{name}<td>{mean(i.judge for i in images):.3f}<td>{mean(i.pixels for i in images):.3f}"
        f"<td>{mean(i.colors for i in images):.3f}"
        for name, images in columns.items()
    )
    table = f"<h2>What was lost in the words</h2><table><tr><th>drawn from<th>judge<th>pixels<th>colors{rows}</table>"
    return table + (moves(result, columns) if {"in words", "polished"} <= columns.keys() else "")


def moves(result: Result, columns: Columns) -> str:
    """What polishing gained, and how far it moved each word and the empty places behind them."""
    polished = result.polished
    assert polished is not None
    gained = mean(i.judge for i in columns["polished"]) - mean(i.judge for i in columns["in words"])
    distances = polished.moved.tolist()
    moved = sorted(zip(distances, result.tokens, strict=False), key=lambda pair: -pair[0])
    words = " · ".join(f"{shown(token.text)} {distance:.2f}" for distance, token in moved[:SHOWN_MOVES])
    behind = distances[len(result.tokens) :]
    empty = f" The {len(behind)} empty places behind them moved by {mean(behind):.2f} on average." if behind else ""
    kept = "" if polished.error < polished.start_error else " Nothing explained it better than the words."
    return (
        f"<p>By the judge the polished embeddings come {abs(gained):.3f} {'nearer to' if gained > 0 else 'less near to'} the "
        f"picture than the words. Their denoising error is {polished.error:.4f}, that of the words {polished.start_error:.4f}."
        f"{kept}</p><p>How far the embeddings of its words moved, the farthest first: {words}.{empty}</p>"
    )
