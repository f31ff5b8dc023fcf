"""Textual inversion as a method: pseudo-tokens learned through the denoiser, and the words next to them.

The result is the soft prompt (`InversionOutput.soft`), which `save_pseudo_tokens` writes for diffusers;
its nearest words are the hard prompt that is left of it, and mostly say how little of it words hold.
"""

from __future__ import annotations

import torch

from invert.config import TextualInversionConfig
from invert.diffusion.textual_inversion import learn
from invert.history import DENOISING_ERROR
from invert.methods.denoiser import denoiser_of
from invert.methods.task import InversionOutput, InversionTask
from invert.project import project


def textual_inversion(task: InversionTask, config: TextualInversionConfig) -> InversionOutput:
    """`tokens` pseudo-tokens from random words, or from the user's prompt."""
    generator, budget, history = denoiser_of(task), task.budget, task.history
    positions = int(generator.tokenizers[0].model_max_length)

    def on_step(step: int, loss: float) -> bool:
        budget.spend(forward=positions, backward=positions)
        history.record("textual-inversion", step, loss, metric=DENOISING_ERROR)
        return budget.exhausted

    words = task.clip.tokenizer.encode(task.config.init_prompt)[: task.config.tokens]
    ids = task.random_ids((task.config.tokens,))
    ids[: len(words)] = torch.tensor(words, dtype=ids.dtype)
    soft = learn(generator, task.images, task.clip.embed(ids), task.rng, config, on_step).embeddings
    index, scorer = task.bundle.token_index, task.scorer()
    nearest, _ = index.nearest(soft, 1)
    prompt = task.decode(nearest[:, 0].tolist())
    with torch.no_grad():
        soft_score = float(scorer.score_embeddings(soft[None])[0])
    score = scorer.score_text(prompt)
    history.report_candidate(prompt, score)
    return InversionOutput(
        prompts=[(prompt, score)],
        soft_score=soft_score,
        projections=project(soft, index),
        soft=soft,
    )
