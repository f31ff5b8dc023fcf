"""Random search: what a budget of token passes buys without any gradient or structure.

From random words, `width` random changes a step (replace, insert or delete one word); the best is
kept if it is better. It is the floor that every other method has to clear at the same budget.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch

from invert.methods import Problem, Solution
from invert.scorer import Row, Scorer, text_of


@dataclass(frozen=True)
class RandomConfig:
    """As many candidates as GCG scores."""

    steps: int = 500
    width: int = 512  # candidates a step


def random_search(problem: Problem, config: RandomConfig = RandomConfig()) -> Solution:
    """Hill climbing by random single-word changes, for `steps` steps or as long as a budget lasts."""
    scorer = Scorer(problem.clip, problem.vocabulary, problem.target, problem.meter)
    words = problem.vocabulary.words
    row: Row = tuple(words[draw(problem, len(words))] for _ in range(max(1, problem.config.tokens // 2)))
    best = {row: scorer.score([row])[0]}
    problem.meter.offer(text_of(row), best[row])
    limited = problem.meter.max_token_passes is not None
    for step in itertools.count() if limited else range(config.steps):
        before = problem.meter.token_passes
        changed = (change(problem, row) for _ in range(config.width))
        candidates = [c for c in dict.fromkeys(changed) if len(scorer.ids(c)) <= problem.config.max_tokens and scorer.fits(c)]
        scores = scorer.score(candidates) if candidates else []
        better = max(zip(scores, candidates, strict=True), key=lambda pair: pair[0], default=(float("-inf"), row))
        if better[0] > best[row]:
            row = better[1]
            best[row] = better[0]
            problem.meter.offer(text_of(row), best[row])
        problem.meter.record("random", step, best[row], text_of(row))
        nothing_new = limited and problem.meter.token_passes == before  # every change was tried before
        if nothing_new or problem.meter.exhausted:
            break
    ranked = sorted(best.items(), key=lambda pair: -pair[1])[: problem.config.top]
    return Solution([(text_of(kept), score) for kept, score in ranked])


def draw(problem: Problem, n: int) -> int:
    """An integer in 0..n-1 from the problem's generator."""
    return int(torch.randint(n, (), generator=problem.generator))


def change(problem: Problem, row: Row) -> Row:
    """One word replaced, inserted or deleted; never the last one."""
    word = problem.vocabulary.words[draw(problem, len(problem.vocabulary))]
    match draw(problem, 3):
        case 0:
            place = draw(problem, len(row) + 1)
            return (*row[:place], word, *row[place:])
        case 1 if len(row) > 1:
            place = draw(problem, len(row))
            return (*row[:place], *row[place + 1 :])
    place = draw(problem, len(row))
    return (*row[:place], word, *row[place + 1 :])
