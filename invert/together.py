"""Searches that run side by side, and the text encoder that answers all of them at once.

A search is a generator: it yields what it wants to know of prompts (`Scores`, `Slopes`), and is sent the answer. One
search alone is answered as it asks; of several, the questions of one turn go through the encoder as one batch.
A question knows nothing of the others, and its answer does not depend on them: every picture keeps its own budget,
history and prompts.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from invert.budget import Budget
from invert.models.clip import Clip
from invert.models.overflow import checked
from invert.models.shared_prefixes import LEAST_ROWS, encode_rows, encode_sharing, rounded_up

CPU_ROWS, CUDA_ROWS = 512, 16_384  # prompts that go through the tower at once: a CPU's caches hold no more
TIMED_ROWS = 64  # prompts between two looks at the clock, where seconds are limited or the caller may stop
T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Scores:
    """Asks for cosines (N,) float32 on the CPU: NaN for those not reached within the budget's seconds.

    Attributes:
        ids: (N, L) int64 on the CPU, special tokens included; anything after end-of-text.
        eot: (N,) where that stands.
        target: unit latent (E,).
        budget: its seconds count; what was scored is charged by the search.
    """

    ids: Tensor
    eot: Tensor
    target: Tensor
    budget: Budget


@dataclass(frozen=True, eq=False)
class Slopes:
    """Asks for prompts' embeddings and the gradients of their cosines: both (N, L, D) on the model's device.

    ids, eot, target: as in `Scores`.
    """

    ids: Tensor
    eot: Tensor
    target: Tensor


Question = Scores | Slopes
Steps = Generator[Question, Any, T]


def alone(search: Steps[T], clip: Clip) -> T:
    """What one search returns."""
    return together([search], clip)[0]


def together(searches: Sequence[Steps[T]], clip: Clip) -> list[T]:
    """What the searches return, all of one model."""
    found: dict[int, T] = {}
    answers: dict[int, Any] = dict.fromkeys(range(len(searches)))
    while answers:
        asked: dict[int, Question] = {}
        for i, answer in answers.items():
            try:
                asked[i] = searches[i].send(answer)
            except StopIteration as stop:
                found[i] = stop.value
        scores = {i: question for i, question in asked.items() if isinstance(question, Scores)}
        slopes = {i: question for i, question in asked.items() if isinstance(question, Slopes)}
        answers = {
            **dict(zip(scores, cosines(clip, list(scores.values())), strict=True)),
            **dict(zip(slopes, gradients(clip, list(slopes.values())), strict=True)),
        }
    return [found[i] for i in range(len(searches))]


@torch.no_grad()
def cosines(clip: Clip, questions: Sequence[Scores]) -> list[Tensor]:
    """The answers to `Scores`, from as few batches as fit; the one wait for the device is the copy of all of them."""
    if not questions:
        return []
    ids, eot, targets = stacked(clip, questions)
    budgets = [question.budget for question in questions]
    limited = any(budget.max_seconds is not None or budget.stop is not None for budget in budgets)
    step = TIMED_ROWS if limited else CUDA_ROWS if clip.device.type == "cuda" else CPU_ROWS
    parts: list[Tensor] = []
    reached = 0
    for begin in range(0, len(eot), step):
        if begin and limited and all(budget.out_of_time for budget in budgets):
            break
        part = slice(begin, begin + step)
        parts += [cosines_of_rows(clip, ids[part], eot[part], targets[part])]
        reached = min(begin + step, len(eot))
    found = checked(torch.cat(parts).cpu(), clip)  # before NaN stands for those that were not reached
    found = torch.cat([found, found.new_full((len(eot) - reached,), torch.nan)])
    return list(found.split([len(question.eot) for question in questions]))


def cosines_of_rows(clip: Clip, ids: Tensor, eot: Tensor, targets: Tensor) -> Tensor:
    """(N,) on the model's device."""
    order, latents = encoded_rows(clip, ids, eot)
    parts = [(part * targets[chosen.to(clip.device)]).sum(-1) for chosen, part in zip(order, latents, strict=True)]
    found = torch.empty(len(eot), device=clip.device)
    found[torch.cat(order).to(clip.device)] = torch.cat(parts)
    return found


