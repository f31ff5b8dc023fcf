"""Prompt → image, by any Stable Diffusion that diffusers loads, or by the bundled miniature.

In: prompts, or a `Conditioning` made from token embeddings, and seeds. Out: images (P, S, 3, H, W) in
0..1, one for each prompt and seed, the same whatever they are batched with. SD 1.x, 2.x and SDXL
(two text encoders) come through the same door, because the prompt is always encoded by the
pipeline's own `encode_prompt` or by its own encoders entered after their token tables.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
from torch import Tensor

from invert.config import at_least, check_numbers, with_options
from invert.diffusion.drawing import Drawn, checked
from invert.diffusion.loading import read_pipeline
from invert.diffusion.options import DrawingOptions, sides_of
from invert.errors import InputError
from invert.given import entries, listed, of_kind, sound_text, whole
from invert.models.clip import Clip
from invert.models.device import pick_device
from invert.registry import GENERATORS


@dataclass(frozen=True)
class GenerateConfig:
    """How images are sampled.

    Raises:
        InputError: a value makes no sense.
    """

    steps: int = at_least(1, 30)  # of the scheduler
    guidance: float = at_least(1, 7.5)  # classifier-free guidance; 1 switches it off
    negative: str = ""  # what guidance moves away from; "": from what the pipeline itself takes for no prompt
    batch: int = at_least(1, 8)  # images at once
    size: tuple[int, int] | None = None  # width and height in pixels; None: those that the U-Net was trained at

    def __post_init__(self) -> None:
        check_numbers(self)
        sound_text("negative", self.negative)
        if self.size is not None:
            object.__setattr__(self, "size", sides_of(self.size))


@dataclass(frozen=True)
class Conditioning:
    """Encoded prompts. hidden: (P, T, D), what the U-Net attends to. pooled: (P, E), SDXL only."""

    hidden: Tensor
    pooled: Tensor | None = None

    def __len__(self) -> int:
        return len(self.hidden)

    def select(self, indices: Tensor) -> Conditioning:
        """The prompts at indices (N,) int64."""
        return Conditioning(self.hidden[indices], None if self.pooled is None else self.pooled[indices])


class Generator:
    """A frozen Stable Diffusion 1, 2 or XL, which draws soft prompts as well as texts."""

    reads_clip = True

    def __init__(self, pipeline: Any, name: str, config: GenerateConfig | None = None) -> None:
        """pipeline: a StableDiffusionPipeline or StableDiffusionXLPipeline, on its device already."""
        self.pipeline = pipeline
        if not (self.is_xl or isinstance(pipeline, StableDiffusionPipeline)):
            raise InputError(f"{name!r} is a {type(pipeline).__name__}: give a Stable Diffusion 1.x, 2.x or XL pipeline")
        if pipeline.unet.config.in_channels != pipeline.vae.config.latent_channels:
            raise InputError(
                f"{name!r} fills or changes a picture beside its prompt: give a pipeline that draws from a prompt alone"
            )
        if None in self.text_encoders or len(self.text_encoders) != 1 + self.is_xl:
            raise InputError(
                f"{name!r} has not all the text encoders of its kind: give a base model, not one that refines pictures"
            )
        self.name, self.config = name, config or GenerateConfig()
        self.pipeline.set_progress_bar_config(disable=True)  # of those that are handed in
        for part in (self.pipeline.unet, self.pipeline.vae, *self.text_encoders):
            part.eval().requires_grad_(False)

    @classmethod
    def load(
        cls, name: str = "picturebook", device: str | torch.device | None = None, dtype: torch.dtype | None = None
    ) -> Generator:
        """Load a pipeline.

        Args:
            name: one of the registry `GENERATORS`, a diffusers id, or a folder.
            device: None for a GPU if there is one.
            dtype: None for float16 on a GPU, else float32.

        Raises:
            InputError: the pipeline cannot be read or reached, or is of another kind.
        """
        chosen = pick_device(device)
        if name in GENERATORS:
            named: Generator = GENERATORS.get(name)(chosen, dtype or (torch.float16 if chosen.type == "cuda" else torch.float32))
            return named
        return cls(read_pipeline(name, chosen, dtype), name)

    @property
    def text_encoders(self) -> list[Any]:
        """One text encoder, or SDXL's two."""
        return [self.pipeline.text_encoder, *self._second("text_encoder_2")]

    @property
    def tokenizers(self) -> list[Any]:
        return [self.pipeline.tokenizer, *self._second("tokenizer_2")]

    def _second(self, name: str) -> list[Any]:
        part = getattr(self.pipeline, name, None)
        return [] if part is None else [part]

    @property
    def is_xl(self) -> bool:
        return isinstance(self.pipeline, StableDiffusionXLPipeline)

    @property
    def device(self) -> torch.device:
        return self.pipeline.unet.device

    def shares_token_embeddings(self, clip: Clip, ids: Tensor) -> bool:
        """Whether its text encoders have that model's token embeddings, at the token ids (N,) of words.

        Of an SDXL's two they are compared with those of two joined models, in the same order.
        """
        tables = [encoder.get_input_embeddings().weight for encoder in self.text_encoders]
        if [table.shape for table in tables] != [table.shape for table in clip.tower.tables]:
            return False
        return all(
            torch.allclose(theirs[ids.to(theirs.device)].float().to(ours.device), ours[ids].float(), atol=1e-2)
            for theirs, ours in zip(tables, clip.tower.tables, strict=True)
        )

    def split_embeddings(self, embeddings: Tensor) -> list[Tensor]:
        """Soft prompts (…, D) of a model that `shares_token_embeddings` → each text encoder's own."""
        widths = [encoder.get_input_embeddings().weight.shape[1] for encoder in self.text_encoders]
        return list(embeddings.split(widths, -1))

    @torch.no_grad()
    def encode(self, prompts: Sequence[str]) -> Conditioning:
        """Prompts as the pipeline itself encodes them."""
        encoded = self.pipeline.encode_prompt(
            prompt=list(prompts), device=self.device, num_images_per_prompt=1, do_classifier_free_guidance=False
        )
        return Conditioning(encoded[0], encoded[2] if self.is_xl else None)

    def encode_embeddings(self, embeddings: Sequence[Tensor]) -> Conditioning:
        """Soft prompts → conditioning, differentiable.

        Args:
            embeddings: for each text encoder its own token embeddings (P, L, D), without special tokens.

        Raises:
            InputError: their number or width is not the encoders', or they are too long for the context.
        """
        if len(embeddings) != len(self.text_encoders):
            raise InputError(
                f"{self.name!r} has {len(self.text_encoders)} text encoders but {len(embeddings)} soft prompts were given"
            )
        hidden, pooled = [], None
        for encoder, tokenizer, part in zip(self.text_encoders, self.tokenizers, embeddings, strict=True):
            ids = placeholder_ids(tokenizer, *part.shape[:2]).to(part.device)
            with injected_embeddings(encoder, part):
                out = encoder(ids, output_hidden_states=self.is_xl)
            pooled = out[0]  # of the last encoder; a projection only there
            hidden.append(out.hidden_states[-2] if self.is_xl else out.last_hidden_state)
        return Conditioning(torch.cat(hidden, -1), pooled if self.is_xl else None)

    @torch.no_grad()
    def generate(
        self,
        prompts: Sequence[str] | Conditioning,
        seeds: Sequence[int] = (0,),
        config: GenerateConfig | None = None,
        **options: Any,
    ) -> Tensor:
        """Draw each of P prompts with each of S seeds.

        A seed fixes the initial noise of its image alone, on the CPU, so neither the batch nor the
        kind of device changes it.

        Args:
            prompts: texts, or what `encode` made of them.
            seeds: one image of every prompt for each.
            config: how images are sampled; None for the pipeline's own.
            options: fields of `GenerateConfig`, over those of config.

        Returns:
            Images (P, S, 3, H, W) float32 in 0..1 on the pipeline's device.

        Raises:
            InputError: there is no prompt or no seed, or an option makes no sense.
            TypeError: there is no option of a name.
        """
        wanted = "a GenerateConfig, or options by name"
        settings = with_options(self.config if config is None else of_kind("config", config, GenerateConfig, wanted), options)
        wanted_prompts = prompts if isinstance(prompts, Conditioning) else entries("prompts", prompts)
        numbers = [whole("seeds", seed) for seed in listed("seeds", seeds, "a list of whole numbers")]
        if not len(wanted_prompts) or not numbers:
            raise InputError("nothing to generate: give at least one prompt and one seed")
        parts = [images for images, _ in self._batches(wanted_prompts, numbers, settings)]
        return torch.cat(parts).unflatten(0, (len(wanted_prompts), len(numbers)))

    def check(self, options: DrawingOptions) -> None:
        """InputError where the pipeline cannot follow them."""
        options.refuse({"generator_model"}, f"the generator {self.name!r}, a pipeline,")
        self.settings_of(options)

    def settings_of(self, options: DrawingOptions) -> GenerateConfig:
        """The pipeline's own settings with those that are asked for."""
        wanted = {"steps": options.steps, "guidance": options.guidance, "size": options.pixels}
        return replace(self.config, **{name: value for name, value in wanted.items() if value is not None})  # type: ignore[arg-type]

    def draw(
        self, prompts: Sequence[str] | Conditioning, seeds: Sequence[int], options: DrawingOptions | None = None
    ) -> Iterator[Drawn]:
        """Each prompt with each seed, prompt by prompt; as `generate`, but as they are ready and with what is wrong about them.

        Raises:
            InputError: an option makes no sense, or the pipeline refuses it.
        """
        settings = self.settings_of(options or DrawingOptions())
        try:
            for images, withheld in self._batches(prompts, seeds, settings):
                yield from map(checked, images, withheld)
        except ValueError as error:  # so diffusers checks its arguments
            if isinstance(error, InputError):
                raise
            raise InputError(f"the generator {self.name!r} refuses to draw: {error}") from error

    @torch.no_grad()
    def _batches(
        self, prompts: Sequence[str] | Conditioning, seeds: Sequence[int], settings: GenerateConfig
    ) -> Iterator[tuple[Tensor, list[bool]]]:
        """Images (B, 3, H, W), and which of them the safety checker withheld, batch by batch."""
        conditioning = prompts if isinstance(prompts, Conditioning) else self.encode(prompts)
        jobs = [(p, seed) for p in range(len(conditioning)) for seed in seeds]
        for i in range(0, len(jobs), settings.batch):
            yield self._sample(conditioning, jobs[i : i + settings.batch], settings)

    def _sample(
        self, conditioning: Conditioning, jobs: list[tuple[int, int]], settings: GenerateConfig
    ) -> tuple[Tensor, list[bool]]:
        chosen = conditioning.select(torch.tensor([p for p, _ in jobs], device=conditioning.hidden.device))
        pooled = {} if chosen.pooled is None else {"pooled_prompt_embeds": chosen.pooled}
        width, height = settings.size or (None, None)
        output = self.pipeline(
            prompt_embeds=chosen.hidden,
            **pooled,
            # An empty one is not passed on: SDXL was trained with zeros in its place, not with the encoded "".
            negative_prompt=[settings.negative] * len(jobs) if settings.negative and settings.guidance > 1 else None,
            num_inference_steps=settings.steps,
            guidance_scale=settings.guidance,
            generator=[torch.Generator().manual_seed(seed) for _, seed in jobs],
            width=width,
            height=height,
            output_type="pt",
        )
        withheld = getattr(output, "nsfw_content_detected", None) or [False] * len(jobs)
        return output.images.float(), withheld


