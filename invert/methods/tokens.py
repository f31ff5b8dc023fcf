"""What the token-level methods share: prompts as ids (B, L) → cosines, and ids → the prompts handed back.

Prompts of one length go through the tower together, up to end-of-text and no farther, so that PEZ, GCG
and random search pay for L + 2 positions and not for the 77 that their published code runs.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from invert.methods import Problem, Solution
from invert.scorer import BATCH_TOKENS

Found = dict[tuple[int, ...], float]  # token ids of a prompt → its cosine


@torch.no_grad()
def score_ids(problem: Problem, ids: Tensor) -> Tensor:
    """Cosines (B,) of prompts ids (B, L), special tokens not included; every position run is counted."""
    clip = problem.clip
    edges = torch.tensor([[clip.start_id, clip.end_id]], device=ids.device).expand(len(ids), 2)
    framed = torch.cat([edges[:, :1], ids, edges[:, 1:]], 1)
    problem.meter.spend(forward=framed.numel())
    rows = max(1, BATCH_TOKENS // framed.shape[1])
    latents = torch.cat([clip.encode_embeddings(clip.embed(part)) for part in framed.split(rows)])
    return latents.float() @ problem.target


def random_ids(problem: Problem, shape: tuple[int, ...]) -> Tensor:
    """Token ids of that shape, drawn evenly from the vocabulary by the problem's generator."""
    allowed = problem.vocabulary.token_ids
    return allowed[torch.randint(len(allowed), shape, generator=problem.generator).to(allowed.device)]


def decoded(problem: Problem, ids: Iterable[int]) -> str:
    return problem.clip.tokenizer.decode(list(ids)).strip()


def reads_back(problem: Problem, ids: tuple[int, ...]) -> bool:
    """Whether the decoded text is cut into the same tokens again: else its score is another prompt's."""
    return tuple(problem.clip.tokenizer.encode(decoded(problem, ids))) == ids


def solution(problem: Problem, found: Found) -> Solution:
    """The best distinct prompts as texts, each scored as the text that it is."""
    best = sorted(found, key=lambda ids: -found[ids])[: problem.config.top]
    texts = list(dict.fromkeys(decoded(problem, ids) for ids in best))
    return Solution(sorted(((text, score_text(problem, text)) for text in texts), key=lambda pair: -pair[1]))


def score_text(problem: Problem, text: str) -> float:
    """Cosine of a text cut into tokens afresh, as a user's model will cut it."""
    most = problem.clip.context_length - 2
    ids = torch.tensor([problem.clip.tokenizer.encode(text)[:most]], dtype=torch.long, device=problem.target.device)
    return float(score_ids(problem, ids)[0])
