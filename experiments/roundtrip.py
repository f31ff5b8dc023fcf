"""Which method's prompts make the generator draw the picture again, and does a prompt's own score tell?

Every method's prompt for a held-out scene is drawn with a few seeds, and the images are compared with
the picture: under the judge, by pixels, by colors, and by the objects that the judge sees in them.
The true caption is drawn too, as the reference, and the prompt that `--select generator` takes, which is
chosen under the same judge but by other seeds. Known pitfall: a prompt's cosine predicts its images badly
(arXiv 2408.06502), so their correlation is given per method. ROUNDTRIP_SCENES in the environment asks for fewer scenes.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import numpy as np
import torch
from torchvision.transforms.functional import to_tensor
from torchvision.utils import save_image

from experiments.compare import BUDGET, entries
from experiments.harness.bench import Bench
from experiments.harness.environment import count
from experiments.harness.measures import Judge
from experiments.harness.pictures import Picture, scene_pictures
from experiments.harness.records import MethodEntry, RunRecord
from experiments.harness.runner import Context
from experiments.harness.statistics import by_picture, means, paired
from invert.diffusion.drawing import to_pil
from invert.diffusion.roundtrip import RegenerationScores, regenerate
from invert.inverter import Inverter
from invert.methods import Method, get_method, register
from invert.methods.configs import InvertMethodConfig
from invert.methods.denoiser import denoiser_of, load_generator
from invert.methods.invert import invert
from invert.methods.task import InversionOutput, InversionTask
from invert.models.clip import Clip
from invert.picturebook.grammar import caption
from invert.picturebook.world import Scene, draw_scenes

OWN_FOLDER = True
TRUTH = "true caption"
AS_COMPARED = ("invert", "nearest", "pez", "gcg", "interrogator-lite")  # with the prompts that `compare` has measured
PH2P = MethodEntry("ph2p", "ph2p", {"restarts": 1, "tokens": 12}, uses_generator=True)  # about the seconds of PEZ
CHOSEN = MethodEntry("invert, chosen by images", "invert-chosen", {"budget": BUDGET, "top": 8}, uses_generator=True)
METHODS = (*AS_COMPARED, PH2P.name, CHOSEN.name)
SCENES, SEEDS, QUICK_SCENES = 100, 4, 3
AMONG = 512  # captions among which the judge names a picture's objects
SHOWN = 8  # scenes on the sheet
CHOOSING = range(1000, 1004)  # seeds that images are chosen by: others than those that are rated
MEASURES = ("judge", "pixels", "colours", "objects")


def run(context: Context) -> dict[str, Any]:
    """Means with intervals per method, paired differences to `invert`, correlations; a sheet and a scatter plot."""
    pictures = scene_pictures(QUICK_SCENES if context.quick else count("ROUNDTRIP_SCENES", SCENES), context.seed)
    inverter = Inverter.load(device=context.device)
    generator = load_generator(inverter.bundle, None)
    judge = loaded_judge(context.device)
    namer = Namer(judge.clip, draw_scenes(AMONG, context.seed, "held-out"))
    prompts = {TRUTH: [picture.truth for picture in pictures], **found_prompts(inverter, judge, pictures, context)}
    records, sheet = [], []
    for i, picture in enumerate(pictures):
        said = {method: of_method[i] for method, of_method in prompts.items()}
        again = regenerate(generator, namer.judge, picture.image, list(said.values()), range(SEEDS))
        sheet += [to_tensor(picture.image), *again.images[:, 0].cpu()]
        records += records_of(picture, said, again, inverter.clip, namer)
    columns = len(prompts) + 1  # the picture, then what each prompt draws
    save_image(sheet[: SHOWN * columns], context.path("sheet.png"), nrow=columns)
    scatter(records, context)
    return {
        "scenes": len(pictures),
        "seeds": SEEDS,
        "methods": summary(records, context.seed),
        **{f"{ours}_minus_other": differences(records, ours, context.seed) for ours in ("invert", CHOSEN.name)},
        "prompts": [{key: record[key] for key in ("scene", "method", "prompt", "judge")} for record in records],
    }


class Namer:
    """Names a picture's objects: those of the caption nearest to it under the judge."""

    def __init__(self, judge: Clip, scenes: list[Scene]) -> None:
        self.judge, self.scenes = judge, scenes
        self.texts = judge.encode_text([caption(scene) for scene in scenes])

    def recovered(self, images: torch.Tensor, scene: Scene) -> float:
        """Share of the images (S, 3, H, W) in which the scene's objects are seen."""
        nearest = (self.judge.encode_image(to_pil(images)) @ self.texts.T).argmax(1).tolist()
        return sum(sorted(self.scenes[i].objects) == sorted(scene.objects) for i in nearest) / len(nearest)