def placeholder_ids(tokenizer: Any, n_prompts: int, length: int) -> Tensor:
    """Ids (n_prompts, context) int64: start, `length` placeholders, end, padding."""
    context = tokenizer.model_max_length
    if length > context - 2:
        raise InputError(f"a soft prompt of {length} tokens does not fit: this pipeline reads {context - 2}")
    placeholder = tokenizer.encode("a", add_special_tokens=False)[0]  # any token but those that mark the end
    padding = [tokenizer.pad_token_id] * (context - length - 2)
    row = [tokenizer.bos_token_id, *[placeholder] * length, tokenizer.eos_token_id, *padding]
    return torch.tensor([row] * n_prompts)


@contextmanager
def injected_embeddings(encoder: Any, embeddings: Tensor) -> Iterator[None]:
    """Within the context, the encoder's token table answers with `embeddings` (P, L, D) at positions 1…L."""
    table = encoder.get_input_embeddings()
    width, wanted = embeddings.shape[-1], table.weight.shape[1]
    if width != wanted:
        raise InputError(f"soft prompts are {width} wide, but this text encoder's token embeddings are {wanted}")

    def answer(module: Any, inputs: Any, output: Tensor) -> Tensor:
        last = 1 + embeddings.shape[1]
        return torch.cat([output[:, :1], embeddings.to(output.dtype), output[:, last:]], 1)

    handle = table.register_forward_hook(answer)
    try:
        yield
    finally:
        handle.remove()
