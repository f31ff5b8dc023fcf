"""GCG, greedy coordinate gradient (Zou et al., arXiv 2307.15043), on CLIP's cosine.

Each step: the gradient with respect to the one-hot tokens names the `top_k` most promising tokens of
every position; `width` prompts with one of them swapped in at random are scored; the best becomes the
next prompt, even where it is worse. Candidates whose text would be cut into other tokens are dropped,
as the authors' code does.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from invert.methods import Problem, Solution
from invert.methods.pez import remember, runs, score_and_gradient
from invert.methods.tokens import Found, random_ids, reads_back, score_ids, solution


@dataclass(frozen=True)
class GcgConfig:
    """The published settings."""

    steps: int = 500
    top_k: int = 256
    width: int = 512  # candidates a step


def gcg(problem: Problem, config: GcgConfig = GcgConfig()) -> Solution:
    """The best prompt of `tokens` tokens: one run, or with a budget as many from new words as it pays for."""
    found: Found = {}
    for _ in runs(problem.meter):
        climb(problem, config, found)
    return solution(problem, found)


def climb(problem: Problem, config: GcgConfig, found: Found) -> None:
    """One run from random tokens; every prompt that it stands at goes into `found`."""
    ids = random_ids(problem, (problem.config.tokens,))
    for step in range(config.steps):
        score, gradient = score_and_gradient(problem, problem.clip.embed(ids))
        problem.meter.spend(forward=len(ids) + 2, backward=len(ids) + 2)
        if not step:
            remember(problem, found, tuple(ids.tolist()), score, step)
        candidates = readable(problem, swaps(problem, ids, gradient, config))
        scores = score_ids(problem, candidates)
        ids = candidates[scores.argmax()]
        remember(problem, found, tuple(ids.tolist()), float(scores.max()), step)
        if problem.meter.exhausted:
            break


def swaps(problem: Problem, ids: Tensor, gradient: Tensor, config: GcgConfig) -> Tensor:
    """(width, L): the prompt ids (L,) with one position exchanged for one of its top_k tokens.

    gradient: (L, D) of the loss at the prompt's embeddings; times a row it is the one-hot's gradient.
    """
    vocabulary, generator = problem.vocabulary, problem.generator
    slope = gradient @ vocabulary.rows.detach().T  # (L, T)
    promising = (-slope).topk(min(config.top_k, slope.shape[1]), dim=1).indices  # (L, K)
    place = torch.randint(len(ids), (config.width,), generator=generator).to(ids.device)
    choice = torch.randint(promising.shape[1], (config.width,), generator=generator).to(ids.device)
    swapped = ids.repeat(config.width, 1)
    swapped[torch.arange(config.width, device=ids.device), place] = vocabulary.token_ids[promising[place, choice]]
    return swapped


def readable(problem: Problem, candidates: Tensor) -> Tensor:
    """Distinct candidates whose text reads back as the same tokens; all where none does."""
    distinct = dict.fromkeys(tuple(row) for row in candidates.tolist())
    kept = [row for row in distinct if reads_back(problem, row)]
    return torch.tensor(kept, device=candidates.device) if kept else candidates
