"""PH2P, "prompting hard or hardly prompting" (Mahajan et al., CVPR 2024, arXiv 2312.12416).

The prompt's embeddings are optimized by L-BFGS through the denoiser's own loss, at the noisy timesteps
only, where the caption decides what is drawn; the projection onto the vocabulary is delayed to the end of
each round, and the next round starts from it. The U-Net's passes are not token passes: they show in the
seconds.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from invert.diffusion.denoising import Denoising, NoiseBatch
from invert.diffusion.generator import Generator
from invert.history import DENOISING_ERROR
from invert.methods.configs import Ph2pConfig
from invert.methods.denoiser import denoiser_of
from invert.methods.task import InversionOutput, InversionTask
from invert.models.precision import at_least_float32


class Ph2p:
    """One run of the method: the task with its denoiser, and what was found so far."""

    def __init__(self, task: InversionTask, config: Ph2pConfig) -> None:
        self.task, self.config = task, config
        self.generator: Generator = denoiser_of(task)
        self.denoising = Denoising(self.generator, task.images)
        self.eval_batch: NoiseBatch = self.denoising.sample_noise(config.n_eval_samples, config.timestep_fraction, task.rng)
        self.errors: dict[tuple[int, ...], float] = {}  # token ids of a projected prompt → its error

    def descend(self) -> None:
        """From random words, round after round, until the rounds or the budget are spent."""
        task, config, index = self.task, self.config, self.task.bundle.token_index
        table = index.embeddings.detach()
        ids = task.random_ids((task.config.tokens,))
        for step in range(config.rounds):
            batch = self.denoising.sample_noise(config.n_samples, config.timestep_fraction, task.rng)
            soft = self.optimized(task.clip.embed(ids), batch)
            nearest = (F.normalize(soft, dim=1) @ F.normalize(table, dim=1).T).argmax(1)  # (L,) by cosine
            ids = index.token_ids[nearest]
            self.evaluate(tuple(ids.tolist()), step)
            if task.budget.exhausted:
                break

    def optimized(self, start: Tensor, batch: NoiseBatch) -> Tensor:
        """Embeddings (L, D) after L-BFGS on the error over one batch, which stays the same meanwhile."""
        soft = at_least_float32(start.detach()).clone().requires_grad_(True)
        optimizer = torch.optim.LBFGS([soft], max_iter=self.config.iterations, line_search_fn="strong_wolfe")

        def closure() -> Tensor:
            loss = self.error(soft, batch)
            (soft.grad,) = torch.autograd.grad(loss, soft)
            self.task.budget.spend(forward=self.positions, backward=self.positions)
            return loss

        optimizer.step(closure)
        return soft.detach()

    @property
    def positions(self) -> int:
        return int(self.generator.tokenizers[0].model_max_length)

    def error(self, embeddings: Tensor, batch: NoiseBatch) -> Tensor:
        return self.denoising.loss(self.generator.encode_embeddings([embeddings[None]]), batch)[0]

    @torch.no_grad()
    def evaluate(self, ids: tuple[int, ...], step: int) -> None:
        """Measure a projected prompt on the evaluation batch and keep it."""
        task = self.task
        error = float(self.error(task.clip.embed(torch.tensor(ids, device=task.clip.device)), self.eval_batch))
        task.budget.spend(forward=self.positions)
        prompt = task.decode(ids)
        best = error < min(self.errors.values(), default=float("inf"))
        self.errors[ids] = error
        task.history.report_candidate(prompt, -error)
        task.history.record("ph2p", step, error, prompt if best else "", DENOISING_ERROR)


def ph2p(task: InversionTask, config: Ph2pConfig) -> InversionOutput:
    """Prompts of `tokens` tokens from `restarts` starts, the lowest denoising error first."""
    run = Ph2p(task, config)
    for _ in range(task.config.restarts):
        run.descend()
        if task.budget.exhausted:
            break
    best = sorted(run.errors, key=lambda ids: run.errors[ids])[: task.config.top]
    scorer = task.scorer()
    return InversionOutput([(text, scorer.score_text(text)) for text in dict.fromkeys(map(task.decode, best))])
