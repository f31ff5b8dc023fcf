"""A frozen CLIP: images and prompts to unit latents, prompts also by their input embeddings.

Adapters (`invert.models.open_clip`, `invert.models.transformers`) turn other libraries' models into
this object; the text side is always our own `TextTower`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from typing import TypeVar

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from invert.errors import InputError
from invert.given import listed, sound, wrong
from invert.models import fingerprint
from invert.models.overflow import checked
from invert.models.precision import at_least_float32
from invert.models.tokenizer import Tokenizer
from invert.models.tower import TextTower
from invert.models.turns import Turns
from invert.one_process import OneProcess

TEXT_BATCH = 256  # prompts in one forward
IMAGE_BATCH = 32  # pictures in one forward
PICTURES = "Pillow images, or a tensor of pixels (B, 3, S, S) in 0..1 or of bytes"
ROUNDING = 0.01  # by which pixels may leave 0..1, as drawn and rounded ones do
T = TypeVar("T")


class Clip(OneProcess):
    """A frozen CLIP. All latents are unit vectors (…, E) on `device`, in float32 or the wider type of the weights.

    It cannot be pickled: each process loads its own.
    """

    loaded_by = "load_clip"

    def __init__(
        self,
        name: str,
        tower: TextTower,
        visual: Callable[[Tensor], Tensor],
        preprocess: Callable[[Image.Image], Tensor],
        normalize: Callable[[Tensor], Tensor],
        tokenizer: Tokenizer,
        image_size: int,
        logit_scale: float,
        fits_as_clip: bool = True,
    ) -> None:
        """visual: normalized images (B, 3, S, S) → (B, E). normalize: pixels in 0..1 → the same, normalized.

        fits_as_clip: whether `preprocess` brings a picture to S × S as CLIP's does: the shorter side resized (bicubic),
        the middle cut out. SigLIP's squashes it.
        """
        self.fits_as_clip = fits_as_clip
        self.name, self.tower, self.tokenizer, self.frame = name, tower, tokenizer, tokenizer.frame
        self.visual, self.preprocess, self.normalize = visual, preprocess, normalize
        self.image_size, self.logit_scale = image_size, logit_scale
        self.load_exact: Callable[[], Clip] | None = None
        self.turns: Turns | None = None  # what its towers take turns in memory with
        self.chosen_dtype: torch.dtype | None = None  # where the user chose one; a generator has it too

    @property
    def token_embeddings(self) -> Tensor:
        """The token table (V, D)."""
        return self.tower.table

    @property
    def parts(self) -> tuple[Clip, ...]:
        """The models that are joined; of one model itself."""
        return (self,)

    @cached_property
    def exact(self) -> Clip:
        """The same model in float32, which targets and the last comparison of prompts are computed with.

        The model itself where it has float32 already, or where no copy shall be kept (`low_memory`).
        """
        if self.load_exact is None:
            return self
        exact = self.load_exact()
        for part, whole in zip(self.parts, exact.parts, strict=True):
            part.visual = _widened(whole.visual)  # the one that is used; the other leaves memory
        return exact

    @cached_property
    def fingerprint(self) -> str:
        """A short hash of what text latents depend on, see `invert.models.fingerprint`."""
        return fingerprint.of_model(self)

    @property
    def table_widths(self) -> list[int]:
        """The width of each text encoder's own token embeddings, which an input embedding holds side by side."""
        return [table.shape[1] for table in self.tower.tables]

    def model_scores(self, prompts: Sequence[str], target: Tensor) -> dict[str, dict[str, float]]:
        """Where several models are joined: prompt → model → the cosine of the prompt with the target (E,) under it."""
        return {}

    @property
    def device(self) -> torch.device:
        return self.tower.table.device

    @property
    def dtype(self) -> torch.dtype:
        """Of weights and activations."""
        return self.tower.table.dtype

    @property
    def context_length(self) -> int:
        return len(self.tower.positions)

    @property
    def max_prompt_tokens(self) -> int:
        """The longest prompt that the context holds beside the special tokens."""
        return self.context_length - self.frame.n_special

    def embed(self, ids: Tensor) -> Tensor:
        """ids (…) int64 → token rows (…, D)."""
        return self.tower.embed(ids)

    def encode_embeddings(self, e: Tensor, eot: Tensor | None = None) -> Tensor:
        """Input embeddings (B, T, D) of any float type, special rows included → unit latents (B, E), differentiable.

        eot: (B,) position of end-of-text; None: the last. A causal tower runs nothing after it.
        """
        return F.normalize(at_least_float32(self.tower.encode(e.to(self.dtype), eot)), dim=-1)

    def encode_prompt_embeddings(self, embeddings: Tensor) -> Tensor:
        """Embeddings (B, L, D) of prompts, without special rows → unit latents (B, E), differentiable."""
        rows = self.add_special_embeddings(embeddings)
        end = None
        if self.frame.length is not None:  # where padding follows
            end = torch.full((len(rows),), embeddings.shape[1] + self.frame.n_special - 1, device=rows.device)
        return self.encode_embeddings(rows, end)

    def add_special_embeddings(self, embeddings: Tensor) -> Tensor:
        """Embeddings (B, L, D) → (B, T, D): between those of the special tokens, and padded where the tower reads padding."""
        table, frame, batch = self.token_embeddings, self.frame, len(embeddings)
        edges = torch.stack([table[token] for token in (*frame.before, *frame.after)]).to(embeddings.dtype).expand(batch, -1, -1)
        parts = [edges[:, : len(frame.before)], embeddings, edges[:, len(frame.before) :]]
        if frame.length is not None:
            missing = frame.length - embeddings.shape[1] - frame.n_special
            parts.append(table[frame.pad].to(embeddings.dtype).expand(batch, missing, -1))
        return torch.cat(parts, 1)

    def tokenize(self, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Prompts → padded ids (B, T) int64, and the position (B,) of each one's last token; cut to the context."""
        return self.pad([self.ids_with_special_tokens(prompt) for prompt in prompts])

    def ids_with_special_tokens(self, prompt: str) -> list[int]:
        """A prompt's ids between the special tokens, cut to the context."""
        return self.frame.row(self.tokenizer.encode(prompt)[: self.max_prompt_tokens])

    def pad(self, rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        """Rows of ids → one padded tensor (B, T), as long as the longest or as the tower reads, and where each ends (B,)."""
        length = self.frame.length or max(map(len, rows))
        ids = torch.tensor([[*row, *[self.frame.pad] * (length - len(row))] for row in rows], device=self.device)
        return ids, torch.tensor([len(row) - 1 for row in rows], device=self.device)

    @torch.no_grad()
    def encode_text(self, prompts: Sequence[str]) -> Tensor:
        """Prompts → unit latents (B, E).

        Raises:
            InputError: there is no prompt, or one that is no text, or a number overflows in the model's type; so of pictures.
        """
        rows = [self.ids_with_special_tokens(prompt) for prompt in prompts_of(prompts)]
        # Those of like length together: none is run as far as the longest of all.
        order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
        parts = []
        for i in range(0, len(rows), TEXT_BATCH):
            ids, eot = self.pad([rows[j] for j in order[i : i + TEXT_BATCH]])
            parts.append(self.encode_embeddings(self.embed(ids), eot))
        return checked(torch.cat(parts), self)[torch.tensor(order, device=self.device).argsort()]

    @torch.no_grad()
    def encode_image(self, images: Iterable[Image.Image] | Tensor) -> Tensor:
        """PIL images, or pixels (B, 3, S, S) in 0..1 or bytes, which are brought to the model's size → unit latents (B, E).

        PIL images are run IMAGE_BATCH at a time: of any number only so many are in memory as pixels. InputError where there
        is no image, or something else.
        """
        if isinstance(images, Tensor):
            pixels = pixels_of(images.to(self.device))
            return self.encode_preprocessed(self.normalize(self._of_own_size(pixels).to(self.dtype)))
        batches = (torch.stack([self.preprocess(image) for image in part]) for part in chunks(pictures_of(images), IMAGE_BATCH))
        latents = [self._image_latents(pixels) for pixels in batches]
        if not latents:
            raise InputError("`images` is empty: give one picture or more")
        return checked(torch.cat(latents), self)

    def _of_own_size(self, pixels: Tensor) -> Tensor:
        return resized(pixels, self.image_size)

    @torch.no_grad()
    def encode_preprocessed(self, pixels: Tensor) -> Tensor:
        """Pictures (B, 3, S, S) as `preprocess` gives them → unit latents (B, E)."""
        return checked(self._image_latents(pixels), self)

    def _image_latents(self, pixels: Tensor) -> Tensor:
        return F.normalize(at_least_float32(self.visual(pixels.to(self.device, self.dtype))), dim=-1)


def prompts_of(prompts: Sequence[str]) -> tuple[str, ...]:
    """The prompts, one or several. InputError where there is none, or something else among them."""
    texts = (prompts,) if isinstance(prompts, str) else listed("prompts", prompts, "a list of texts")
    if not texts:
        raise InputError("`prompts` is empty: give one text or more")
    for text in texts:
        if not isinstance(text, str):
            raise wrong("prompts", text, "texts alone", "holds")
    return sound("prompts", texts)


def pictures_of(images: Iterable[Image.Image]) -> Iterator[Image.Image]:
    """The pictures, as they are gone through. InputError where there is something else."""
    if not isinstance(images, Iterable):
        raise wrong("images", images, PICTURES)
    return map(_picture, images)


def pixels_of(images: Tensor) -> Tensor:
    """Pixels (B, 3, S, S) of floats in 0..1, or of bytes → in 0..1. InputError where a tensor holds something else."""
    if images.ndim != 4 or images.shape[1] != 3 or not images.numel():
        raise InputError(f"`images` is a tensor {tuple(images.shape)}: give {PICTURES}")
    if images.dtype == torch.uint8:
        return images / 255
    if not images.is_floating_point():
        raise InputError(f"`images` is a tensor of {str(images.dtype).removeprefix('torch.')}: give {PICTURES}")
    least, most = images.aminmax()
    if not (least >= -ROUNDING and most <= 1 + ROUNDING):
        raise InputError(f"`images` holds pixels of {float(least):g} to {float(most):g}: give {PICTURES}")
    return images


def _picture(image: object) -> Image.Image:
    if not isinstance(image, Image.Image):
        raise wrong("images", image, "Pillow images alone", "holds")
    return image


def _widened(visual: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """An image tower in float32 as it takes pixels of less."""
    return lambda pixels: visual(pixels.float())


def resized(pixels: Tensor, side: int) -> Tensor:
    """Pixels (B, 3, S, S) in 0..1 → (B, 3, side, side) in 0..1, by the bicubic filter that files are brought to size with."""
    if pixels.shape[-2:] == (side, side):
        return pixels
    wide = at_least_float32(pixels)  # torch has no filter for less
    return F.interpolate(wide, (side, side), mode="bicubic", antialias=True).clamp(0, 1).to(pixels.dtype)


def chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """The items in lists of `size`, the last one shorter."""
    rest = iter(items)
    while part := list(itertools.islice(rest, size)):
        yield part
