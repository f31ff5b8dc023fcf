"""Ours: soft prompts on the image's latent → words by projection and concepts → discrete search.

The soft stage says which words the latent asks for, in any order; retrieval from a corpus says how
prompts near this latent are built; the search, led by gradients on the token embeddings and held to
language by a prior, writes the prompt. The stages are functions of their own, so that an experiment can
leave one out.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from invert.bundle import ModelBundle
from invert.config import SearchConfig, SoftConfig
from invert.errors import InputError
from invert.lexicon import Lexicon, Prompt, contains_phrase, word_ids
from invert.methods.configs import InvertMethodConfig
from invert.methods.soft_stage import soft_prompts
from invert.methods.task import InversionOutput, InversionTask
from invert.project import Concept, concepts, project
from invert.search import Candidate, Search
from invert.soft import SoftPrompts
from invert.token_index import TokenIndex

MAX_SOFT_TOKENS = 64  # heaviest tokens of the soft prompts that words are taken from
WORDS_PER_TOKEN, WORDS_PER_CONCEPT = 3, 2


@dataclass(frozen=True, eq=False)
class SoftStage:
    """The soft prompts of all restarts, and what they agree on."""

    soft: SoftPrompts
    concepts: list[Concept]


def invert(task: InversionTask, config: InvertMethodConfig) -> InversionOutput:
    """Soft descent, candidate words, search; the distinct best prompts."""
    stage = soft_stage(task, config)
    words = soft_words(stage.soft, stage.concepts, task.bundle.token_index)
    return searched(task, config, stage, words)


def soft_stage(task: InversionTask, config: InvertMethodConfig) -> SoftStage:
    """Optimize the soft prompts and cluster their embeddings."""
    soft = soft_prompts(
        task,
        SoftConfig(
            steps=task.config.soft_steps,
            lr=config.lr,
            temperature_start=config.temperature_start,
            temperature_end=config.temperature_end,
        ),
    )
    return SoftStage(soft, concepts(soft.embeddings, task.bundle.token_index, task.config.seed))


def search_config(task: InversionTask, config: InvertMethodConfig) -> SearchConfig:
    """The run's and the method's settings as the search takes them."""
    return SearchConfig(
        max_tokens=task.config.max_tokens,
        token_penalty=task.config.token_penalty,
        language_weight=task.config.language_weight,
        beam=config.beam,
        rounds=config.rounds,
        replacements=config.replacements,
        first_round_sources=config.first_round_sources,
        insertions=config.insertions,
        n_refined=config.n_refined,
        refine_replacements=config.refine_replacements,
        pair_pool=config.pair_pool,
        pairs=config.pairs,
    )


def searched(
    task: InversionTask,
    config: InvertMethodConfig,
    stage: SoftStage,
    words: Sequence[int],
    search_settings: SearchConfig | None = None,
) -> InversionOutput:
    """The distinct best prompts of a search.

    Args:
        task: the target and the run's options.
        config: how many prompts to retrieve and words to propose.
        stage: what the soft stage found; it goes into the output.
        words: indices of lexicon words that it proposes, best first.
        search_settings: in place of `search_config(task, config)`.

    Raises:
        InputError: the required words do not fit into one prompt.
    """
    retrieved = retrieved_prompts(task, config.n_retrieved)
    near = content_words(retrieved[: config.n_word_sources], task.bundle)
    proposals = list(dict.fromkeys([*words[: config.n_proposed], *near]))
    needed = required(task)
    settings = search_settings or search_config(task, config)
    search = Search(task.bundle, task.scorer(), task.history, settings, needed, proposals, task.banned(), retrieved)
    if needed and not search.allowed(needed):
        raise InputError("the required words do not fit into one prompt: require fewer, or raise `max_tokens`")
    compose = task.bundle.compose
    chosen = different_templates_first(retrieved, task.bundle.lexicon) if compose is None else compose(search, task.target)
    found = search.run(startable(search, initial_prompts(task, chosen[: config.n_starts])))
    return output(task, stage, search, [candidate for candidate in found if not search.missing(candidate.words)])


def output(task: InversionTask, stage: SoftStage, search: Search, complete: list[Candidate]) -> InversionOutput:
    soft = stage.soft
    best = int(soft.scores.argmax())
    return InversionOutput(
        prompts=[(c.prompt, c.score) for c in search.distinct(complete, task.config.top)],
        soft_score=float(soft.scores.max()),
        projections=project(soft.embeddings[best], task.bundle.token_index),
        concepts=stage.concepts,
        soft=soft.embeddings[best],
    )


def prepare(bundle: ModelBundle) -> None:
    """Encode the corpus."""
    _ = bundle.encoded_corpus


def retrieved_prompts(task: InversionTask, n: int) -> list[Prompt]:
    """Of the n prompts of the corpus nearest to the target those that hold nothing banned, nearest first."""
    nearest = task.encoded_corpus().nearest(task.target, n)
    prompts = (task.bundle.lexicon.segment(text) for text, _ in nearest)
    return [prompt for prompt in prompts if not contains_phrase(prompt, task.banned())]


def initial_prompts(task: InversionTask, chosen: Sequence[Prompt]) -> list[Prompt]:
    """Where the search begins: the user's own prompt, those chosen, the required words."""
    lexicon, limit = task.bundle.lexicon, task.config.max_tokens
    prompts = [lexicon.segment(task.config.init_prompt), *chosen, required(task)]
    short = dict.fromkeys(shortened(prompt, limit) for prompt in prompts)
    return [prompt for prompt in short if prompt] or [(min(lexicon.words, key=lambda word: len(word.ids)),)]


