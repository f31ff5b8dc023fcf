"""Does adding back the empty prompt's latent bring an image's latent among the texts, as the seed thread hoped?

Three targets for the same pictures: the image latent as it is, plus the empty prompt's latent, plus the
mean difference of text and image latents. Measured: how the true caption ranks among others, how near
it lies, how the prompt comes out; and the modality gap drawn before and after.
"""

from __future__ import annotations

from typing import Any

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import torch
from torch import Tensor

from experiments.harness.bench import Bench
from experiments.harness.measures import Judge
from experiments.harness.pictures import Picture, scene_pictures
from experiments.harness.records import MethodEntry
from experiments.harness.runner import Context
from experiments.harness.statistics import by_picture, means
from invert.config import TARGETS
from invert.inverter import Inverter
from invert.target import apply_gap_correction

PICTURES, INVERTED = 512, 40
BUDGET = 70_000  # token passes a picture, as in `compare`


def run(context: Context) -> dict[str, Any]:
    inverter = Inverter.load(device=context.device)
    pictures = scene_pictures(64 if context.quick else PICTURES, context.seed)
    images = inverter.clip.encode_image([picture.image for picture in pictures]).float()
    texts = inverter.clip.encode_text([picture.truth for picture in pictures]).float()
    targets = {
        kind: torch.stack([apply_gap_correction(inverter.clip, latent, kind, inverter.bundle.modality_gap) for latent in images])
        for kind in TARGETS
    }
    draw(targets, texts, context)
    found = {kind: ranked(target, texts) for kind, target in targets.items()}
    for kind, summary in inverted(inverter, pictures[: 2 if context.quick else INVERTED], context).items():
        found[kind]["inverted"] = summary
    return {"captions": len(pictures), "targets": found}


def ranked(targets: Tensor, texts: Tensor) -> dict[str, Any]:
    """Where the true caption comes among all captions, and how near target and captions lie."""
    cosines = targets @ texts.T  # (N, N)
    own = cosines.diag()
    rank = (cosines > own[:, None]).sum(1).float()
    others = (cosines.sum() - own.sum()) / (len(own) * (len(own) - 1))
    return {
        "true_caption_first": float((rank == 0).float().mean()),
        "true_caption_mean_rank": float(rank.mean()) + 1,
        "cosine_with_true_caption": float(own.mean()),
        "cosine_with_other_captions": float(others),
        "distance_of_the_clouds": float((targets.mean(0) - texts.mean(0)).norm()),
    }


def inverted(inverter: Inverter, pictures: list[Picture], context: Context) -> dict[str, Any]:
    """The quality of `invert`'s prompts with each target."""
    bench = Bench(context.name, inverter, Judge(context.device))
    entries = [MethodEntry(kind, "invert", {"target": kind, "budget": BUDGET}) for kind in TARGETS]
    return means(by_picture(bench.records(entries, pictures, 1)), context.seed)


def draw(targets: dict[str, Tensor], texts: Tensor, context: Context) -> None:
    """Texts and targets on the two main axes of texts and raw image latents together."""
    both = torch.cat([texts, targets["raw"]])
    center = both.mean(0)
    _, _, axes_of = torch.pca_lowrank(both - center, q=2, center=False)
    figure, panels = plt.subplots(
        1, len(targets), figsize=(5 * len(targets), 4.5), sharex=True, sharey=True, layout="constrained"
    )
    for panel, (kind, target) in zip(panels, targets.items(), strict=True):
        for name, latents, color in (("captions", texts, "C0"), ("targets", target, "C1")):
            x, y = ((latents - center) @ axes_of).T.cpu()
            panel.scatter(x, y, s=8, alpha=0.6, color=color, label=name)
        panel.set(title=kind, xlabel="first principal axis")
    panels[0].set_ylabel("second principal axis")
    panels[0].legend()
    figure.savefig(context.path("gap.png"), dpi=110)
    plt.close(figure)
