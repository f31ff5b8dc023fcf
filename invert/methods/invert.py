"""Ours: soft prompts on the image's latent → words by projection and concepts → discrete search.

The soft stage says which words the latent asks for, in any order; the search writes a prompt with
them. `PoolConfig`'s parts can be left out one by one, which is how the ablations are run.
"""

from __future__ import annotations

from collections import Counter

import torch

from invert.methods import Problem, Solution
from invert.methods.nearest import soft_prompts
from invert.project import Concept, concepts, project
from invert.scorer import Row, Scorer
from invert.search import Search, SearchConfig, distinct
from invert.soft import SoftConfig, SoftPrompts
from invert.vocabulary import Vocabulary, Word


def invert(problem: Problem) -> Solution:
    """Soft descent, candidate pool, growing, refining; the distinct best prompts."""
    config, vocabulary = problem.config, problem.vocabulary
    soft = soft_prompts(problem, SoftConfig(steps=config.soft_steps))
    best = int(soft.scores.argmax())
    projections = project(soft.embeddings[best], vocabulary)
    themes = concepts(soft.embeddings, vocabulary, config.seed)
    scorer = Scorer(problem.clip, vocabulary, problem.target, problem.meter)
    search = Search(scorer, candidate_pool(problem, scorer, soft, themes), search_config(problem), required(problem))
    grown = search.grow(starts(problem))
    leaders = distinct([c for c in grown if search.complete(c.row)] or grown, max(config.top, search.config.refined))
    refined = [search.refine(candidate) for candidate in leaders]
    final = distinct([*refined, *leaders], config.top)
    return Solution([(c.prompt, c.score) for c in final], float(soft.scores.max()), projections, themes)


def search_config(problem: Problem) -> SearchConfig:
    return SearchConfig(max_tokens=problem.config.max_tokens, token_penalty=problem.config.token_penalty)


def required(problem: Problem) -> list[Word]:
    return [problem.vocabulary.word(text.lower()) for text in problem.config.must_include]


def starts(problem: Problem) -> list[Row]:
    """Where growing begins: nothing, the user's own prompt, the required words."""
    words = tuple(problem.vocabulary.word(text) for text in problem.config.init_prompt.lower().split())
    return [(), words, tuple(required(problem))] if words or problem.config.must_include else [()]


def candidate_pool(problem: Problem, scorer: Scorer, soft: SoftPrompts, themes: list[Concept]) -> list[Word]:
    """Words worth trying: joining words, what the soft prompts chose, and what scores well alone."""
    vocabulary, size = problem.vocabulary, problem.config.pool
    chosen = soft_words(soft, themes, vocabulary)[: size // 3]
    alone = [(word,) for word in vocabulary.words]
    ranked = sorted(zip(scorer.score(alone), range(len(alone)), strict=True), reverse=True)
    order = [*vocabulary.glue, *chosen, *(i for _, i in ranked)]
    return [vocabulary.words[i] for i in dict.fromkeys(order)][:size]


def soft_words(soft: SoftPrompts, themes: list[Concept], vocabulary: Vocabulary) -> list[int]:
    """Indices of words by their weight in all soft prompts and in the concepts, heaviest first."""
    votes: Counter[int] = Counter()
    if soft.weights is not None:
        mass = soft.weights.sum((0, 1))  # (T,)
        for row in torch.topk(mass, min(64, len(mass))).indices.tolist():
            token = int(vocabulary.token_ids[row])
            for word in vocabulary.words_with_token[token][:3]:
                votes[word] += float(mass[row])
    for theme in themes:
        for rank, (word, _) in enumerate(theme.words[:2]):
            votes[word] += theme.share / (rank + 1)
    return [word for word, _ in votes.most_common()]
