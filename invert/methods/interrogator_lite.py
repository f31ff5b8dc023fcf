"""CLIP Interrogator's method, reimplemented: tables of phrases ranked, then chained after a caption.

It gives the prompts of the package (0.6.0) without needing it, and cheaper: phrases stop at their
end-of-text, and the prompt that they all continue is run once. Where the package does something odd
that changes its prompts, this does it too and says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from functools import cached_property

import torch
from torch import Tensor

from invert.bundle import ModelBundle
from invert.config import InvertConfig
from invert.encoding import encode_prompts
from invert.lexicon import Word
from invert.methods.configs import NoConfig
from invert.methods.labels import labels_of
from invert.methods.task import InversionOutput, InversionTask

CHUNK = 4096  # phrases ranked at once; of a longer table every chunk may keep only its share of this
MAX_RANKED = 2048  # phrases that the chain may choose from
FLAVORS = 32  # phrases in the fast and classic prompt inside the best mode, and in a chain at most
FEW_FLAVORS = 3  # in the classic mode by itself
FORCED = 8  # links of the chain that are taken even where they do not help


@dataclass(frozen=True)
class Table:
    """Phrases and their unit latents (N, E), rounded to half precision as the package stores them."""

    phrases: tuple[str, ...]
    latents: Tensor

    def rank(self, target: Tensor, k: int, sign: float = 1.0) -> list[str]:
        """The k phrases nearest to the target (E,), or farthest from it with sign −1."""
        similar = sign * (self.latents @ target)
        if len(similar) <= CHUNK:
            return [self.phrases[i] for i in similar.topk(min(k, len(similar))).indices.tolist()]
        share = CHUNK // -(-len(similar) // CHUNK)
        kept = [start + i for start, part in chunks(similar) for i in part.topk(min(share, len(part))).indices.tolist()]
        # The package ranks what the chunks kept by similarity, even where dissimilar phrases are wanted.
        order = (self.latents[kept] @ target).topk(min(k, len(kept))).indices.tolist()
        return [self.phrases[kept[i]] for i in order]


def chunks(values: Tensor) -> Iterable[tuple[int, Tensor]]:
    return ((start, values[start : start + CHUNK]) for start in range(0, len(values), CHUNK))


def tables(bundle: ModelBundle) -> dict[str, Table]:
    """Every table of the bundle's labels, encoded once a model and kept on disk, and `merged`, all but the negative one."""
    return bundle.once("interrogator-lite", lambda: _encoded(bundle))


def _encoded(bundle: ModelBundle) -> dict[str, Table]:
    labels = labels_of(bundle)
    encoded = {}
    for field in fields(labels):
        phrases = getattr(labels, field.name)
        latents = encode_prompts(bundle.clip, phrases or ("",))[1].tensor()  # of no phrase none, but as wide
        encoded[field.name] = Table(phrases, latents[: len(phrases)])
    parts = [encoded[name] for name in ("artists", "flavors", "mediums", "movements", "trendings")]
    merged = Table(tuple(phrase for part in parts for phrase in part.phrases), torch.cat([part.latents for part in parts]))
    return {**encoded, "merged": merged}


def prepare(bundle: ModelBundle, config: InvertConfig) -> None:
    """Encode the tables and, where the method looks it up, the corpus."""
    tables(bundle)
    if config.method != "interrogator-lite-negative":
        _ = bundle.encoded_corpus


def best(task: InversionTask, config: NoConfig) -> InversionOutput:
    """Caption, classic, fast and chained prompt: whichever is nearest."""
    lite = Lite(task)
    ranked = lite.tables["merged"].rank(task.target, MAX_RANKED)
    chained = lite.chain(ranked, lite.caption)
    return lite.output([lite.caption, lite.classic(FLAVORS), lite.fast(), chained])


def fast(task: InversionTask, config: NoConfig) -> InversionOutput:
    lite = Lite(task)
    return lite.output([lite.fast()])


def classic(task: InversionTask, config: NoConfig) -> InversionOutput:
    lite = Lite(task)
    return lite.output([lite.classic(FEW_FLAVORS)])


def negative(task: InversionTask, config: NoConfig) -> InversionOutput:
    """The phrases least like the image, for a negative prompt."""
    lite = Lite(task)
    ranked = lite.tables["flavors"].rank(task.target, MAX_RANKED, -1.0)
    return lite.output([lite.chain([*ranked, *lite.tables["negative"].phrases], "", -1.0)])


