"""A picture's prompt in two tiers: the nearest prompt of the corpus in milliseconds, a search where that is not enough.

Tier 1 encodes pictures in batches and takes the corpus's nearest prompts, as the method `retrieve` does; tier 2 is any
other method, which starts from the same seed as a run of that picture alone. Folders and shards both go through `Tiers`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from invert.config import InvertConfig
from invert.errors import InputError
from invert.methods import get_method

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

    from invert.corpus import EncodedCorpus
    from invert.inverter import Inverter
    from invert.result import Result

RETRIEVE = "retrieve"
ENCODED = 64  # pictures encoded at once
MIXED = 16  # where some of them may be searched: what a killed run loses stays small
SEARCHED = 8  # by a method that finds several prompts together; others take one picture at a time


@dataclass(frozen=True)
class Found:
    """A picture's prompt.

    Attributes:
        prompt: the best one.
        score: its cosine with the picture, or what the method's own score is.
        tier: 1 retrieved, 2 searched.
        method: that found it.
        token_passes: positions through the text encoder, forward plus backward.
        alternatives: distinct prompts with their scores, best first, the prompt among them.
        doubt: why the model may not know what the picture shows; "" where it does, or nothing can tell.
    """

    prompt: str
    score: float
    tier: int
    method: str
    token_passes: int
    alternatives: tuple[tuple[str, float], ...]
    doubt: str = ""


@dataclass(frozen=True)
class TierPlan:
    """Which pictures are searched after retrieval; with neither limit all of them go to the method alone.

    Attributes:
        search_below: search where the retrieved prompt's cosine is lower.
        search_share: search this share of the pictures of each batch, those that retrieval served worst.
    """

    search_below: float | None = None
    search_share: float | None = None

    def __post_init__(self) -> None:
        if self.search_below is not None and not math.isfinite(self.search_below):
            raise InputError(f"`search_below` is {self.search_below}: give a cosine, such as 0.2")
        if self.search_share is not None and not 0 <= self.search_share <= 1:
            raise InputError(f"`search_share` is {self.search_share}: give a share of the pictures, 0 to 1")

    @property
    def mixed(self) -> bool:
        """Whether both tiers may run."""
        return self.search_below is not None or self.search_share is not None

    def check(self, config: InvertConfig) -> None:
        """InputError where the tiers cannot follow the config's options."""
        get_method(config.method).check_options(config)
        if self.mixed and config.method == RETRIEVE:
            raise InputError(f"`search_below` and `search_share` search with `method`, which is {RETRIEVE!r}: choose another one")
        if self.mixed:
            get_method(RETRIEVE).check_options(replace(config, caption=None))  # only those that are searched are captioned

    def searched(self, scores: Sequence[float]) -> list[int]:
        """Indices of the pictures of a batch to search, ascending, by the cosines of their retrieved prompts."""
        below = {i for i, score in enumerate(scores) if self.search_below is not None and score < self.search_below}
        worst = sorted(range(len(scores)), key=lambda i: (scores[i], i))
        return sorted(below | set(worst[: math.ceil((self.search_share or 0) * len(scores))]))


