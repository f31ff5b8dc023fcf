"""Several CLIPs over the same tokens as one: SDXL reads a prompt with two text encoders, and the prompt has to serve both.

In: two or more `Clip`s that share CLIP's vocabulary, and the weights of their cosines. Out: one `Clip`. Its token
embeddings are theirs side by side; so are its latents, each scaled by the root of its share, so that the cosine of two
joint latents is the weighted mean of the models' cosines. Everything that works on a CLIP works on it unchanged.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import cached_property

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from invert.errors import InputError
from invert.given import listed, number
from invert.models import fingerprint
from invert.models.clip import Clip, resized
from invert.models.precision import at_least_float32
from invert.models.tower import Layer, PrefixCache, TextTower

SAMPLES = ("a photo of a fox", "two owls on a branch, watercolor", "XYZ-42: naïve café 東京 🦊", "antidisestablishmentarianism")


def join(parts: Sequence[Clip], weights: Sequence[float] | None = None) -> JointClip:
    """The models as one.

    Args:
        parts: two or more, on one device, in one dtype.
        weights: of their cosines, each above 0; only their ratio counts. None: all the same.

    Raises:
        InputError: the models read different tokens or images that cannot be joined, or the weights do not fit them.
    """
    check_weights(weights, len(parts))
    check_same_tokens(parts)
    check_square_images(parts)
    given = [1.0] * len(parts) if weights is None else list(weights)
    roots = [math.sqrt(weight / sum(given)) for weight in given]
    return JointClip(parts, roots)


def check_weights(weights: Sequence[float] | None, n_models: int) -> None:
    """InputError where there are weights that do not fit so many models."""
    if weights is None:
        return
    if n_models == 1:
        raise InputError("`model_weights` weigh the models that are joined by +: leave them out for one model")
    weights = [number("model_weights", weight) for weight in listed("model_weights", weights, "a list of numbers")]
    if len(weights) != n_models:
        raise InputError(f"`model_weights` are {len(weights)}, but {n_models} models are joined: give one for each")
    if not all(math.isfinite(weight) and weight > 0 for weight in weights):
        raise InputError("`model_weights` have to be numbers above 0: leave out the model that shall not count")


def check_same_tokens(parts: Sequence[Clip]) -> None:
    """InputError where a prompt is not the same tokens for each model."""
    first = parts[0]
    for other in parts[1:]:
        same = len(first.token_embeddings) == len(other.token_embeddings) and first.frame == other.frame
        if not (same and all(first.tokenizer.encode(text) == other.tokenizer.encode(text) for text in SAMPLES)):
            raise InputError(
                f"the models {first.name!r} and {other.name!r} read text as different tokens: join CLIPs that share CLIP's "
                "own vocabulary, such as ViT-L-14/openai+ViT-bigG-14/laion2b_s39b_b160k"
            )


def check_square_images(parts: Sequence[Clip]) -> None:
    """InputError where a model reads pictures otherwise than as pixels of one square, which is all that is joined."""
    for part in parts:
        side = part.image_size
        if part.preprocess(Image.new("RGB", (side, side))).shape != (3, side, side):
            raise InputError(
                f"the model {part.name!r} reads pictures as patches of their own shape, which cannot be joined: give a model of "
                "square pictures in its place"
            )


class JointClip(Clip):
    """Several models as one; latents are theirs side by side, each scaled by the root of its share.

    `preprocess` gives a picture as one row of numbers, each model's pixels after the other's.
    """

    def __init__(self, parts: Sequence[Clip], roots: Sequence[float]) -> None:
        """roots: of the models' shares, whose squares add up to one."""
        self._parts = tuple(parts)
        first = parts[0]
        super().__init__(
            "+".join(part.name for part in parts),
            JointTower([part.tower for part in parts], roots),
            JointVisual(parts, roots),
            self._preprocessed,
            self._normalized,
            first.tokenizer,
            max(part.image_size for part in parts),
            math.fsum(root * root * part.logit_scale for root, part in zip(roots, parts, strict=True)),
            all(part.fits_as_clip for part in parts),
        )
        self._roots = tuple(roots)

    @property
    def parts(self) -> tuple[Clip, ...]:
        return self._parts

    @cached_property
    def fingerprint(self) -> str:
        """A short hash of what text latents depend on: each model's, and its share."""
        return fingerprint.of_joined(self._parts, self._roots)

    def _of_own_size(self, pixels: Tensor) -> Tensor:
        return pixels  # each model's own size follows when they are normalized

    def _preprocessed(self, image: Image.Image) -> Tensor:
        return torch.cat([part.preprocess(image).flatten() for part in self.parts])

    def _normalized(self, pixels: Tensor) -> Tensor:
        """Pixels (B, 3, S, S) in 0..1 → (B, N), at each model's size."""
        return torch.cat([part.normalize(resized(pixels, part.image_size)).flatten(1) for part in self.parts], 1)

    def model_scores(self, prompts: Sequence[str], target: Tensor) -> dict[str, dict[str, float]]:
        latents = [part.encode_text(prompts) for part in self.parts]  # (P, Eᵢ) each
        targets = F.normalize(target, dim=0).split([latent.shape[1] for latent in latents])
        cosines = [(latent.float() @ F.normalize(own, dim=0)).tolist() for latent, own in zip(latents, targets, strict=True)]
        names = [part.name for part in self.parts]
        return {prompt: dict(zip(names, scores, strict=True)) for prompt, *scores in zip(prompts, *cosines, strict=True)}


