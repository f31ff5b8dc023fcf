"""The soft stage of methods that optimize embeddings: restarts from random words."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from invert.bundle import ModelBundle
from invert.config import InvertConfig, SoftConfig
from invert.errors import InputError
from invert.methods.configs import InvertMethodConfig
from invert.methods.task import InversionTask
from invert.soft import SoftPrompts, optimize_together

# Weights of tokens in the mixtures that are optimized together. A card holds 256 MiB of them several times over, and
# takes as long for one picture's as for many; a CPU does not, and rounds as alone only one picture at a time.
MOST_WEIGHTS = {"cuda": 1 << 26, "cpu": 0}


OF_SOFT_PROMPTS = ("tokens", "restarts")  # options of a run that are about them alone
OF_SOFT_STAGE = ("lr", "temperature_start", "temperature_end", "n_proposed")  # settings of the method `invert`


def soft_steps(config: InvertConfig, bundle: ModelBundle) -> int:
    """Gradient steps of a run's soft stage; 0: it has none."""
    if config.soft_steps is not None:
        return config.soft_steps
    return SoftConfig.steps if bundle.soft_words else 0


def check_soft_stage(config: InvertConfig, bundle: ModelBundle) -> None:
    """InputError where something is asked of soft prompts that `invert` will not make.

    Raises:
        InputError: the run makes no `soft_steps`, or the bundle goes without them and the run does not ask for any.
    """
    if soft_steps(config, bundle):
        return
    given = [name for name in OF_SOFT_PROMPTS if getattr(config, name) != getattr(InvertConfig, name)]
    settings = config.method_config
    if isinstance(settings, InvertMethodConfig):
        given += [f"invert.{name}" for name in OF_SOFT_STAGE if getattr(settings, name) != getattr(InvertMethodConfig, name)]
    if given:
        why = "`soft_steps=0`" if config.soft_steps == 0 else f"the bundle {bundle.name!r}"
        raise InputError(
            f"`{given[0]}` is of soft prompts, and a search with {why} makes none: "
            f"add `soft_steps={SoftConfig.steps}`, or leave it out"
        )


def soft_prompts(task: InversionTask, config: SoftConfig) -> SoftPrompts:
    """`restarts` prompts of `tokens` tokens, from words drawn by the task's rng."""
    return soft_prompts_together([task], config)[0]


def soft_prompts_together(tasks: Sequence[InversionTask], config: SoftConfig) -> list[SoftPrompts]:
    """The same for tasks that differ in target and rng only, as many in one step as memory should hold."""
    index, shape = tasks[0].bundle.token_index, (tasks[0].config.restarts, tasks[0].config.tokens)
    most = MOST_WEIGHTS.get(index.embeddings.device.type, 0)
    together = max(1, most // (shape[0] * shape[1] * len(index)))
    found: list[SoftPrompts] = []
    for begin in range(0, len(tasks), together):
        part = tasks[begin : begin + together]
        starts = torch.stack([torch.randint(len(index), shape, generator=task.rng) for task in part])
        scorers, histories = [task.scorer() for task in part], [task.history for task in part]
        found += optimize_together(scorers, index, starts.to(part[0].clip.device), config, histories)
    return found
