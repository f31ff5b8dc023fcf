"""A latent as a sparse, non-negative combination of word latents, both centered: SpLiCE (Bhalla et al., arXiv 2402.10376).

In: a target and the latents of words; out: the few words that explain it together, with weights. No prompt is encoded for
it: the words are encoded once a model. What words and pictures have in common is taken off first, since it explains nothing.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

CANDIDATES = 768  # words nearest to the target that may have a weight
L1 = 0.1  # penalty of a unit of weight, where target and words are unit vectors
STEPS = 300  # of accelerated projected gradient descent


def sparse_weights(target: Tensor, words: Tensor, center: Tensor | None = None, l1: float = L1) -> Tensor:
    """Weights (W,) ≥ 0 of words, most of them zero.

    Args:
        target: unit latent (E,).
        words: unit latents (W, E) on its device.
        center: (E,) mean latent of targets; None: of the words, as where no gap between them is known.
        l1: a larger one leaves fewer words.
    """
    mean = words.mean(0)
    atoms = F.normalize(words - mean, dim=1)
    wanted = F.normalize(target - (mean if center is None else center), dim=0)
    nearest = (atoms @ wanted).topk(min(CANDIDATES, len(atoms))).indices
    weights = torch.zeros(len(words), dtype=target.dtype, device=target.device)
    weights[nearest] = nonnegative_lasso(atoms[nearest], wanted, l1)
    return weights


def nonnegative_lasso(atoms: Tensor, wanted: Tensor, l1: float, steps: int = STEPS) -> Tensor:
    """Weights (K,) ≥ 0 that minimize ½ |wanted − weights · atoms|² + l1 · Σ weights, by FISTA (Beck and Teboulle, 2009).

    atoms: (K, E). wanted: (E,).
    """
    gram, pull = atoms @ atoms.T, atoms @ wanted - l1
    rate = 1 / torch.linalg.matrix_norm(gram, ord=2)
    weights = ahead = torch.zeros_like(pull)
    momentum = 1.0
    for _ in range(steps):
        better = (ahead + rate * (pull - gram @ ahead)).clamp(min=0)
        following = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
        ahead = better + (momentum - 1) / following * (better - weights)
        weights, momentum = better, following
    return weights
