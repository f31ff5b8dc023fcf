"""The library's front door: load a model once, invert as many images as you like.

inverter = Inverter.load("picturebook")
result = inverter.invert("image.png", tokens=8, method="invert", seed=0)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from invert.config import InvertConfig
from invert.images import load_image, looks_like_image
from invert.meter import Meter
from invert.methods import TOGETHER, Problem, Solution, check_followed, get_method, solve_each
from invert.models.clip import Clip
from invert.models.loading import load_clip
from invert.result import ConceptWords, Result, SoftToken, tokens_of
from invert.target import away_from, corrected, image_latent, modality_gap, text_latent
from invert.vocabulary import Vocabulary, build_vocabulary

ImageLike = str | Path | Image.Image


class Inverter:
    """A frozen CLIP with what inversions on it share: the vocabulary and the modality gap."""

    def __init__(self, clip: Clip, gap: Tensor | Callable[[], Tensor] | None = None) -> None:
        """gap: mean text latent minus mean image latent (E,), for the target "gap"; or what computes it when asked for."""
        self.clip = clip
        self._gap = gap
        self._vocabularies: dict[tuple[str, ...], Vocabulary] = {}

    @classmethod
    def load(cls, model: str = "picturebook", device: str | torch.device | None = None) -> Inverter:
        """Load a model by name (see `load_clip`); picturebook brings its modality gap along."""
        clip = load_clip(model, device=device)
        return cls(clip, partial(picturebook_gap, clip) if clip.known_tokens is not None else None)

    @property
    def gap(self) -> Tensor | None:
        """The modality gap (E,), computed once; None where nothing measured it."""
        if callable(self._gap):
            self._gap = self._gap()
        return self._gap

    def _corrected(self, latent: Tensor, config: InvertConfig) -> Tensor:
        """An image's latent as the target that is asked for; only the target "gap" has the gap computed."""
        return corrected(self.clip, latent, config.target, self.gap if config.target == "gap" else None)

    def vocabulary(self, ban: Sequence[str] = ()) -> Vocabulary:
        """The words that prompts may use, made once for each list of banned words."""
        key = tuple(sorted(ban))
        if key not in self._vocabularies:
            self._vocabularies[key] = build_vocabulary(self.clip, ban)
        return self._vocabularies[key]

    def invert(
        self,
        image: ImageLike | Sequence[ImageLike],
        config: InvertConfig | None = None,
        *,
        negative: ImageLike | None = None,
        on_best: Callable[[str, float], None] | None = None,
        **options: Any,
    ) -> Result:
        """The prompt of an image, or the one prompt of several images together.

        options: fields of `InvertConfig`, over those of config. negative: an image, or a prompt where
        the text names none, to move away from. on_best: called with every better prompt. Raises
        InputError for unreadable images and impossible options.
        """
        settings = replace(config or InvertConfig(), **options)
        several = list(image) if isinstance(image, Sequence) and not isinstance(image, str) else [image]
        return self._solved([self._of_images(several, settings, negative, on_best)])[0]

    def invert_each(
        self,
        images: Sequence[ImageLike],
        config: InvertConfig | None = None,
        *,
        negative: ImageLike | None = None,
        **options: Any,
    ) -> list[Result]:
        """The prompt of each of several images; `config`, `negative` and options as for `invert`.

        Methods of `TOGETHER` seek all of them at once, which is faster than one after the other; `seconds` of
        each result is then the time that all took.
        """
        settings = replace(config or InvertConfig(), **options)
        if settings.method not in TOGETHER or not images:
            return [self.invert(image, settings, negative=negative) for image in images]
        return self._solved([self._of_images([image], settings, negative, None) for image in images])

    def distill(
        self,
        prompt: str,
        config: InvertConfig | None = None,
        *,
        negative: ImageLike | None = None,
        on_best: Callable[[str, float], None] | None = None,
        **options: Any,
    ) -> Result:
        """A prompt that means what a longer one means: `invert`, pulled onto a text's latent."""
        settings = replace(config or InvertConfig(), **options)
        meter = self._meter(settings, on_best)
        return self._solved([self._problem(text_latent(self.clip, prompt), settings, negative, meter)])[0]

    def measure_gap(self, images: Sequence[ImageLike]) -> None:
        """Take the modality gap from example images and from prompts that name single words."""
        prompts = [f"a picture of a {word.text}" for word in self.vocabulary().words[:: max(1, len(self.vocabulary()) // 256)]]
        self._gap = modality_gap(self.clip, [load_image(source) for source in images], prompts)

    def _meter(self, config: InvertConfig, on_best: Callable[[str, float], None] | None) -> Meter:
        return Meter(config.budget, config.seconds, on_best)

    def _of_images(
        self,
        images: Sequence[ImageLike],
        config: InvertConfig,
        negative: ImageLike | None,
        on_best: Callable[[str, float], None] | None,
    ) -> Problem:
        """The problem of images together."""
        meter = self._meter(config, on_best)
        pictures = tuple(load_image(source) for source in images)
        latent = image_latent(self.clip, pictures)
        meter.spend(images=len(pictures))
        return self._problem(self._corrected(latent, config), config, negative, meter, pictures)

    def _problem(
        self,
        target: Tensor,
        config: InvertConfig,
        negative: ImageLike | None,
        meter: Meter,
        images: tuple[Image.Image, ...] = (),
    ) -> Problem:
        config.check_context(self.clip.context_length)
        get_method(config.method)  # an unknown one is told before anything is computed
        check_followed(config)
        if negative is not None:
            target = away_from(target, self._negative_latent(negative, config, meter), config.negative_weight)
        generator = torch.Generator().manual_seed(config.seed)
        return Problem(self.clip, target, self.vocabulary(config.ban), config, generator, meter, images)

    def _solved(self, problems: Sequence[Problem]) -> list[Result]:
        """The problems' results; after an interrupt those of the best prompts so far."""
        try:
            return [self._result(*solved) for solved in zip(problems, solve_each(problems), strict=True)]
        except KeyboardInterrupt:
            if not all(problem.meter.best_prompt for problem in problems):
                raise
            return [self._interrupted(problem) for problem in problems]

    def _interrupted(self, problem: Problem) -> Result:
        prompt = problem.meter.best_prompt
        solution = Solution(prompts=[(prompt, self.score(prompt, problem.target))])
        return replace(self._result(problem, solution), interrupted=True)

    def _negative_latent(self, negative: ImageLike, config: InvertConfig, meter: Meter) -> Tensor:
        if isinstance(negative, str) and not looks_like_image(negative):
            return text_latent(self.clip, negative)
        latent = image_latent(self.clip, [load_image(negative)])
        meter.spend(images=1)
        return self._corrected(latent, config)

    def score(self, prompt: str, target: Tensor) -> float:
        """Cosine of a prompt's latent with a unit target (E,)."""
        return float(text_latent(self.clip, prompt) @ target)

    def _result(self, problem: Problem, solution: Solution) -> Result:
        prompt, score = solution.prompts[0]
        vocabulary, meter = problem.vocabulary, problem.meter
        return Result(
            prompt=prompt,
            score=score,
            tokens=tokens_of(self.clip, prompt),
            trace=meter.trace,
            alternatives=solution.prompts,
            method=problem.config.method,
            model=self.clip.name,
            seed=problem.config.seed,
            seconds=meter.seconds,
            forward_tokens=meter.forward_tokens,
            backward_tokens=meter.backward_tokens,
            image_passes=meter.image_passes,
            soft_tokens=[SoftToken(p.text(vocabulary), p.distance, p.has_word) for p in solution.projections],
            soft=solution.soft,
            soft_score=solution.soft_score,
            concepts=[
                ConceptWords(tuple(vocabulary.words[word].text for word, _ in concept.words), concept.share)
                for concept in solution.concepts
            ],
        )


def picturebook_gap(clip: Clip) -> Tensor:
    """picturebook's modality gap (E,), from 256 scenes of its training split."""
    from invert.picturebook.grammar import caption
    from invert.picturebook.render import render
    from invert.picturebook.world import draw_scenes

    scenes = draw_scenes(256, seed=0)
    pictures = render(scenes, clip.image_size, clip.device)
    return modality_gap(clip, pictures, [caption(scene) for scene in scenes])
