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

from invert.adam import AdamW
from invert.config import SoftConfig
from invert.history import History
from invert.models.clip import Clip
from invert.models.graphs import Replay
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
    step = SoftStep(scorer.clip, scorer.target, index.embeddings.detach(), start, config)
    advance = Replay(step, start.device)
    positions = len(start) * scorer.clip.frame.positions(start.shape[1])
    taken = 0
    try:
        while taken < config.steps:
            advance()
            taken += 1
            scorer.budget.spend(forward=positions, backward=positions)
            if scorer.budget.max_seconds is not None:
                step.wait()  # the clock shall show what has been computed, not what has been launched
            if scorer.budget.exhausted:
                break
    finally:
        for i, score in enumerate(step.best[:taken].tolist()):
            history.record("soft", i, score)
    with torch.no_grad():
        embeddings, weights = step.prompts(step.last_temperature)
        scores = scorer.score_embeddings(embeddings)
    return SoftPrompts(embeddings.detach(), scores, None if weights is None else weights.detach())


class SoftStep:
    """One gradient step on R soft prompts, in static buffers: what `Replay` runs.

    Attributes:
        variable: the embeddings (R, L, D), or the logits (R, L, T) of a mixture; float32 where the model has less.
        best: (steps,) the best cosine of each step, before it moved the prompts.
        gradient: of the negated cosines in the variable, in the latest step.
    """

    def __init__(self, clip: Clip, target: Tensor, table: Tensor, start: Tensor, config: SoftConfig) -> None:
        """table: (T, D), the rows that prompts are mixed of. start: (R, L) int64 positions in it."""
        self.clip, self.target, self.table, self.kind = clip, target, table, config.parameterization
        dtype = torch.promote_types(table.dtype, torch.float32)  # half precision would lose small steps
        rate = config.lr
        if self.kind == "continuous":
            self.variable = table[start].to(dtype)
            rate *= float(table.std())  # continuous embeddings step in units of the table's own spread
        else:
            self.variable = F.one_hot(start, len(table)).to(dtype) * 2.0
        progress = [step / max(1, config.steps - 1) for step in range(config.steps)]
        self.adam = AdamW(self.variable, [rate * 0.5 * (1 + math.cos(math.pi * x)) for x in progress])
        cooling = config.temperature_end / config.temperature_start
        temperatures = [config.temperature_start * cooling**x for x in (*progress, 1.0)]
        self._temperatures = torch.tensor(temperatures, dtype=torch.float64).to(self.variable)
        self.last_temperature = self._temperatures[-1]
        self.best = torch.zeros(config.steps, device=start.device)
        self.gradient = torch.zeros_like(self.variable)

    def __call__(self) -> None:
        """Score the prompts, and move them."""
        with torch.enable_grad():
            at = self.variable.detach().requires_grad_(True)
            embeddings = self._mixed(at, self._temperatures.index_select(0, self.adam.taken))[0]
            scores = self.clip.encode_prompt_embeddings(embeddings).float() @ self.target  # (R,)
            (gradient,) = torch.autograd.grad(-scores.sum(), at)
        self.best.index_copy_(0, self.adam.taken, scores.detach().max()[None].to(self.best.dtype))
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
            return variable.to(self.table.dtype), None
        weights = (variable / temperature).softmax(-1)
        if self.kind == "straight-through":
            hard = torch.zeros_like(weights).scatter_(-1, weights.argmax(-1, keepdim=True), 1.0)
            weights = hard + weights - weights.detach()
        return weights.to(self.table.dtype) @ self.table, weights
