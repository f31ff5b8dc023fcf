"""Every option of an inversion, with its unit; the command line maps onto it one to one."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from invert.errors import InputError

# What no machine computes, or no random stream takes: (least, most).
LIMITS = {"seed": (-(2**63), 2**63 - 1), "restarts": (-math.inf, 4096), "soft_steps": (0, 10**6), "top": (-math.inf, 10**4)}


@dataclass(frozen=True)
class InvertConfig:
    """What to invert with. Raises InputError where an option makes no sense by itself."""

    method: str = "invert"  # a name in invert.methods
    target: str = "raw"  # raw | empty | gap: how the image latent is brought among the texts
    tokens: int = 16  # soft tokens per restart
    restarts: int = 6  # soft prompts optimised at once
    soft_steps: int = 40  # gradient steps on them
    max_tokens: int = 40  # length of the final prompt in tokens, at most
    token_penalty: float = 0.0005  # cosine that one more token must earn
    language_weight: float = 0.005  # cosine that one nat of the prompt's log-probability is worth
    corpus: tuple[str, ...] = ()  # prompts that starts and language come from; (): the model's own
    budget: int | None = None  # text-encoder token passes, forward plus backward; None: until nothing improves
    seconds: float | None = None  # wall time; None: as long as it takes
    seed: int = 0
    top: int = 1  # distinct prompts wanted
    init_prompt: str = ""  # the search starts here too
    must_include: tuple[str, ...] = ()  # words the prompt has to hold
    ban: tuple[str, ...] = ()  # words it may not hold
    generator: str = "picturebook"  # diffusion pipeline: "picturebook", a diffusers id, or a folder
    negative_weight: float = 0.5  # how strongly to move away from a negative image or prompt

    def __post_init__(self) -> None:
        check_limits(self)
        for name in ("tokens", "restarts", "max_tokens", "top"):
            if getattr(self, name) < 1:
                raise InputError(f"--{name.replace('_', '-')} is {getattr(self, name)}: give 1 or more")
        for name in ("budget", "seconds"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise InputError(f"--{name} is {value}: give more than 0, or leave it out")
        required = [f" {text.strip().lower()} " for text in self.must_include]
        for text in sorted(text.strip().lower() for text in self.ban):
            if any(f" {text} " in phrase for phrase in required):
                raise InputError(f"{text!r} is both required and banned: drop it from --must-include or --ban")

    def check_context(self, context_length: int) -> None:
        """InputError where the prompt would not fit the model's context, special tokens included."""
        most = context_length - 2
        for name in ("tokens", "max_tokens"):
            if getattr(self, name) > most:
                option = f"--{name.replace('_', '-')}"
                raise InputError(f"{option} is {getattr(self, name)}, but this model reads {most} tokens: give {most} or fewer")


def check_limits(config: InvertConfig) -> None:
    """InputError where a number is not finite, or beyond LIMITS."""
    for name in (field.name for field in fields(config)):
        value = getattr(config, name)
        if isinstance(value, float) and not math.isfinite(value):
            raise InputError(f"`{name}` is {value}: give a finite number")
        least, most = LIMITS.get(name, (None, None))
        if least is not None and not least <= value <= most:
            known = f"{most} or less" if value > most else f"{least} or more"
            raise InputError(f"`{name}` is {value}: give {known}")
