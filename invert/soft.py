"""Gradient descent on a prompt's input embeddings: R restarts of L tokens, all at once.

In: a scorer on a unit target, starting tokens. Out: embeddings (R, L, D) whose latents lie near the
target. Three parameterizations of an embedding:

- `continuous`: the embedding itself (the seed thread's plain idea; its optimum lies between all words);
- `mixture`: a convex mixture of token embeddings, softmax(logits / temperature), whose temperature falls
  until one token is left (Gumbel-softmax without the noise: Jang et al., arXiv 1611.01144);
- `straight-through`: the mixture's best token forward, the mixture's gradient backward (Bengio et al.,
  arXiv 1308.3432).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from invert.config import SoftConfig
from invert.history import History
from invert.scorer import PromptScorer
from invert.token_index import TokenIndex


@dataclass(frozen=True, eq=False)
class SoftPrompts:
    """Optimized prompts.

    Attributes:
        embeddings: (R, L, D).
        scores: (R,) cosine with the target.
        weights: (R, L, T) over the token index's tokens; None for the continuous parameterization.
    """

    embeddings: Tensor
    scores: Tensor
    weights: Tensor | None


def optimize(scorer: PromptScorer, index: TokenIndex, start: Tensor, config: SoftConfig, history: History) -> SoftPrompts:
    """Pull the latents of R prompts onto the scorer's target.

    Args:
        scorer: the target, and the budget that is spent.
        index: the tokens that a mixture is made of.
        start: (R, L) int64 positions in `index.embeddings` that the prompts begin at.
        config: see `SoftConfig`.
        history: is told of the best cosine of every step.

    Returns:
        The prompts after all steps, or after the step that exhausts the budget.
    """
    table = index.embeddings.detach()
    continuous = config.parameterization == "continuous"
    if continuous:
        variable = table[start].clone()
    else:
        variable = F.one_hot(start, len(table)).to(table.dtype) * 2.0
    variable.requires_grad_(True)
    scale = table.std() if continuous else 1.0  # continuous embeddings step in units of the table's own spread
    optimizer = torch.optim.AdamW([variable], lr=config.lr * float(scale), weight_decay=0.0)
    positions = start.numel() + 2 * len(start)
    for step in range(config.steps):
        progress = step / max(1, config.steps - 1)
        for group in optimizer.param_groups:
            group["lr"] = config.lr * float(scale) * 0.5 * (1 + math.cos(math.pi * progress))
        embeddings = variable if continuous else _mixed(variable, table, config, progress)[0]
        scores = scorer.score_embeddings(embeddings)  # (R,)
        (gradient,) = torch.autograd.grad(-scores.sum(), variable)
        scorer.budget.spend(backward=positions)
        variable.grad = gradient
        optimizer.step()
        history.record("soft", step, float(scores.detach().max()))
        if scorer.budget.exhausted:
            break
    with torch.no_grad():
        embeddings, weights = (variable, None) if continuous else _mixed(variable, table, config, 1.0)
        scores = scorer.score_embeddings(embeddings)
    return SoftPrompts(embeddings.detach(), scores, None if weights is None else weights.detach())


def _mixed(logits: Tensor, table: Tensor, config: SoftConfig, progress: float) -> tuple[Tensor, Tensor]:
    """Logits (R, L, T) → (embeddings (R, L, D), weights (R, L, T)) at this point of the cooling."""
    temperature = config.temperature_start * (config.temperature_end / config.temperature_start) ** progress
    weights = (logits / temperature).softmax(-1)
    if config.parameterization == "straight-through":
        hard = F.one_hot(weights.argmax(-1), len(table)).to(weights.dtype)
        weights = hard + weights - weights.detach()
    return weights @ table, weights
