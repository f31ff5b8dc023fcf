"""The round trip: prompts → images → how near they come to the picture that the prompts were found for.

In: whatever draws prompts (`TextToImage`), a judge (a `Clip` that nobody optimized against), the picture, prompts and seeds.
Out: the regenerated images with their similarity under the judge and two plain distances. The cosine
of a prompt predicts its images badly (arXiv 2408.06502), so the final choice is better made here.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, cast

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.functional import center_crop, pil_to_tensor, resize

from invert.diffusion.drawing import Drawn, TextToImage, to_pil
from invert.diffusion.options import DrawingOptions
from invert.models.clip import Clip
from invert.models.turns import InTurn
from invert.result import GeneratedImage, Result, Token

if TYPE_CHECKING:
    from invert.diffusion.generator import Conditioning, Generator

LOG = logging.getLogger("invert")
COMPARED_SIZE = 64  # pixels: the side that pictures are brought to before pixels and colors are compared
COMPARED_AT_ONCE = 64  # images
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


@dataclass(frozen=True)
class RoundTrip:
    """What results are drawn with and compared by.

    Attributes:
        generator: draws the prompts.
        judge: compares images.
        seeds: one image of a prompt for each.
        tokenize: a prompt → the tokens that its result shows.
        soft_obstacle: why soft prompts cannot be drawn, as a sentence; "" where they can, because the generator's
            text encoder has the token embeddings of the model that was inverted.
        options: how images are drawn.
    """

    generator: TextToImage
    judge: Clip
    seeds: tuple[int, ...]
    tokenize: Callable[[str], list[Token]]
    soft_obstacle: str = ""
    options: DrawingOptions = field(default_factory=DrawingOptions)

    def choose(self, result: Result, picture: Image.Image) -> Result:
        """The result with its prompts in the order of what they draw, the nearest to the picture first.

        Images that show nothing do not count; a prompt without any other comes last.
        """
        prompts = [prompt for prompt, _ in result.alternatives]
        rated = list(self.rated(prompts, picture))
        judged = torch.tensor([image.judge if not image.problem else torch.nan for image in rated])
        self.report_problems(rated)
        means = judged.view(len(prompts), len(self.seeds)).nanmean(1).nan_to_num(-torch.inf)
        return result.reordered(means.sort(descending=True, stable=True).indices.tolist(), self.tokenize)

    def draw(self, result: Result, picture: Image.Image, failed: Callable[[Exception], None]) -> Result:
        """The result with what its prompt draws, and its soft prompts too where the generator can read them.

        failed: told what ended the drawing early; the images that were there by then are kept.
        """
        drawn, end = self.as_far_as_it_goes([result.prompt], picture)
        of_embeddings: list[list[GeneratedImage] | None] = []
        for embeddings in (result.soft, None if result.polished is None else result.polished.embeddings):
            images = None
            if embeddings is not None and not self.soft_obstacle and end is None:
                images, end = self.as_far_as_it_goes(self.encoded(embeddings), picture)
            of_embeddings.append(images)
        soft, polished = of_embeddings
        self.report_problems(drawn + (soft or []) + (polished or []))
        if isinstance(end, Exception):
            failed(end)
        return replace(
            result,
            drawn=drawn,
            soft_drawn=soft,
            polished_drawn=polished,
            soft_obstacle=self.soft_obstacle if result.soft is not None else "",
            interrupted=result.interrupted or isinstance(end, KeyboardInterrupt),
        )

    @torch.no_grad()
    def encoded(self, embeddings: Tensor) -> Conditioning:
        """A soft prompt (L, D) as the generator reads it."""
        generator = cast("Generator", self.generator)
        rows = embeddings[None].to(generator.device, generator.pipeline.unet.dtype)
        return generator.encode_embeddings(generator.split_embeddings(rows))

    def as_far_as_it_goes(
        self, prompts: Sequence[str] | Conditioning, picture: Image.Image
    ) -> tuple[list[GeneratedImage], BaseException | None]:
        """The images of one prompt, and what ended the drawing before there were all."""
        images: list[GeneratedImage] = []
        try:
            for image in self.rated(prompts, picture):
                images.append(image)
        except (Exception, KeyboardInterrupt) as error:
            return images, error
        return images, None

    def rated(self, prompts: Sequence[str] | Conditioning, picture: Image.Image) -> Iterator[GeneratedImage]:
        """Every image with its scores; after an error those of the images that there are, then the error."""
        pending: list[Drawn] = []
        seeds = iter(list(self.seeds) * len(prompts))
        target = self.judge.encode_image([picture])[0]

        def rate() -> list[GeneratedImage]:
            images = torch.stack([drawn.image for drawn in pending])
            scores = (values.tolist() for values in compare(self.judge, picture, target, images))
            found = [
                GeneratedImage(image, next(seeds), judged, pixels, colors, drawn.problem)
                for image, drawn, judged, pixels, colors in zip(to_pil(images), pending, *scores, strict=True)
            ]
            pending.clear()
            return found

        try:
            for some, some_seeds in self._requests(prompts):
                for drawn in self.generator.draw(some, some_seeds, self.options):
                    if pending and (len(pending) == COMPARED_AT_ONCE or pending[0].image.shape != drawn.image.shape):
                        yield from rate()
                    pending.append(drawn)
                if pending:
                    yield from rate()
        except (Exception, KeyboardInterrupt):
            if pending:
                yield from rate()
            raise

    def _requests(self, prompts: Sequence[str] | Conditioning) -> Iterator[tuple[Sequence[str], tuple[int, ...]]]:
        """Prompts and seeds that are drawn in one go.

        All of them; where the generator takes turns in memory with the judge no more than are compared at once, because a
        generator that has not drawn to the end cannot leave.
        """
        # Whatever draws, it takes texts; the generator that alone reads soft prompts takes them as well.
        if not isinstance(self.generator, InTurn):
            yield cast("Sequence[str]", prompts), self.seeds
            return
        n_prompts = max(COMPARED_AT_ONCE // len(self.seeds), 1)
        for first in range(0, len(prompts), n_prompts):
            indices = range(len(prompts))[first : first + n_prompts]
            some = [prompts[i] for i in indices] if isinstance(prompts, Sequence) else prompts.select(torch.tensor(indices))
            for i in range(0, len(self.seeds), COMPARED_AT_ONCE):
                yield cast("Sequence[str]", some), self.seeds[i : i + COMPARED_AT_ONCE]

    def report_problems(self, images: Sequence[GeneratedImage]) -> None:
        """A note where images show nothing."""
        problems = [image.problem for image in images if image.problem]
        for problem in dict.fromkeys(problems):
            LOG.warning("%d of %d images by %r: %s", problems.count(problem), len(images), self.generator.name, problem)


def regenerate(
    generator: TextToImage, judge: Clip, picture: Image.Image, prompts: Sequence[str], seeds: Sequence[int]
) -> RegenerationScores:
    """Draw P prompts with S seeds each, all of one size, and compare every image with the picture."""
    drawn = torch.stack([one.image for one in generator.draw(prompts, seeds)])
    scores = compare(judge, picture, judge.encode_image([picture])[0], drawn)
    shape = (len(prompts), len(seeds))
    return RegenerationScores(drawn.unflatten(0, shape), *(values.view(shape) for values in scores))


@torch.no_grad()
def compare(judge: Clip, picture: Image.Image, target: Tensor, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Images (N, 3, H, W) with a picture, whose latent under the judge is target (E,), on the images' device.

    Returns:
        The cosine under the judge, pixel and color distances, each (N,) float32 on the CPU.
    """
    # A judge that squashes pictures or interpolates otherwise sees the images as they are saved, by its own preprocessing.
    seen = fitted(images, judge.image_size) if judge.fits_as_clip else to_pil(images)
    latents = judge.encode_image(seen)  # (N, E)
    wanted = for_comparison(pil_to_tensor(picture.convert("RGB"))[None].to(images.device) / 255)
    compared = for_comparison(images)
    measures = latents @ target, pixel_distance(compared, wanted), color_distance(compared, wanted)
    judged, pixels, colors = (values.float().cpu() for values in measures)
    return judged, pixels, colors


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