class Lite:
    """One image's interrogation."""

    def __init__(self, task: InversionTask) -> None:
        self.task, self.clip, self.target = task, task.clip, task.target
        self.scorer = task.scorer()
        self.tables = tables(task.bundle)

    @cached_property
    def caption(self) -> str:
        """A captioner's, or the corpus's nearest prompt in its place."""
        if self.task.captions:
            return self.task.captions[0]
        return self.task.encoded_corpus().nearest(self.target, 1)[0][0]

    def top(self, table: str, k: int = 1) -> list[str]:
        return self.tables[table].rank(self.target, k)

    def fast(self) -> str:
        """The caption and the phrases nearest to the image, as many as fit."""
        return self.truncated(", ".join([self.caption, *self.top("merged", FLAVORS)]))

    def classic(self, flavors: int) -> str:
        """The caption with the best medium, artist, trending, movement and flavors in set places."""
        medium, artist = ("".join(self.top(table)) for table in ("mediums", "artists"))  # "" of an empty table
        named = f" {artist}" if self.caption.startswith(medium) else f", {medium} {artist}"
        lead = f"{self.caption}{named}".rstrip()
        rest = [*self.top("trendings"), *self.top("movements"), *self.top("flavors", flavors)]
        return self.truncated(", ".join([lead, *rest]))

    def chain(self, phrases: Sequence[str], start: str, sign: float = 1.0) -> str:
        """Append, again and again, the phrase after which the prompt is nearest (sign −1: farthest)."""
        left = list(dict.fromkeys(phrases))
        if not start:
            if not left:
                return ""
            start, _ = self.next_link("", left, sign)
            left.remove(start)
        # A chain without a start begins at the plain cosine even where dissimilarity is wanted, as in the package.
        prompt, similar = start, self.similarity("", start)
        top, highest = prompt, similar
        for link in range(FLAVORS):
            if not left:  # a bundle's own tables may hold fewer phrases than a chain is long
                break
            phrase, value = self.next_link(prompt, left, sign)
            longer = f"{prompt}, {phrase}"
            if value > highest:
                top, highest = longer, value
                self.task.history.report_candidate(longer, value)
            if value <= similar and link >= FORCED:
                break
            prompt, similar = longer, value
            if self.full(prompt) or self.task.budget.exhausted:
                break
            left.remove(phrase)
        return top

    def next_link(self, prompt: str, phrases: Sequence[str], sign: float) -> tuple[str, float]:
        """The best phrase to go on with, and the value of the prompt with it."""
        head = (self.word(f"{prompt},", 0),) if prompt else ()
        used = len(head[0].ids) if head else 0
        scores = self.scorer.score([(*head, self.word(phrase, used)) for phrase in phrases], len(head))
        values = [sign * score for score in scores]
        chosen = max(range(len(values)), key=values.__getitem__)
        return phrases[chosen], values[chosen]

    def similarity(self, prompt: str, phrase: str) -> float:
        return self.next_link(prompt, [phrase], 1.0)[1]

    def word(self, phrase: str, used: int) -> Word:
        """A phrase as one word for the scorer, truncated where the context ends after `used` tokens."""
        encode = self.clip.tokenizer.encode_next if used else self.clip.tokenizer.encode
        return Word(phrase, tuple(encode(phrase)[: self.clip.max_prompt_tokens - used]))

    def full(self, prompt: str) -> bool:
        """Whether the prompt fills the model's context."""
        return len(self.clip.tokenizer.encode(prompt)) >= self.clip.max_prompt_tokens

    def truncated(self, prompt: str) -> str:
        """The prompt up to the last phrase that fits. The package's test leaves out the comma; so does this."""
        kept, *rest = prompt.split(", ")
        for part in rest:
            if self.full(kept + part):
                break
            kept += ", " + part
        return kept

    def output(self, prompts: Sequence[str]) -> InversionOutput:
        """The nearest of the finished prompts first."""
        scored = {prompt: self.scorer.score_text(prompt) for prompt in prompts}
        ranked = sorted(scored.items(), key=lambda pair: -pair[1])[: self.task.config.top]
        self.task.history.report_candidate(*ranked[0])
        return InversionOutput(ranked)
