"""What the app does, without a page: pictures and settings in, prompts out, over one loaded model.

One search runs at a time, which the app's queue sees to. Nothing a visitor sends is ever taken for a path or an
address of this machine's: pictures come as uploaded files, all else is text and numbers.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from threading import Event
from typing import Any

from PIL import Image

from invert.analysis import Analysis
from invert.app.limits import Limits
from invert.app.runs import Better, Sessions, Update, watched
from invert.callbacks import OnBest, OnStep
from invert.config import InvertConfig
from invert.diffusion.drawing import TextToImage, to_pil
from invert.diffusion.options import DrawingOptions
from invert.diffusion.reading import what_is_cut
from invert.errors import InputError
from invert.extras import require
from invert.history import HistoryEntry, labeled
from invert.images import load_image
from invert.images.addresses import is_address
from invert.images.embedded import EmbeddedPrompt, read_embedded
from invert.inverter import Inverter
from invert.methods import get_method, method_names
from invert.result import Result
from invert.target import image_latent, text_latent

log = logging.getLogger(__name__)
LONGEST = 2000  # characters of a visitor's text
ALTERNATIVES = 4  # prompts of one search


@dataclass(frozen=True)
class Upload:
    """A visitor's file: where it was put, and what the visitor calls it."""

    path: str
    name: str


@dataclass(frozen=True)
class Progress:
    """How far a search is.

    Attributes:
        prompt: the best so far; "" before there is one.
        entries: the history so far.
        note: a line on it, as people read it.
        result: what was found, at the end.
    """

    prompt: str = ""
    entries: list[HistoryEntry] = field(default_factory=list)
    note: str = "reading the picture"
    result: Result | None = None


@dataclass(frozen=True)
class Row:
    """A line of a table: one method's result, or one picture's; a sentence where there is none."""

    label: str
    result: Result | None = None
    judge: float | None = None  # cosine of prompt and picture under the model that no method optimizes
    problem: str = ""


@dataclass(frozen=True)
class Drawing:
    """An image of a prompt. judge: cosine with the picture, where one is given. problem: why it shows nothing."""

    image: Image.Image
    seed: int
    judge: float | None
    problem: str = ""

    @property
    def caption(self) -> str:
        parts = [f"seed {self.seed}", "" if self.judge is None else f"judge {self.judge:.2f}", self.problem]
        return " · ".join(part for part in parts if part)


