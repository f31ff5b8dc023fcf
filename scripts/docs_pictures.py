"""Make the pictures of the site's pages: what prompts draw, the colors of a picture, the report in a browser.

In: `examples/`, the bundled model and generator, Chromium for the report (skipped where there is none); out: PNG files in
`docs/assets/`. Run it from a clone when the model, the generator or the report has changed: `python scripts/docs_pictures.py`.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image

from clustering import KMeans
from invert import Inverter
from invert.diffusion.drawing import open_generator, to_pil

ROOT = Path(__file__).parent.parent
ASSETS = ROOT / "docs" / "assets"
EXAMPLES = ("clocks", "lobster", "fox")
SIZE = 256  # pixels of what is drawn, as the examples have


def drawn() -> None:
    """Each example's prompt, drawn by the bundled generator."""
    inverter = Inverter.load("picturebook", device="cpu")
    generator = open_generator("picturebook", device="cpu")
    for name in EXAMPLES:
        prompt = inverter.invert(ROOT / "examples" / f"{name}.png", seed=0).prompt
        print(name, prompt)
        (image,) = to_pil(next(iter(generator.draw([prompt], [0]))).image[None])
        image.resize((SIZE, SIZE), Image.Resampling.NEAREST).save(ASSETS / f"drawn-{name}.png", optimize=True)


def colors(n_colors: int = 5) -> None:
    """A picture, its colors by their share, and the picture in those colors."""
    picture = np.asarray(Image.open(ROOT / "examples" / "fox.png").convert("RGB"), dtype=np.float32) / 255  # (H, W, 3)
    model = KMeans(n_clusters=n_colors, random_state=0).fit(picture.reshape(-1, 3))
    palette, shares = model.cluster_centers_.clip(0, 1), np.bincount(model.labels_, minlength=n_colors) / model.labels_.size
    figure = Figure(figsize=(7.2, 2.5), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    left.imshow(picture)
    order = shares.argsort()
    middle.barh(range(n_colors), shares[order], color=palette[order], edgecolor="#888")
    middle.set(title="share of the pixels", yticks=[])
    middle.spines[["top", "right", "left"]].set_visible(False)
    right.imshow(palette[model.labels_].reshape(picture.shape))
    for axes, title in ((left, "the picture"), (right, f"in {n_colors} colors")):
        axes.set(title=title, xticks=[], yticks=[])
    figure.savefig(ASSETS / "colors.png", dpi=110)


def report() -> None:
    """The report of an example, as a browser shows it."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        print("no Chromium: the report is not photographed", file=sys.stderr)
        return
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder, "page.html")
        command = [sys.executable, "-c", "from invert.cli import main; main()", "examples/lobster.png"]
        subprocess.run([*command, "--generate", "2", "--report", str(page)], check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
        shown = [f"--screenshot={ASSETS / 'report.png'}", "--window-size=1000,860", page.as_uri()]
        subprocess.run([browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", *shown], check=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    for make in (drawn, colors, report):
        make()
