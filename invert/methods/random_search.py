"""Random search: what a budget of token passes buys without any gradient or structure.

From random words, `search_width` random changes a step (replace, insert or delete one word); the best is
kept if it is better. It is the floor that every other method has to clear at the same budget.
"""

from __future__ import annotations

import itertools

from invert.lexicon import Prompt, text_of, token_count
from invert.methods.configs import RandomConfig
from invert.methods.task import InversionOutput, InversionTask


def random_search(task: InversionTask, config: RandomConfig) -> InversionOutput:
    """Hill climbing by random single-word changes, for `steps` steps or as long as a budget lasts."""
    scorer, history, budget = task.scorer(), task.history, task.budget
    words = [word for word in task.bundle.lexicon.words if token_count((word,)) <= task.config.max_tokens]
    prompt: Prompt = tuple(words[task.randint(len(words))] for _ in range(max(1, task.config.tokens // 2)))
    while token_count(prompt) > task.config.max_tokens:
        prompt = prompt[:-1]
    best = {prompt: scorer.score([prompt])[0]}
    history.report_candidate(text_of(prompt), best[prompt])
    limited = budget.max_token_passes is not None
    for step in itertools.count() if limited else range(config.steps):
        before = budget.token_passes
        changed = (change(task, prompt) for _ in range(config.search_width))
        candidates = [c for c in dict.fromkeys(changed) if token_count(c) <= task.config.max_tokens and scorer.fits(c)]
        scores = scorer.score(candidates) if candidates else []
        better = max(zip(scores, candidates, strict=True), key=lambda pair: pair[0], default=(float("-inf"), prompt))
        if better[0] > best[prompt]:
            prompt = better[1]
            best[prompt] = better[0]
            history.report_candidate(text_of(prompt), best[prompt])
        history.record("random", step, best[prompt], text_of(prompt))
        nothing_new = limited and budget.token_passes == before  # every change was tried before
        if nothing_new or budget.exhausted:
            break
    ranked = sorted(best.items(), key=lambda pair: -pair[1])[: task.config.top]
    return InversionOutput([(text_of(kept), score) for kept, score in ranked])


def change(task: InversionTask, prompt: Prompt) -> Prompt:
    """One word replaced, inserted or deleted; never the last one."""
    words = task.bundle.lexicon.words
    word = words[task.randint(len(words))]
    match task.randint(3):
        case 0:
            slot = task.randint(len(prompt) + 1)
            return (*prompt[:slot], word, *prompt[slot:])
        case 1 if len(prompt) > 1:
            slot = task.randint(len(prompt))
            return (*prompt[:slot], *prompt[slot + 1 :])
    slot = task.randint(len(prompt))
    return (*prompt[:slot], word, *prompt[slot + 1 :])
