"""How well does `invert` recover what is in pictures of known truth, and what does it cost?

200 held-out scenes of picturebook: word F1, objects, relation, the judge's similarity beside that of the
true caption; seconds and token passes per image, warm; and the command from a cold start in a process of
its own, twice, for its time, its peak memory and its sameness, and once held to AVX2. Of the pictures that our renderer did not
make, 50 of each kind are told apart by kind, with the prompts that `compare` has measured or measures now. RECOVER_SCENES and
RECOVER_FOREIGN in the environment ask for fewer.
"""

from __future__ import annotations

import tempfile
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import numpy as np
from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import to_pil_image

from experiments.compare import entries
from experiments.harness.bench import Bench
from experiments.harness.cold_command import timed_command
from experiments.harness.environment import count
from experiments.harness.measures import Judge, objects_right, relation_right, word_f1
from experiments.harness.pictures import OUT_OF_DOMAIN_FOLDERS, Picture, out_of_domain_pictures
from experiments.harness.records import RunRecord
from experiments.harness.runner import Context
from experiments.harness.statistics import QUALITY, bootstrap_interval, by_picture, means
from invert.inverter import Inverter
from invert.picturebook.grammar import caption
from invert.picturebook.models import IMAGE_SIZE
from invert.picturebook.render import render
from invert.picturebook.world import Scene, draw_scenes
from invert.result import Result

SCENES, FOREIGN = 200, 50  # pictures; of each kind
SHOWN, SHOWN_OF_EACH, COLUMNS = 24, 12, 6  # scenes in the one picture, pictures of each kind in the other; side by side
# Keep every library that the command loads from instructions beyond AVX2, as on a processor without AVX-512.
AVX2 = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    "OPENBLAS_CORETYPE": "Haswell",
    "FAISS_OPT_LEVEL": "AVX2",
    "NUMBA_CPU_NAME": "haswell",
    "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR",
}


def run(context: Context) -> dict[str, Any]:
    """The figures of all scenes, each scene's row, and the picture."""
    asked = (2, 2) if context.quick else (count("RECOVER_SCENES", SCENES), count("RECOVER_FOREIGN", FOREIGN))
    n, n_foreign = map(min, asked, (SCENES, FOREIGN))
    scenes = draw_scenes(n, context.seed, "held-out")
    pictures = render(scenes, IMAGE_SIZE)
    inverter = Inverter.load("picturebook", device=context.device)
    inverter.invert(to_pil_image(pictures[0]), seed=context.seed)  # warm: the tables are made once per model
    results = [inverter.invert(to_pil_image(picture), seed=context.seed) for picture in pictures]
    again = inverter.invert(to_pil_image(pictures[0]), seed=context.seed)
    judge = Judge(context.device)
    prompts, truths = [result.prompt for result in results], [caption(scene) for scene in scenes]
    judged, true_judged = judge.similarity(prompts, pictures), judge.similarity(truths, pictures)
    sheet = "held-out scenes: the truth above, the prompt that invert found below"
    draw(context.path("scenes.png"), list(map(to_pil_image, pictures[:SHOWN])), truths[:SHOWN], prompts[:SHOWN], sheet)
    return {
        "scenes": len(scenes),
        "measures": measures(scenes, results, judged, true_judged),
        "cost": cost(results),
        "cold_start": cold_start(pictures[0], context.seed, results[0].prompt),
        "same_prompt_twice_in_one_process": again.prompt == results[0].prompt,
        "foreign": foreign(inverter, judge, n_foreign, context),
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


def foreign(inverter: Inverter, judge: Judge, n: int, context: Context) -> dict[str, Any]:
    """Kind → means with intervals over n pictures that others drew; and their picture."""
    bench = Bench("compare", inverter, judge, batched=True)
    found: dict[str, Any] = {}
    shown: list[Picture] = []
    records: list[RunRecord] = []
    for kind in OUT_OF_DOMAIN_FOLDERS:
        pictures = out_of_domain_pictures(n, kind)
        of_kind = list(bench.records(entries(["invert"], context.quick), pictures, 1))
        found[kind] = means(by_picture(of_kind), context.seed, QUALITY)["invert"]
        shown, records = shown + pictures[:SHOWN_OF_EACH], records + of_kind[:SHOWN_OF_EACH]
    title = "pictures that others drew (Twemoji, stamps, clip art): the truth above, the prompt that invert found below"
    images, truths = [picture.image for picture in shown], [picture.truth for picture in shown]
    draw(context.path("foreign.png"), images, truths, [record["prompt"] for record in records], title)
    return found


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
    """`invert image.png` in a new process: with an empty cache, with what it left there, and with an empty one on AVX2."""
    with tempfile.TemporaryDirectory() as folder:
        image = Path(folder) / "image.png"
        to_pil_image(picture).save(image)
        words = (image, "--seed", seed)
        first, second = (timed_command(Path(folder) / "cache", *words) for _ in range(2))
        held = timed_command(Path(folder) / "other cache", *words, environment=AVX2)
    named = {"first_ever": first, "with_tables_cached": second, "first_ever_held_to_avx2": held}
    return {
        **{name: {"prompt": one.printed, "seconds": one.seconds, "peak_mib": one.peak_mib} for name, one in named.items()},
        "same_prompt_in_three_processes": first.printed == second.printed == expected,
    }


def draw(path: Path, images: Sequence[Image.Image], truths: Sequence[str], prompts: Sequence[str], title: str) -> None:
    """A sheet of pictures, each with its truth and our prompt beneath."""
    rows = -(-len(truths) // COLUMNS)
    figure, axes = plt.subplots(rows, COLUMNS, figsize=(3.4 * COLUMNS, 4.9 * rows), layout="constrained")
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[], frame_on=False)
    for axis, image, truth, prompt in zip(axes.flat, images, truths, prompts, strict=False):
        axis.imshow(np.asarray(image))
        axis.set_title(textwrap.fill(truth, 34), fontsize=9, color="#555555")
        axis.set_xlabel(textwrap.fill(prompt, 36), fontsize=10)
    figure.suptitle(title, fontsize=14)
    figure.savefig(path, dpi=60)
    plt.close(figure)