class JointVisual:
    """Rows (B, N) of every model's normalized pixels → joint latents (B, E)."""

    def __init__(self, parts: Sequence[Clip], roots: Sequence[float]) -> None:
        self.parts, self.roots = tuple(parts), tuple(roots)

    def __call__(self, rows: Tensor) -> Tensor:
        sides = [part.image_size for part in self.parts]
        pieces = rows.split([3 * side * side for side in sides], 1)
        latents = [
            part.visual(piece.unflatten(1, (3, side, side)))
            for part, piece, side in zip(self.parts, pieces, sides, strict=True)
        ]  # fmt: skip
        return side_by_side(latents, self.roots)


class JointTower(TextTower):
    """Several text towers as one, over embeddings as wide as all of theirs together."""

    def __init__(self, towers: Sequence[TextTower], roots: Sequence[float]) -> None:
        self.towers, self.roots = tuple(towers), tuple(roots)
        self.widths = [tower.table.shape[1] for tower in towers]
        self.table = torch.cat([tower.table for tower in towers], 1)
        for tower, columns in zip(towers, self.table.split(self.widths, 1), strict=True):
            tower.table = columns  # each table is in memory once
        self.positions = min((tower.positions for tower in towers), key=len)
        self.shares_prefixes = all(tower.shares_prefixes for tower in towers)
        self._depths = [len(tower.layers) for tower in towers]
        self.passes_per_position = sum(tower.passes_per_position for tower in towers)

    @property
    def tables(self) -> tuple[Tensor, ...]:
        return tuple(tower.table for tower in self.towers)

    def joined(self, latents: Sequence[Tensor]) -> Tensor:
        return side_by_side(latents, self.roots)

    @property
    def layers(self) -> tuple[Layer, ...]:  # type: ignore[override]
        """The layers of each tower after those of the one before; not kept here, because a tower may leave memory."""
        return tuple(layer for tower in self.towers for layer in tower.layers)

    def encode(self, e: Tensor, eot: Tensor | None = None) -> Tensor:
        """As `TextTower.encode`; the latents (B, E) are scaled already."""
        return side_by_side([tower.encode(part, eot) for tower, part in self._split(e)], self.roots)

    def prefix(self, e: Tensor) -> PrefixCache:
        """As `TextTower.prefix`: the layers of each tower after those of the one before."""
        caches = [tower.prefix(part) for tower, part in self._split(e)]
        keys, values = (tuple(kept for cache in caches for kept in getattr(cache, part)) for part in ("keys", "values"))
        return PrefixCache(keys, values, caches[0].length)

    def encode_with_prefix(self, cache: PrefixCache, e: Tensor, eot: Tensor | None = None) -> Tensor:
        """As `TextTower.encode_with_prefix`."""
        latents, first = [], 0
        for (tower, part), depth in zip(self._split(e), self._depths, strict=True):
            last = first + depth
            own = PrefixCache(cache.keys[first:last], cache.values[first:last], cache.length)
            latents.append(tower.encode_with_prefix(own, part, eot))
            first = last
        return side_by_side(latents, self.roots)

    def hidden(self, e: Tensor, layer: int) -> Tensor:
        """Not of several towers, which are of different depths and widths."""
        raise NotImplementedError

    def _split(self, e: Tensor) -> Iterator[tuple[TextTower, Tensor]]:
        return zip(self.towers, e.split(self.widths, -1), strict=True)


def side_by_side(latents: Sequence[Tensor], roots: Sequence[float]) -> Tensor:
    """Each model's latents (B, Eᵢ), of any length → (B, ΣEᵢ) of length 1, scaled by the roots of the models' shares."""
    scaled = [root * F.normalize(at_least_float32(latent), dim=-1) for latent, root in zip(latents, roots, strict=True)]
    return torch.cat(scaled, -1)
