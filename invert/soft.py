"""Gradient descent on a prompt's input embeddings: R restarts of L tokens, all at once.

In: a frozen CLIP, a unit target latent, starting rows. Out: embeddings (R, L, D) whose latents lie
near the target. Three parameterisations of an embedding:

- `free`: the embedding itself (the seed thread's plain idea; its optimum lies between all words);
- `mixture`: a convex mixture of vocabulary rows, softmax(logits / temperature), whose temperature
  falls until one row is left (Gumbel-softmax without the noise: Jang et al., arXiv 1611.01144);
- `rounded`: the mixture's best row forward, the mixture's gradient backward (straight-through:
  Bengio et al., arXiv 1308.3432).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from invert.meter import Meter
from invert.models.clip import Clip
from invert.vocabulary import Vocabulary

KINDS = ("free", "mixture", "rounded")


@dataclass(frozen=True)
class SoftConfig:
    """How the soft prompt is optimised."""

    kind: str = "mixture"  # one of KINDS
    steps: int = 60
    rate: float = 0.3  # AdamW's peak learning rate; cosine to zero
    hot: float = 1.0  # softmax temperature at the first step
    cold: float = 0.1  # and at the last; geometric in between


@dataclass(frozen=True)
class SoftPrompts:
    """embeddings: (R, L, D). scores: (R,) cosine with the target. weights: (R, L, T) over the
    vocabulary's rows, None for the free parameterisation."""

    embeddings: Tensor
    scores: Tensor
    weights: Tensor | None


def framed(clip: Clip, embeddings: Tensor) -> Tensor:
    """(R, L, D) → (R, L + 2, D): start-of-text and end-of-text rows around the prompt."""
    table = clip.token_embeddings
    edge = table[[clip.start_id, clip.end_id]].to(embeddings.dtype).expand(len(embeddings), 2, -1)
    return torch.cat([edge[:, :1], embeddings, edge[:, 1:]], 1)


def optimise(clip: Clip, vocabulary: Vocabulary, target: Tensor, start: Tensor, config: SoftConfig, meter: Meter) -> SoftPrompts:
    """Pull the latents of R prompts onto the target (E,).

    start: (R, L) int64 positions in `vocabulary.rows` that the embeddings begin at. Stops early when
    the meter's budget is spent. Raises ValueError for an unknown kind.
    """
    if config.kind not in KINDS:
        raise ValueError(f"unknown parameterisation {config.kind!r}: one of {', '.join(KINDS)}")
    rows = vocabulary.rows.detach()
    free = config.kind == "free"
    if free:
        variable = rows[start].clone()
    else:
        variable = F.one_hot(start, len(rows)).to(rows.dtype) * 2.0
    variable.requires_grad_(True)
    scale = rows.std() if free else 1.0  # the free kind steps in units of the table's own spread
    optimizer = torch.optim.AdamW([variable], lr=config.rate * float(scale), weight_decay=0.0)
    for step in range(config.steps):
        progress = step / max(1, config.steps - 1)
        for group in optimizer.param_groups:
            group["lr"] = config.rate * float(scale) * 0.5 * (1 + math.cos(math.pi * progress))
        embeddings = variable if free else _mixed(variable, rows, config, progress)[0]
        scores = clip.encode_embeddings(framed(clip, embeddings)).float() @ target  # (R,)
        (gradient,) = torch.autograd.grad(-scores.sum(), variable)
        variable.grad = gradient
        optimizer.step()
        positions = start.numel() + 2 * len(start)
        meter.spend(forward=positions, backward=positions)
        meter.record("soft", step, float(scores.detach().max()))
        if meter.exhausted:
            break
    with torch.no_grad():
        embeddings, weights = (variable, None) if free else _mixed(variable, rows, config, 1.0)
        scores = clip.encode_embeddings(framed(clip, embeddings)).float() @ target
    meter.spend(forward=start.numel() + 2 * len(start))
    return SoftPrompts(embeddings.detach(), scores, None if weights is None else weights.detach())


def _mixed(logits: Tensor, rows: Tensor, config: SoftConfig, progress: float) -> tuple[Tensor, Tensor]:
    """Logits (R, L, T) → (embeddings (R, L, D), weights (R, L, T)) at this point of the cooling."""
    temperature = config.hot * (config.cold / config.hot) ** progress
    weights = (logits / temperature).softmax(-1)
    if config.kind == "rounded":
        hard = F.one_hot(weights.argmax(-1), len(rows)).to(weights.dtype)
        weights = hard + weights - weights.detach()
    return weights @ rows, weights
