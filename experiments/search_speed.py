"""What does a picture cost, alone and beside others, and where does its time go?

`invert` on picturebook's scenes, in batches of 1, 4 and 16: seconds a picture by part (text encoder, gradients, soft
stage, projection, and the rest, which is Python and the tables on the host), and whether the prompts stay the same. On the
CPU the search as it was before candidates became tensors runs in turn with today's, from the repository's own history.
On a card: picturebook alone and 64 pictures at once, a random tower of ViT-L-14's shape in bfloat16 with 16, and PEZ.
"""

from __future__ import annotations

import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import Any

import open_clip
import torch
from PIL import Image

from experiments.harness.pictures import scene_pictures
from experiments.harness.runner import FOLDER, Context
from experiments.harness.search_worker import Worker
from experiments.step_speed import text_model
from invert import together
from invert.bundle import load_bundle
from invert.inverter import Inverter
from invert.methods import invert as method
from invert.models.open_clip import from_open_clip

PER_DEVICE = True
BASELINE = "1b29b63"  # the last commit whose search makes and scores its candidates prompt by prompt
BUDGET = 70_000
BATCHES = (1, 4, 16)
PARTS = {  # part → the functions that it consists of
    "text encoder": ((together, "cosines_of_rows"),),
    "gradients": ((together, "gradients"),),
    "soft stage": ((method, "soft_prompts_together"),),
    "projection": ((method, "concepts"), (method, "project")),
}
GOALS = {"picturebook alone": 0.2, "picturebook, 64 together": 0.05, "ViT-L-14 in bfloat16, 16 together": 0.6, "pez alone": 1.5}
Clock = Callable[[], float]


@contextmanager
def timed(clock: Clock) -> Iterator[dict[str, float]]:
    """Seconds of each part within the block."""
    seconds = dict.fromkeys(PARTS, 0.0)
    kept = [(module, name, getattr(module, name)) for functions in PARTS.values() for module, name in functions]

    def watched(part: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any) -> Any:
            began = clock()
            try:
                return call(*arguments)
            finally:
                seconds[part] += clock() - began

        return run

    try:
        for part, functions in PARTS.items():
            for module, name in functions:
                setattr(module, name, watched(part, getattr(module, name)))
        yield seconds
    finally:
        for module, name, call in kept:
            setattr(module, name, call)


def clock_of(device: torch.device) -> Clock:
    """Seconds of the processor's work on the CPU, where others may be at work; of the wall on a card, its queue included."""
    if device.type != "cuda":
        return process_time

    def clock() -> float:
        torch.cuda.synchronize(device)
        return perf_counter()

    return clock


def parts_of_time(inverter: Inverter, images: Sequence[Image.Image], device: torch.device) -> tuple[dict[str, Any], list[str]]:
    """Seconds a picture of one batch, by part, and the prompts."""
    clock = clock_of(device)
    with timed(clock) as seconds:
        began = clock()
        results = inverter.invert_batch(list(images), budget=BUDGET)
        total = clock() - began
    parts = {**seconds, "Python and tables": total - sum(seconds.values())}
    found = {"seconds": total / len(images), "shares": {part: value / total for part, value in parts.items()}}
    return found, [result.prompt for result in results]


def batches(inverter: Inverter, images: Sequence[Image.Image], sizes: Sequence[int], device: torch.device) -> dict[str, Any]:
    """The parts of the time in batches of each size, over the same pictures."""
    found: dict[str, Any] = {}
    prompts: dict[int, list[str]] = {}
    for size in sizes:
        parts = []
        prompts[size] = []
        for begin in range(0, len(images), size):
            part, texts = parts_of_time(inverter, images[begin : begin + size], device)
            parts.append(part)
            prompts[size] += texts
        shares = {name: median(part["shares"][name] for part in parts) for name in parts[0]["shares"]}
        found[str(size)] = {"seconds": sum(part["seconds"] for part in parts) / len(parts), "shares": shares}
    found["same_prompts"] = all(texts == prompts[sizes[0]] for texts in prompts.values())
    return found


