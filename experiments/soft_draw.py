"""Which soft prompt draws the picture again, and why do most of them draw noise?

Soft prompts of the kinds that matter (`experiments/harness/soft_variants.py`), of held-out scenes, are drawn by the bundled
generator and compared with the picture by the judge, which none of them looked at. Beside them stand the hard prompt,
the true caption and the nearest caption of the corpus. SOFT_DRAW_SCENES="25,8" in the environment sets of how many scenes,
the second number being for soft prompts as the search makes them; scenes that are done are kept in the cache. What else was
tried is `soft-tried`.
"""

from __future__ import annotations

from typing import Any

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
from torchvision.transforms.functional import to_tensor

from experiments.harness.environment import counts
from experiments.harness.pictures import scene_pictures
from experiments.harness.runner import Context
from experiments.harness.soft_rating import image_of, markdown, rated, subjects, summary
from experiments.harness.soft_variants import AS_TODAY, HARD, MAIN, ON_CLIP, POLISHED, TRUTH

SCENES, QUICK_SCENES = (100, 8), (2, 2)  # of what matters, of soft prompts as the search makes them
SHOWN = (TRUTH, HARD, "retrieved caption", "soft, free", "soft, mixture", "soft, mixture rounded", ON_CLIP, POLISHED)


def run(context: Context) -> dict[str, Any]:
    """Means with intervals, paired differences to the hard prompt, distances of hidden states; a sheet and a plot."""
    numbers = QUICK_SCENES if context.quick else counts("SOFT_DRAW_SCENES", SCENES)
    records = [
        record
        for n, group in zip(numbers, (MAIN, AS_TODAY), strict=True)
        for subject in subjects(n, context)
        for record in rated(subject, group, context)
    ]
    found = summary(records, context)
    draw_layers(found["hidden states"], context)
    draw_sheet(context, min(numbers))
    context.path("table.md").write_text(markdown(found))
    return found


def draw_layers(layers: dict[str, list[float]], context: Context) -> None:
    """Distance of hidden states from those of captions, layer by layer."""
    figure, axis = plt.subplots(figsize=(8, 5), layout="constrained")
    for name in SHOWN:
        axis.plot(range(len(layers[name])), layers[name], marker="o", label=name)
    axis.axhline(1, color="gray", lw=1, ls=":")
    axis.set(xlabel="layers of the text encoder", ylabel="squared distance, captions = 1", yscale="log")
    axis.set_xticks(range(len(layers[HARD])))
    axis.legend(fontsize=8)
    figure.savefig(context.path("states.png"), dpi=110)
    plt.close(figure)


def draw_sheet(context: Context, n: int) -> None:
    """A scene a row: the picture, then the first image of each main variant."""
    figure, axes = plt.subplots(n, len(SHOWN) + 1, figsize=(1.5 * (len(SHOWN) + 1), 1.5 * n), layout="constrained", squeeze=False)
    for row, picture in zip(axes, scene_pictures(n, context.seed), strict=True):
        row[0].imshow(to_tensor(picture.image).permute(1, 2, 0))
        for axis, name in zip(row[1:], SHOWN, strict=True):
            axis.imshow(plt.imread(image_of(picture.name, name, context)))
    for axis, title in zip(axes[0], ("picture", *SHOWN), strict=True):
        axis.set_title(title.replace(", ", ",\n"), fontsize=9)
    for axis in axes.flat:
        axis.axis("off")
    figure.savefig(context.path("sheet.png"), dpi=100)
    plt.close(figure)
