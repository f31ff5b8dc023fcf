"""The round trip: prompts → images → how near they come to the picture that the prompts were found for.

In: a `Generator`, a judge (a `Clip` that nobody optimized against), the picture, prompts and seeds.
Out: the regenerated images with their similarity under the judge and two plain distances. The cosine
of a prompt predicts its images badly (arXiv 2408.06502), so the final choice is better made here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.functional import center_crop, pil_to_tensor, resize

from invert.diffusion.generator import Conditioning, Generator, to_pil
from invert.models.clip import Clip
from invert.result import GeneratedImage, Result, Token

COMPARED_SIZE = 64  # pixels: the side that pictures are brought to before pixels and colors are compared
COLOR_BINS = 4  # of each color channel in the histogram


@dataclass(frozen=True)
class RegenerationScores:
    """What P prompts draw with S seeds, and how near that is to the picture.

    Attributes:
        images: (P, S, 3, H, W) in 0..1, on the generator's device.
        judge: cosine of the two images' latents (P, S), on the CPU as the other two.
        pixels: root mean square difference (P, S), 0..1.
        colors: share of the picture that has another color (P, S).
    """

    images: Tensor
    judge: Tensor
    pixels: Tensor
    colors: Tensor

    def best_first(self) -> list[int]:
        """Prompts by their mean similarity under the judge; the earlier one where they tie."""
        return self.judge.mean(1).sort(descending=True, stable=True).indices.tolist()

    def of_first_prompt(self, seeds: Sequence[int]) -> list[GeneratedImage]:
        """The first prompt's images, one for each of the seeds they were drawn with."""
        scores = (values[0].tolist() for values in (self.judge, self.pixels, self.colors))
        return [GeneratedImage(*values) for values in zip(to_pil(self.images[0]), seeds, *scores, strict=True)]


@dataclass(frozen=True)
class RoundTrip:
    """What results are drawn with and compared by.

    Attributes:
        generator: draws the prompts.
        judge: compares images.
        seeds: one image of a prompt for each.
        tokenize: a prompt → the tokens that its result shows.
        reads_soft_prompts: whether the generator's text encoder has the token embeddings of the model
            that was inverted (`Generator.shares_token_embeddings`), so that soft prompts can be drawn.
    """

    generator: Generator
    judge: Clip
    seeds: tuple[int, ...]
    tokenize: Callable[[str], list[Token]]
    reads_soft_prompts: bool = False

    def choose(self, result: Result, picture: Image.Image) -> Result:
        """The result with its prompts in the order of what they draw, the nearest to the picture first."""
        scores = regenerate(self.generator, self.judge, picture, [prompt for prompt, _ in result.alternatives], self.seeds)
        return result.reordered(scores.best_first(), self.tokenize)

    def draw(self, result: Result, picture: Image.Image) -> Result:
        """The result with what its prompt draws, and its soft prompt too where the generator can read it."""
        soft = None
        if result.soft is not None and self.reads_soft_prompts and not self.generator.is_xl:
            embeddings = result.soft[None].to(self.generator.device, self.generator.pipeline.unet.dtype)
            with torch.no_grad():
                soft = self._drawn(self.generator.encode_embeddings([embeddings]), picture)
        return result.with_images(self._drawn([result.prompt], picture), soft)

    def _drawn(self, prompts: Sequence[str] | Conditioning, picture: Image.Image) -> list[GeneratedImage]:
        return regenerate(self.generator, self.judge, picture, prompts, self.seeds).of_first_prompt(self.seeds)


@torch.no_grad()
def regenerate(
    generator: Generator, judge: Clip, picture: Image.Image, prompts: Sequence[str] | Conditioning, seeds: Sequence[int]
) -> RegenerationScores:
    """Draw P prompts with S seeds each and compare every image with the picture, on the generator's device."""
    images = generator.generate(prompts, seeds)
    drawn = images.flatten(0, 1)  # (P·S, 3, H, W)
    latents = judge.encode_image(fitted(drawn, judge.image_size))  # (P·S, E)
    target = judge.encode_image([picture])[0]
    wanted = for_comparison(pil_to_tensor(picture.convert("RGB"))[None].to(drawn.device) / 255)
    compared = for_comparison(drawn)

    def table(values: Tensor) -> Tensor:
        return values.float().cpu().view(images.shape[:2])

    return RegenerationScores(
        images,
        table(latents @ target),
        table(pixel_distance(compared, wanted)),
        table(color_distance(compared, wanted)),
    )


def fitted(images: Tensor, size: int) -> Tensor:
    """Images (B, 3, H, W) in 0..1 → (B, 3, size, size) in the 8 bits in which they are saved.

    As CLIP's own preprocessing of saved images: the shorter side resized (bicubic), the middle cut out.
    """
    eight_bits = images.clamp(0, 1).mul(255).floor()
    if images.shape[-2:] != (size, size):
        eight_bits = center_crop(
            resize(eight_bits, [size], interpolation=InterpolationMode.BICUBIC, antialias=True), [size, size]
        )
    return eight_bits.round().clamp(0, 255) / 255


def for_comparison(images: Tensor) -> Tensor:
    """Images (B, 3, H, W) at the side at which they are compared."""
    size = (COMPARED_SIZE, COMPARED_SIZE)
    return F.interpolate(images, size, mode="bilinear", antialias=True, align_corners=False).clamp(0, 1)


def pixel_distance(a: Tensor, b: Tensor) -> Tensor:
    """Root mean square difference (B,) of images (B, 3, S, S) in 0..1."""
    return (a - b).square().mean((1, 2, 3)).sqrt()


def color_distance(a: Tensor, b: Tensor) -> Tensor:
    """Total variation (B,), 0..1, between the color histograms of images (B, 3, S, S)."""
    return 0.5 * (color_histogram(a) - color_histogram(b)).abs().sum(1)


def color_histogram(images: Tensor) -> Tensor:
    """Share (B, COLOR_BINS³) of an image's pixels in each cell of the color cube."""
    cells = (images * COLOR_BINS).long().clamp(max=COLOR_BINS - 1)
    index = (cells[:, 0] * COLOR_BINS + cells[:, 1]) * COLOR_BINS + cells[:, 2]  # (B, S, S)
    return F.one_hot(index.flatten(1), COLOR_BINS**3).float().mean(1)
