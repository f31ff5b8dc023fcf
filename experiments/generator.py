"""How well does the bundled generator draw what a caption says?

Held-out captions of picturebook are drawn and judged beside the pictures that the world's own
renderer makes of them: similarity of picture and caption under the judge, and how often the caption
that lies nearest to the picture, among 512, names the same objects.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchvision.utils import save_image

from experiments.harness.runner import Context
from experiments.harness.timing import median_seconds
from invert.diffusion.generator import Generator
from invert.models.loading import load_clip
from invert.picturebook.grammar import caption
from invert.picturebook.render import render
from invert.picturebook.world import Scene, draw_scenes

AMONG = 512  # captions to choose from
TIMED = 5  # single images


def run(context: Context) -> dict[str, Any]:
    """Figures of 500 held-out captions (quick: 60), and a sheet of pairs: rendered left, generated right."""
    generator = Generator.load("picturebook", context.device)
    scenes = draw_scenes(AMONG, context.seed, "held-out")
    captions = [caption(scene) for scene in scenes]
    n = 60 if context.quick else 500
    rendered = render(scenes[:n], 64, context.device)
    generated = generator.generate(captions[:n], seeds=(context.seed,))[:, 0]
    save_image(torch.stack([rendered[:40], generated[:40]], 1).flatten(0, 1), context.path("pairs.png"), nrow=10)
    judge = load_clip("picturebook-judge", context.device)
    texts = judge.encode_text(captions)
    figures = {
        "rendered": judged(judge.encode_image(rendered), texts, scenes),
        "generated": judged(judge.encode_image(generated), texts, scenes),
    }
    share = figures["generated"]["similarity"] / figures["rendered"]["similarity"]
    return {
        "captions": n,
        "steps": generator.config.steps,
        "guidance": generator.config.guidance,
        **figures,
        "share_of_rendered_similarity": share,
        "image_similarity": float((judge.encode_image(rendered) * judge.encode_image(generated)).sum(1).mean()),
        "seconds_per_image": seconds_alone(generator, captions),
    }


def judged(pictures: Tensor, texts: Tensor, scenes: list[Scene]) -> dict[str, float]:
    """pictures: unit latents (n, E). texts: (AMONG, E), the first n of them the pictures' own."""
    n = len(pictures)
    scores = pictures @ texts.T
    nearest = scores.argmax(1).tolist()
    own = torch.arange(n, device=scores.device)
    return {
        "similarity": float(scores[own, own].mean()),
        "own_caption_first": sum(i == k for i, k in enumerate(nearest)) / n,
        "same_objects_first": sum(sorted(scenes[i].objects) == sorted(scenes[k].objects) for i, k in enumerate(nearest)) / n,
    }


def seconds_alone(generator: Generator, captions: list[str]) -> float:
    """Seconds for one image by itself, the median of a few."""
    left = iter(captions)
    return median_seconds(lambda: generator.generate([next(left)]), TIMED)
