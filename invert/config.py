"""Every option of an inversion, with its unit; the command line maps onto them one to one.

`InvertConfig` holds what all methods understand. What belongs to one method is in `invert.methods.configs`,
what belongs to one stage of ours in `SoftConfig` and `SearchConfig`. Nothing here needs torch.
"""

from __future__ import annotations

import difflib
import logging
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

from invert.errors import InputError
from invert.given import entries, number, of_kind, plain_text, sound_text, whole, wrong

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    C = TypeVar("C", bound=DataclassInstance)

log = logging.getLogger(__name__)

# What no machine computes, or no random stream takes: (least, most).
LIMITS = {"seed": (-(2**63), 2**63 - 1), "restarts": (-math.inf, 4096), "soft_steps": (0, 10**6), "top": (-math.inf, 10**4)}
TARGETS = ("raw", "empty", "gap")
WHOLE = ("tokens", "restarts", "soft_steps", "max_tokens", "budget", "seed", "top")
NUMBERS = ("token_penalty", "language_weight", "language_share", "seconds", "negative_weight")
TEXTS = ("method", "target", "corpus_mode", "generator", "caption_model")
LISTS = ("corpus", "must_include", "ban")
KINDS: dict[str, Callable[[str, Any], Any]] = {  # what makes an option one of Python's own type
    **dict.fromkeys(WHOLE, whole),
    **dict.fromkeys(NUMBERS, number),
    **dict.fromkeys(TEXTS, plain_text),
    **dict.fromkeys(LISTS, entries),
    "init_prompt": sound_text,
}
MAY_BE_NONE = ("soft_steps", "budget", "token_penalty", "language_weight", "seconds", "generator", "caption_model")
ANALYSIS_TOP = 5  # phrases of each category
CORPUS_MODES = ("replace", "extend")
PARAMETERIZATIONS = ("continuous", "mixture", "straight-through")


MOST_WHOLE = 10**9  # of whole numbers: steps, candidates, samples


def at_least(least: float, default: Any, most: float = math.inf) -> Any:
    """A field of a config whose value has to lie in least…most; see `check_numbers`."""
    return field(default=default, metadata={"least": least, "most": most})


def check_numbers(config: Any) -> None:
    """Every field whose default is a number as Python's own: 0 or more, or in the range that `at_least` names.

    Raises:
        InputError: one is of another kind, not finite, or out of its range.
    """
    for one in fields(config):
        if isinstance(one.default, bool) or not isinstance(one.default, int | float):
            continue
        whole_ones = isinstance(one.default, int)
        value = (whole if whole_ones else number)(one.name, getattr(config, one.name))
        object.__setattr__(config, one.name, value)
        least, most = one.metadata.get("least", 0), one.metadata.get("most", math.inf)
        if whole_ones and value > MOST_WHOLE:
            raise wrong(one.name, value, f"{MOST_WHOLE} or less")
        if not least <= value <= most or abs(value) == math.inf:
            lower = f" of at least {least:g}" if math.isfinite(least) else ""
            upper = f"{' and' if lower else ' of'} at most {most:g}" if math.isfinite(most) else ""
            raise wrong(one.name, value, f"a {'' if lower or upper else 'finite '}number{lower}{upper}")


@dataclass(frozen=True)
class MethodConfig:
    """The base of all method configs. Numbers are 0 or more, or in the range that `at_least` names."""

    def __post_init__(self) -> None:
        check_numbers(self)


@dataclass(frozen=True)
class TextualInversionConfig(MethodConfig):
    """How pseudo-tokens are learned; see `invert.diffusion.textual_inversion`."""

    steps: int = at_least(1, 100)
    lr: float = 0.05  # Adam's learning rate, in units of the token table's spread
    n_samples: int = at_least(1, 8)  # noises and timesteps a step
    timestep_fraction: float = at_least(0, 1.0, most=1)  # share of the timesteps, counted from the noisy end


