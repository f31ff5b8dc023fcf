"""The seed thread's plain idea: optimise free embeddings, then take each one's nearest token."""

from __future__ import annotations

import torch

from invert.methods import Problem, Solution
from invert.methods.tokens import decoded, score_text
from invert.project import project
from invert.soft import SoftConfig, SoftPrompts, optimise


def nearest(problem: Problem) -> Solution:
    """Free gradient descent from random words; each restart's nearest tokens are scored as a prompt."""
    soft = soft_prompts(problem, SoftConfig(kind="free", steps=4 * problem.config.soft_steps, rate=0.5))
    vocabulary, meter = problem.vocabulary, problem.meter
    restarts = len(soft.embeddings)
    ids, _ = vocabulary.nearest_tokens(soft.embeddings.flatten(0, 1), 1)
    found = []
    for tokens in ids.view(restarts, -1).tolist():
        prompt = decoded(problem, tokens)
        score = score_text(problem, prompt)  # fragments join in the text, and are then other tokens
        meter.offer(prompt, score)
        found.append((prompt, score))
    best = int(soft.scores.argmax())
    return Solution(
        prompts=sorted(dict(found).items(), key=lambda pair: -pair[1])[: problem.config.top],
        soft_score=float(soft.scores.max()),
        projections=project(soft.embeddings[best], vocabulary),
        soft=soft.embeddings[best],
    )


def soft_prompts(problem: Problem, config: SoftConfig) -> SoftPrompts:
    """R restarts of L tokens from words drawn by the problem's generator."""
    shape = (problem.config.restarts, problem.config.tokens)
    rows = len(problem.vocabulary.rows)
    start = torch.randint(rows, shape, generator=problem.generator).to(problem.clip.device)
    return optimise(problem.clip, problem.vocabulary, problem.target, start, config, problem.meter)
