"""Textual inversion as a method: pseudo-tokens learned through the denoiser, and the words next to them.

The result is the soft prompt (`Solution.soft`), which `save_pseudo_tokens` writes for diffusers; its
nearest words are the hard prompt that is left of it, and mostly say how little of it words hold.
"""

from __future__ import annotations

import torch

from invert.diffusion.textual_inversion import TextualInversionConfig, learn
from invert.methods import Problem, Solution
from invert.methods.denoiser import generator_of
from invert.methods.tokens import decoded, random_ids, score_text
from invert.project import project
from invert.soft import framed

DEFAULT = TextualInversionConfig()


def textual_inversion(problem: Problem, config: TextualInversionConfig = DEFAULT) -> Solution:
    """`tokens` pseudo-tokens from random words, or from the user's prompt."""
    generator, meter = generator_of(problem), problem.meter
    positions = int(generator.tokenizers[0].model_max_length)

    def on_step(step: int, loss: float) -> bool:
        meter.spend(forward=positions, backward=positions)
        meter.record("textual-inversion", step, -loss)
        return meter.exhausted

    words = problem.clip.tokenizer.encode(problem.config.init_prompt)[: problem.config.tokens]
    ids = random_ids(problem, (problem.config.tokens,))
    ids[: len(words)] = torch.tensor(words, dtype=ids.dtype)
    rows = learn(generator, problem.images, problem.clip.embed(ids), problem.generator, config, on_step).embeddings
    rows = rows.to(problem.clip.dtype)
    nearest, _ = problem.vocabulary.nearest_tokens(rows, 1)
    prompt = decoded(problem, nearest[:, 0].tolist())
    with torch.no_grad():
        latent = problem.clip.encode_embeddings(framed(problem.clip, rows[None]))[0]
    meter.spend(forward=len(rows) + 2)
    score = score_text(problem, prompt)
    meter.offer(prompt, score)
    return Solution(
        prompts=[(prompt, score)],
        soft_score=float(latent.float() @ problem.target),
        projections=project(rows, problem.vocabulary),
        soft=rows,
    )