class Tiers:
    """Pictures → prompts, a batch at a time; a picture that fails does not fail the others.

    Attributes:
        batch: pictures of a batch at most: what a stopped run computes again.
    """

    def __init__(
        self, inverter: Inverter, config: InvertConfig, plan: TierPlan | None = None, negative: Image.Image | str | None = None
    ) -> None:
        """config: of the run. plan: where to search after retrieval. negative: to move away from.

        Raises:
            InputError: the method cannot follow an option.
        """
        self.inverter, self.config, self.plan, self.negative = inverter, config, plan or TierPlan(), negative
        self.plan.check(config)
        self.retrieves = config.method == RETRIEVE or self.plan.mixed
        together = get_method(config.method).run_batch is not None
        self.batch = MIXED if self.plan.mixed else ENCODED if self.retrieves else SEARCHED if together else 1

    def prepare(self, image: Image.Image) -> tuple[Tensor | None, Image.Image | None]:
        """What is kept of a picture until its batch's turn; safe in another thread than the model's.

        Retrieval alone keeps pixels as the model reads them (3, S, S), whatever the picture's size.
        """
        pixels = self.inverter.clip.preprocess(image) if self.retrieves else None
        return pixels, None if self.retrieves and not self.plan.mixed else image

    def __call__(self, prepared: Sequence[tuple[Tensor | None, Image.Image | None]]) -> list[Found | Exception]:
        """The prompt of each picture, or why there is none."""
        images = [image for _, image in prepared]
        if not self.retrieves:
            return self._searched(images)
        found = self._each(self._retrieved, [pixels for pixels, _ in prepared])
        good = [i for i, one in enumerate(found) if isinstance(one, Found)]
        chosen = [good[i] for i in self.plan.searched([found[i].score for i in good])]  # type: ignore[union-attr]
        for i, better in zip(chosen, self._searched([images[i] for i in chosen]), strict=True):
            found[i] = better
        return found

    # Tier 1 -----------------------------------------------------------------------------------

    @cached_property
    def corpus(self) -> EncodedCorpus:
        """The corpus without prompts that hold a banned word."""
        from invert.methods.retrieve import allowed_corpus

        return allowed_corpus(self.inverter.bundle_for(self.config), self.config.ban)

    @cached_property
    def _negative_latent(self) -> Tensor | None:
        return None if self.negative is None else self.inverter.negative_latent(self.negative, self.config)

    def latents(self, pixels: Sequence[Tensor]) -> Tensor:
        """Preprocessed pictures → their unit latents (B, E) float32."""
        import torch

        return self.inverter.clip.exact.encode_preprocessed(torch.stack(list(pixels))).float()

    def targets(self, latents: Tensor) -> Tensor:
        """Unit latents of pictures (B, E) → unit targets, with the gap corrected and the negative taken off."""
        import torch

        from invert.target import subtract_negative

        rows = [self.inverter.corrected(latent, self.config) for latent in latents]
        if (negative := self._negative_latent) is not None:
            rows = [subtract_negative(row, negative, self.config.negative_weight) for row in rows]
        return torch.stack(rows)

    def _retrieved(self, pixels: Sequence[Any]) -> list[Found | Exception]:
        latents, doubt = self.latents(pixels), self.inverter.bundle.doubt
        doubts = [""] * len(latents) if doubt is None else doubt(latents)
        found: list[Found | Exception] = []
        for nearest, doubted in zip(self.corpus.nearest_to_each(self.targets(latents), self.config.top), doubts, strict=True):
            best = tuple(nearest)
            found.append(Found(*best[0], tier=1, method=RETRIEVE, token_passes=0, alternatives=best, doubt=doubted))
        return found

    # Tier 2 -----------------------------------------------------------------------------------

    def _searched(self, images: Sequence[Any]) -> list[Found | Exception]:
        return self._each(self._inverted, images)

    def _inverted(self, images: Sequence[Any]) -> list[Found | Exception]:
        return [found_by(result) for result in self.inverter.invert_batch(images, self.config, negative=self.negative)]

    def _each(self, work: Any, items: Sequence[Any]) -> list[Found | Exception]:
        """What the work gives of all items together; where that fails, of each alone, so that one costs only itself."""
        if not items:
            return []
        try:
            return list(work(items))
        except Exception as error:
            if len(items) == 1:
                return [error]
        return [one for item in items for one in self._each(work, [item])]


def found_by(result: Result) -> Found:
    """What is kept of a result; KeyboardInterrupt where a signal cut it short: it would differ from a whole run's."""
    if result.interrupted:
        raise KeyboardInterrupt
    passes = result.forward_tokens + result.backward_tokens
    return Found(result.prompt, result.score, 2, result.method, passes, tuple(result.alternatives), result.doubt)


def rounded(found: Found, digits: int = 6) -> Found:
    """The same with scores of so many digits, for output that does not depend on how pictures were put together."""
    alternatives = tuple((prompt, round(score, digits)) for prompt, score in found.alternatives)
    return replace(found, score=round(found.score, digits), alternatives=alternatives)