@dataclass(frozen=True)
class PolishConfig(MethodConfig):
    """How a prompt is polished through a denoiser; see `invert.diffusion.polish`."""

    steps: int = at_least(1, 24)
    lr: float = 0.1  # Adam's peak learning rate, in units of the token table's spread; cosine decay to zero
    n_samples: int = at_least(1, 16)  # noises and timesteps of every step, the same for all
    n_held_out: int = at_least(1, 32)  # others, which tell the best of the averaged iterates
    check_every: int = at_least(1, 8)  # steps
    averaging: float = at_least(0, 0.8, most=1)  # weight of the earlier iterates in their average
    guidance: float = at_least(1, 1.0)  # of the predictions that are compared; 1: none
    timestep_fraction: float = at_least(0, 0.7, most=1)  # share of the timesteps, counted from the noisy end


@dataclass(frozen=True)
class SoftConfig:
    """How a soft prompt is optimized; see `invert.soft`."""

    parameterization: str = "mixture"  # one of PARAMETERIZATIONS
    steps: int = 40  # gradient steps
    lr: float = 0.3  # AdamW's peak learning rate; cosine decay to zero
    temperature_start: float = at_least(1e-6, 1.0)  # of the softmax at the first step
    temperature_end: float = at_least(1e-6, 0.1)  # and at the last; geometric in between

    def __post_init__(self) -> None:
        check_numbers(self)
        if self.parameterization not in PARAMETERIZATIONS:
            known = ", ".join(PARAMETERIZATIONS)
            raise InputError(f"unknown `parameterization` {self.parameterization!r}: choose one of {known}")


@dataclass(frozen=True)
class SearchConfig:
    """How far the discrete search looks; see `invert.search`."""

    max_tokens: int = 40  # of the prompt, special tokens not counted
    token_penalty: float = at_least(-math.inf, 0.0005)  # cosine that one more token must earn
    language_weight: float = at_least(-math.inf, 0.005)  # cosine that one nat of the prior's log p is worth
    beam: int = 2  # prompts kept from round to round
    rounds: int = 8  # at most
    replacements: int = 8  # words tried in place of each word
    first_round_sources: int = 32  # retrieved prompts used as phrase sources in round one; later rounds use all
    insertions: int = 16  # words tried before each word
    n_refined: int = 10  # prompts of different templates that the last round refines
    refine_replacements: int = 48  # words tried there in place of each content word
    pair_pool: int = 24  # best replacements of each slot that may form pairs
    pairs: int = 48  # pairs of replacements scored at once

    def __post_init__(self) -> None:
        check_numbers(self)


