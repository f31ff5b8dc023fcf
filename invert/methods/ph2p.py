"""PH2P, "prompting hard or hardly prompting" (Mahajan et al., CVPR 2024, arXiv 2312.12416).

The prompt's embeddings are optimized by L-BFGS through the denoiser's own loss, at the noisy
timesteps only, where the caption decides what is drawn; the projection onto the vocabulary is
delayed to the end of each round, and the next round starts from it. The U-Net's passes are not
token passes: they show in the seconds.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from invert.diffusion.denoising import Denoising, NoiseBatch
from invert.diffusion.generator import Generator
from invert.methods import Problem, Solution
from invert.methods.denoiser import denoising_of, generator_of
from invert.methods.tokens import decoded, random_ids, score_text


@dataclass(frozen=True)
class Ph2pConfig:
    """How long and on what the embeddings are optimized."""

    rounds: int = 4  # projections
    iterations: int = 25  # of L-BFGS before each: after fewer, the nearest tokens are mostly those it began from
    n_samples: int = 8  # noises and timesteps a round
    n_eval_samples: int = 24  # and those that every projected prompt is judged by, the same for all
    timestep_fraction: float = 0.5  # share of the timesteps, counted from the noisy end


class Ph2p:
    """One run of the method: the problem with its denoiser, and what was found so far."""

    def __init__(self, problem: Problem, config: Ph2pConfig) -> None:
        self.problem, self.config = problem, config
        self.generator: Generator = generator_of(problem)
        self.denoising: Denoising = denoising_of(problem, self.generator)
        self.eval_batch: NoiseBatch = self.denoising.sample_noise(
            config.n_eval_samples, config.timestep_fraction, problem.generator
        )
        self.errors: dict[tuple[int, ...], float] = {}  # token ids of a projected prompt → its error

    def descend(self) -> None:
        """From random words, round after round, until the rounds or the meter are spent."""
        problem, config = self.problem, self.config
        rows = problem.vocabulary.rows.detach()
        ids = random_ids(problem, (problem.config.tokens,))
        for step in range(config.rounds):
            batch = self.denoising.sample_noise(config.n_samples, config.timestep_fraction, problem.generator)
            soft = self.optimized(problem.clip.embed(ids), batch)
            nearest = (F.normalize(soft, dim=1) @ F.normalize(rows, dim=1).T).argmax(1)  # (L,) by cosine
            ids = problem.vocabulary.token_ids[nearest]
            self.judge(tuple(ids.tolist()), step)
            if problem.meter.exhausted:
                break

    def optimized(self, start: Tensor, batch: NoiseBatch) -> Tensor:
        """Rows (L, D) after L-BFGS on the error over one batch, which stays the same meanwhile."""
        rows = start.detach().clone().requires_grad_(True)
        optimizer = torch.optim.LBFGS([rows], max_iter=self.config.iterations, line_search_fn="strong_wolfe")

        def closure() -> Tensor:
            loss = self.error(rows, batch)
            (rows.grad,) = torch.autograd.grad(loss, rows)
            self.problem.meter.spend(forward=self.positions, backward=self.positions)
            return loss

        optimizer.step(closure)
        return rows.detach()

    @property
    def positions(self) -> int:
        return int(self.generator.tokenizers[0].model_max_length)

    def error(self, rows: Tensor, batch: NoiseBatch) -> Tensor:
        return self.denoising.loss(self.generator.encode_embeddings([rows[None]]), batch)[0]

    @torch.no_grad()
    def judge(self, ids: tuple[int, ...], step: int) -> None:
        """Measure a projected prompt on the evaluation batch and keep it."""
        problem = self.problem
        error = float(self.error(problem.clip.embed(torch.tensor(ids, device=problem.clip.device)), self.eval_batch))
        problem.meter.spend(forward=self.positions)
        prompt = decoded(problem, ids)
        best = error < min(self.errors.values(), default=float("inf"))
        self.errors[ids] = error
        problem.meter.offer(prompt, -error)
        problem.meter.record("ph2p", step, -error, prompt if best else "")


def ph2p(problem: Problem, config: Ph2pConfig = Ph2pConfig()) -> Solution:
    """Prompts of `tokens` tokens from `restarts` starts, the lowest denoising error first."""
    run = Ph2p(problem, config)
    for _ in range(problem.config.restarts):
        run.descend()
        if problem.meter.exhausted:
            break
    best = sorted(run.errors, key=lambda ids: run.errors[ids])[: problem.config.top]
    texts = dict.fromkeys(decoded(problem, ids) for ids in best)
    return Solution([(text, score_text(problem, text)) for text in texts])
