"""What PEZ and GCG share: prompts of a fixed number of tokens, and runs repeated while the budget lasts.

Prompts of one length go through the tower together, up to end-of-text and no farther, so that a method
pays for L + 2 positions and not for the 77 that its published code runs (all of them where the tower is bidirectional).
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from invert.budget import Budget
from invert.errors import InputError
from invert.methods.task import InversionOutput, InversionTask
from invert.models.overflow import overflow
from invert.scorer import FINALISTS

BANNED = "every prompt that was found holds a banned phrase: give more `budget`, another `seed`, or leave the phrase out of `ban`"


class Found(dict[tuple[int, ...], float]):
    """Token ids of a prompt → its cosine, with the best so far: thousands of steps ask for it."""

    best = float("-inf")

    def __setitem__(self, ids: tuple[int, ...], score: float) -> None:
        super().__setitem__(ids, score)
        self.best = max(self.best, score)


def runs(budget: Budget) -> Iterator[int]:
    """0, 1, …: one run; more while a budget of token passes has something left."""
    run = 0
    yield run
    while budget.max_token_passes is not None and not budget.exhausted:
        run += 1
        yield run


def remember(task: InversionTask, stage: str, found: Found, ids: tuple[int, ...], score: float, step: int) -> None:
    """Keep a prompt, unless it holds a banned phrase; a new best is reported to the history with its text."""
    if math.isnan(score):
        raise overflow(task.clip)
    if task.banned() and not task.allows(task.decode(ids)):
        return task.history.record(stage, step, score, "")
    best = score > found.best
    found[ids] = score
    if best:
        task.history.report_candidate(task.decode(ids), score)
    task.history.record(stage, step, score, task.decode(ids) if best else "")


def reads_back(task: InversionTask, ids: tuple[int, ...]) -> bool:
    """Whether the decoded text is tokenized into the same tokens: otherwise its score is another prompt's."""
    return tuple(task.clip.tokenizer.encode_next(task.decode(ids))) == ids


def best_prompts(task: InversionTask, found: Found) -> InversionOutput:
    """The best distinct prompts as texts, each scored as the text that it is."""
    if not found:
        raise InputError(BANNED)
    scorer = task.scorer()
    top = task.config.top
    best = sorted(found, key=lambda ids: -found[ids])[: top if scorer.exact is scorer else max(top, FINALISTS)]
    texts = list(dict.fromkeys(task.decode(ids) for ids in best))
    return InversionOutput(sorted(((text, scorer.score_text(text)) for text in texts), key=lambda pair: -pair[1])[:top])
