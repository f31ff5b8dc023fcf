"""The soft stage of methods that optimize embeddings: restarts from random words."""

from __future__ import annotations

import torch

from invert.config import SoftConfig
from invert.methods.task import InversionTask
from invert.soft import SoftPrompts, optimize


def soft_prompts(task: InversionTask, config: SoftConfig) -> SoftPrompts:
    """`restarts` prompts of `tokens` tokens, from words drawn by the task's rng."""
    index = task.bundle.token_index
    shape = (task.config.restarts, task.config.tokens)
    start = torch.randint(len(index), shape, generator=task.rng).to(task.clip.device)
    return optimize(task.scorer(), index, start, config, task.history)
