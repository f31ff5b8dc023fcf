"""Whole pipelines behind one protocol: `get_method(name)` gives a `Method`, which runs an `InversionTask`.

Names, options and settings are known without importing torch: a method's own module is imported when it
runs. `register()` adds a method in this process; other packages offer theirs as entry points of the group
"invert.methods", each naming a `Method`.

A method spends through the task's budget, takes randomness from its `rng` only, and reports every prompt
that it would accept to its history, so that an interrupt loses nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from invert.config import InvertConfig, MethodConfig
from invert.errors import InputError
from invert.extras import require
from invert.given import entries, of_kind, plain_text, wrong
from invert.history import COSINE, DENOISING_ERROR, OBJECTIVE
from invert.methods import configs
from invert.registry import Registry, resolve

if TYPE_CHECKING:
    from invert.bundle import ModelBundle
    from invert.methods.task import InversionOutput as InversionOutput
    from invert.methods.task import InversionTask as InversionTask

# Options of `InvertConfig` that only some methods follow: given to another one they are an error.
SELECTIVE_OPTIONS = ("must_include", "init_prompt", "corpus", "ban", "caption", "language")
# Others that only some follow: the command line refuses them where no method that runs does.
TUNING_OPTIONS = ("tokens", "restarts", "soft_steps", "max_tokens", "token_penalty", "language_weight", "top", "generator")


@dataclass(frozen=True)
class Method:
    """A way to find prompts.

    Attributes:
        name: by which it is asked for.
        revision: raised whenever a change gives other prompts; measured results are kept by it.
        config_type: the dataclass of its settings, a `MethodConfig`.
        run: the output of one task.
        run_batch: the outputs of several tasks that differ in target and rng, computed together; None
            where they are run one after the other.
        options: those of SELECTIVE_OPTIONS that it follows.
        follows: those of TUNING_OPTIONS that change what it does.
        metric: what the objective of its candidates is, as `invert.history` names it.
        gives_soft_prompt: whether its output holds the embeddings that it optimized.
        polishes: whether a generator's denoiser may then polish the prompt, as embeddings that were fitted to CLIP's
            latent alone draw badly.
        prepare: builds what runs with such options need once per model; None where there is nothing.
        requires: the module of an extra that it cannot run without; "" where it needs none.
        reads_labels: whether it reads CLIP Interrogator's lists, where the bundle brings none of its own.
    """

    name: str
    revision: int
    config_type: type[MethodConfig]
    run: Callable[[InversionTask, Any], InversionOutput]
    run_batch: Callable[[Sequence[InversionTask], Any], list[InversionOutput]] | None = None
    options: frozenset[str] = frozenset()
    follows: frozenset[str] = frozenset(TUNING_OPTIONS)
    metric: str = COSINE
    gives_soft_prompt: bool = False
    polishes: bool = False
    prepare: Callable[[ModelBundle, InvertConfig], object] | None = None
    requires: str = ""
    reads_labels: bool = False

    def __post_init__(self) -> None:
        """InputError where a part is of a wrong kind, or an option is none that only some methods follow."""
        plain_text("name", self.name)
        if not (isinstance(self.config_type, type) and issubclass(self.config_type, MethodConfig)):
            raise wrong("config_type", self.config_type, "a subclass of MethodConfig")
        if not callable(self.run):
            raise wrong("run", self.run, "a function")
        for field, known in (("options", SELECTIVE_OPTIONS), ("follows", TUNING_OPTIONS)):
            for name in entries(field, getattr(self, field)):
                if name not in known:
                    raise wrong(field, name, f"some of {', '.join(known)}", "holds")

    def config_of(self, config: InvertConfig) -> MethodConfig:
        """The settings that the run asks for, or the defaults.

        Raises:
            InputError: they are another method's.
        """
        if config.method_config is None:
            return self.config_type()
        if not isinstance(config.method_config, self.config_type):
            given = type(config.method_config).__name__
            raise InputError(f"`method_config` is a {given}, but the method {self.name!r} takes a {self.config_type.__name__}")
        return config.method_config

    @property
    def learns_through_generator(self) -> bool:
        """Whether it needs a generator of diffusers whose U-Net and text encoder it can descend on."""
        return self.requires == "diffusers"

    def check_extra(self) -> None:
        """MissingExtraError where the method needs an extra that is not installed."""
        if self.requires:
            require(self.requires, f"the method {self.name!r}")

    def check_options(self, config: InvertConfig) -> None:
        """InputError where the config asks for something that the method cannot do, or its extra is not installed."""
        self.check_extra()
        for option in SELECTIVE_OPTIONS:
            if getattr(config, option) and option not in self.options:
                able = [name for name in METHODS.names() if option in options_of(name)]
                raise InputError(f"the method {self.name!r} cannot follow `{option}`: use {' or '.join(able)}, or leave it out")


def options_of(name: str) -> frozenset[str]:
    """The options that a method follows; none of one that cannot be imported, which is told where it is asked for."""
    try:
        return get_method(name).options
    except InputError:
        return frozenset()


def no_denoiser(method: str, generator: str) -> str:
    """The sentence for a method that learns through a U-Net, and a generator that has none that it could use."""
    return (
        f"the method {method!r} learns through CLIP and the U-Net of a Stable Diffusion 1.x or 2.x, which the generator "
        f'{generator!r} is not: give one as `generator`, or use `method="invert"` and `generate`'
    )


@dataclass(frozen=True)
class Deferred:
    """A function "module:name" that is imported when it is called."""

    path: str

    def __call__(self, *arguments: Any) -> Any:
        return resolve(self.path)(*arguments)


def _interrogator(module: str, mode: str, name: str) -> Method:
    """One mode of CLIP Interrogator."""
    return Method(
        name,
        revision=2,
        config_type=configs.NoConfig,
        run=Deferred(f"invert.methods.{module}:{mode}"),
        options=frozenset() if mode == "negative" else frozenset({"corpus", "caption"}),  # a negative prompt needs none
        follows=frozenset({"top"}) if (module, mode) == ("interrogator_lite", "best") else frozenset(),
        metric=OBJECTIVE if mode == "negative" else COSINE,  # a negative prompt is to be far away
        prepare=Deferred(f"invert.methods.{module}:prepare"),
        requires="clip_interrogator" if module == "interrogator" else "",
        reads_labels=True,
    )


_MODES = {"": "best", "-fast": "fast", "-classic": "classic", "-negative": "negative"}
_BUILTIN = (
    Method(
        "invert",
        revision=3,
        config_type=configs.InvertMethodConfig,
        run=Deferred("invert.methods.invert:invert"),
        run_batch=Deferred("invert.methods.invert:invert_batch"),
        metric=OBJECTIVE,
        options=frozenset(SELECTIVE_OPTIONS),
        follows=frozenset(TUNING_OPTIONS) - {"generator"},
        gives_soft_prompt=True,
        polishes=True,
        prepare=Deferred("invert.methods.invert:prepare"),
    ),
    Method(
        "nearest",
        revision=1,
        config_type=configs.NearestConfig,
        run=Deferred("invert.methods.nearest:nearest"),
        options=frozenset({"ban"}),
        follows=frozenset({"tokens", "restarts", "soft_steps", "top"}),
        gives_soft_prompt=True,
        polishes=True,
    ),
    Method(
        "pez",
        revision=1,
        config_type=configs.PezConfig,
        run=Deferred("invert.methods.pez:pez"),
        run_batch=Deferred("invert.methods.pez:pez_batch"),
        options=frozenset({"ban"}),
        follows=frozenset({"tokens", "top"}),
    ),
    Method(
        "gcg",
        revision=1,
        config_type=configs.GcgConfig,
        run=Deferred("invert.methods.gcg:gcg"),
        options=frozenset({"ban"}),
        follows=frozenset({"tokens", "top"}),
    ),
    Method(
        "random",
        revision=1,
        config_type=configs.RandomConfig,
        run=Deferred("invert.methods.random_search:random_search"),
        options=frozenset({"ban"}),
        follows=frozenset({"tokens", "max_tokens", "top"}),
    ),
    Method(
        "retrieve",
        revision=2,
        config_type=configs.NoConfig,
        run=Deferred("invert.methods.retrieve:retrieve"),
        options=frozenset({"corpus", "ban"}),
        follows=frozenset({"top"}),
        prepare=Deferred("invert.methods.retrieve:prepare"),
    ),
    Method(
        "splice",
        revision=1,
        config_type=configs.SpliceConfig,
        run=Deferred("invert.methods.splice:splice"),
        options=frozenset({"ban"}),
        follows=frozenset({"max_tokens"}),
        prepare=Deferred("invert.methods.splice:prepare"),
    ),
    Method(
        "ph2p",
        revision=1,
        config_type=configs.Ph2pConfig,
        run=Deferred("invert.methods.ph2p:ph2p"),
        options=frozenset({"ban"}),
        follows=frozenset({"tokens", "restarts", "top", "generator"}),
        metric=DENOISING_ERROR,
        prepare=Deferred("invert.methods.denoiser:prepare"),
        requires="diffusers",
    ),
    Method(
        "textual-inversion",
        revision=1,
        config_type=configs.TextualInversionConfig,
        run=Deferred("invert.methods.textual_inversion:textual_inversion"),
        options=frozenset({"ban", "init_prompt"}),
        follows=frozenset({"tokens", "generator"}),
        gives_soft_prompt=True,
        prepare=Deferred("invert.methods.denoiser:prepare"),
        requires="diffusers",
    ),
    *(_interrogator("interrogator", mode, f"interrogator{ending}") for ending, mode in _MODES.items()),
    *(_interrogator("interrogator_lite", mode, f"interrogator-lite{ending}") for ending, mode in _MODES.items()),
)
METHODS: Registry[Method] = Registry("method", "invert.methods", {method.name: method for method in _BUILTIN})


def method_names() -> tuple[str, ...]:
    """All methods by name, ours first."""
    return METHODS.names()


def get_method(name: str) -> Method:
    """The method of that name.

    Raises:
        InputError: there is none; the message lists the names.
    """
    return METHODS.get(name)


def register(method: Method) -> Method:
    """Add a method, to be found under its name; returns it.

    Raises:
        InputError: another method has that name.
    """
    METHODS.register(of_kind("method", method, Method, "a Method").name, method)
    return method


def run_tasks(method: Method, tasks: Sequence[InversionTask]) -> list[InversionOutput]:
    """The outputs of tasks of one config: together where the method can, otherwise one after the other."""
    config = method.config_of(tasks[0].config)
    if method.run_batch is not None and len(tasks) > 1:
        return method.run_batch(tasks, config)
    return [method.run(task, config) for task in tasks]


def __getattr__(name: str) -> Any:
    """The classes of `invert.methods.task`, which need torch, when they are asked for."""
    if name in ("InversionTask", "InversionOutput"):
        return resolve(f"invert.methods.task:{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
