"""Whole pipelines behind one protocol: `get_method(name)(problem)` gives a `Solution`.

A method is a function in a module of its own, entered in METHODS. It spends through the problem's
meter, takes randomness from its generator only, and offers every prompt that it would accept to
`meter.offer`, so that an interrupt loses nothing.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from invert.config import InvertConfig
from invert.errors import InputError
from invert.meter import Meter
from invert.models.clip import Clip
from invert.project import Concept, Projection
from invert.vocabulary import Vocabulary

# name → (module, function), so that a method's own needs stay optional.
METHODS = {
    "invert": ("invert.methods.invert", "invert"),
    "nearest": ("invert.methods.nearest", "nearest"),
    "pez": ("invert.methods.pez", "pez"),
    "gcg": ("invert.methods.gcg", "gcg"),
    "random": ("invert.methods.random_search", "random_search"),
    "retrieve": ("invert.methods.retrieve", "retrieve"),
    "ph2p": ("invert.methods.ph2p", "ph2p"),
    "textual-inversion": ("invert.methods.textual_inversion", "textual_inversion"),
    "interrogator": ("invert.methods.interrogator", "best"),
    "interrogator-fast": ("invert.methods.interrogator", "fast"),
    "interrogator-classic": ("invert.methods.interrogator", "classic"),
    "interrogator-negative": ("invert.methods.interrogator", "negative"),
    "interrogator-lite": ("invert.methods.interrogator_lite", "best"),
    "interrogator-lite-fast": ("invert.methods.interrogator_lite", "fast"),
    "interrogator-lite-classic": ("invert.methods.interrogator_lite", "classic"),
    "interrogator-lite-negative": ("invert.methods.interrogator_lite", "negative"),
}

# Those that can seek the prompts of several problems side by side: name → (module, function of a list of problems).
TOGETHER = {"pez": ("invert.methods.pez", "pez_together")}

SOFT_METHODS = ("invert", "nearest", "textual-inversion")  # those that give the embeddings they optimised

# Options that only some methods can follow: asked of another one they are an error, not silence.
FOLLOWED_BY = {"must_include": ("invert",), "init_prompt": ("invert", "textual-inversion")}


@dataclass(frozen=True)
class Problem:
    """What every method is given.

    target: unit latent (E,) float32 on the model's device. images: what it was made of, none where it
    is a text's; only a method that captions images itself looks at them.
    """

    clip: Clip
    target: Tensor
    vocabulary: Vocabulary
    config: InvertConfig
    generator: torch.Generator
    meter: Meter
    images: tuple[Image.Image, ...] = ()


@dataclass(frozen=True)
class Solution:
    """What every method gives back.

    prompts: distinct, best first, each with its cosine. soft: the best soft prompt's token rows
    (L, D), where the method has one.
    """

    prompts: list[tuple[str, float]]
    soft_score: float | None = None
    projections: list[Projection] = field(default_factory=list)
    concepts: list[Concept] = field(default_factory=list)
    soft: Tensor | None = None


Method = Callable[[Problem], Solution]


def solve_each(problems: Sequence[Problem]) -> list[Solution]:
    """The solutions of problems of one config: side by side where their method can, else one after the other."""
    name = problems[0].config.method
    method = get_method(name)
    if name not in TOGETHER:
        return [method(problem) for problem in problems]
    return imported(TOGETHER[name])(problems)


def get_method(name: str) -> Method:
    """The method of that name; InputError that lists the names where there is none."""
    if name not in METHODS:
        close = difflib.get_close_matches(name, METHODS, 1)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        raise InputError(f"unknown method {name!r}{hint}: choose one of {', '.join(METHODS)}")
    return imported(METHODS[name])


def imported(entry: tuple[str, str]) -> Callable[..., Any]:
    """The function that an entry of the tables names; its module is imported when it is asked for."""
    module, function = entry
    return getattr(importlib.import_module(module), function)


def check_followed(config: InvertConfig) -> None:
    """InputError where the config asks for something that its method cannot do."""
    for name, methods in FOLLOWED_BY.items():
        if getattr(config, name) and config.method not in methods:
            option = f"--{name.replace('_', '-')}"
            raise InputError(f"the method {config.method!r} cannot follow {option}: use {' or '.join(methods)}, or leave it out")
