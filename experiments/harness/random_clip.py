"""A real architecture with random weights: it costs what the trained one costs, and knows nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import open_clip
import torch

from experiments.harness.runner import Context
from invert.models.clip import Clip
from invert.models.open_clip import from_open_clip


def random_clip(architecture: str, context: Context) -> Clip:
    """The open_clip architecture as it is before training, without touching the global random state."""
    model, preprocess = untrained(architecture, context.seed)
    return from_open_clip(architecture, model.to(context.device), preprocess)


def save_untrained(architecture: str, seed: int, file: Path) -> None:
    """Write its weights as a checkpoint that open_clip loads."""
    torch.save(untrained(architecture, seed)[0].state_dict(), file)


def untrained(architecture: str, seed: int) -> tuple[Any, Any]:
    """open_clip's model and preprocessing."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model, _, preprocess = open_clip.create_model_and_transforms(architecture, pretrained=None)
    return model, preprocess
