"""The soft stage of methods that optimize embeddings: restarts from random words."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from invert.config import SoftConfig
from invert.methods.task import InversionTask
from invert.soft import SoftPrompts, optimize_together

# Weights of tokens in the mixtures that are optimized together. A card holds 256 MiB of them several times over, and
# takes as long for one picture's as for many; a CPU does not, and rounds as alone only one picture at a time.
MOST_WEIGHTS = {"cuda": 1 << 26, "cpu": 0}


def soft_prompts(task: InversionTask, config: SoftConfig) -> SoftPrompts:
    """`restarts` prompts of `tokens` tokens, from words drawn by the task's rng."""
    return soft_prompts_together([task], config)[0]


def soft_prompts_together(tasks: Sequence[InversionTask], config: SoftConfig) -> list[SoftPrompts]:
    """The same for tasks that differ in target and rng only, as many in one step as memory should hold."""
    index, shape = tasks[0].bundle.token_index, (tasks[0].config.restarts, tasks[0].config.tokens)
    most = MOST_WEIGHTS.get(index.embeddings.device.type, 0)
    together = max(1, most // (shape[0] * shape[1] * len(index)))
    found: list[SoftPrompts] = []
    for begin in range(0, len(tasks), together):
        part = tasks[begin : begin + together]
        starts = torch.stack([torch.randint(len(index), shape, generator=task.rng) for task in part])
        scorers, histories = [task.scorer() for task in part], [task.history for task in part]
        found += optimize_together(scorers, index, starts.to(part[0].clip.device), config, histories)
    return found
