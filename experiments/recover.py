"""How well does `invert` recover what is in pictures of known truth, and what does it cost?

200 held-out scenes of picturebook: word F1, objects, relation, the judge's similarity beside that of the
true caption; seconds and token passes per image, warm; and the command from a cold start in a process of
its own, twice, for its time, its peak memory and its sameness.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import numpy as np
from torch import Tensor
from torchvision.transforms.functional import to_pil_image

from experiments.harness.measures import Judge, objects_right, relation_right, word_f1
from experiments.harness.runner import Context
from experiments.harness.statistics import bootstrap_interval
from invert.inverter import Inverter
from invert.picturebook.grammar import caption
from invert.picturebook.models import IMAGE_SIZE
from invert.picturebook.render import render
from invert.picturebook.world import Scene, draw_scenes
from invert.result import Result

SHOWN = 24  # scenes in the picture
# Run in a process of its own, which tells the peak of its own memory: getrusage would count the parent's, at the fork.
COLD = """
import sys, time
from invert.cli import main
began = time.perf_counter()
try:
    main()
finally:
    peak = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
    print(time.perf_counter() - began, peak, file=sys.stderr)
"""


def run(context: Context) -> dict[str, Any]:
    """The figures of all scenes, each scene's row, and the picture."""
    scenes = draw_scenes(SHOWN if context.quick else 200, context.seed, "held-out")
    pictures = render(scenes, IMAGE_SIZE)
    inverter = Inverter.load("picturebook", device=context.device)
    inverter.invert(to_pil_image(pictures[0]), seed=context.seed)  # warm: the tables are made once per model
    results = [inverter.invert(to_pil_image(picture), seed=context.seed) for picture in pictures]
    again = inverter.invert(to_pil_image(pictures[0]), seed=context.seed)
    judge = Judge(context.device)
    prompts, truths = [result.prompt for result in results], [caption(scene) for scene in scenes]
    judged, true_judged = judge.similarity(prompts, pictures), judge.similarity(truths, pictures)
    draw(context.path("scenes.png"), pictures[:SHOWN], truths[:SHOWN], prompts[:SHOWN])
    return {
        "scenes": len(scenes),
        "measures": measures(scenes, results, judged, true_judged),
        "cost": cost(results),
        "cold_start": cold_start(pictures[0], context.seed, results[0].prompt),
        "same_prompt_twice_in_one_process": again.prompt == results[0].prompt,
        "rows": [
            {
                "truth": truth,
                "prompt": result.prompt,
                "word_f1": word_f1(result.prompt, scene),
                "objects_right": objects_right(result.prompt, scene),
                "score": result.score,
                "judge": float(mine),
                "judge_of_truth": float(true),
            }
            for truth, result, scene, mine, true in zip(truths, results, scenes, judged, true_judged, strict=True)
        ],
    }


def measures(scenes: Sequence[Scene], results: Sequence[Result], judged: Tensor, true_judged: Tensor) -> dict[str, Any]:
    """Means with 95 % bootstrap intervals, and the judge's medians."""
    pairs = list(zip(results, scenes, strict=True))
    table = {
        "word_f1": [word_f1(result.prompt, scene) for result, scene in pairs],
        "objects_right": [float(objects_right(result.prompt, scene)) for result, scene in pairs],
        "relation_right": [float(relation_right(result.prompt, scene)) for result, scene in pairs],
        "judge_minus_judge_of_truth": (judged - true_judged).tolist(),
    }
    summary: dict[str, Any] = {
        name: {"mean": float(np.mean(values)), "interval": bootstrap_interval(values)} for name, values in table.items()
    }
    summary["median_judge"] = float(judged.median())
    summary["median_judge_of_truth"] = float(true_judged.median())
    return summary


def cost(results: Sequence[Result]) -> dict[str, float]:
    """What one image costs once the model is loaded."""
    return {
        "seconds_median": float(np.median([result.seconds for result in results])),
        "seconds_longest": max(result.seconds for result in results),
        "forward_tokens_mean": float(np.mean([result.forward_tokens for result in results])),
        "backward_tokens_mean": float(np.mean([result.backward_tokens for result in results])),
    }


def cold_start(picture: Tensor, seed: int, expected: str) -> dict[str, Any]:
    """`invert image.png` in a new process, first with an empty cache folder, then with the one that it left."""
    with tempfile.TemporaryDirectory() as folder:
        image = Path(folder) / "image.png"
        to_pil_image(picture).save(image)
        first, second = (timed_command(image, seed, Path(folder) / "cache") for _ in range(2))
    return {
        "first_ever": first,
        "with_tables_cached": second,
        "same_prompt_in_three_processes": first["prompt"] == second["prompt"] == expected,
    }


def timed_command(image: Path, seed: int, cache: Path) -> dict[str, Any]:
    """One run of the command: its prompt, wall seconds (interpreter start included) and peak MiB."""
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", COLD, str(image), "--seed", str(seed)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "INVERT_CACHE": str(cache)},
    )
    seconds = time.perf_counter() - began
    peak = int(done.stderr.split()[-1])  # KiB
    return {"prompt": done.stdout.strip(), "seconds": seconds, "peak_mib": peak / 1024}


def draw(path: Path, pictures: Tensor, truths: Sequence[str], prompts: Sequence[str]) -> None:
    """A sheet of scenes, each with its truth and our prompt beneath."""
    columns = 6
    rows = -(-len(truths) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(3.4 * columns, 4.9 * rows), layout="constrained")
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[], frame_on=False)
    for axis, picture, truth, prompt in zip(axes.flat, pictures, truths, prompts, strict=False):
        axis.imshow(picture.permute(1, 2, 0).cpu().numpy())
        axis.set_title(textwrap.fill(truth, 34), fontsize=9, color="#555555")
        axis.set_xlabel(textwrap.fill(prompt, 36), fontsize=10)
    figure.suptitle("held-out scenes: the truth above, the prompt that invert found below", fontsize=14)
    figure.savefig(path, dpi=90)
    plt.close(figure)