@cache
def loaded_judge(device: torch.device) -> Judge:
    """Loaded once, though `chosen` needs it at every picture."""
    return Judge(device)


def found_prompts(inverter: Inverter, judge: Judge, pictures: list[Picture], context: Context) -> dict[str, list[str]]:
    """Each method's prompts, in the order of the pictures."""
    records = list(Bench("compare", inverter, judge).records(entries(AS_COMPARED, context.quick), pictures, 1))
    register(Method("invert-chosen", get_method("invert").revision, InvertMethodConfig, chosen))
    own = Bench(context.name, inverter, judge)
    records += own.records([PH2P, CHOSEN], pictures, 1)
    if context.for_the_repository:
        own.publish()
    return {method: [record["prompt"] for record in records if record["method"] == method] for method in METHODS}


def chosen(task: InversionTask, config: InvertMethodConfig) -> InversionOutput:
    """`invert --select generator`: of its best prompts the one whose images the judge finds nearest to the picture."""
    output = invert(task, config)
    judge = loaded_judge(task.clip.device).clip
    prompts = [prompt for prompt, _ in output.prompts]
    order = regenerate(denoiser_of(task), judge, task.images[0], prompts, CHOOSING).best_first()
    return replace(output, prompts=[output.prompts[i] for i in order])


def records_of(picture: Picture, said: dict[str, str], again: RegenerationScores, clip: Clip, namer: Namer) -> list[RunRecord]:
    """One record a method: its prompt's cosine under the model that was optimized, and what its images came to."""
    cosines = clip.encode_text(list(said.values())) @ clip.encode_image([picture.image])[0]
    return [
        {
            "scene": picture.truth,
            "picture": picture.name,
            "kind": picture.kind,
            "method": method,
            "prompt": prompt,
            "cosine": float(cosines[k]),
            "judge": float(again.judge[k].mean()),
            "pixels": float(again.pixels[k].mean()),
            "colours": float(again.colors[k].mean()),
            "objects": namer.recovered(again.images[k], picture.scene),
        }
        for k, (method, prompt) in enumerate(said.items())
    ]


def column(records: list[RunRecord], method: str, measure: str) -> np.ndarray:
    return np.array([record[measure] for record in records if record["method"] == method])


def summary(records: list[RunRecord], seed: int) -> dict[str, Any]:
    """Method → mean and interval of each measure, and the correlation of a prompt's cosine with its images' similarity."""
    found = means(by_picture(records, measures=MEASURES), seed, MEASURES)
    return {method: {**found[method], "correlation": correlation(records, method)} for method in found}


def correlation(records: list[RunRecord], method: str) -> float | None:
    """None where nothing varies."""
    cosines, judged = column(records, method, "cosine"), column(records, method, "judge")
    varied = len(cosines) > 2 and min(np.ptp(cosines), np.ptp(judged)) > 0
    return float(np.corrcoef(cosines, judged)[0, 1]) if varied else None


def differences(records: list[RunRecord], ours: str, seed: int) -> dict[str, Any]:
    """Other method → the judge's similarity of our images minus that of theirs, scene by scene."""
    found = paired(by_picture(records, measures=MEASURES), ours, seed, ("judge",))
    return {other: cells["judge"] for other, cells in found.items()}


def scatter(records: list[RunRecord], context: Context) -> None:
    """The prompt's cosine against the similarity of what it draws."""
    figure, axis = plt.subplots(figsize=(7, 6), layout="constrained")
    for i, method in enumerate((TRUTH, *METHODS)):
        color = "black" if method == TRUTH else f"C{i}"
        axis.scatter(
            column(records, method, "cosine"), column(records, method, "judge"), s=16, alpha=0.7, color=color, label=method
        )
    axis.set(xlabel="cosine of prompt and picture, optimized model", ylabel="cosine of regenerated image and picture, judge")
    axis.legend()
    figure.savefig(context.path("cosine-and-images.png"), dpi=110)
    plt.close(figure)
