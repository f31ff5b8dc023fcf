"""GCG, greedy coordinate gradient (Zou et al., arXiv 2307.15043), on CLIP's cosine.

Each step: the gradient with respect to the one-hot tokens names the `topk` most promising tokens of every
position; `search_width` prompts with one of them swapped in at random are scored; the best becomes the
next prompt, even where it is worse. Candidates whose text would be tokenized differently are dropped, as
the authors' code does.
"""

from __future__ import annotations

import torch
from torch import Tensor

from invert.methods.configs import GcgConfig
from invert.methods.task import InversionOutput, InversionTask
from invert.methods.tokens import Found, best_prompts, reads_back, remember, runs


def gcg(task: InversionTask, config: GcgConfig) -> InversionOutput:
    """The best prompt of `tokens` tokens: one run, or with a budget as many from new words as it pays for."""
    found = Found()
    for _ in runs(task.budget):
        climb(task, config, found)
    return best_prompts(task, found)


def climb(task: InversionTask, config: GcgConfig, found: Found) -> None:
    """One run from random tokens; every prompt that it moves to goes into `found`."""
    scorer = task.scorer()
    ids = task.random_ids((task.config.tokens,))
    for step in range(config.steps):
        score, gradient = scorer.score_and_gradient(task.clip.embed(ids)[None])
        if not step:
            remember(task, "gcg", found, tuple(ids.tolist()), float(score[0]), step)
        candidates = readable(task, swaps(task, ids, gradient[0], config))
        scores = scorer.score_ids(candidates)
        ids = candidates[scores.argmax()]
        remember(task, "gcg", found, tuple(ids.tolist()), float(scores.max()), step)
        if task.budget.exhausted:
            break


def swaps(task: InversionTask, ids: Tensor, gradient: Tensor, config: GcgConfig) -> Tensor:
    """(search_width, L): the prompt ids (L,) with one position exchanged for one of its topk tokens.

    gradient: (L, D) of the cosine at the prompt's embeddings; its product with the table is the one-hot's gradient.
    """
    index = task.bundle.token_index
    slope = gradient @ index.embeddings.detach().T  # (L, T)
    promising = slope.topk(min(config.topk, slope.shape[1]), dim=1).indices  # (L, K)
    width = config.search_width
    position = torch.randint(len(ids), (width,), generator=task.rng).to(ids.device)
    choice = torch.randint(promising.shape[1], (width,), generator=task.rng).to(ids.device)
    swapped = ids.repeat(width, 1)
    swapped[torch.arange(width, device=ids.device), position] = index.token_ids[promising[position, choice]]
    return swapped


def readable(task: InversionTask, candidates: Tensor) -> Tensor:
    """Distinct candidates whose text reads back as the same tokens; all where none does."""
    distinct = dict.fromkeys(tuple(row) for row in candidates.tolist())
    kept = [row for row in distinct if reads_back(task, row)]
    return torch.tensor(kept, device=candidates.device) if kept else candidates
