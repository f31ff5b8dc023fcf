"""Retrieval: the captions of a corpus that lie nearest to the target."""

from __future__ import annotations

from invert.corpus import encoded_corpus
from invert.methods import Problem, Solution


def retrieve(problem: Problem) -> Solution:
    """The corpus's nearest captions, best first."""
    found = encoded_corpus(problem.clip).nearest(problem.target, problem.config.top)
    problem.meter.offer(*found[0])
    return Solution(found)
