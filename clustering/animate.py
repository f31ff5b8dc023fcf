"""Moving pictures of k-means and mean shift in the plane, as GIF, MP4 or a page that plays by itself.

In: points (N, 2) and an estimator that has not been fitted; out: a file, one frame a step. A few thousand points are
drawn as dots, more as a density raster, so that ten million take no longer to look at than they take to count.
"""

from __future__ import annotations

import base64
import io
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from clustering.arrays import as_floats, usual
from clustering.kmeans import KMeans
from clustering.lloyd import assign
from clustering.meanshift import MeanShift
from kernels.arrays import as_tensor

MOST_DOTS = 20_000  # points drawn one by one; more become a raster
DOTS_PER_INCH = 100
PLAYER = """<!doctype html><meta charset="utf-8"><title>{title}</title><style>body{{font:16px system-ui;margin:2em}}
img{{max-width:100%;border:1px solid #ddd}}</style><img id="frame" alt="{title}"><p><button id="play">Pause</button>
<input id="at" type="range" min="0" max="{last}" value="0" aria-label="Frame">
<label>Frames a second <input id="fps" type="number" min="1" max="60" value="{fps}"></label></p>
<script>const frames={frames};let at=0,on=true;const el=id=>document.getElementById(id);
const show=()=>{{el("frame").src="data:image/png;base64,"+frames[at];el("at").value=at}};
const tick=()=>{{if(on){{at=(at+1)%frames.length;show()}}setTimeout(tick,1000/Math.max(1,el("fps").value))}};
el("play").onclick=e=>{{on=!on;e.target.textContent=on?"Pause":"Play"}};
el("at").oninput=e=>{{at=+e.target.value;on=false;el("play").textContent="Play";show()}};show();tick()</script>"""


def animate_kmeans(
    model: KMeans, x: Any, path: str | Path, fps: float = 2, lr: float = 1.0, size: tuple[int, int] = (720, 600)
) -> Path:
    """Draw a k-means run on x (N, 2): its centers (crosses) and whose each point is, step by step.

    path: ends in .gif, .mp4 (needs ffmpeg) or .html. fps: frames a second. lr: below 1 slows the centers down.
    size: of a frame, in pixels. Raises ValueError for other endings and for points that are not in the plane.
    """
    points = in_plane(x)
    return save(kmeans_frames(model, points, lr, size), path, fps)


def animate_meanshift(model: MeanShift, x: Any, path: str | Path, fps: float = 2, size: tuple[int, int] = (720, 600)) -> Path:
    """Draw a mean-shift run on x (N, 2), colored by the cluster that each point will end in.

    The model's lr is the speed of the points; path, fps and size as in `animate_kmeans`.
    """
    return save(meanshift_frames(model, in_plane(x), size), path, fps)


def in_plane(x: Any) -> Tensor:
    points = as_floats(usual(as_tensor(x if isinstance(x, Tensor) else np.asarray(x), "x")))
    if points.ndim != 2 or points.shape[1] != 2:
        raise ValueError(f"only points in the plane, (N, 2), can be drawn, not {tuple(points.shape)}: project them first")
    return points


def kmeans_frames(model: KMeans, points: Tensor, lr: float, size: tuple[int, int]) -> Iterator[np.ndarray]:
    """Frames (H, W, 3) uint8: the start, then one a step."""
    box = box_of(points)
    for step, centers in enumerate(model.steps(points, lr)):
        yield frame(points, assign(points, centers)[0], centers, box, f"k-means, step {step}", size)


def meanshift_frames(model: MeanShift, points: Tensor, size: tuple[int, int]) -> Iterator[np.ndarray]:
    """Frames (H, W, 3) uint8: the start, then one a step."""
    fitted = model.fit(points)
    box, labels = box_of(points), fitted.labels_
    yield frame(points, labels, None, box, "mean shift, step 0", size)
    for step, moved in enumerate(model.steps(points), 1):
        yield frame(moved, labels, None, box, f"mean shift, step {step}", size)


def box_of(points: Tensor) -> tuple[float, float, float, float]:
    """left, right, bottom, top around the points, with a margin."""
    low, high = points.amin(0), points.amax(0)
    margin = torch.where(high > low, (high - low) * 0.03, 1.0)
    (left, bottom), (right, top) = (low - margin).tolist(), (high + margin).tolist()
    return left, right, bottom, top


def colors_of(n: int) -> np.ndarray:
    """n colors (n, 3) from 0 to 1: the ten of "tab10", then evenly around the hues."""
    if n <= 10:
        return np.array(matplotlib.colormaps["tab10"].colors)[:n]  # type: ignore[attr-defined]
    return matplotlib.colormaps["hsv"](np.linspace(0, 1, n, endpoint=False))[:, :3]


