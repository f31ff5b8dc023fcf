"""PEZ, "hard prompts made easy" (Wen et al., arXiv 2302.03668): projected gradient on embeddings.

Free embeddings are kept, but the gradient is always taken at their nearest tokens: each step projects,
differentiates there and moves the free copy. The best projection met on the way is the result. Settings
are the paper's; only the positions after end-of-text, which cannot matter, are left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from invert.meter import Meter
from invert.methods import Problem, Solution
from invert.methods.tokens import Found, decoded, random_ids, solution
from invert.soft import framed


@dataclass(frozen=True)
class PezConfig:
    """The published settings."""

    steps: int = 3000
    rate: float = 0.1  # AdamW's learning rate, constant
    weight_decay: float = 0.1


def pez(problem: Problem, config: PezConfig = PezConfig()) -> Solution:
    """The best prompt of `tokens` tokens: one run, or with a budget as many from new words as it pays for."""
    found: Found = {}
    for _ in runs(problem.meter):
        descend(problem, config, found)
    return solution(problem, found)


def runs(meter: Meter) -> Iterator[int]:
    """Once; again and again while a budget of token passes has something left."""
    yield 0
    while meter.max_token_passes is not None and not meter.exhausted:
        yield 0


def descend(problem: Problem, config: PezConfig, found: Found) -> None:
    """One run from random tokens; every projection that it meets goes into `found`."""
    clip, meter, rows = problem.clip, problem.meter, problem.vocabulary.rows.detach()
    directions = F.normalize(rows, dim=1)  # (T, D)
    free = clip.embed(random_ids(problem, (problem.config.tokens,))).clone().requires_grad_(True)  # (L, D)
    optimizer = torch.optim.AdamW([free], lr=config.rate, weight_decay=config.weight_decay)
    positions = len(free) + 2
    for step in range(config.steps):
        nearest = (F.normalize(free.detach(), dim=1) @ directions.T).argmax(1)  # (L,) by cosine, as published
        score, free.grad = score_and_gradient(problem, rows[nearest])
        meter.spend(forward=positions, backward=positions)
        remember(problem, found, tuple(problem.vocabulary.token_ids[nearest].tolist()), score, step)
        optimizer.step()
        if meter.exhausted:
            break


def score_and_gradient(problem: Problem, embeddings: Tensor) -> tuple[float, Tensor]:
    """Cosine of a prompt given as embeddings (L, D), and the gradient (L, D) of its negative."""
    at = embeddings.detach().clone().requires_grad_(True)
    score = problem.clip.encode_embeddings(framed(problem.clip, at[None]))[0].float() @ problem.target
    (gradient,) = torch.autograd.grad(-score, at)
    return float(score.detach()), gradient


def remember(problem: Problem, found: Found, ids: tuple[int, ...], score: float, step: int) -> None:
    """Keep a discrete prompt; a new best is told to the meter with its text."""
    best = score > max(found.values(), default=float("-inf"))
    found[ids] = score
    if best:
        problem.meter.offer(decoded(problem, ids), score)
    problem.meter.record(problem.config.method, step, score, decoded(problem, ids) if best else "")
