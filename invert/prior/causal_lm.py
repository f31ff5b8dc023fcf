"""A causal language model of transformers as prior: how likely a prompt is as text, whatever the tokenizer.

A search scores thousands of prompts, and a language model is as large as the text encoder. So the bundle's own prior judges
all of them, and the model the best few of each round, as speech recognition rescores an n-best list (Chow and Schwartz,
1989), and the words that may follow at each slot of the prompts in hand. What texts have in common at their beginning
is run once and kept as KV cache.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from invert.errors import InputError
from invert.models.auto import check_kind, folder_of, load_pair
from invert.models.checks import SAMPLES, check_vocabulary

ROWS = 32  # texts that go through the model at once
LEAST_SHARED = 3  # tokens at the beginning of texts that are worth a run of their own
MOST_KNOWN = 200_000  # texts whose log p is kept
ENDS = (".", "\n")  # what ends a sentence beside the end-of-text token


class CausalLanguageModel:
    """Log-probabilities of texts. All logarithms are natural.

    Attributes:
        positions: tokens that the model has run through, in all.
    """

    def __init__(self, name: str, model: Any, tokenizer: Any) -> None:
        """model, tokenizer: of transformers, the model on its device, frozen.

        Raises:
            InputError: the tokenizer cannot encode prompts, or is another model's.
        """
        self.name, self.model, self.tokenizer = name, model, tokenizer
        self.positions = 0
        rows = model.get_output_embeddings().weight.shape[0]
        check_vocabulary(name, [self.encode(text) for text in SAMPLES], len(tokenizer), rows)
        unknown = tokenizer.unk_token_id
        if unknown is not None and all(token == unknown for text in SAMPLES for token in self.encode(text)):
            raise InputError(f"the tokenizer of the language model {name!r} reads no English words: give another `language`")
        begin = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
        self.begin: tuple[int, ...] = () if begin is None else (begin,)
        marks = [self.encode(mark) for mark in ENDS]
        ends = {ids[0] for ids in marks if len(ids) == 1} | {tokenizer.eos_token_id}
        self.ends = torch.tensor(sorted(ends - {None, unknown}), device=model.device)
        taken = inspect.signature(model.forward).parameters  # newer versions of transformers call it otherwise
        self.cache_name = "cache" if "cache" in taken else "past_key_values"
        self._known: dict[str, float] = {}

    def encode(self, text: str) -> list[int]:
        """Token ids without special tokens."""
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    @torch.inference_mode()
    def log_probs(self, texts: Sequence[str]) -> Tensor:
        """log p (N,) float64 of whole texts, the end of the sentence included; on the CPU."""
        fresh = [text for text in dict.fromkeys(texts) if text not in self._known]
        if len(self._known) + len(fresh) > MOST_KNOWN:
            self._known.clear()
            fresh = list(dict.fromkeys(texts))
        rows = {text: (*self.begin, *self.encode(text)) for text in fresh}
        for group in shared_beginnings(sorted(fresh, key=rows.__getitem__), rows):
            self._known.update(zip(group, self._run([rows[text] for text in group]), strict=True))
        return torch.tensor([self._known[text] for text in texts], dtype=torch.float64)

    def _run(self, rows: list[tuple[int, ...]]) -> list[float]:
        """log p of rows of ids; their common beginning is run once."""
        shared = min(common_length(rows), min(map(len, rows)) - 1)  # at least one token is left to run
        if len(rows) == 1 or shared < LEAST_SHARED:
            return self._scored(rows, None, 0, torch.empty(0)).tolist()
        prefix = torch.tensor([rows[0][:shared]], device=self.model.device)
        output = self.model(prefix, use_cache=True)
        self.positions += shared
        log_p: Tensor = output.logits[0].float().log_softmax(-1)  # (shared, V)
        inside = log_p[:-1].gather(1, prefix[0, 1:, None]).sum()
        cache = getattr(output, self.cache_name if self.cache_name in output else "past_key_values")
        cache.batch_repeat_interleave(len(rows))
        scores: list[float] = (inside + self._scored(rows, cache, shared, log_p[-1])).tolist()
        return scores

    def _scored(self, rows: list[tuple[int, ...]], cache: Any, shared: int, before: Tensor) -> Tensor:
        """(N,) log p of what lies behind `shared` tokens, whose next-token log p (V,) is `before`."""
        device, longest = self.model.device, max(map(len, rows)) - shared
        ids = torch.zeros(len(rows), longest, dtype=torch.long, device=device)
        lengths = torch.tensor([len(row) - shared for row in rows], device=device)
        for i, row in enumerate(rows):
            ids[i, : len(row) - shared] = torch.tensor(row[shared:], device=device)
        real = torch.arange(longest, device=device) < lengths[:, None]
        seen = torch.cat([torch.ones(len(rows), shared, dtype=torch.long, device=device), real.long()], 1)
        output = self.model(ids, attention_mask=seen, use_cache=cache is not None, **{self.cache_name: cache})
        self.positions += ids.numel()
        log_p: Tensor = output.logits.float().log_softmax(-1)  # (N, longest, V)
        steps = log_p[:, :-1].gather(2, ids[:, 1:, None])[..., 0].masked_fill(~real[:, 1:], 0).sum(1)
        if shared:
            steps = steps + before[ids[:, 0]]
        if not len(self.ends):
            return steps
        last = log_p[torch.arange(len(rows), device=device), lengths - 1]
        return steps + last[:, self.ends].logsumexp(1)

    @torch.inference_mode()
    def next_log_probs(self, words: Sequence[str], slots: Sequence[int]) -> Tensor:
        """(S, V) float32: log p of every token behind the first `slot` words of a prompt; on the model's device.

        Zeros for slot 0 where the model knows no beginning of a text.
        """
        row = (*self.begin, *self.encode(" ".join(words)))
        places = [len(self.begin) + len(self.encode(" ".join(words[:slot]))) - 1 for slot in slots]
        output = self.model(torch.tensor([row], device=self.model.device))
        log_p: Tensor = output.logits[0].float().log_softmax(-1)
        self.positions += len(row)
        found = log_p[torch.tensor([max(place, 0) for place in places], device=log_p.device)]
        return found * (torch.tensor(places, device=log_p.device) >= 0)[:, None]


def common_length(rows: Sequence[tuple[int, ...]]) -> int:
    """How many tokens all rows have in common at their beginning."""
    first, last = min(rows), max(rows)  # of sorted rows these differ first
    return next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))


def shared_beginnings(texts: Sequence[str], rows: dict[str, tuple[int, ...]]) -> list[list[str]]:
    """Texts, sorted by their rows, in groups of at most ROWS: those of a like beginning together, and then the rest."""
    groups: list[list[str]] = []
    for text in texts:
        head = rows[text][:LEAST_SHARED]
        if groups and len(groups[-1]) < ROWS and rows[groups[-1][0]][:LEAST_SHARED] == head:
            groups[-1].append(text)
        else:
            groups.append([text])
    small = [text for group in groups if len(group) < LEAST_SHARED for text in group]  # cheaper padded than each alone
    return [group for group in groups if len(group) >= LEAST_SHARED] + [small[i : i + ROWS] for i in range(0, len(small), ROWS)]


def load_language_model(name: str, device: torch.device) -> CausalLanguageModel:
    """The language model of a folder, or of "hf:NAME" on the hub.

    Raises:
        InputError: it cannot be reached or read, or is of another kind.
    """
    import transformers
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    folder = folder_of(name, "language")
    check_kind(name, folder, MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, "is no causal language model: give one such as hf:gpt2")
    classes = transformers.AutoModelForCausalLM, transformers.AutoTokenizer
    return CausalLanguageModel(name, *load_pair(f"the language model {name!r}", folder, *classes, device))