def frame(
    points: Tensor,
    labels: Tensor,
    centers: Tensor | None,
    box: tuple[float, float, float, float],
    title: str,
    size: tuple[int, int],
) -> np.ndarray:
    """One picture (H, W, 3) uint8."""
    figure = Figure(figsize=(size[0] / DOTS_PER_INCH, size[1] / DOTS_PER_INCH), dpi=DOTS_PER_INCH, layout="tight")
    axes = figure.add_subplot()
    colors = colors_of(int(labels.max()) + 1)
    if len(points) <= MOST_DOTS:
        across, up = points.float().numpy(force=True).T
        axes.scatter(across, up, s=5, c=colors[labels.numpy(force=True)], linewidths=0)
    else:
        axes.imshow(raster(points, labels, colors, box, size), extent=box, origin="lower", aspect="auto", interpolation="nearest")
    if centers is not None:
        across, up = centers.float().numpy(force=True).T
        axes.scatter(across, up, s=140, c="black", marker="x", linewidths=3)
        axes.scatter(across, up, s=100, c="white", marker="x", linewidths=1.2)
    axes.set(xlim=box[:2], ylim=box[2:], title=f"{title} · {len(points):,} points")
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[:, :, :3].copy()


def raster(
    points: Tensor, labels: Tensor, colors: np.ndarray, box: tuple[float, float, float, float], size: tuple[int, int]
) -> np.ndarray:
    """A density picture (H, W, 3) from 0 to 1, first row at the bottom: color by label, strength by the log of the count.

    Counting is done where the points lie; only the picture leaves the device.
    """
    width, height = size
    left, right, bottom, top = box
    column = ((points[:, 0] - left) * (width / (right - left))).long().clamp_(0, width - 1)
    row = ((points[:, 1] - bottom) * (height / (top - bottom))).long().clamp_(0, height - 1)
    pixel = row.mul_(width).add_(column).add_(labels * (width * height))
    counts = torch.bincount(pixel, minlength=len(colors) * width * height).reshape(len(colors), height, width).float()
    total = counts.sum(0)
    palette = torch.as_tensor(colors, dtype=counts.dtype, device=counts.device)
    hue = torch.einsum("khw,kc->hwc", counts, palette) / total.clamp(min=1)[:, :, None]
    strength = (total.log1p() / total.max().log1p().clamp(min=1e-9))[:, :, None]
    strength = torch.where(total[:, :, None] > 0, 0.15 + 0.85 * strength, 0)
    return (1 - strength * (1 - hue)).numpy(force=True)


def save(frames: Iterable[np.ndarray], path: str | Path, fps: float) -> Path:
    """Write frames as the path's ending says; the last one stays for two seconds."""
    path = Path(path)
    writers = {".gif": write_gif, ".mp4": write_mp4, ".html": write_html}
    if path.suffix not in writers:
        raise ValueError(f"cannot write {path.name}: choose a name that ends in {', '.join(writers)}")
    if not fps > 0:
        raise ValueError(f"fps must be above 0, not {fps}")
    pictures = list(frames)
    pictures += pictures[-1:] * round(2 * fps)
    writers[path.suffix](pictures, path, fps)
    return path


def write_gif(pictures: list[np.ndarray], path: Path, fps: float) -> None:
    images = [Image.fromarray(picture).quantize(128, dither=Image.Dither.NONE) for picture in pictures]
    images[0].save(path, save_all=True, append_images=images[1:], duration=round(1000 / fps), loop=0, optimize=False)


def write_mp4(pictures: list[np.ndarray], path: Path, fps: float) -> None:
    """H.264 in the pixel format that browsers play; RuntimeError where ffmpeg is missing or refuses."""
    program = shutil.which("ffmpeg")
    if program is None:
        raise RuntimeError("an MP4 needs ffmpeg, which is not installed: install it, or choose .gif or .html")
    height, width = (side - side % 2 for side in pictures[0].shape[:2])  # H.264 takes even sides only
    command = (
        f"{program} -y -loglevel error -f rawvideo -pix_fmt rgb24 -s {width}x{height} -r {fps} -i - -pix_fmt yuv420p".split()
    )
    content = b"".join(np.ascontiguousarray(picture[:height, :width]).tobytes() for picture in pictures)
    done = subprocess.run([*command, str(path)], input=content, capture_output=True, check=False)
    if done.returncode:
        raise RuntimeError(f"ffmpeg could not write {path.name}: {done.stderr.decode(errors='replace').strip()}")


def write_html(pictures: list[np.ndarray], path: Path, fps: float) -> None:
    """One page with everything inside: it plays, stops, and goes slower or faster."""
    encoded = []
    for picture in pictures:
        file = io.BytesIO()
        Image.fromarray(picture).save(file, "PNG")
        encoded.append(base64.b64encode(file.getvalue()).decode())
    page = PLAYER.format(title=path.stem, last=len(encoded) - 1, fps=round(fps), frames=encoded)
    path.write_text(page, encoding="utf-8")
