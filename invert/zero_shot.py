"""Zero-shot classification beside a search: what a picture shows, by captions that name one thing each.

In the cosine of a whole prompt a wrong thing with a fitting color or ground may beat the right one alone; captions of
nothing but the thing tell things apart better. So a search starts from the likeliest things too, and of the prompts that
it has scored the last choice asks that what they name be there. Where even the best prompt falls short of the cosine that
prompts have on pictures which the model knows, a longer one says more than the model can see: there each token has to
earn more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from invert.encoding import encode_prompts
from invert.found import Pool
from invert.given import plain_text, wrong

if TYPE_CHECKING:
    from invert.models.clip import Clip
    from invert.word_table import WordTable


@dataclass(frozen=True, eq=False)
class Classes:
    """What a model can name, for one target.

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


class ZeroShot:
    """What a model can name.

    Attributes:
        captions: word of the lexicon that names a thing → a caption that names it alone; words of one thing have the same.
        classes: the captions, each once.
    """

    def __init__(self, clip: Clip, captions: Mapping[str, str]) -> None:
        """InputError where the captions are no texts by texts, or there are none."""
        if not isinstance(captions, Mapping) or not captions:
            raise wrong("captions", captions, "a mapping of one word or more, each to its caption")
        self.clip = clip
        self.captions = {plain_text("captions", word): plain_text("captions", text) for word, text in captions.items()}
        self.classes = tuple(dict.fromkeys(self.captions.values()))

    @cached_property
    def latents(self) -> Tensor:
        """(C, E) float32: unit latents of the classes, on the model's device."""
        return encode_prompts(self.clip, self.classes)[1].tensor()

    def classify(self, target: Tensor) -> Classes:
        """The classes for a unit target (E,)."""
        return Classes(self.classes, (self.latents @ target).float().cpu(), self._class_of)

    @cached_property
    def _class_of(self) -> dict[str, int]:
        index = {caption: i for i, caption in enumerate(self.classes)}
        return {text: index[caption] for text, caption in self.captions.items()}


def rerank(
    pool: Pool, classes: Classes, weight: float, token_penalty_slope: float = 0.0, usual_cosine: float | None = None
) -> Pool:
    """A pool of the same prompts with the objectives that the last choice goes by.

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
    ranked = Pool(pool.table)
    ranked.found = replace(found, objectives=objectives)
    return ranked