def startable(search: Search, prompts: list[Prompt]) -> list[Prompt]:
    """The prompts, if any may begin a search; else those that may without their repeated words; else one short word.

    Raises:
        InputError: no word may begin.
    """
    if any(map(search.allowed, prompts)):
        return prompts
    distinct = [prompt for prompt in (tuple(dict.fromkeys(prompt)) for prompt in prompts) if search.allowed(prompt)]
    shortest = sorted(search.lexicon.words, key=lambda word: len(word.ids))
    word = next((word for word in shortest if search.allowed((word,))), None)
    if not distinct and word is None:
        raise InputError("no word may begin the prompt: drop some of `ban`, or raise `max_tokens`")
    return distinct or [(word,)]  # type: ignore[list-item]


def different_templates_first(prompts: Sequence[Prompt], lexicon: Lexicon) -> list[Prompt]:
    """The first prompt of each template, then all in their order."""
    by_template: dict[Prompt, Prompt] = {}
    for prompt in prompts:
        by_template.setdefault(lexicon.template(prompt), prompt)
    return [*by_template.values(), *prompts]


def content_words(prompts: Sequence[Prompt], bundle: ModelBundle) -> list[int]:
    """Indices of the lexicon's words in the prompts that say what is there, in their order."""
    lexicon = bundle.lexicon
    texts = dict.fromkeys(text for prompt in prompts for text in lexicon.content(prompt))
    return [lexicon.index_of[text] for text in texts if text in lexicon.index_of]


def shortened(prompt: Prompt, max_tokens: int) -> Prompt:
    """As many of the prompt's first words as the limit takes."""
    lengths = itertools.accumulate(map(len, word_ids(prompt)))
    return prompt[: sum(length <= max_tokens for length in lengths)]


def required(task: InversionTask) -> Prompt:
    """The words that the prompt has to hold."""
    texts = dict.fromkeys(text.strip().lower() for text in task.config.must_include)
    return tuple(task.bundle.lexicon.word(text) for text in texts)


def soft_words(soft: SoftPrompts | None, found: Sequence[Concept], index: TokenIndex) -> list[int]:
    """Indices of words by their weight in all soft prompts and in the concepts, heaviest first."""
    shares: dict[int, float] = {}
    if soft is not None and soft.weights is not None:
        weights = soft.weights.sum((0, 1))  # (T,)
        for position in torch.topk(weights, min(MAX_SOFT_TOKENS, len(weights))).indices.tolist():
            token = int(index.token_ids[position])
            for word in index.lexicon.words_with_token[token][:WORDS_PER_TOKEN]:
                shares[word] = shares.get(word, 0.0) + float(weights[position])
    for concept in found:
        for rank, (word, _) in enumerate(concept.words[:WORDS_PER_CONCEPT]):
            shares[word] = shares.get(word, 0.0) + concept.share / (rank + 1)
    return [word for word, _ in sorted(shares.items(), key=lambda pair: (-pair[1], pair[0]))]