@dataclass(frozen=True)
class InvertConfig:
    """What to invert with. Raises InputError where an option makes no sense by itself."""

    method: str = "invert"  # a name in invert.methods
    method_config: Any = None  # that method's own settings (`PezConfig`, …); None: its defaults
    target: str = "raw"  # raw | empty | gap: modality-gap correction of the image latent
    tokens: int = 16  # soft tokens per restart
    restarts: int = 6  # soft prompts optimized at once
    soft_steps: int | None = None  # gradient steps on them; 0: no soft prompts; None: 40, or 0 where the bundle says so
    max_tokens: int = SearchConfig.max_tokens  # length of the final prompt in tokens, at most
    token_penalty: float | None = None  # cosine that one more token must earn; None: 0.0005, or by the model where the bundle can
    language_weight: float | None = None  # cosine that one nat of log p is worth; None: 0.005, or by the model where it can
    corpus: tuple[str, ...] = ()  # prompts that starts and language come from; (): the model's own
    corpus_mode: str = "replace"  # those take the place of the model's own, or "extend" them
    language: Any = None  # causal language model of transformers beside the prior: hf:NAME, a folder, a CausalLanguageModel
    language_share: float = 0.5  # of it in what language counts; 0: the bundle's prior alone, 1: the model alone
    budget: int | None = None  # text-encoder token passes, forward plus backward; None: until nothing improves
    seconds: float | None = None  # wall time; None: as long as it takes
    seed: int = 0
    top: int = 1  # distinct prompts wanted
    init_prompt: str = ""  # the search starts here too
    caption: Any = None  # captioner whose sentences it starts from: hf:NAME, a folder, an http(s) address, "sidecar", a function
    caption_model: str | None = None  # which model of a caption endpoint; None: its own choice
    must_include: tuple[str, ...] = ()  # words the prompt has to hold
    ban: tuple[str, ...] = ()  # words it may not hold
    generator: str | None = None  # diffusion pipeline: a diffusers id or a folder; None: the model's own
    negative_weight: float = 0.5  # how strongly to move away from a negative image or prompt

    def __post_init__(self) -> None:
        self._check_kinds()
        check_limits(self)
        if self.target not in TARGETS:
            raise InputError(f"unknown `target` {self.target!r}: choose one of {', '.join(TARGETS)}")
        for name in ("tokens", "restarts", "max_tokens", "top"):
            if getattr(self, name) < 1:
                raise wrong(name, getattr(self, name), "1 or more")
        for name in ("budget", "seconds"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise wrong(name, value, "more than 0, or leave it out")
        if self.corpus_mode not in CORPUS_MODES:
            raise InputError(f"unknown `corpus_mode` {self.corpus_mode!r}: choose one of {', '.join(CORPUS_MODES)}")
        if self.corpus_mode != "replace" and not self.corpus:
            raise InputError("`corpus_mode` says what a `corpus` does to the bundle's own: give one, or leave the mode out")
        if not 0 <= self.language_share <= 1:
            raise InputError(f"`language_share` is {self.language_share}: give a share, 0 to 1")
        required = [f" {text.strip().lower()} " for text in self.must_include]
        for text in sorted(text.strip().lower() for text in self.ban):
            if any(f" {text} " in phrase for phrase in required):
                raise InputError(f"{text!r} is both required and banned: drop it from `must_include` or `ban`")

    def _check_kinds(self) -> None:
        """Every option as Python's own type. InputError where one is of a wrong kind."""
        for name in ("generator", "caption", "language"):
            if isinstance(folder := getattr(self, name), os.PathLike):
                object.__setattr__(self, name, os.fspath(folder))
        for name, check in KINDS.items():
            value = getattr(self, name)
            if value is not None or name not in MAY_BE_NONE:
                object.__setattr__(self, name, check(name, value))
        if not (self.caption is None or isinstance(self.caption, str) or callable(self.caption)):
            raise wrong("caption", self.caption, "hf:NAME, a folder, an http(s) address, sidecar, or a function")
        if not (self.language is None or isinstance(self.language, str) or hasattr(self.language, "log_probs")):
            raise wrong("language", self.language, "hf:NAME, a folder, or a CausalLanguageModel")

    def within_context(self, most: int) -> InvertConfig:
        """This config with no more tokens than the model reads, special ones not counted; the log says what was lowered."""
        most = whole("most", most)
        for name in ("tokens", "max_tokens"):
            if getattr(self, name) > most:
                log.warning("`%s` is %s, but this model reads %s tokens: taking %s", name, getattr(self, name), most, most)
        return replace(self, tokens=min(self.tokens, most), max_tokens=min(self.max_tokens, most))


def config_of(config: InvertConfig | None, options: Mapping[str, Any] = MappingProxyType({})) -> InvertConfig:
    """The config, or the defaults where it is None, with options over it.

    Raises:
        InputError: it is something else, or an option makes no sense.
        TypeError: there is no option of a name.
    """
    given = InvertConfig() if config is None else of_kind("config", config, InvertConfig, "an InvertConfig, or options by name")
    return with_options(given, options)


def with_options(config: C, options: Mapping[str, Any]) -> C:
    """A config with options by name over it.

    Raises:
        TypeError: it has no field of a name; says which one was perhaps meant.
    """
    known = [one.name for one in fields(config)]
    for name in (name for name in options if name not in known):
        close = difflib.get_close_matches(name, known, 1)
        raise TypeError(f"there is no option `{name}`" + (f": did you mean `{close[0]}`?" if close else ""))
    return replace(config, **options) if options else config


def check_limits(config: InvertConfig) -> None:
    """InputError where a number is not finite, or beyond LIMITS."""
    for name in (one.name for one in fields(config)):
        value = getattr(config, name)
        if isinstance(value, float) and not math.isfinite(value):
            raise InputError(f"`{name}` is {value}: give a finite number")
        least, most = LIMITS.get(name, (None, None))
        if least is not None and value is not None and not least <= value <= most:
            raise wrong(name, value, f"{most} or less" if value > most else f"{least} or more")