def before_and_after(n: int, turns: int, threads: int) -> dict[str, Any]:
    """The search of BASELINE and today's in turn on n pictures: the former one by one, the latter in a batch."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            archive = subprocess.run(["git", "archive", BASELINE], cwd=FOLDER.parent, capture_output=True, check=True).stdout
        except (OSError, subprocess.CalledProcessError):
            return {"skipped": f"there is no commit {BASELINE} here: run it in a clone with its history"}
        with tarfile.open(fileobj=BytesIO(archive)) as tar:
            tar.extractall(folder, filter="data")
        before, after = (Worker(Path(root), n, BUDGET, threads) for root in (folder, FOLDER.parent))
        try:
            pairs = [(before.turn(), after.turn()) for _ in range(turns)]
        finally:
            before.close()
            after.close()
    same = sum(a == b for a, b in zip(pairs[0][0]["prompts"], pairs[0][1]["prompts"], strict=True))
    found: dict[str, Any] = {"pictures": n, "threads": threads, "turns": turns, "same_prompts": same}
    for clock in ("wall", "processor"):
        old, new = (median(pair[i][clock] for pair in pairs) / n for i in range(2))
        found[clock] = {"before": old, "after": new, "times": median(pair[0][clock] / pair[1][clock] for pair in pairs)}
    return found


def on_a_card(context: Context, inverter: Inverter, images: Sequence[Image.Image]) -> dict[str, Any]:
    """Seconds a picture of what a card is to be measured by, beside its goals."""
    device, seconds = context.device, {}
    together_64 = list(images) * (64 // len(images))
    many = random_tower(context)
    noise = [Image.effect_noise((32, 32), 40 + i).convert("RGB") for i in range(16)]
    runs: dict[str, tuple[Inverter, Sequence[Image.Image], str]] = {
        "picturebook alone": (inverter, images[:1], "invert"),
        "picturebook, 64 together": (inverter, together_64, "invert"),
        "ViT-L-14 in bfloat16, 16 together": (many, noise, "invert"),
        "pez alone": (inverter, images[:1], "pez"),
        "pez, 16 together": (inverter, list(images)[:16], "pez"),
    }
    clock = clock_of(device)
    for name, (one, pictures, by) in runs.items():
        budget: dict[str, Any] = {"budget": BUDGET} if by == "invert" else {}
        times = []
        for _ in range(2):  # the first call compiles and captures
            began = clock()
            one.invert_batch(list(pictures), method=by, **budget)
            times.append((clock() - began) / len(pictures))
        seconds[name] = times[-1]
        print(f"{name}: {times[0]:.3f} s a picture at first, then {times[1]:.3f}", file=sys.stderr, flush=True)
    return {"seconds": seconds, "goals": GOALS, "reached": {name: seconds[name] <= goal for name, goal in GOALS.items()}}


def random_tower(context: Context) -> Inverter:
    """A text tower of ViT-L-14's shape with random weights, in bfloat16 on a card."""
    dtype = torch.bfloat16 if context.device.type == "cuda" else torch.float32
    model = text_model(context.seed, context.device, dtype)
    clip = from_open_clip("random", model, open_clip.image_transform(32, is_train=False))
    inverter = Inverter(load_bundle(clip))
    inverter.prepare()
    return inverter


def run(context: Context) -> dict[str, Any]:
    inverter = Inverter.load(device=context.device)
    inverter.prepare()
    n = 4 if context.quick else 16
    images = [picture.image for picture in scene_pictures(n, context.seed)]
    inverter.invert(images[0], budget=BUDGET)  # tables, kernels
    found: dict[str, Any] = {"batches": batches(inverter, images, [size for size in BATCHES if size <= n], context.device)}
    if context.device.type == "cuda":
        return {**found, **on_a_card(context, inverter, images)}
    threads = sorted({1, torch.get_num_threads()})
    return {**found, "before_and_after": [before_and_after(n, 1 if context.quick else 3, count) for count in threads]}


if __name__ == "__main__":
    print(before_and_after(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
