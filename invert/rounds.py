"""One round of a search: all moves on its prompts, scored together, and charged as if they came one by one.

A round asks for three things: the gradients of its prompts, the scores of all moves on them, those of pairs of the
best replacements. What they cost is counted afterwards, prompt by prompt (`invert.charging`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from invert.charging import Batch, prefetched, within_budget
from invert.found import Scored
from invert.moves import (
    INSERTED,
    REQUIRED,
    Moves,
    Phrases,
    Prompts,
    Splices,
    add_crossovers,
    add_deletions_and_swaps,
    add_insertions,
    add_parts,
    add_phrases,
    add_replacements,
)
from invert.together import Slopes, Steps
from invert.word_table import PAD

if TYPE_CHECKING:
    from invert.search import Search

MAX_LOG_PROB_DROP = 9.0  # nats: skip candidates this much less likely than the best word for the slot, or than the parent


class Round:
    """Changes prompts by one move each.

    parents: the prompts that the search started from. phrases: those that may be put in.
    """

    def __init__(self, search: Search, parents: Prompts, phrases: Phrases) -> None:
        self.search, self.prior, self.config = search, search.batched_prior, search.config
        self.parents, self.phrases = parents, phrases

    def expand(self, prompts: Prompts) -> Steps[list[Scored]]:
        """Every prompt one move away that is worth scoring, then pairs of the best replacements."""
        estimates = yield from self.estimated_gains(prompts)
        moves = self.moves(prompts, estimates)
        least = self.prior.log_probs(*prompts) - MAX_LOG_PROB_DROP
        likely = self.prior.log_probs(moves.rows, moves.lengths) >= least[moves.prompt]
        moves = moves.of(likely | (self.search.missing_rows(prompts.rows) > 0)[moves.prompt])
        return (yield from self._scored(prompts, self._batch(moves), pairs=True))

    def refine(self, prompts: Prompts) -> Steps[list[Scored]]:
        """Every content word of the prompts against many more words than `expand` tries."""
        estimates = yield from self.estimated_gains(prompts)
        prompt, slot = prompts.slots(ends=False)
        says = ~self.search.table.columns.joins[prompts.rows[prompt, slot]]
        splices = Splices(prompts)
        words = self.replacements(prompts, prompt[says], slot[says], estimates[says], self.config.refine_replacements)
        add_replacements(splices, prompt[says], slot[says], words)
        moves = splices.build(self.search.config.max_tokens)
        return (yield from self._scored(prompts, self._batch(moves), pairs=False))

    # Moves ------------------------------------------------------------------------------------

    def moves(self, prompts: Prompts, estimates: Tensor) -> Moves:
        """All moves on the prompts; estimates as from `estimated_gains`."""
        search, config = self.search, self.config
        both = self._both(prompts)
        splices = Splices(both)
        prompt, slot = prompts.slots(ends=True)
        if len(search.required):
            add_insertions(splices, prompts, REQUIRED, search.required_numbers.expand(len(slot), -1))
        likely = self.prior.likely_words(*prompts, prompt, slot, config.insertions)
        chosen = search.proposal_words[: config.insertions].expand(len(slot), -1) if likely is None else likely
        add_insertions(splices, prompts, INSERTED, chosen + 1)
        prompt, slot = prompts.slots(ends=False)
        add_replacements(splices, prompt, slot, self.replacements(prompts, prompt, slot, estimates, config.replacements))
        add_deletions_and_swaps(splices, prompts)
        add_crossovers(splices, prompts, self.parents, self.prior, len(prompts.rows))
        add_phrases(splices, prompts, self.phrases, self.prior)
        add_parts(splices, prompts)
        return splices.build(config.max_tokens)

    def _both(self, prompts: Prompts) -> Prompts:
        """The prompts and the parents, in one tensor."""
        width = max(prompts.rows.shape[1], self.parents.rows.shape[1])
        rows = [torch.nn.functional.pad(one.rows, (0, width - one.rows.shape[1])) for one in (prompts, self.parents)]
        return Prompts(torch.cat(rows), torch.cat([prompts.lengths, self.parents.lengths]))

    def estimated_gains(self, prompts: Prompts) -> Steps[Tensor]:
        """(S, W) float32 for all slots of the prompts: the first-order change of the cosine by a word in its place.

        As if its mean token embedding stood there. On the model's device.
        """
        scorer, table = self.search.scorer, self.search.table
        ids, eot = table.token_ids(prompts.rows, scorer.clip.frame)
        embeddings, slopes = yield Slopes(ids, eot, scorer.target)
        lengths = table.token_lengths(prompts.rows)
        prompt, slot = prompts.slots(ends=False)
        first = (
            len(scorer.clip.frame.before) + (lengths.cumsum(1) - lengths)[prompt, slot]
        )  # (S,) the position of each word's first token
        at = first[:, None] + torch.arange(int(lengths.max()))
        inside = (torch.arange(at.shape[1]) < lengths[prompt, slot][:, None]).to(embeddings.device)[..., None]
        place = prompt[:, None].to(embeddings.device), at.clamp(max=embeddings.shape[1] - 1).to(embeddings.device)
        pull, own = slopes[place] * inside, embeddings[place]  # (S, longest, D)
        means = self.search.bundle.token_index.word_means
        return (pull.sum(1) @ means.T - (own * pull).sum((1, 2))[:, None]).float()

    def replacements(self, prompts: Prompts, prompt: Tensor, slot: Tensor, estimates: Tensor, n: int) -> Tensor:
        """(S, ·) numbers of words worth a score in place of one, PAD behind them: by the gradient's estimates (S, W)
        and the prior, and the proposed."""
        log_p = self.prior.slot_log_probs(*prompts, prompt, slot, insert=False)
        if not len(slot):
            return torch.zeros(0, 1, dtype=torch.long)
        log_p = moved(log_p, estimates.device)
        plausible = log_p >= log_p.amax(1, keepdim=True) - MAX_LOG_PROB_DROP
        gain = (estimates + self.config.language_weight * log_p).masked_fill(~plausible, -torch.inf)
        top = gain.topk(min(n, gain.shape[1]))
        best = (top.indices + 1).masked_fill(top.values == -torch.inf, PAD)
        proposed = self.search.proposal_words.to(estimates.device)
        extra = torch.where(plausible[:, proposed], proposed + 1, PAD)
        again = (extra[:, :, None] == best[:, None]).any(2)
        words = torch.cat([best, extra.masked_fill(again, PAD)], 1).cpu()  # the one wait for the device
        return words.masked_fill(words == prompts.rows[prompt, slot][:, None], PAD)

    def pairs(self, prompts: Prompts, batch: Batch, chosen: Sequence[int]) -> Batch | None:
        """Two replacements at once in each of the chosen prompts, those first whose objectives alone add up to most."""
        objectives = batch.objectives()
        parts = [self._pairs_of(prompts.rows[i], i, batch, objectives) for i in chosen]
        made = [part for part in parts if part is not None]
        if not made:
            return None
        rows, slots = (torch.cat([part[k] for part in made]) for k in range(2))
        prompt = torch.cat([torch.full_like(part[1], i) for i, part in zip(chosen, parts, strict=True) if part is not None])
        return Batch(self.search, rows, prompt, slots, torch.full_like(slots, PAD))

    def _pairs_of(self, row: Tensor, i: int, batch: Batch, objectives: Tensor) -> tuple[Tensor, Tensor] | None:
        """The pairs (N, L) in the i-th prompt (L,), and the first slot (N,) of each; the best of each slot are combined."""
        pool = []
        for group in (group for group in batch.groups if group.prompt == i):
            put = group.begin + batch.words[group.begin : group.end].nonzero()[:, 0]
            if len(put):
                values, order = objectives[put].sort(descending=True, stable=True)
                order = order[: self.config.pair_pool]
                pool.append((float(values[0]), group.slot, values[: len(order)], batch.words[put[order]]))
        pool.sort(key=lambda of_slot: -of_slot[0])
        if len(pool) < 2 or not self.config.pairs:
            return None
        values, words = torch.cat([of_slot[2] for of_slot in pool]), torch.cat([of_slot[3] for of_slot in pool])
        sizes = torch.tensor([len(of_slot[3]) for of_slot in pool])
        slots = torch.tensor([of_slot[1] for of_slot in pool]).repeat_interleave(sizes)
        rank = torch.arange(len(pool)).repeat_interleave(sizes)
        fits = (slots[:, None] < slots) & (rank[:, None] < rank)
        sums = torch.where(fits, values[:, None] + values, -torch.inf).flatten()
        best = sums.topk(min(self.config.pairs, len(sums))).indices
        best = best[sums[best] > -torch.inf].sort().values
        best = best[sums[best].sort(descending=True, stable=True).indices]
        a, b = best // len(values), best % len(values)
        rows, at = row.repeat(len(best), 1), torch.arange(len(best))
        rows[at, slots[a]], rows[at, slots[b]] = words[a], words[b]
        return rows, slots[a]

    # Scoring ----------------------------------------------------------------------------------

    def _batch(self, moves: Moves) -> Batch:
        return Batch(self.search, moves.rows, moves.prompt, moves.slot, moves.word)

    def _scored(self, prompts: Prompts, batch: Batch, pairs: bool) -> Steps[list[Scored]]:
        """What the budget reaches of a batch and of the pairs that follow from it, prompt by prompt."""
        search, budget = self.search, self.search.scorer.budget
        positions = [search.scorer.clip.frame.positions(n) for n in search.table.token_counts(prompts.rows).tolist()]
        ahead = range(within_budget(batch, positions))
        yield from prefetched(search, [(batch, [group for group in batch.groups if group.prompt in ahead])])
        combined = self.pairs(prompts, batch, ahead) if pairs else None
        if combined is not None:
            yield from prefetched(search, [(combined, combined.groups)])
        batches = [batch] if combined is None else [batch, combined]
        for i in range(len(positions)):
            if budget.exhausted:
                break
            budget.spend(forward=positions[i], backward=positions[i])
            yield from batch.replayed([group for group in batch.groups if group.prompt == i])
            second = combined
            if pairs and i not in ahead:
                second = self.pairs(prompts, batch, [i])
                batches += [] if second is None else [second]
            if second is not None:
                yield from second.replayed([group for group in second.groups if group.prompt == i])
        return [one.scored() for one in batches]


def moved(x: Tensor, device: torch.device) -> Tensor:
    """x on the device; along dimensions where it is expanded only the one number is moved."""
    own = x[tuple(slice(1) if step == 0 else slice(None) for step in x.stride())]
    return own.to(device).expand(x.shape)