def latents_of_rows(clip: Clip, ids: Tensor, eot: Tensor) -> Tensor:
    """Unit latents (N, E) float32 on the model's device; ids, eot: as in `Scores`."""
    order, latents = encoded_rows(clip, ids, eot)
    return torch.cat(latents)[torch.cat(order).argsort().to(clip.device)]


def encoded_rows(clip: Clip, ids: Tensor, eot: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Which prompts went through the tower together, and their unit latents: those whose rows are rounded up to one length."""
    kinds = row_lengths(clip, eot)
    order, parts = [], []
    for length in kinds.unique().tolist():
        chosen = (kinds == length).nonzero()[:, 0]
        rows = F.pad(ids[chosen, :length], (0, max(0, length - ids.shape[1])), value=clip.frame.pad)
        rows, ends = rows.to(clip.device), eot[chosen].to(clip.device)
        shares = clip.tower.shares_prefixes
        latents = encode_sharing(clip.tower, rows, ends) if shares else clip.tower.encode(clip.embed(rows), ends)
        parts.append(F.normalize(latents.float(), dim=-1))
        order.append(chosen)
    return order, parts


def gradients(clip: Clip, questions: Sequence[Slopes]) -> list[tuple[Tensor, Tensor]]:
    """The answers to `Slopes`."""
    if not questions:
        return []
    ids, eot, targets = stacked(clip, questions)
    kinds = row_lengths(clip, eot, LEAST_ROWS)
    shape = len(eot), int(kinds.max()), clip.token_embeddings.shape[1]
    precise = torch.promote_types(clip.dtype, torch.float32)
    embeddings, slopes = (torch.zeros(shape, dtype=precise, device=clip.device) for _ in range(2))
    for length in kinds.unique().tolist():
        chosen = (kinds == length).nonzero()[:, 0]
        rows = F.pad(ids[chosen, :length], (0, max(0, length - ids.shape[1])), value=clip.frame.pad)
        on_device = chosen.to(clip.device)
        at = clip.embed(rows.to(clip.device)).detach().to(precise).requires_grad_(True)
        with torch.enable_grad():
            encode = partial(encode_rows, clip.tower) if clip.tower.shares_prefixes else clip.tower.encode
            latents = F.normalize(encode(at.to(clip.dtype), eot[chosen].to(clip.device)).to(precise), dim=-1)
            (slope,) = torch.autograd.grad((latents.float() * targets[on_device]).sum(), at)
        embeddings[on_device, :length], slopes[on_device, :length] = at.detach(), slope
    sizes = [len(question.eot) for question in questions]
    return list(zip(embeddings.split(sizes), slopes.split(sizes), strict=True))


def row_lengths(clip: Clip, eot: Tensor, least: int = 0) -> Tensor:
    """(N,): positions of the rows that prompts with those ends (N,) are run in; where padding is read they are not rounded up."""
    if clip.frame.length is not None:
        return torch.full_like(eot, clip.frame.length)
    if not clip.tower.shares_prefixes:
        return eot + 1
    return rounded_up(eot + 1).clamp(min=least).clamp(max=clip.context_length)


def stacked(clip: Clip, questions: Sequence[Question]) -> tuple[Tensor, Tensor, Tensor]:
    """All rows of the questions: ids (N, L) and eot (N,) on the CPU, targets (N, E) on the model's device."""
    width = max(question.ids.shape[1] for question in questions)
    ids = torch.cat([F.pad(one.ids, (0, width - one.ids.shape[1]), value=clip.frame.pad) for one in questions])
    counts = torch.tensor([len(question.eot) for question in questions])
    targets = torch.stack([question.target for question in questions])
    which = torch.arange(len(questions)).repeat_interleave(counts).to(clip.device)
    return ids, torch.cat([question.eot for question in questions]), targets[which]
