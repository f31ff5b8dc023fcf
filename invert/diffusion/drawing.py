"""Prompt → image, whatever draws it: what the round trip asks of a pipeline or of an endpoint.

`open_generator` gives a `TextToImage`. Nothing here imports diffusers, which an endpoint does not need.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import to_pil_image

from invert.diffusion.options import DrawingOptions
from invert.images.addresses import is_address

WITHHELD = "withheld by the safety checker"
BLACK = "black"
OVERFLOWED = "black: numbers overflowed, bfloat16 may help"


@dataclass(frozen=True)
class Drawn:
    """One image.

    Attributes:
        image: (3, H, W) float32 in 0..1.
        problem: why it shows nothing: withheld, black; "" where it is as it should be.
    """

    image: Tensor
    problem: str = ""


class TextToImage(Protocol):
    """Whatever draws prompts."""

    @property
    def name(self) -> str:
        """What messages call it."""

    @property
    def reads_clip(self) -> bool:
        """Whether CLIP's token embeddings are all that it reads, so that soft prompts can be drawn and learned.

        True only of a `Generator`.
        """

    def check(self, options: DrawingOptions) -> None:
        """InputError where it cannot follow them."""

    def draw(self, prompts: Sequence[str], seeds: Sequence[int], options: DrawingOptions | None = None) -> Iterator[Drawn]:
        """Each prompt with each seed, prompt by prompt, as they are ready; images may differ in size."""


def open_generator(name: str, device: str | torch.device | None = None, dtype: torch.dtype | None = None) -> TextToImage:
    """The generator of that name.

    Args:
        name: one of the registry `GENERATORS`, a diffusers id, a folder, or the address of an image endpoint.
        device: None for a GPU if there is one.
        dtype: of a pipeline; None for half precision on a GPU, else float32.

    Raises:
        InputError: it cannot be read or reached, or draws nothing from a prompt.
    """
    if is_address(name):
        from invert.diffusion.endpoint import ImageEndpoint

        return ImageEndpoint(name)
    from invert.diffusion.pipelines import load_pipeline  # with it comes diffusers, a slow import

    return load_pipeline(name, device, dtype)


def checked(image: Tensor, withheld: bool = False) -> Drawn:
    """An image (3, H, W) of any float dtype with what is wrong about it."""
    image = image.float()
    if not image.isfinite().all():
        return Drawn(torch.zeros_like(image), WITHHELD if withheld else OVERFLOWED)
    problem = WITHHELD if withheld else "" if image.any() else BLACK
    return Drawn(image.clamp(0, 1), problem)


def to_pil(images: Tensor) -> list[Image.Image]:
    """Images (…, 3, H, W) in 0..1 → Pillow images in the same order."""
    return [to_pil_image(image) for image in images.detach().float().cpu().flatten(0, -4).clamp(0, 1)]
