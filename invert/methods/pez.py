"""PEZ, "hard prompts made easy" (Wen et al., arXiv 2302.03668): projected gradient on embeddings.

Free embeddings are kept, but the gradient is always taken at their nearest tokens: each step projects,
differentiates there and moves the free copy. The best projection met on the way is the result. Settings
are the paper's; only the positions after end-of-text, which cannot matter, are left out. A prompt is too
few rows to keep a processor busy, so the prompts of several targets can be sought side by side.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from invert.meter import Meter
from invert.methods import Problem, Solution
from invert.methods.tokens import Found, decoded, random_ids, solution
from invert.models.clip import Clip
from invert.soft import framed


@dataclass(frozen=True)
class PezConfig:
    """The published settings."""

    steps: int = 3000
    rate: float = 0.1  # AdamW's learning rate, constant
    weight_decay: float = 0.1


def pez(problem: Problem, config: PezConfig = PezConfig()) -> Solution:
    """The best prompt of `tokens` tokens: one run, or with a budget as many from new words as it pays for."""
    return pez_together([problem], config)[0]


def pez_together(problems: Sequence[Problem], config: PezConfig = PezConfig()) -> list[Solution]:
    """`pez` of problems that differ in target and generator only: every step runs all of their prompts at once.

    Each spends what it would spend alone. Products of more rows round differently, so a prompt may differ
    from the one that it gets alone.
    """
    found: list[Found] = [{} for _ in problems]
    for _ in runs(problems[0].meter):
        descend(problems, config, found)
    return [solution(problem, mine) for problem, mine in zip(problems, found, strict=True)]


def runs(meter: Meter) -> Iterator[int]:
    """Once; again and again while a budget of token passes has something left."""
    yield 0
    while meter.max_token_passes is not None and not meter.exhausted:
        yield 0


def descend(problems: Sequence[Problem], config: PezConfig, found: Sequence[Found]) -> None:
    """One run of each problem from random tokens; every projection that it meets goes into its `found`."""
    clip, vocabulary = problems[0].clip, problems[0].vocabulary
    rows, targets = vocabulary.rows.detach(), torch.stack([problem.target for problem in problems])
    directions = F.normalize(rows, dim=1)  # (T, D)
    start = torch.stack([random_ids(problem, (problem.config.tokens,)) for problem in problems])
    free = clip.embed(start).clone().requires_grad_(True)  # (B, L, D)
    optimizer = torch.optim.AdamW([free], lr=config.rate, weight_decay=config.weight_decay)
    positions = free.shape[1] + 2
    for step in range(config.steps):
        nearest = (F.normalize(free.detach(), dim=-1) @ directions.T).argmax(-1)  # (B, L) by cosine, as published
        scores, free.grad = scores_and_gradients(clip, rows[nearest], targets)
        for problem, mine, ids, score in zip(
            problems, found, vocabulary.token_ids[nearest].tolist(), scores.tolist(), strict=True
        ):
            problem.meter.spend(forward=positions, backward=positions)
            remember(problem, mine, tuple(ids), score, step)
        optimizer.step()
        if problems[0].meter.exhausted:
            break


def scores_and_gradients(clip: Clip, embeddings: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Cosines (B,) of prompts given as embeddings (B, L, D) with their targets (B, E), and the gradients of the negatives."""
    at = embeddings.detach().clone().requires_grad_(True)
    scores = torch.linalg.vecdot(clip.encode_embeddings(framed(clip, at)).float(), targets)
    (gradient,) = torch.autograd.grad(-scores.sum(), at)
    return scores.detach(), gradient


def score_and_gradient(problem: Problem, embeddings: Tensor) -> tuple[float, Tensor]:
    """Cosine of one prompt given as embeddings (L, D), and the gradient (L, D) of its negative."""
    scores, gradients = scores_and_gradients(problem.clip, embeddings[None], problem.target[None])
    return float(scores[0]), gradients[0]


def remember(problem: Problem, found: Found, ids: tuple[int, ...], score: float, step: int) -> None:
    """Keep a discrete prompt; a new best is told to the meter with its text."""
    best = score > max(found.values(), default=float("-inf"))
    found[ids] = score
    if best:
        problem.meter.offer(decoded(problem, ids), score)
    problem.meter.record(problem.config.method, step, score, decoded(problem, ids) if best else "")
