"""How unlike those of captions are a soft prompt's hidden states? Layer by layer, in the captions' own spread.

A denoiser attends to the text encoder's hidden states at every position; CLIP's latent is read at one alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from invert.models.clip import Clip

SHRINKAGE = 0.05  # of the covariance towards its diagonal's mean: few captions span 192 directions


class HiddenStates:
    """The distribution of captions' hidden states after each layer, the embeddings with positions being layer 0."""

    def __init__(self, clip: Clip, captions: Sequence[str]) -> None:
        self.clip, self.layers = clip, len(clip.tower.layers) + 1
        rows = [clip.embed(torch.tensor(clip.tokenizer.encode(text), device=clip.device)) for text in captions]
        states = [[self.of(row, layer)[0] for row in rows] for layer in range(self.layers)]
        self.means, self.factors = zip(*(gaussian(torch.cat(of_layer)) for of_layer in states), strict=True)

    def of(self, embeddings: Tensor, layer: int) -> Tensor:
        """Embeddings (L, D) → hidden states (1, L, D) of the prompt's own positions, special tokens left out."""
        return self.clip.tower.hidden(self.clip.add_special_embeddings(embeddings[None]), layer)[:, 1:-1]

    def distances(self, embeddings: Tensor) -> Tensor:
        """Mean squared Mahalanobis distance per dimension (layers,): 1 for the captions themselves."""
        found = []
        for layer, (mean, factor) in enumerate(zip(self.means, self.factors, strict=True)):
            whitened = torch.linalg.solve_triangular(factor, (self.of(embeddings, layer)[0] - mean).T, upper=False)
            found.append(whitened.square().mean())
        return torch.stack(found)

    def excess(self, embeddings: Tensor) -> Tensor:
        """How far beyond the captions' own distance the states lie, summed over layers; differentiable."""
        return (self.distances(embeddings) - 1).relu().sum()


def gaussian(states: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (D,) and Cholesky factor (D, D) of the covariance of states (N, D)."""
    mean = states.mean(0)
    covariance = (states - mean).T @ (states - mean) / len(states)
    diagonal = torch.eye(len(covariance), device=states.device) * covariance.diagonal().mean()
    return mean, torch.linalg.cholesky((1 - SHRINKAGE) * covariance + SHRINKAGE * diagonal)
