"""Prompts as rows of words → their cosine with the target, in batches that share a prefix.

Candidates of one search step differ from each other only after some position; what lies before it
is run once and kept as attention state (`TextTower.prefix`). Every position run is counted.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from invert.clip import Clip
from invert.meter import Meter
from invert.soft import framed
from invert.vocabulary import Vocabulary, Word

BATCH_TOKENS = 8192  # positions in one forward: enough to fill the cores or a card, small in memory

Row = tuple[Word, ...]  # a prompt as words


def text_of(row: Iterable[Word]) -> str:
    return " ".join(word.text for word in row)


class Scorer:
    """Scores rows of words against one target latent (E,), remembering every score it paid for."""

    def __init__(self, clip: Clip, vocabulary: Vocabulary, target: Tensor, meter: Meter) -> None:
        self.clip = clip
        self.vocabulary = vocabulary
        self.target = target
        self.meter = meter
        self.known: dict[tuple[int, ...], float] = {}

    def ids(self, row: Row) -> tuple[int, ...]:
        return tuple(token for word in row for token in word.ids)

    def fits(self, row: Row) -> bool:
        """Whether the row and its two special tokens stay within the model's context."""
        return len(self.ids(row)) + 2 <= self.clip.context_length

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
        """Run the tails after the shared prefix, those of one length together so that none is padded."""
        device = self.clip.device
        cache = None
        if len(prefix) > 1 and len(tails) > 1:
            cache = self.clip.tower.prefix(self.clip.embed(torch.tensor(prefix, device=device)))
            self.meter.spend(forward=len(prefix))
        lead = () if cache is not None else prefix
        by_length: dict[int, list[int]] = defaultdict(list)
        for i, tail in enumerate(tails):
            by_length[len(tail)].append(i)
        for length, members in by_length.items():
            positions = len(lead) + length + 1
            batch = max(1, BATCH_TOKENS // positions)
            for part in (members[i : i + batch] for i in range(0, len(members), batch)):
                ids = torch.tensor([(*lead, *tails[i], self.clip.end_id) for i in part], device=device)
                self.meter.spend(forward=ids.numel())
                eot = torch.full((len(part),), positions - 1, device=device)
                rows = self.clip.embed(ids)
                tower = self.clip.tower
                latents = tower.encode(rows, eot) if cache is None else tower.encode_with_prefix(cache, rows, eot)
                scores = torch.nn.functional.normalize(latents.float(), dim=-1) @ self.target
                for i, score in zip(part, scores.tolist(), strict=True):
                    self.known[keys[i]] = score
