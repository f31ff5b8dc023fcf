"""Average two image towers, weight by weight: `python scripts/average_towers.py OLD NEW SHARE OUTPUT`.

A tower that was trained on from another one still averages with it (Wortsman et al., arXiv 2109.01903): it keeps what
the old one knew and has most of what the new one learned. The batch norms' statistics are not averages of the two, so
they are measured anew on pictures of the phase "drawings". In: two weights files of the CLIP; out: one.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from picturebook_batches import Batches
from torch import Tensor, nn

from invert.picturebook import models

BATCHES, SIZE = 16, 256  # of pictures that the statistics are measured on


def average(old: dict[str, Tensor], new: dict[str, Tensor], share: float) -> dict[str, Tensor]:
    """old and new: state dicts of the same names and shapes. share: of the new one, 0 to 1."""
    return {name: torch.lerp(value, new[name], share) if value.is_floating_point() else value for name, value in old.items()}


@torch.no_grad()
def measure_statistics(visual: nn.Module, pictures: list[Tensor]) -> None:
    """Set the running statistics of the batch norms to the means over batches of pictures (B, 3, S, S)."""
    for module in visual.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None  # a plain mean over the batches
    visual.train()
    for part in pictures:
        visual(part)
    visual.eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("share", type=float, help="of the new tower, 0 to 1")
    parser.add_argument("output", type=Path)
    parser.add_argument("--drawings", type=Path, default=Path("training/drawings"), help="where make_drawings.py wrote them")
    options = parser.parse_args()
    if not 0 <= options.share <= 1:
        parser.error(f"share {options.share}: give a number from 0 to 1")
    model = models.build("clip", len(models.trained_token_ids()))
    model.load_state_dict(average(models.compact_state(options.old), models.compact_state(options.new), options.share))
    batches = Batches("clip", "drawings", SIZE, [], options.drawings)  # even batches ask for no similar objects
    measure_statistics(model.visual, [batches[2 * step].images for step in range(BATCHES)])
    models.save_weights(model, options.output)


if __name__ == "__main__":
    main()
