"""Zero-shot classification beside a search: what a picture shows, by captions that name one thing each.

In the cosine of a whole prompt a wrong thing with a fitting color or ground may beat the right one alone; captions of
nothing but the thing tell things apart better. So a search starts from the likeliest things too, and of the prompts that
it has scored the last choice asks that what they name be there. Where even the best prompt falls short of the cosine that
prompts have on pictures which the model knows, a longer one says more than the model can see: there each token has to
earn more.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from invert.bundle import ModelBundle
from invert.encoding import encode_prompts
from invert.found import Pool, Scored

if TYPE_CHECKING:
    from invert.word_table import WordTable


@dataclass(frozen=True, eq=False)
class Classes:
    """The classes of a bundle, for one target.

    Attributes:
        captions: of each class alone.
        cosines: (C,) float32 of the target with those, on the CPU, where a search keeps its prompts.
        class_of: a word's text → the index of its class.
    """

    captions: tuple[str, ...]
    cosines: Tensor
    class_of: dict[str, int]

    def likeliest_first(self) -> list[str]:
        """The captions by their cosines."""
        return [self.captions[i] for i in self.cosines.argsort(descending=True, stable=True).tolist()]

    def mean_of_rows(self, rows: Tensor, table: WordTable) -> Tensor:
        """Rows (N, L) of word numbers → (N,) float64, the mean cosine of the classes that each names; 0 where it names none."""
        classes = torch.tensor([self.class_of.get(word.text, -1) for word in table.words])[rows]
        names = classes >= 0
        total = (self.cosines.double()[classes.clamp(min=0)] * names).sum(1)
        return total / names.sum(1).clamp(min=1)


def classify(bundle: ModelBundle, target: Tensor) -> Classes | None:
    """The bundle's classes for a unit target (E,); None where it has none."""
    if not bundle.zero_shot:
        return None
    captions, latents = encoded_classes(bundle)
    index = {caption: i for i, caption in enumerate(captions)}
    class_of = {text: index[caption] for text, caption in bundle.zero_shot.items()}
    return Classes(captions, (latents @ target).float().cpu(), class_of)


def encoded_classes(bundle: ModelBundle) -> tuple[tuple[str, ...], Tensor]:
    """The captions of the bundle's classes, each once, and their unit latents (C, E) on the model's device; encoded once."""
    captions = tuple(dict.fromkeys((bundle.zero_shot or {}).values()))
    return captions, bundle.once("zero-shot classes", lambda: encode_prompts(bundle.clip, captions)[1].tensor())


def rerank(
    pool: Pool, classes: Classes, weight: float, token_penalty_slope: float = 0.0, usual_cosine: float | None = None
) -> Pool:
    """The pool with objectives that the last choice goes by.

    Args:
        pool: what a search has scored.
        classes: of its target.
        weight: of the mean cosine of the classes that a prompt names.
        token_penalty_slope: cosine that a token must earn more, for each that the pool's best prompt lacks of the usual one.
        usual_cosine: of prompts on pictures that the model knows; None where nobody knows, and no token has to earn more.
    """
    found = pool.found
    if not len(pool):
        return pool
    objectives = found.objectives + weight * classes.mean_of_rows(found.rows, pool.table).to(found.objectives)
    if usual_cosine is not None:
        shortfall = max(0.0, usual_cosine - float(found.scores[found.objectives.argmax()]))
        objectives -= token_penalty_slope * shortfall * pool.table.token_counts(found.rows).to(objectives)
    return with_objectives(pool, replace(found, objectives=objectives))


def with_objectives(pool: Pool, found: Scored) -> Pool:
    """A pool of the same prompts with other objectives; the search's own stays as it is."""
    other = Pool(pool.table)
    other.found = found
    return other
