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

from invert.adam import AdamW
from invert.methods.configs import PezConfig
from invert.methods.task import InversionOutput, InversionTask
from invert.methods.tokens import Found, best_prompts, remember, runs
from invert.models.graphs import Replay
from invert.scorer import scores_and_gradients

READ_EVERY = 50  # steps on a card between two looks at what they found: each look waits for it


def pez(task: InversionTask, config: PezConfig) -> InversionOutput:
    """The best prompt of `tokens` tokens: one run, or with a budget as many from new words as it pays for."""
    return pez_batch([task], config)[0]


def pez_batch(tasks: Sequence[InversionTask], config: PezConfig) -> list[InversionOutput]:
    """`pez` of tasks that differ in target and rng only: every step runs all of their prompts at once.

    Each spends what it would spend alone. Products of more rows round differently, so a prompt may differ
    from the one that it gets alone.
    """
    found = [Found() for _ in tasks]
    for _ in runs(tasks[0].budget):
        descend(tasks, config, found)
    return [best_prompts(task, mine) for task, mine in zip(tasks, found, strict=True)]


def descend(tasks: Sequence[InversionTask], config: PezConfig, found: Sequence[Found]) -> None:
    """One run of every task from random tokens; every prompt that it projects onto goes into `found`."""
    budget, device = tasks[0].budget, tasks[0].clip.device
    step = PezStep(tasks, config)
    advance = Replay(step, device)
    every = READ_EVERY if device.type == "cuda" else 1
    positions = tasks[0].clip.frame.positions(tasks[0].config.tokens)
    read = 0
    for taken in range(1, config.steps + 1):
        advance()
        for task in tasks:
            task.budget.spend(forward=positions, backward=positions)
        if taken - read == every or taken == config.steps or budget.exhausted:
            step.report(tasks, found, read, taken)
            read = taken
            if budget.exhausted:
                break


class PezStep:
    """One step of B tasks' prompts in static buffers: what `Replay` runs.

    Attributes:
        continuous: (B, L, D), float32 whatever the model has.
        ids: (steps, B, L) int64, the tokens that each step projected onto.
        scores: (steps, B), their cosines.
    """

    def __init__(self, tasks: Sequence[InversionTask], config: PezConfig) -> None:
        """Draws the first words from the tasks' own rngs."""
        task = tasks[0]
        index = task.bundle.token_index
        self.clip, self.token_ids, self.table = task.clip, index.token_ids, index.embeddings.detach()
        self.targets = torch.stack([task.target for task in tasks])  # (B, E)
        self.directions = F.normalize(self.table, dim=1)  # (T, D)
        start = torch.stack([one.random_ids((task.config.tokens,)) for one in tasks])
        self.continuous = self.clip.embed(start).to(self.table.dtype, copy=True)
        self.adam = AdamW(self.continuous, [config.lr] * config.steps, config.weight_decay)
        self.ids = torch.zeros(config.steps, *start.shape, dtype=torch.int64, device=start.device)
        self.scores = torch.zeros(config.steps, len(tasks), device=start.device)

    def __call__(self) -> None:
        """Project, score and differentiate there, and move the continuous copy."""
        nearest = (F.normalize(self.continuous, dim=-1) @ self.directions.T).argmax(-1)  # (B, L) by cosine, as published
        scores, gradients = scores_and_gradients(self.clip, self.table[nearest], self.targets)
        self.ids.index_copy_(0, self.adam.taken, self.token_ids[nearest][None])
        self.scores.index_copy_(0, self.adam.taken, scores[None].to(self.scores.dtype))
        self.adam.update(-gradients)

    def report(self, tasks: Sequence[InversionTask], found: Sequence[Found], begin: int, end: int) -> None:
        """What the steps begin…end projected onto, in one copy from the device."""
        rows = zip(range(begin, end), self.ids[begin:end].tolist(), self.scores[begin:end].tolist(), strict=True)
        for step, ids, scores in rows:
            for task, mine, prompt, score in zip(tasks, found, ids, scores, strict=True):
                remember(task, "pez", mine, tuple(prompt), score, step)
