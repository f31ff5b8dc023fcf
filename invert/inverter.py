"""The library's front door: load a model once, invert as many images as you like.

inverter = Inverter.load("picturebook")
result = inverter.invert("image.png", tokens=8, method="invert", seed=0)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from invert.analysis import Analysis, EncodedTables, PhraseTables, bundle_tables, phrase_lists, rank_phrases, users_tables
from invert.budget import Budget
from invert.bundle import ModelBundle, load_bundle
from invert.callbacks import Callbacks, OnBest, OnStep, Stop
from invert.captioning import Captioners
from invert.config import ANALYSIS_TOP, InvertConfig, config_of
from invert.derived import Derived
from invert.errors import InputError
from invert.given import of_kind, plain_text, sound_text, wrong
from invert.history import History
from invert.images import ImageLike, load_image, looks_like_image, one_alone, one_image, one_or_several, several
from invert.languages import Languages
from invert.methods import get_method
from invert.methods.task import InversionOutput, InversionTask
from invert.models.clip import Clip
from invert.models.loading import load_clip
from invert.models.turns import Turns
from invert.one_process import OneProcess
from invert.result import Result
from invert.solving import result_of, solve, until_interrupted
from invert.target import apply_gap_correction, image_latent, image_latents, subtract_negative, text_latent
from invert.torch_defaults import usual_torch

MOST_TOGETHER = 64  # pictures that are found together: what they need in memory grows with their number


class Inverter(OneProcess):
    """Finds prompts on one model. It cannot be pickled: each process loads its own.

    Attributes:
        bundle: the model and what is known of its world.
    """

    def __init__(self, bundle: ModelBundle) -> None:
        self.bundle = of_kind("bundle", bundle, ModelBundle, "a ModelBundle, or load a model by `Inverter.load`")
        self._derived = Derived()
        self._lowered: dict[tuple[int, int], tuple[int, int]] = {}  # tokens and max_tokens → as far as the context goes
        at = self.clip.device, self.clip.chosen_dtype
        self.captioners, self.languages = Captioners(*at), Languages(*at)
        self._own_phrases: tuple[PhraseTables, EncodedTables] = ({}, {})  # the last ones that were given

    def __copy__(self) -> Inverter:
        return type(self)(self.bundle)

    @classmethod
    @usual_torch()
    def load(
        cls,
        model: str = "picturebook",
        bundle: str | None = None,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype | None = None,
        model_weights: Sequence[float] | None = None,
        low_memory: bool = False,
    ) -> Inverter:
        """Load a model.

        Args:
            model: a name or path, see `load_clip`.
            bundle: a name in `invert.bundle.BUNDLES`; None for the model's own, or the generic one.
            device: by default a GPU if there is one.
            dtype: of the weights of model and generator: "float32", "float16" or "bfloat16"; latents and scores are float32.
            model_weights: of the cosines of models that are joined by "+"; only their ratio counts. None: all the same.
            low_memory: keep the image tower, the text tower and a generator in memory one at a time, reading each from its
                files when its turn comes; of half precision no copy in float32 is kept. Threads wait for each other's towers.

        Raises:
            InputError: the model, bundle, device or dtype cannot be had.
        """
        turns = Turns() if low_memory else None
        return cls(load_bundle(load_clip(plain_text("model", model), device, dtype, model_weights, turns), bundle))

    @property
    def clip(self) -> Clip:
        return self.bundle.clip

    def bundle_for(self, config: InvertConfig) -> ModelBundle:
        """The bundle with the run's own corpus and banned words, made once for each of them."""
        return self._derived.of(self.bundle, config_of(config))

    @usual_torch()
    def invert(
        self,
        image: ImageLike,
        config: InvertConfig | None = None,
        *,
        negative: ImageLike | None = None,
        on_best: OnBest | None = None,
        on_step: OnStep | None = None,
        stop: Stop | None = None,
        **options: Any,
    ) -> Result:
        """The prompt of an image.

        Args:
            image: whatever `invert.images.load_image` reads: a path, an address, bytes, a stream, a Pillow image, samples.
            config: options; the defaults where None.
            negative: an image, or a prompt where the text names none, to move away from.
            on_best: called with every better prompt and its objective.
            on_step: called with every step of the method's history.
            stop: asked between batches: True ends the search with the best prompt so far, in a result that is `interrupted`.
            options: fields of `InvertConfig`, over those of config.

        Raises:
            InputError: the image cannot be read, an option is impossible, or several images are given.
        """
        image = one_alone(image)
        return self.invert_joint([image], config, negative=negative, on_best=on_best, on_step=on_step, stop=stop, **options)

    @usual_torch()
    def invert_batch(
        self,
        images: Sequence[ImageLike],
        config: InvertConfig | None = None,
        *,
        negative: ImageLike | None = None,
        **options: Any,
    ) -> list[Result]:
        """The prompt of each of several images; arguments as for `invert`.

        Methods with a `run_batch` find up to 64 together, which is faster; `seconds` of each result is then that of all these.
        With a limit of `seconds` each image has that to itself. A KeyboardInterrupt ends the list with what was being done.
        """
        settings = config_of(config, options)
        sources = several(images)
        method = get_method(settings.method)
        if method.run_batch is None or settings.seconds is not None:
            return until_interrupted([self.invert(image, settings, negative=negative)] for image in sources)
        parts = (sources[i : i + MOST_TOGETHER] for i in range(0, len(sources), MOST_TOGETHER))
        tasks = ([self._of_images([image], settings, negative, Callbacks()) for image in part] for part in parts)
        return until_interrupted(solve(method, together) for together in tasks)

    @usual_torch()
    def invert_joint(
        self,
        images: Sequence[ImageLike],
        config: InvertConfig | None = None,
        *,
        negative: ImageLike | None = None,
        on_best: OnBest | None = None,
        on_step: OnStep | None = None,
        stop: Stop | None = None,
        **options: Any,
    ) -> Result:
        """The one prompt of what several images share: of the mean of their latents. Arguments as for `invert`."""
        settings = config_of(config, options)
        sources = several(images)
        self._before_the_clock(settings)
        task = self._of_images(sources, settings, negative, Callbacks(on_best, on_step, stop))
        return solve(get_method(settings.method), [task])[0]

    @usual_torch()
    def distill(
        self,
        prompt: str,
        config: InvertConfig | None = None,
        *,
        negative: ImageLike | None = None,
        on_best: OnBest | None = None,
        on_step: OnStep | None = None,
        stop: Stop | None = None,
        **options: Any,
    ) -> Result:
        """A prompt that means what a longer one means, and is not longer: `invert`, pulled onto a text's latent.

        A method that takes an `init_prompt` starts from the text itself, unless it is given another one.
        """
        settings = self._no_longer_than(sound_text("prompt", prompt), config_of(config, options))
        if settings.caption is not None:
            raise InputError("`caption` says what a picture shows, and there is only a text: leave it out")
        self._before_the_clock(settings)
        budget, callbacks = self._budget(settings, stop), Callbacks(on_best, on_step, stop)
        task = self._task(text_latent(self.clip, prompt, "the text"), settings, negative, budget, callbacks)
        return solve(get_method(settings.method), [task])[0]

    def _no_longer_than(self, prompt: str, config: InvertConfig) -> InvertConfig:
        """The config with the prompt's words to start from and no more tokens than it has, unless required words need more."""
        whole = " ".join([prompt, *(word for word in config.must_include if word.lower() not in prompt.lower())])
        most = min(config.max_tokens, max(1, len(self.clip.tokenizer.encode(whole))))
        starts = "init_prompt" in get_method(config.method).options and not config.init_prompt
        return replace(config, max_tokens=most, init_prompt=prompt if starts else config.init_prompt)

    @usual_torch()
    def analyze(
        self,
        image: ImageLike | Sequence[ImageLike],
        top: int = ANALYSIS_TOP,
        *,
        phrases: PhraseTables | None = None,
        config: InvertConfig | None = None,
        negative: ImageLike | None = None,
        **options: Any,
    ) -> Analysis:
        """The phrases of each category that an image is nearest to; nothing is searched.

        Args:
            image: as for `invert`; of several images, what they share.
            top: phrases of a category, at most.
            phrases: category → more phrases, as `invert.phrase_file.read_phrases` reads them.
            config: whose target and negative_weight count; the defaults where None.
            negative: as for `invert`.
            options: fields of `InvertConfig`, over those of config.

        Raises:
            InputError: the image cannot be read, a category is empty, or an option is impossible.
        """
        settings = config_of(config, {"top": top, **options})
        target = self.corrected(image_latent(self.clip, [load_image(source) for source in one_or_several(image)]), settings)
        if negative is not None:
            target = subtract_negative(target, self.negative_latent(negative, settings), settings.negative_weight)
        tables = [bundle_tables(self.bundle), self._users_tables({} if phrases is None else phrases)]
        return Analysis(rank_phrases(tables, target, settings.top), self.clip.name)

    def _users_tables(self, phrases: PhraseTables) -> EncodedTables:
        """The user's phrase tables, encoded once for as long as they stay the same."""
        given = phrase_lists(phrases)
        if given != (known := self._own_phrases)[0]:  # another thread may put its own there meanwhile
            self._own_phrases = known = given, users_tables(self.clip, given)
        return known[1]

    @usual_torch()
    def score(self, prompt: str, target: Tensor) -> float:
        """Cosine of a prompt's latent with a unit target (E,)."""
        latent = text_latent(self.clip, sound_text("prompt", prompt), "the prompt")
        if not isinstance(target, Tensor) or target.shape != latent.shape:
            raise wrong("target", target, f"a tensor ({len(latent)},)")
        return float(latent @ target)

    @usual_torch()
    def rate(
        self,
        prompt: str,
        image: ImageLike,
        config: InvertConfig | None = None,
        *,
        negative: ImageLike | None = None,
    ) -> Result:
        """The result of a prompt that an image comes with: its cosine, nothing searched. Arguments as for `invert`."""
        settings = config_of(config, {"caption": None, "caption_model": None})
        task = self._of_images([one_image(image)], settings, negative, Callbacks())
        output = InversionOutput(prompts=[(prompt, self.score(prompt, task.target))])
        return replace(result_of(task, output), method="embedded", doubt="")  # whoever wrote the prompt knew

    # Tasks ------------------------------------------------------------------------------------

    def _of_images(
        self, images: Sequence[ImageLike], config: InvertConfig, negative: ImageLike | None, callbacks: Callbacks
    ) -> InversionTask:
        """The task of one prompt for the images."""
        budget = self._budget(config, callbacks.stop)
        pictures = tuple(load_image(source) for source in images)
        latents = image_latents(self.clip, pictures)
        budget.spend(images=len(pictures))
        captions = self.captioners.said(images, pictures, config)
        target = self.corrected(torch.nn.functional.normalize(latents.mean(0), dim=0), config)
        task = self._task(target, config, negative, budget, callbacks, pictures, captions)
        return replace(task, doubt=self.bundle.doubt_of(latents))

    @usual_torch()
    def prepare(self, config: InvertConfig | None = None, **options: Any) -> None:
        """Build what a run with these options looks up and every later run too: latents of a corpus, tables, the gap.

        Args:
            config: options; the defaults where None.
            options: fields of `InvertConfig`, over those of config.

        Raises:
            InputError: an option is impossible, or something that the method needs cannot be had.
        """
        settings = config_of(config, options)
        method = get_method(settings.method)
        method.check_options(settings)
        bundle = self.bundle_for(settings)
        _ = bundle.token_index
        if settings.target == "gap":
            _ = bundle.modality_gap
        self.captioners.captioner(settings)
        self.languages.rescorer(settings, bundle)
        if method.prepare is not None:
            method.prepare(bundle, settings)

    def _before_the_clock(self, config: InvertConfig) -> None:
        """Let no picture's `seconds` go to what is built once for a model; a corpus of the run's own counts against them."""
        if config.seconds is not None and not config.corpus:
            self.prepare(config)

    def _budget(self, config: InvertConfig, stop: Callable[[], bool] | None) -> Budget:
        return Budget(config.budget, config.seconds, stop=stop, passes_per_position=self.clip.tower.passes_per_position)

    def _task(
        self,
        target: Tensor,
        config: InvertConfig,
        negative: ImageLike | None,
        budget: Budget,
        callbacks: Callbacks,
        images: tuple[Image.Image, ...] = (),
        captions: tuple[str, ...] = (),
    ) -> InversionTask:
        config = self._within_context(config)
        get_method(config.method).check_options(config)
        if negative is not None:
            target = subtract_negative(target, self.negative_latent(negative, config, budget), config.negative_weight)
        rng = torch.Generator().manual_seed(config.seed)
        history = History(callbacks.on_best, on_step=callbacks.on_step)
        bundle = self.bundle_for(config)
        language = self.languages.rescorer(config, bundle)
        return InversionTask(bundle, target, config, rng, budget, history, images, captions, language)

    def _within_context(self, config: InvertConfig) -> InvertConfig:
        """The config as the model's context allows; of many images the first alone notes what was lowered."""
        given = config.tokens, config.max_tokens
        if given not in self._lowered:
            within = config.within_context(self.clip.max_prompt_tokens)
            self._lowered[given] = within.tokens, within.max_tokens
        tokens, max_tokens = self._lowered[given]
        return config if given == (tokens, max_tokens) else replace(config, tokens=tokens, max_tokens=max_tokens)

    def corrected(self, latent: Tensor, config: InvertConfig) -> Tensor:
        """An image's latent as the target that is asked for; only the target "gap" has the gap computed."""
        gap = self.bundle.modality_gap if config.target == "gap" else None
        return apply_gap_correction(self.clip, latent, config.target, gap)

    def negative_latent(self, negative: ImageLike, config: InvertConfig, budget: Budget | None = None) -> Tensor:
        """The unit latent (E,) to move away from: of an image as the config's target, or of a prompt.

        budget: what encoding an image is charged to.
        """
        if isinstance(negative, str) and not looks_like_image(negative):
            return text_latent(self.clip, sound_text("negative", negative), "the negative")
        latent = image_latent(self.clip, [load_image(one_image(negative, "negative"))])
        if budget is not None:
            budget.spend(images=1)
        return self.corrected(latent, config)
