"""A language model beside the bundle's prior: it proposes words, and judges the best prompts of each round anew.

With a share m, language counts (1 − m) times what the bundle's prior says plus m times what the model says: 0 is the bundle's
alone, 1 the model's alone. Each is measured from what prompts of that length usually have (`per_token`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from invert.lexicon import text_of
from invert.prior.batched import BatchedPrior
from invert.prior.causal_lm import CausalLanguageModel
from invert.word_table import PAD

if TYPE_CHECKING:
    from invert.bundle import ModelBundle
    from invert.found import Pool
    from invert.search import Search

RESCORED = 24  # prompts that the model judges at once
SETTLED = 8  # best prompts that must all have been judged
PASSES = 3  # times that it judges in one round, at most
SAMPLES = 48  # prompts of the corpus that tell what is usual
SENTENCES = ("a photo of a dog on a beach", "an oil painting of two boats in a harbor", "a small red house under a cloudy sky")


class Rescorer:
    """One bundle's words under one language model."""

    def __init__(self, model: CausalLanguageModel, bundle: ModelBundle, share: float) -> None:
        """share: of the model in what language counts, 0 to 1."""
        self.model, self.share = model, share
        lexicon = bundle.lexicon
        known = bundle.corpus.prompts
        usual = known[:: max(1, len(known) // SAMPLES)][:SAMPLES] or SENTENCES
        tokens = sum(len(lexicon.encode(text)) for text in usual)
        self.per_token = float(model.log_probs(usual).sum()) / max(1, tokens)  # a token of the text encoder
        texts = [word.text for word in lexicon.words]
        # (2, W): the model's first token of each word, where it begins a prompt and behind a space; -1 for none
        firsts = [model.first_tokens([lead + text for text in texts]) for lead in ("", " ")]
        self.first_tokens = torch.tensor(firsts, device=model.model.device)

    def rescore(self, search: Search, pool: Pool) -> None:
        """Judge the pool's best prompts, until the best of all were judged; what it takes goes to the budget."""
        before = self.model.positions
        for _ in range(PASSES):
            order = pool.best_first()
            fresh = order[[key not in search.rescored for key in pool.found.keys[order].tolist()]][:RESCORED]
            if not len(fresh) or not torch.isin(order[:SETTLED], fresh).any():
                break
            self._judge(search, pool, fresh)
        search.scorer.budget.language_tokens += self.model.positions - before

    def _judge(self, search: Search, pool: Pool, chosen: Tensor) -> None:
        rows = pool.found.rows[chosen]
        tokens = search.table.token_counts(rows).double()
        own = search.batched_prior.log_probs(rows, (rows != PAD).sum(1)) - search.prior.per_token * tokens
        said = self.model.log_probs([text_of(search.table.prompt(row)) for row in rows]) - self.per_token * tokens
        pool.found.objectives[chosen] += search.config.language_weight * self.share * (said - own)
        search.rescored.update(pool.found.keys[chosen].tolist())

    def proposing(self, base: BatchedPrior, search: Search) -> BatchedPrior:
        """The bundle's prior with the model's words among those that it proposes."""
        return Proposing(base, self, search)

    def word_log_probs(self, prompts: Sequence[Sequence[str]]) -> list[Tensor]:
        """Of each prompt, given as L words, log p (L + 1, W) float32 on the CPU of each word's first token at each slot."""
        found = []
        for log_p in self.model.next_log_probs(prompts):
            first = self.first_tokens[[0] + [1] * (len(log_p) - 1)]  # (L + 1, W)
            found.append(log_p.gather(1, first.clamp(min=0)).masked_fill(first < 0, log_p.min()).cpu())
        return found


class Proposing:
    """A bundle's prior for rows of words, with the model's words among those that it proposes; `BatchedPrior`."""

    def __init__(self, base: BatchedPrior, rescorer: Rescorer, search: Search) -> None:
        self.base, self.rescorer, self.table, self.search = base, rescorer, search.table, search
        self._told: dict[tuple[str, ...], Tensor] = {}  # of the round's prompts: (L + 1, W)

    def slot_log_probs(self, rows: Tensor, lengths: Tensor, prompt: Tensor, slot: Tensor, insert: bool) -> Tensor:
        share = self.rescorer.share
        own = self.base.slot_log_probs(rows, lengths, prompt, slot, insert)
        return own * (1 - share) + share * self._model(rows, prompt, slot) if len(slot) else own

    def likely_words(self, rows: Tensor, lengths: Tensor, prompt: Tensor, slot: Tensor, n: int) -> Tensor | None:
        log_p = self.slot_log_probs(rows, lengths, prompt, slot, insert=True)
        return log_p.topk(min(n, log_p.shape[1])).indices

    def log_probs(self, rows: Tensor, lengths: Tensor) -> Tensor:
        return self.base.log_probs(rows, lengths)

    def contexts(self, rows: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor] | None:
        return self.base.contexts(rows, lengths)

    def cuts(self, rows: Tensor, lengths: Tensor, others: Tensor, other_lengths: Tensor) -> Tensor:
        return self.base.cuts(rows, lengths, others, other_lengths)

    def _model(self, rows: Tensor, prompt: Tensor, slot: Tensor) -> Tensor:
        before = self.rescorer.model.positions
        texts = [tuple(word.text for word in self.table.prompt(row)) for row in rows]
        missing = [words for words in dict.fromkeys(texts) if words not in self._told]
        if missing:
            self._told = {words: told for words, told in self._told.items() if words in texts}
            self._told |= dict(zip(missing, self.rescorer.word_log_probs(missing), strict=True))
        self.search.scorer.budget.language_tokens += self.rescorer.model.positions - before
        return torch.stack([self._told[texts[i]][at] for i, at in zip(prompt.tolist(), slot.tolist(), strict=True)])
