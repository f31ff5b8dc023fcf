"""Ours: soft prompts on the image's latent → words by projection and concepts → discrete search.

The soft stage says which words the latent asks for, in any order; retrieval from a corpus says how
prompts near this latent are built; the search, led by gradients on the token embeddings and held to
language by a prior, writes the prompt. `invert_with` takes the stages' settings, for ablations.
"""

from __future__ import annotations

import itertools
from functools import lru_cache

import torch

from invert.corpus import encoded_corpus
from invert.errors import InputError
from invert.language import Language
from invert.methods import Problem, Solution
from invert.methods.nearest import soft_prompts
from invert.project import Concept, concepts, project
from invert.scorer import Row, Scorer
from invert.search import JOINING, Search, SearchConfig, distinct, says
from invert.soft import SoftConfig, SoftPrompts
from invert.vocabulary import Vocabulary

STARTS = 6  # captions of the corpus that the search starts from
NEAR = 320  # captions, the nearest of the corpus, that starts and phrases are taken from
WORDED = 8  # of them, those whose words are tried everywhere
PROPOSED = 24  # words of the soft stage that the search tries everywhere


def invert(problem: Problem) -> Solution:
    """Soft descent, candidate words, search; the distinct best prompts."""
    config = problem.config
    search = SearchConfig(
        max_tokens=config.max_tokens, token_penalty=config.token_penalty, language_weight=config.language_weight
    )
    return invert_with(problem, SoftConfig(steps=config.soft_steps), search)


def invert_with(
    problem: Problem, soft_config: SoftConfig, search_config: SearchConfig, use_concepts: bool = True, use_soft: bool = True
) -> Solution:
    """`invert` with the settings of its stages; use_concepts and use_soft leave out their words for the search."""
    vocabulary = problem.vocabulary
    soft = soft_prompts(problem, soft_config)
    themes = concepts(soft.embeddings, vocabulary, problem.config.seed)
    near = near_captions(problem)
    heaviest = soft_words(soft if use_soft else None, themes if use_concepts else [], vocabulary)[:PROPOSED]
    proposed = list(dict.fromkeys([*heaviest, *content_words(near[:WORDED], vocabulary)]))
    scorer = Scorer(problem.clip, vocabulary, problem.target, problem.meter)
    needed = required(problem)
    search = Search(scorer, language_of(problem), search_config, needed, proposed, banned(problem), near)
    if needed and not search.allowed(needed):
        raise InputError("the required words do not fit into one prompt: require fewer, or raise --max-tokens")
    found = search.run(starts(problem, near))
    complete = [candidate for candidate in found if not search.missing(candidate.row)]
    best = int(soft.scores.argmax())
    return Solution(
        prompts=[(c.prompt, c.score) for c in distinct(complete, problem.config.top)],
        soft_score=float(soft.scores.max()),
        projections=project(soft.embeddings[best], vocabulary),
        concepts=themes,
        soft=soft.embeddings[best],
    )


def language_of(problem: Problem) -> Language:
    """The language of the user's corpus or of picturebook; a flat one for other models without a corpus."""
    return _language(problem.vocabulary, problem.config.corpus)


@lru_cache(maxsize=4)
def _language(vocabulary: Vocabulary, corpus: tuple[str, ...]) -> Language:
    if not corpus and vocabulary.clip.known_tokens is None:
        return Language((), vocabulary)
    return Language(encoded_corpus(vocabulary.clip, corpus or None).captions, vocabulary)


def near_captions(problem: Problem) -> list[Row]:
    """The captions of the corpus that are nearest to the target and say nothing banned, nearest first."""
    captions = encoded_corpus(problem.clip, problem.config.corpus or None).nearest(problem.target, NEAR)
    rows = (problem.vocabulary.cut(caption) for caption, _ in captions)
    return [row for row in rows if not says(row, banned(problem))]


def starts(problem: Problem, near: list[Row]) -> list[Row]:
    """Where the search begins: the user's own prompt, the nearest captions that are built differently, the required words."""
    config = problem.config
    built: dict[tuple[str, ...], Row] = {}
    for row in near:
        built.setdefault(tuple(word.text for word in row if word.text in JOINING), row)
    captions = [*built.values(), *near][:STARTS]
    rows = [problem.vocabulary.cut(config.init_prompt), *captions, required(problem)]
    short = dict.fromkeys(shortened(row, config.max_tokens) for row in rows)
    return [row for row in short if row] or [(min(problem.vocabulary.words, key=lambda word: len(word.ids)),)]


def content_words(rows: list[Row], vocabulary: Vocabulary) -> list[int]:
    """Indices of the vocabulary words in the rows that say what is there, in their order."""
    texts = dict.fromkeys(word.text for row in rows for word in row if word.text not in JOINING)
    return [vocabulary.by_text[text] for text in texts if text in vocabulary.by_text]


def shortened(row: Row, max_tokens: int) -> Row:
    """As many of the row's first words as the limit takes."""
    lengths = itertools.accumulate(len(word.ids) for word in row)
    return row[: sum(length <= max_tokens for length in lengths)]


def required(problem: Problem) -> Row:
    texts = dict.fromkeys(text.strip().lower() for text in problem.config.must_include)
    return tuple(problem.vocabulary.word(text) for text in texts)


def banned(problem: Problem) -> list[str]:
    return [text.strip().lower() for text in problem.config.ban]


def soft_words(soft: SoftPrompts | None, themes: list[Concept], vocabulary: Vocabulary) -> list[int]:
    """Indices of words by their weight in all soft prompts and in the concepts, heaviest first."""
    shares: dict[int, float] = {}
    if soft is not None and soft.weights is not None:
        mass = soft.weights.sum((0, 1))  # (T,)
        for row in torch.topk(mass, min(64, len(mass))).indices.tolist():
            token = int(vocabulary.token_ids[row])
            for word in vocabulary.words_with_token[token][:3]:
                shares[word] = shares.get(word, 0.0) + float(mass[row])
    for theme in themes:
        for rank, (word, _) in enumerate(theme.words[:2]):
            shares[word] = shares.get(word, 0.0) + theme.share / (rank + 1)
    return [word for word, _ in sorted(shares.items(), key=lambda pair: (-pair[1], pair[0]))]