class Service:
    """One model at work for its visitors.

    Attributes:
        sessions: whose search runs.
    """

    def __init__(
        self,
        inverter: Inverter,
        limits: Limits | None = None,
        generator: str | None = None,
        drawing: DrawingOptions | None = None,
    ) -> None:
        """generator: a pipeline or the address of an image endpoint; None for the bundle's own. drawing: how it draws."""
        self.inverter, self.limits, self.drawing = inverter, limits or Limits(), drawing or DrawingOptions()
        self.generator_name = generator or inverter.bundle.generator
        self.sessions = Sessions()

    @cached_property
    def methods(self) -> tuple[str, ...]:
        """Those that can run here: their extras are installed, and there is a generator for those that need one."""
        return tuple(name for name in method_names() if self.can_run(name))

    def can_run(self, name: str) -> bool:
        method = get_method(name)
        try:
            method.check_extra()
        except InputError:
            return False
        return not method.learns_through_generator or not (self.generator_name is None or is_address(self.generator_name))

    def config(self, method: str = "invert", **options: Any) -> InvertConfig:
        """The settings of a search, within the limits.

        Args:
            method: one of `methods`.
            options: fields of `InvertConfig`; what is None stays at its default, words are given as a text with commas.

        Raises:
            InputError: one makes no sense.
        """
        if method not in self.methods:
            raise InputError(f"unknown `method` {method!r}: choose one of {', '.join(self.methods)}")
        given = {name: value for name, value in options.items() if value is not None}
        for name, value in given.items():
            if isinstance(value, str) and len(value) > LONGEST:
                raise InputError(f"`{name}` is longer than {LONGEST} characters: shorten it")
        for name in ("must_include", "ban"):
            given[name] = tuple(part.strip() for part in given.get(name, "").split(",") if part.strip())
        given["seconds"] = min(given.get("seconds") or self.limits.seconds, self.limits.seconds)
        return InvertConfig(method=method, generator=self.generator_name, top=ALTERNATIVES, **given)

    # Searches ---------------------------------------------------------------------------------

    def search(self, upload: Upload, config: InvertConfig, session: str = "") -> Iterator[Progress]:
        """The prompt of a picture, as it is found; the last one has the result."""
        picture = load_image(upload.path, upload.name)
        with self.sessions.running(session) as stop:
            yield from self._followed(picture, config, stop)

    def _followed(self, picture: Image.Image, config: InvertConfig, stop: Event) -> Generator[Progress, None, Result]:
        def search(on_best: OnBest, on_step: OnStep) -> Result:
            return self.inverter.invert(picture, config, on_best=on_best, on_step=on_step, stop=stop.is_set)

        began, metric = time.perf_counter(), get_method(config.method).metric
        progress = Progress()
        yield progress
        updates = watched(search, stop)
        while True:
            try:
                new = next(updates)
            except StopIteration as end:
                result: Result = end.value
                break
            progress = advanced(progress, new, metric, time.perf_counter() - began)
            yield progress
        yield Progress(result.prompt, result.history, summary(result), result)
        return result

    def compare(self, upload: Upload, methods: Sequence[str], config: InvertConfig, session: str = "") -> Iterator[list[Row]]:
        """The results of several methods on one picture, one more row each time."""
        if not methods:
            raise InputError("no method chosen: choose two or more to compare")
        configs = [replace(config, method=self.config(name).method) for name in dict.fromkeys(methods)]
        picture = load_image(upload.path, upload.name)
        rows: list[Row] = []
        with self.sessions.running(session) as stop:
            for one in configs:
                if stop.is_set():
                    break
                rows = [*rows, self._compared(picture, one, stop)]
                yield rows

    def _compared(self, picture: Image.Image, config: InvertConfig, stop: Event) -> Row:
        try:
            result = self.inverter.invert(picture, config, stop=stop.is_set)
            return Row(config.method, result, self.judged(result.prompt, picture))
        except Exception as error:  # the other methods go on
            return Row(config.method, problem=sentence(error))

    def judged(self, prompt: str, picture: Image.Image) -> float:
        """Cosine of prompt and picture under the bundle's judge."""
        judge = self.inverter.bundle.evaluator()
        return float(text_latent(judge, prompt) @ image_latent(judge, [picture]))

    def each(self, uploads: Sequence[Upload], config: InvertConfig, session: str = "") -> Iterator[list[Row]]:
        """The prompt of each picture, one more row each time; a bad file is a row with a sentence."""
        if not uploads:
            raise InputError("no picture given: choose one or more")
        if len(uploads) > self.limits.files:
            raise InputError(
                f"{len(uploads)} pictures are more than this page takes at once: choose {self.limits.files} or fewer"
            )
        rows: list[Row] = []
        with self.sessions.running(session) as stop:
            for upload in uploads:
                if stop.is_set():
                    break
                rows = [*rows, self._one(upload, config, stop)]
                yield rows

    def _one(self, upload: Upload, config: InvertConfig, stop: Event) -> Row:
        try:
            picture = load_image(upload.path, upload.name)
            return Row(upload.name, self.inverter.invert(picture, config, stop=stop.is_set))
        except Exception as error:  # the other pictures go on
            return Row(upload.name, problem=sentence(error))

    # What needs no search ---------------------------------------------------------------------

    def analyze(self, upload: Upload, top: int) -> Analysis:
        """The phrases of each category that the picture is nearest to."""
        return self.inverter.analyze(load_image(upload.path, upload.name), top)

    def embedded(self, upload: Upload) -> EmbeddedPrompt | None:
        """The prompt that the file itself carries, where the program that drew it left one there.

        Raises:
            InputError: the file is no picture.
        """
        load_image(upload.path, upload.name)
        return read_embedded(upload.path)

    def draw(self, prompt: str, images: int = 4, seed: int = 0, upload: Upload | None = None) -> list[Drawing]:
        """What the generator draws of a prompt, with each image's cosine with the picture where one is given."""
        if not prompt.strip():
            raise InputError("there is no prompt to draw: find one first, or write it")
        if len(prompt) > LONGEST:
            raise InputError(f"`prompt` is longer than {LONGEST} characters: shorten it")
        if not 1 <= images <= self.limits.drawn:
            raise InputError(f"`images` is {images}: give 1 to {self.limits.drawn}")
        picture = None if upload is None else load_image(upload.path, upload.name)
        seeds = [InvertConfig(seed=seed).seed + i for i in range(images)]
        generator = self.generator
        drawn, cut = [], what_is_cut(generator, prompt)
        for seed, one in zip(seeds, generator.draw([prompt], seeds, self.drawing), strict=True):
            (image,) = to_pil(one.image[None])
            drawn.append(Drawing(image, seed, None if picture is None else self.likeness(image, picture), one.problem or cut))
        return drawn

    def likeness(self, image: Image.Image, picture: Image.Image) -> float:
        """Cosine of two pictures under the bundle's judge."""
        judge = self.inverter.bundle.evaluator()
        return float(image_latent(judge, [image]) @ image_latent(judge, [picture]))

    @cached_property
    def generator(self) -> TextToImage:
        """What draws, opened at its first use.

        Raises:
            InputError: there is none, or its extra is not installed.
        """
        if self.generator_name is None:
            raise InputError("this model has no generator of its own: start the app with `generator` to draw prompts")
        if not is_address(self.generator_name):
            require("diffusers", "drawing a prompt")
        from invert.methods.denoiser import load_generator

        return load_generator(self.inverter.bundle, self.generator_name)


def sentence(error: Exception) -> str:
    """What a visitor is told: nothing of the machine's own, which goes to the log."""
    if isinstance(error, InputError):
        return str(error)
    log.exception("internal error")
    return f"internal error ({type(error).__name__}): the log of the server says more"


def advanced(progress: Progress, new: list[Update], metric: str, seconds: float) -> Progress:
    """The progress after these updates."""
    steps = [update for update in new if isinstance(update, HistoryEntry)]
    entries = [*progress.entries, *steps]
    better = [update for update in new if isinstance(update, Better)]
    prompt, note = progress.prompt, progress.note
    if better:
        prompt = better[-1].prompt
    where = f"{entries[-1].stage}, step {entries[-1].step + 1}" if entries else "first prompts"
    value = labeled(better[-1].objective, metric) if better else note.split(" · ")[0] if progress.prompt else "no prompt yet"
    return Progress(prompt, entries, f"{value} · {where} · {seconds:.1f} s")


def summary(result: Result) -> str:
    """One line on a result."""
    ended = "stopped: the best so far · " if result.interrupted else ""
    passes = f"{result.forward_tokens + result.backward_tokens:,} token passes"
    return f"{ended}cosine {result.score:.3f} · {result.seconds:.1f} s · {passes}"
