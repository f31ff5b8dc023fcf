"""Cosines of prompts with one target, whether they come as words, token ids, embeddings or text.

Candidates of one search step differ only after some position; what lies before it is run once and kept
as attention state (`TextTower.prefix`), where the tower is causal. Every position run is counted, padding included.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor

from invert.budget import Budget
from invert.lexicon import Prompt, ids_of, token_count
from invert.models.clip import Clip
from invert.models.overflow import checked
from invert.models.precision import at_least_float32

BATCH_TOKENS = 8192  # positions in one forward: enough to fill the cores or a card, small in memory
FINALISTS = 64  # best prompts of half precision that are compared once more in float32
MAX_PADDING = 0.1  # of a batch's positions, as a share of those that are needed
SMALL_BATCH = 128  # positions that take no longer than a batch's own overhead


class PromptScorer:
    """Scores prompts against one unit target (E,), and remembers the scores of those given as words."""

    def __init__(self, clip: Clip, target: Tensor, budget: Budget) -> None:
        self.clip, self.target, self.budget = clip, target, budget
        self.known: dict[tuple[int, ...], float] = {}

    @cached_property
    def exact(self) -> PromptScorer:
        """This scorer, or one on the model in float32: half precision tells prompts apart only to about a thousandth."""
        return self if self.clip.exact is self.clip else PromptScorer(self.clip.exact, self.target, self.budget)

    def fits(self, prompt: Prompt) -> bool:
        """Whether the prompt and its special tokens stay within the model's context."""
        return token_count(prompt) <= self.clip.max_prompt_tokens

    def score(self, prompts: Sequence[Prompt], shared: int = 0) -> list[float]:
        """Cosines of prompts that have their first `shared` words in common."""
        keys = [ids_of(prompt) for prompt in prompts]
        fresh = [key for key in dict.fromkeys(keys) if key not in self.known]
        if fresh:
            prefix = ids_of(prompts[0][:shared])
            self._run((*self.clip.frame.before, *prefix), [key[len(prefix) :] for key in fresh], fresh)
        return [self.known[key] for key in keys]

    @torch.no_grad()
    def score_ids(self, ids: Tensor) -> Tensor:
        """Cosines (B,) of prompts of one length, ids (B, L) without special tokens."""
        positions = self.clip.frame.positions(ids.shape[1])
        self.budget.spend(forward=len(ids) * positions)
        rows = max(1, BATCH_TOKENS // positions)
        latents = torch.cat([self.clip.encode_prompt_embeddings(self.clip.embed(part)) for part in ids.split(rows)])
        return latents.float() @ self.target

    def score_text(self, text: str) -> float:
        """Cosine of a text tokenized afresh, as a user's model will read it, in float32."""
        most = self.clip.max_prompt_tokens
        ids = torch.tensor([self.clip.tokenizer.encode(text)[:most]], dtype=torch.long, device=self.target.device)
        return float(checked(self.exact.score_ids(ids), self.exact.clip)[0])

    def score_embeddings(self, embeddings: Tensor) -> Tensor:
        """Cosines (B,) of prompts given as embeddings (B, L, D) without special tokens; differentiable."""
        self.budget.spend(forward=len(embeddings) * self.clip.frame.positions(embeddings.shape[1]))
        return self.clip.encode_prompt_embeddings(embeddings).float() @ self.target

    def score_and_gradient(self, embeddings: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines (B,) of prompts given as embeddings (B, L, D), and their gradients (B, L, D)."""
        positions = len(embeddings) * self.clip.frame.positions(embeddings.shape[1])
        self.budget.spend(forward=positions, backward=positions)
        return scores_and_gradients(self.clip, embeddings, self.target.expand(len(embeddings), -1))

    @torch.no_grad()
    def _run(self, prefix: tuple[int, ...], tails: list[tuple[int, ...]], keys: list[tuple[int, ...]]) -> None:
        """Run the tails after the shared prefix, those of similar length together."""
        tower, frame = self.clip.tower, self.clip.frame
        cache = None
        if tower.shares_prefixes and len(prefix) > len(frame.before) and len(tails) > 1:
            cache = tower.prefix(self.clip.embed(torch.tensor(prefix, device=self.clip.device)))
            self.budget.spend(forward=len(prefix))
        lead = () if cache is not None else prefix
        rows = [(*lead, *tail, *frame.after) for tail in tails]
        for part in batches([frame.length or len(row) for row in rows]):
            ids, eot = self.clip.pad([rows[i] for i in part])
            self.budget.spend(forward=ids.numel())
            embedded = self.clip.embed(ids)
            latents = tower.encode(embedded, eot) if cache is None else tower.encode_with_prefix(cache, embedded, eot)
            scores = torch.nn.functional.normalize(latents.float(), dim=-1) @ self.target
            for i, score in zip(part, checked(scores.cpu(), self.clip).tolist(), strict=True):
                self.known[keys[i]] = score


def scores_and_gradients(clip: Clip, embeddings: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Cosines (B,) of prompts given as embeddings (B, L, D) with their own targets (B, E), and the gradients (B, L, D).

    Both in float32, or in the wider type of the embeddings.
    """
    at = at_least_float32(embeddings.detach()).clone().requires_grad_(True)
    with torch.enable_grad():
        scores = torch.linalg.vecdot(clip.encode_prompt_embeddings(at).float(), targets)
        (gradient,) = torch.autograd.grad(scores.sum(), at)
    return scores.detach(), gradient


def padded_positions(lengths: Sequence[int]) -> int:
    """Positions of prompts of those lengths, padded to the longest of the batch that each is run in (see `batches`)."""
    total = rows = useful = last = 0
    for length in sorted(lengths):
        padded, useful = length * (rows + 1), useful + length
        if padded > BATCH_TOKENS or padded > useful * (1 + MAX_PADDING) + SMALL_BATCH:
            total, rows, useful = total + rows * last, 0, length
        rows, last = rows + 1, length
    return total + rows * last


def batches(lengths: Sequence[int]) -> list[list[int]]:
    """Indices of prompts that are run together, each batch sorted by length.

    A batch is padded to its longest prompt: as far as that wastes little, or is cheaper than another batch.
    """
    found: list[list[int]] = []
    useful = 0
    for i in sorted(range(len(lengths)), key=lengths.__getitem__):
        padded = lengths[i] * (len(found[-1]) + 1) if found else 0
        useful += lengths[i]
        if not found or padded > BATCH_TOKENS or padded > useful * (1 + MAX_PADDING) + SMALL_BATCH:
            found.append([])
            useful = lengths[i]
        found[-1].append(i)
    return found
