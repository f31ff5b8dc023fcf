"""A causal language model of transformers as prior: how likely a prompt is as text, whatever the tokenizer.

A search scores thousands of prompts, and a language model is as large as the text encoder. So the bundle's own prior judges
all of them, and the model the best few of each round, as speech recognition rescores an n-best list (Chow and Schwartz,
1989), and the words that may follow at each slot of the prompts in hand. What texts have in common at their beginning
is run once (`invert.prior.text_tree`), where the model takes a mask that says what each token sees.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from invert.errors import InputError
from invert.models.auto import folder_of, load_pair
from invert.models.checks import SAMPLES, check_vocabulary
from invert.models.overflow import checked_logits
from invert.models.precision import multiplies_bfloat16
from invert.prior.text_tree import Row, TextTree, trees

MOST_NODES = 256  # tokens that go through the model at once
MOST_KNOWN = 200_000  # texts whose log p is kept
TOLERANCE = {torch.float32: 0.01, torch.bfloat16: 0.1, torch.float16: 0.05}  # relative, of logits by a tree and one by one
TRIED = ("a photo of a dog", "a photo of two cats on a table", "an oil painting of a dog")  # as a tree, and one by one
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
        self._known: dict[str, float] = {}
        self.reads_trees = self._reads_trees()

    def encode(self, text: str) -> list[int]:
        """Token ids without special tokens."""
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def first_tokens(self, texts: Sequence[str]) -> list[int]:
        """The first token of each text, -1 where it has none."""
        return [ids[0] if ids else -1 for ids in self.tokenizer(list(texts), add_special_tokens=False)["input_ids"]]

    def _row(self, text: str) -> Row:
        """What the model reads of a text: one token at least."""
        return (*self.begin, *self.encode(text)) or (0,)

    @torch.inference_mode()
    def log_probs(self, texts: Sequence[str]) -> Tensor:
        """log p (N,) float64 of whole texts, the end of the sentence included; on the CPU."""
        fresh = [text for text in dict.fromkeys(texts) if text not in self._known]
        if len(self._known) + len(fresh) > MOST_KNOWN:
            self._known.clear()
            fresh = list(dict.fromkeys(texts))
        rows = {text: self._row(text) for text in fresh}
        fresh.sort(key=rows.__getitem__)
        found: list[float] = []
        for tree in trees([rows[text] for text in fresh], MOST_NODES):
            logits = self._logits(tree)
            totals = logits.logsumexp(1)
            log_p, last = tree.sums(logits, totals), [path[-1] for path in tree.paths]
            if len(self.ends):
                log_p += (logits[last][:, self.ends].logsumexp(1) - totals[last]).double().cpu()
            found += log_p.tolist()
        self._known.update(zip(fresh, found, strict=True))
        return torch.tensor([self._known[text] for text in texts], dtype=torch.float64)

    @torch.inference_mode()
    def next_log_probs(self, prompts: Sequence[Sequence[str]]) -> list[Tensor]:
        """Of each prompt, given as L words, log p (L + 1, V) float32 of every token behind its first 0 to L words.

        On the model's device. Zeros for no words where the model knows no beginning of a text.
        """
        rows = [self._row(" ".join(words)) for words in prompts]
        order = sorted(range(len(rows)), key=rows.__getitem__)
        found: dict[int, Tensor] = {}
        for tree in trees([rows[i] for i in order], MOST_NODES):
            log_p = self._logits(tree).log_softmax(1)
            for path in tree.paths:
                i = order[len(found)]
                ends = [len(self.begin) + len(self.encode(" ".join(prompts[i][:n]))) - 1 for n in range(len(prompts[i]) + 1)]
                at = torch.tensor(ends, device=log_p.device)
                found[i] = log_p[[path[max(0, end)] for end in ends]] * (at >= 0)[:, None]
        return [found[i] for i in range(len(rows))]

    def _logits(self, tree: TextTree) -> Tensor:
        """(M, V) float32: of the token behind each node. InputError where they overflow."""
        logits = self._logits_by_mask(tree) if self.reads_trees else self._logits_one_by_one(tree)
        return checked_logits(logits, f"the language model {self.name!r}", self.model.dtype)

    def _logits_by_mask(self, tree: TextTree) -> Tensor:
        device = self.model.device
        self.positions += len(tree)
        hidden = torch.finfo(self.model.dtype).min
        mask = torch.zeros(len(tree), len(tree)).masked_fill(~tree.ancestors, hidden).to(device, self.model.dtype)
        ids, depths = (torch.tensor([values], device=device) for values in (tree.ids, tree.depths))
        output = self.model(ids, attention_mask=mask[None, None], position_ids=depths, use_cache=False)
        logits: Tensor = output.logits[0].float()
        return logits

    def _logits_one_by_one(self, tree: TextTree) -> Tensor:
        """The same from a batch of whole texts."""
        device = self.model.device
        lengths = torch.tensor([len(row) for row in tree.rows])
        ids = torch.tensor([[*row, *[0] * (int(lengths.max()) - len(row))] for row in tree.rows])
        real = torch.arange(ids.shape[1]) < lengths[:, None]
        self.positions += ids.numel()
        output = self.model(ids.to(device), attention_mask=real.long().to(device), use_cache=False)
        logits: Tensor = output.logits[tree.places].float()
        return logits

    @torch.inference_mode()
    def _reads_trees(self) -> bool:
        """Whether the model takes a mask of its own for every token and computes the same by it; some kinds do not."""
        if not {"attention_mask", "position_ids"} <= set(inspect.signature(self.model.forward).parameters):
            return False
        tree = TextTree([self._row(text) for text in TRIED])
        expected = checked_logits(self._logits_one_by_one(tree), f"the language model {self.name!r}", self.model.dtype)
        try:
            found = self._logits_by_mask(tree)
        except Exception:  # whatever a kind of model raises that has no use for such a mask
            return False
        finally:
            self.positions = 0
        spread = (expected - expected.mean(0)).norm()
        return bool((found - expected).norm() <= TOLERANCE.get(self.model.dtype, 0.01) * spread)


def load_language_model(name: str, device: torch.device, dtype: torch.dtype | None = None) -> CausalLanguageModel:
    """The language model of a folder, or of "hf:NAME" on the hub.

    dtype: None for bfloat16 on processors that multiply it, else float32 there, and float16 on GPUs.

    Raises:
        InputError: it cannot be reached or read, or is of another kind.
    """
    import transformers
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    others = "is no causal language model: give one such as hf:gpt2"
    folder, _ = folder_of(name, "language", MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, others)
    classes = transformers.AutoModelForCausalLM, transformers.AutoTokenizer
    if dtype is None and device.type == "cpu" and multiplies_bfloat16():
        dtype = torch.bfloat16
    return CausalLanguageModel(name, *load_pair(f"the language model {name!r}", folder, *classes, device, dtype))
