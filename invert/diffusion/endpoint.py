"""Prompt → image by a server that speaks OpenAI's images API, whatever model stands behind it."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torchvision.transforms.functional import pil_to_tensor

from invert.diffusion.drawing import WITHHELD, Drawn, checked
from invert.diffusion.images_api import ImagesApi, SeedRefused, Withheld
from invert.diffusion.options import DrawingOptions
from invert.errors import InputError
from invert.images import load_image
from invert.images.addresses import DownloadLimits

LOG = logging.getLogger("invert")
MAX_SEED = 2**31 - 1  # what servers take
UNKNOWN_SIZE = 64  # pixels of the black square that stands for an image that never came


class ImageEndpoint:
    """A server that draws prompts. name: its address."""

    reads_clip = False

    def __init__(self, address: str, limits: DownloadLimits | None = None) -> None:
        """InputError where the address is none; see `invert.diffusion.images_api`."""
        self.api = ImagesApi(address, limits)
        self.name = self.api.name
        self.takes_seeds = True  # until it says otherwise

    def check(self, options: DrawingOptions) -> None:
        """InputError where the API knows no such option."""
        options.refuse({"steps", "guidance"}, f"the image endpoint {self.name}")

    def draw(self, prompts: Sequence[str], seeds: Sequence[int], options: DrawingOptions | None = None) -> Iterator[Drawn]:
        """Each prompt with each seed, one request an image.

        A server that knows no seeds is asked without; a note says that its images will not come again.

        Raises:
            InputError: no image comes.
        """
        options = options or DrawingOptions()
        self.check(options)
        wanted: dict[str, Any] = {} if options.generator_model is None else {"model": options.generator_model}
        if options.pixels is not None:
            wanted["size"] = "{}x{}".format(*options.pixels)
        for prompt in prompts:
            for seed in seeds:
                yield self.drawn({**wanted, "prompt": prompt}, seed % (MAX_SEED + 1))

    def drawn(self, request: dict[str, Any], seed: int) -> Drawn:
        """One image; black where the server withholds it."""
        try:
            content = self.content(request, seed)
        except Withheld:
            return Drawn(torch.zeros(3, UNKNOWN_SIZE, UNKNOWN_SIZE), WITHHELD)
        try:
            image = load_image(content)
        except InputError as error:
            raise InputError(
                f"the image endpoint {self.name} answers with what is no image, or a damaged one: check that it is an images API"
            ) from error
        return checked(pil_to_tensor(image) / 255)

    def content(self, request: dict[str, Any], seed: int) -> bytes:
        """The image's bytes, asked for with the seed if the server takes one."""
        if self.takes_seeds:
            try:
                return self.api.image({**request, "seed": seed})
            except SeedRefused:
                self.takes_seeds = False
                LOG.warning("the image endpoint %s takes no seeds: the same prompt will draw other images", self.name)
        return self.api.image(request)
