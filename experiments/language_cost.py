"""What does a language model of GPT-2's size beside the prior cost a search (`--language`)?

GPT-2's shape with random weights and CLIP's tokenizer, saved by transformers and loaded by the real loader, beside the bundle
`english` on picturebook's CLIP. What it says means nothing, so it is asked and not followed: both searches find the same
prompt by the same steps. Processor seconds of one thread: with the model, without it, and inside it. The text encoder is
smaller than those of real models, beside which a language model is a smaller share.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from PIL import Image

from experiments.harness.pictures import scene_pictures
from experiments.harness.runner import Context
from experiments.harness.timing import cost, one_thread
from invert.inverter import Inverter
from invert.prior.causal_lm import CausalLanguageModel, load_language_model
from invert.prior.text_tree import TextTree
from invert.result import Result

PICTURES = 1
COUNTED = 0.0  # share of the model in what language counts: at none it is asked all the same, and both searches take the same way
QUICK_SHAPE: dict[str, Any] = {"n_embd": 64, "n_layer": 2, "n_head": 2}


def run(context: Context) -> dict[str, Any]:
    """The costs of searches with and without the model, picture by picture in turns."""
    inverter = Inverter.load("picturebook", bundle="english", device=context.device)
    language = random_gpt2(context)
    *pictures, another = (picture.image for picture in scene_pictures(PICTURES + 1, context.seed))
    budget = {"budget": 2_000} if context.quick else {}
    asked: dict[str, Any] = {"language": language, "language_share": COUNTED}
    load = os.getloadavg()[0]
    found: list[dict[str, Any]] = []
    with one_thread():
        inverter.prepare()
        inverter.invert(another, budget=1, seed=context.seed, **asked)  # makes what all pictures share
        for picture in pictures:
            alone, plain = timed(inverter, picture, {"seed": context.seed, **budget})
            with inside(language) as spent:
                both, beside = timed(inverter, picture, {"seed": context.seed, **budget, **asked})
            found.append(
                {
                    "processor_seconds": alone,
                    "processor_seconds_with_model": both,
                    "processor_seconds_in_model": spent[0],
                    "token_passes": [r.forward_tokens + r.backward_tokens for r in (plain, beside)],
                    "language_tokens": beside.language_tokens,
                    "prompts": [plain.prompt, beside.prompt],
                }
            )
            print(found[-1], flush=True)
    total = [sum(row[key] for row in found) for key in ("processor_seconds_with_model", "processor_seconds")]
    return {
        "parameters": sum(p.numel() for p in language.model.parameters()),
        "dtype": str(language.model.dtype).removeprefix("torch."),
        "reads_trees": language.reads_trees,
        "load_average": load,
        "pictures": found,
        "times_the_search": total[0] / total[1],
    }


def timed(inverter: Inverter, picture: Image.Image, options: dict[str, Any]) -> tuple[float, Result]:
    """The processor seconds of a search, and what it found."""
    results: list[Result] = []
    spent = cost(lambda: results.append(inverter.invert(picture, **options)))
    return spent.processor_seconds, results[0]


def random_gpt2(context: Context) -> CausalLanguageModel:
    """GPT-2's shape (transformers' default), random, through a folder and the loader."""
    from transformers import GPT2Config, GPT2LMHeadModel

    from invert.picturebook.text_encoder import tokenizer

    words = tokenizer()
    shape: dict[str, Any] = QUICK_SHAPE if context.quick else {}
    with torch.random.fork_rng(), tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(context.seed)
        ends: dict[str, Any] = {"bos_token_id": words.bos_token_id, "eos_token_id": words.eos_token_id}
        GPT2LMHeadModel(GPT2Config(vocab_size=len(words), **ends, **shape)).save_pretrained(folder)
        words.save_pretrained(folder)
        return load_language_model(folder, context.device)


@contextmanager
def inside(language: CausalLanguageModel) -> Iterator[list[float]]:
    """The processor seconds that pass in the model's own forward pass, while the context lasts."""
    spent, forward = [0.0], language._logits

    def counted(tree: TextTree) -> torch.Tensor:
        began = time.process_time()
        logits = forward(tree)
        spent[0] += time.process_time() - began
        return logits

    with mock.patch.object(language, "_logits", counted):
        yield spent
