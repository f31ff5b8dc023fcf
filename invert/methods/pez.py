"""PEZ, "hard prompts made easy" (Wen et al., arXiv 2302.03668): projected gradient on embeddings.

Continuous embeddings are kept, but the gradient is always taken at their nearest tokens: each step
projects, differentiates there and moves the continuous copy. The best projection met on the way is the
result. Settings are the paper's; only the positions after end-of-text, which cannot matter, are left out.
A prompt is too few rows to keep a processor busy, so those of several targets can be optimized together.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from invert.methods.configs import PezConfig
from invert.methods.task import InversionOutput, InversionTask
from invert.methods.tokens import Found, best_prompts, remember, runs
from invert.scorer import scores_and_gradients


def pez(task: InversionTask, config: PezConfig) -> InversionOutput:
    """The best prompt of `tokens` tokens: one run, or with a budget as many from new words as it pays for."""
    return pez_batch([task], config)[0]


def pez_batch(tasks: Sequence[InversionTask], config: PezConfig) -> list[InversionOutput]:
    """`pez` of tasks that differ in target and rng only: every step runs all of their prompts at once.

    Each spends what it would spend alone. Products of more rows round differently, so a prompt may differ
    from the one that it gets alone.
    """
    found: list[Found] = [{} for _ in tasks]
    for _ in runs(tasks[0].budget):
        descend(tasks, config, found)
    return [best_prompts(task, mine) for task, mine in zip(tasks, found, strict=True)]


def descend(tasks: Sequence[InversionTask], config: PezConfig, found: Sequence[Found]) -> None:
    """One run of every task from random tokens; every prompt that it projects onto goes into `found`."""
    task = tasks[0]
    clip, index = task.clip, task.bundle.token_index
    targets = torch.stack([task.target for task in tasks])  # (B, E)
    table = index.embeddings.detach()
    directions = F.normalize(table, dim=1)  # (T, D)
    start = torch.stack([one.random_ids((task.config.tokens,)) for one in tasks])
    continuous = clip.embed(start).clone().requires_grad_(True)  # (B, L, D)
    optimizer = torch.optim.AdamW([continuous], lr=config.lr, weight_decay=config.weight_decay)
    positions = continuous.shape[1] + 2
    for step in range(config.steps):
        nearest = (F.normalize(continuous.detach(), dim=-1) @ directions.T).argmax(-1)  # (B, L) by cosine, as published
        scores, gradients = scores_and_gradients(clip, table[nearest], targets)
        continuous.grad = -gradients
        for one, mine, ids, score in zip(tasks, found, index.token_ids[nearest].tolist(), scores.tolist(), strict=True):
            one.budget.spend(forward=positions, backward=positions)
            remember(one, "pez", mine, tuple(ids), score, step)
        optimizer.step()
        if task.budget.exhausted:
            break
