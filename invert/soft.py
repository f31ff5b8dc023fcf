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
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from invert.adam import AdamW
from invert.config import SoftConfig
from invert.history import History
from invert.models.clip import Clip
from invert.models.graphs import Replay
from invert.models.overflow import checked
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
        history: records the best cosine of every step.

    Returns:
        The prompts after all steps, or after the step that exhausts the budget.
    """
    return optimize_together([scorer], index, start[None], config, [history])[0]


def optimize_together(
    scorers: Sequence[PromptScorer], index: TokenIndex, starts: Tensor, config: SoftConfig, histories: Sequence[History]
) -> list[SoftPrompts]:
    """`optimize` for B targets of one model in the same steps, each with its own R prompts.

    Args:
        scorers: B of them. All stop after the step that exhausts the budget of one.
        index: as for `optimize`.
        starts: (B, R, L), as for `optimize`.
        config: as for `optimize`.
        histories: B of them.
    """
    clip, budgets = scorers[0].clip, [scorer.budget for scorer in scorers]
    targets = torch.stack([scorer.target for scorer in scorers])
    step = SoftStep(clip, targets, index.embeddings.detach(), starts.flatten(0, 1), config)
    advance = Replay(step, starts.device)
    positions = starts.shape[1] * clip.frame.positions(starts.shape[2])
    taken = 0
    try:
        while taken < config.steps:
            advance()
            taken += 1
            for budget in budgets:
                budget.spend(forward=positions, backward=positions)
            if any(budget.max_seconds is not None for budget in budgets):
                step.wait()  # the clock shall show what has been computed, not what has been launched
            if any(budget.exhausted for budget in budgets):
                break
    finally:
        for history, best in zip(histories, step.best[:taken].T.tolist(), strict=True):
            for i, score in enumerate(best):
                history.record("soft", i, score)
    with torch.no_grad():
        embeddings, weights = step.prompts(step.last_temperature)
        each = embeddings.detach().split(starts.shape[1])
        scores = [checked(scorer.score_embeddings(own), clip) for scorer, own in zip(scorers, each, strict=True)]
    shares = [None] * len(each) if weights is None else weights.detach().split(starts.shape[1])
    return [SoftPrompts(*parts) for parts in zip(each, scores, shares, strict=True)]


class SoftStep:
    """One gradient step on the R soft prompts of each of B targets, in static buffers: what `Replay` runs.

    Attributes:
        variable: the embeddings (B R, L, D), or the logits (B R, L, T) of a mixture; float32 whatever the model has.
        best: (steps, B) the best cosine of each step, before it moved the prompts.
        gradient: of the negated cosines in the variable, in the latest step.
    """

    def __init__(self, clip: Clip, targets: Tensor, table: Tensor, start: Tensor, config: SoftConfig) -> None:
        """targets: (B, E) or (E,). table: (T, D) float32 or wider: what prompts are mixed of. start: (B R, L) places there."""
        self.clip, self.table, self.kind = clip, table, config.parameterization
        self.targets = targets.reshape(-1, targets.shape[-1]).unbind()
        rate = config.lr
        if self.kind == "continuous":
            self.variable = table[start].clone()
            rate *= float(table.std())  # continuous embeddings step in units of the table's own spread
        else:
            self.variable = F.one_hot(start, len(table)).to(table.dtype) * 2.0
        progress = [step / max(1, config.steps - 1) for step in range(config.steps)]
        self.adam = AdamW(self.variable, [rate * 0.5 * (1 + math.cos(math.pi * x)) for x in progress])
        cooling = config.temperature_end / config.temperature_start
        temperatures = [config.temperature_start * cooling**x for x in (*progress, 1.0)]
        self._temperatures = torch.tensor(temperatures, dtype=torch.float64).to(table.dtype).to(table.device)  # no float64 on MPS
        self.last_temperature = self._temperatures[-1]
        self.best = torch.zeros(config.steps, len(self.targets), device=start.device)
        self.gradient = torch.zeros_like(self.variable)

    def __call__(self) -> None:
        """Score the prompts, and move them."""
        with torch.enable_grad():
            at = self.variable.detach().requires_grad_(True)
            embeddings = self._mixed(at, self._temperatures.index_select(0, self.adam.taken))[0]
            latents = self.clip.encode_prompt_embeddings(embeddings).float()
            # A product for each target: a picture's gradients are the same bits, whoever is optimized beside it.
            scores = torch.cat([own @ target for own, target in zip(latents.chunk(len(self.targets)), self.targets, strict=True)])
            (gradient,) = torch.autograd.grad(-scores.sum(), at)
        self.best.index_copy_(0, self.adam.taken, scores.detach().view(1, len(self.targets), -1).amax(2).to(self.best.dtype))
        self.gradient.copy_(gradient)
        self.adam.update(gradient)

    def prompts(self, temperature: Tensor) -> tuple[Tensor, Tensor | None]:
        """The embeddings (R, L, D), and the weights (R, L, T) of a mixture at that temperature."""
        return self._mixed(self.variable, temperature)

    def wait(self) -> None:
        """Until the device has computed all steps that were begun."""
        if self.variable.is_cuda:
            torch.cuda.synchronize(self.variable.device)

    def _mixed(self, variable: Tensor, temperature: Tensor) -> tuple[Tensor, Tensor | None]:
        if self.kind == "continuous":
            return variable, None
        weights = (variable / temperature).softmax(-1)
        if self.kind == "straight-through":
            hard = torch.zeros_like(weights).scatter_(-1, weights.argmax(-1, keepdim=True), 1.0)
            weights = hard + weights - weights.detach()
        return weights @ self.table, weights
