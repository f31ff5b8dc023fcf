"""How likely a prompt is as language, whatever the picture shows.

A search that maximizes the cosine alone writes word soup, which the text tower never met in training.
With a prior it looks for the most probable prompt given the image: CLIP's cosine times its logit scale
estimates log p(prompt | image) − log p(prompt) up to a constant (InfoNCE: van den Oord et al., arXiv
1807.03748), so cosine + weight · log p(prompt) is maximized. A longer prompt is always less likely, so
log p counts beyond what a prompt of that many tokens usually has, `per_token` times its length (machine
translation's word reward: He et al., AAAI 2016).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor

    from invert.corpus import Corpus
    from invert.lexicon import Lexicon, Prompt


MOST_LEARNED = 32_768  # prompts of a corpus that a prior is learned from: its tables would outgrow memory


class Prior(Protocol):
    """log p of prompts over a lexicon. All logarithms are natural."""

    @property
    def per_token(self) -> float:
        """Mean log p of one token of ordinary prompts, ≤ 0."""
        ...

    def log_prob(self, prompt: Prompt) -> float:
        """log p of a whole prompt, its end included."""
        ...

    def slot_log_probs(self, prompt: Prompt, slot: int, insert: bool) -> Tensor:
        """For every word of the lexicon (W,): log p of the prompt with it at a slot, up to a constant.

        insert: before the slot's word; otherwise in its place.
        """
        ...

    def likely_words(self, prompt: Prompt, slot: int, n: int) -> list[int] | None:
        """Indices of the n likeliest words to insert at a slot; None where all are alike."""
        ...

    def cut_points(self, first: Prompt, second: Prompt) -> Iterator[tuple[int, int]]:
        """Slots (i, j) where either prompt's end may follow the other's beginning."""
        ...

    def contexts(self, prompt: Prompt) -> tuple[Sequence[str], Sequence[str]] | None:
        """For each slot, the end included: the class before it and the class at it; None without classes."""
        ...


def learn_prior(corpus: Corpus, lexicon: Lexicon) -> Prior:
    """The class n-gram prior of the corpus, of a long one of a sample; the uniform one where it teaches none."""
    from invert.prior.class_ngram import ClassNgramPrior
    from invert.prior.uniform import UniformPrior

    if sentences := corpus.sentences(MOST_LEARNED):
        return ClassNgramPrior(sentences, lexicon)
    return UniformPrior(lexicon)
