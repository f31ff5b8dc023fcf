"""The round trip: prompts → images → how near they come to the picture that the prompts were found for.

In: a `Generator`, a judge (a `Clip` that nobody optimised against), the picture, prompts and seeds.
Out: the regenerated images with their similarity under the judge and two plain distances. The cosine
of a prompt predicts its images badly (arXiv 2408.06502), so the final choice is better made here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import pil_to_tensor

from invert.diffusion.generator import Conditioning, Generator, to_pil
from invert.inverter import Inverter
from invert.models.clip import Clip
from invert.result import Drawn, Result

COMPARED = 64  # pixels: the side that pictures are brought to before pixels and colours are compared
BINS = 4  # of each colour channel in the histogram


@dataclass(frozen=True)
class Regenerated:
    """What P prompts draw with S seeds, and how near that is to the picture.

    images: (P, S, 3, H, W) in 0..1. judge: cosine of the two images' latents. pixels: root mean square
    difference, 0..1. colours: share of the picture that has another colour. All three (P, S).
    """

    images: Tensor
    judge: Tensor
    pixels: Tensor
    colours: Tensor

    def best_first(self) -> list[int]:
        """Prompts by their mean similarity under the judge; the earlier one where they tie."""
        return self.judge.mean(1).sort(descending=True, stable=True).indices.tolist()

    def drawn(self, seeds: Sequence[int]) -> list[Drawn]:
        """The first prompt's images, one for each of the seeds they were drawn with."""
        figures = (values[0].tolist() for values in (self.judge, self.pixels, self.colours))
        rows = zip(to_pil(self.images[0]), seeds, *figures, strict=True)
        return [Drawn(*row) for row in rows]


@dataclass(frozen=True)
class RoundTrip:
    """What results of one inverter are drawn with and compared by. seeds: one image of a prompt for each."""

    inverter: Inverter
    generator: Generator
    judge: Clip
    seeds: tuple[int, ...]

    def choose(self, result: Result, picture: Image.Image) -> Result:
        """The result with its prompts in the order of what they draw, the nearest to the picture first."""
        found = regenerate(self.generator, self.judge, picture, [prompt for prompt, _ in result.alternatives], self.seeds)
        return self.inverter.reordered(result, found.best_first())

    def draw(self, result: Result, picture: Image.Image) -> Result:
        """The result with what its prompt draws, and its soft prompt too where the generator reads this model's embeddings."""
        prompt = regenerate(self.generator, self.judge, picture, [result.prompt], self.seeds).drawn(self.seeds)
        soft = None
        ids = self.inverter.vocabulary().token_ids
        if result.soft is not None and not self.generator.is_xl and self.generator.reads_rows_of(self.inverter.clip, ids):
            rows = result.soft[None].to(self.generator.device, self.generator.pipeline.unet.dtype)
            with torch.no_grad():
                conditioning = self.generator.encode_rows([rows])
            soft = regenerate(self.generator, self.judge, picture, conditioning, self.seeds).drawn(self.seeds)
        return replace(result, drawn=prompt, soft_drawn=soft)


@torch.no_grad()
def regenerate(
    generator: Generator, judge: Clip, picture: Image.Image, prompts: Sequence[str] | Conditioning, seeds: Sequence[int]
) -> Regenerated:
    """Draw every prompt with every seed and compare each image with the picture."""
    images = generator.generate(prompts, seeds)
    prompt_count, seed_count = images.shape[:2]
    latents = judge.encode_image(to_pil(images))  # (P·S, E)
    target = judge.encode_image([picture])[0]
    wanted = compared(pil_to_tensor(picture.convert("RGB"))[None] / 255)
    drawn = compared(images.flatten(0, 1).cpu())

    def table(values: Tensor) -> Tensor:
        return values.float().cpu().view(prompt_count, seed_count)

    return Regenerated(
        images,
        table(latents @ target),
        table(pixel_distance(drawn, wanted)),
        table(colour_distance(drawn, wanted)),
    )


def compared(images: Tensor) -> Tensor:
    """Images (B, 3, H, W) at the side at which they are compared."""
    return F.interpolate(images, (COMPARED, COMPARED), mode="bilinear", antialias=True, align_corners=False).clamp(0, 1)


def pixel_distance(a: Tensor, b: Tensor) -> Tensor:
    """Root mean square difference (B,) of images (B, 3, S, S) in 0..1."""
    return (a - b).square().mean((1, 2, 3)).sqrt()


def colour_distance(a: Tensor, b: Tensor) -> Tensor:
    """Total variation (B,), 0..1, between the colour histograms of images (B, 3, S, S)."""
    return 0.5 * (colour_histogram(a) - colour_histogram(b)).abs().sum(1)


def colour_histogram(images: Tensor) -> Tensor:
    """Share (B, BINS³) of an image's pixels in each cell of the colour cube."""
    cells = (images * BINS).long().clamp(max=BINS - 1)
    index = (cells[:, 0] * BINS + cells[:, 1]) * BINS + cells[:, 2]  # (B, S, S)
    return F.one_hot(index.flatten(1), BINS**3).float().mean(1)
