"""The seed thread's plain idea: optimize continuous embeddings, then take each one's nearest token."""

from __future__ import annotations

from invert.config import SoftConfig
from invert.errors import InputError
from invert.methods.configs import NearestConfig
from invert.methods.soft_stage import soft_prompts
from invert.methods.task import InversionOutput, InversionTask
from invert.methods.tokens import BANNED
from invert.project import project


def nearest(task: InversionTask, config: NearestConfig) -> InversionOutput:
    """Gradient descent from random words; each restart's nearest tokens are scored as a prompt."""
    asked = task.config.soft_steps
    steps = config.steps_factor * (SoftConfig.steps if asked is None else asked)
    soft = soft_prompts(task, SoftConfig(parameterization="continuous", steps=steps, lr=config.lr))
    scorer, index = task.scorer(), task.bundle.token_index
    restarts = len(soft.embeddings)
    ids, _ = index.nearest(soft.embeddings.flatten(0, 1), 1)
    found = []
    for tokens in ids.view(restarts, -1).tolist():
        prompt = task.decode(tokens)
        if not task.allows(prompt):
            continue
        score = scorer.score_text(prompt)  # fragments join in the text, and are then other tokens
        task.history.report_candidate(prompt, score)
        found.append((prompt, score))
    if not found:
        raise InputError(BANNED)
    best = int(soft.scores.argmax())
    return InversionOutput(
        prompts=sorted(dict(found).items(), key=lambda pair: -pair[1])[: task.config.top],
        soft_score=float(soft.scores.max()),
        projections=project(soft.embeddings[best], index),
        soft=soft.embeddings[best],
    )
