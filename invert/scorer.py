"""Prompts as rows of words → their cosine with the target, in batches that share a prefix.

Candidates of one search step differ from each other only after some position; what lies before it
is run once and kept as attention state (`TextTower.prefix`). Every position run is counted.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from invert.meter import Meter
from invert.models.clip import Clip
from invert.soft import framed
from invert.vocabulary import Vocabulary, Word

BATCH_TOKENS = 8192  # positions in one forward: enough to fill the cores or a card, small in memory
MOST_PADDING = 0.1  # of a batch's positions, as a share of those that are needed
SMALL_BATCH = 128  # positions that take no longer than a batch's own overhead

Row = tuple[Word, ...]  # a prompt as words


def text_of(row: Iterable[Word]) -> str:
    return " ".join([word.text for word in row])


def length(row: Row) -> int:
    """Tokens of a row."""
    return sum([len(word.ids) for word in row])


class Scorer:
    """Scores rows of words against one target latent (E,), remembering every score it paid for."""

    def __init__(self, clip: Clip, vocabulary: Vocabulary, target: Tensor, meter: Meter) -> None:
        self.clip = clip
        self.vocabulary = vocabulary
        self.target = target
        self.meter = meter
        self.known: dict[tuple[int, ...], float] = {}

    def ids(self, row: Row) -> tuple[int, ...]:
        return tuple(itertools.chain.from_iterable(word.ids for word in row))

    def fits(self, row: Row) -> bool:
        """Whether the row and its two special tokens stay within the model's context."""
        return length(row) + 2 <= self.clip.context_length

    def gradient(self, rows: Tensor) -> Tensor:
        """The gradient (L, D) of a prompt's cosine on its token rows (L, D), special tokens not included."""
        variable = rows.detach()[None].requires_grad_(True)
        with torch.enable_grad():
            score = self.clip.encode_embeddings(framed(self.clip, variable)).float() @ self.target
            (gradient,) = torch.autograd.grad(score.sum(), variable)
        self.meter.spend(forward=len(rows) + 2, backward=len(rows) + 2)
        return gradient[0]

    def score(self, rows: Sequence[Row], shared: int = 0) -> list[float]:
        """Cosine of each row with the target. All rows have their first `shared` words in common."""
        keys = [self.ids(row) for row in rows]
        fresh = [key for key in dict.fromkeys(keys) if key not in self.known]
        if fresh:
            prefix = self.ids(rows[0][:shared])
            self._run((self.clip.start_id, *prefix), [key[len(prefix) :] for key in fresh], fresh)
        return [self.known[key] for key in keys]

    @torch.no_grad()
    def _run(self, prefix: tuple[int, ...], tails: list[tuple[int, ...]], keys: list[tuple[int, ...]]) -> None:
        """Run the tails after the shared prefix, those of similar length together."""
        device, end = self.clip.device, self.clip.end_id
        cache = None
        if len(prefix) > 1 and len(tails) > 1:
            cache = self.clip.tower.prefix(self.clip.embed(torch.tensor(prefix, device=device)))
            self.meter.spend(forward=len(prefix))
        lead = () if cache is not None else prefix
        rows = [(*lead, *tail, end) for tail in tails]
        for part in batches([len(row) for row in rows]):
            longest = len(rows[part[-1]])
            ids = torch.tensor([rows[i] + (end,) * (longest - len(rows[i])) for i in part], device=device)
            eot = torch.tensor([len(rows[i]) - 1 for i in part], device=device)
            self.meter.spend(forward=ids.numel())
            embedded, tower = self.clip.embed(ids), self.clip.tower
            latents = tower.encode(embedded, eot) if cache is None else tower.encode_with_prefix(cache, embedded, eot)
            scores = torch.nn.functional.normalize(latents.float(), dim=-1) @ self.target
            for i, score in zip(part, scores.tolist(), strict=True):
                self.known[keys[i]] = score


def batches(lengths: Sequence[int]) -> list[list[int]]:
    """Indices of rows that are run together, each batch sorted by length.

    A batch is padded to its longest row: as far as that wastes little, or is cheaper than a batch more.
    """
    found: list[list[int]] = []
    useful = 0
    for i in sorted(range(len(lengths)), key=lengths.__getitem__):
        padded = lengths[i] * (len(found[-1]) + 1) if found else 0
        useful += lengths[i]
        if not found or padded > BATCH_TOKENS or padded > useful * (1 + MOST_PADDING) + SMALL_BATCH:
            found.append([])
            useful = lengths[i]
        found[-1].append(i)
    return found
