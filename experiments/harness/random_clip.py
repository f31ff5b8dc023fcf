"""A real architecture with random weights: it costs what the trained one costs, and knows nothing."""

from __future__ import annotations

import open_clip
import torch

from experiments.harness.runner import Context
from invert.models.clip import Clip
from invert.models.open_clip import from_open_clip


def random_clip(architecture: str, context: Context) -> Clip:
    """The open_clip architecture as it is before training, without touching the global random state."""
    with torch.random.fork_rng():
        torch.manual_seed(context.seed)
        model, _, preprocess = open_clip.create_model_and_transforms(architecture, pretrained=None)
    return from_open_clip(architecture, model.to(context.device), preprocess)
