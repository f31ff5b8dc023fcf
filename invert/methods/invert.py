"""Ours: soft prompts on the image's latent → words by projection and concepts → discrete search.

Where the bundle says that such words earn nothing, and the run does not ask for them, the search begins at once.

The soft stage says which words the latent asks for, in any order; retrieval from a corpus says how
prompts near this latent are built; the search, led by gradients on the token embeddings and held to
language by a prior, writes the prompt. The stages are functions of their own, so that an experiment can
leave one out.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

from invert.bundle import ModelBundle
from invert.config import InvertConfig, SearchConfig, SoftConfig
from invert.errors import InputError
from invert.found import Pool
from invert.lexicon import Lexicon, Prompt, contains_phrase, token_count, word_ids
from invert.methods.captioned import shortened_captions
from invert.methods.configs import InvertMethodConfig
from invert.methods.soft_stage import soft_prompts_together, soft_steps
from invert.methods.splice import sparse_words
from invert.methods.task import InversionOutput, InversionTask
from invert.project import Concept, concepts, project
from invert.search import Search
from invert.soft import SoftPrompts
from invert.together import Steps, alone, together
from invert.token_index import TokenIndex
from invert.zero_shot import Classes, rerank

MAX_SOFT_TOKENS = 64  # heaviest tokens of the soft prompts that words are taken from
WORDS_PER_TOKEN, WORDS_PER_CONCEPT = 3, 2
TOKEN_PER_SPREAD, NAT_PER_SPREAD = 0.07, 0.06  # what a token must earn, and a nat is worth, in standard deviations


@dataclass(frozen=True, eq=False)
class SoftStage:
    """The soft prompts of all restarts, and what they agree on."""

    soft: SoftPrompts
    concepts: list[Concept]


def invert(task: InversionTask, config: InvertMethodConfig) -> InversionOutput:
    """Soft descent, candidate words, search; the distinct best prompts."""
    return invert_batch([task], config)[0]


def invert_batch(tasks: Sequence[InversionTask], config: InvertMethodConfig) -> list[InversionOutput]:
    """`invert` of tasks that differ in target and rng only: they share the text encoder's batches, and nothing else.

    Each spends what it would spend alone, and gets the prompts that it would get alone.
    """
    searches = []
    for task, stage in zip(tasks, soft_stages(tasks, config), strict=True):
        words = [] if stage is None else soft_words(stage.soft, stage.concepts, task.bundle.token_index)
        searches.append(searching(task, config, stage, words))
    return together(searches, tasks[0].clip)


def soft_stage(task: InversionTask, config: InvertMethodConfig) -> SoftStage | None:
    """Optimize the soft prompts and cluster their embeddings; None where the run goes without them."""
    return soft_stages([task], config)[0]


def soft_stages(tasks: Sequence[InversionTask], config: InvertMethodConfig) -> Sequence[SoftStage | None]:
    """`soft_stage` of several tasks in the same steps."""
    steps = soft_steps(tasks[0].config, tasks[0].bundle)
    if not steps:
        return [None] * len(tasks)
    found = soft_prompts_together(
        tasks,
        SoftConfig(
            steps=steps,
            lr=config.lr,
            temperature_start=config.temperature_start,
            temperature_end=config.temperature_end,
        ),
    )
    index = tasks[0].bundle.token_index
    return [
        SoftStage(soft, concepts(soft.embeddings, index, task.config.seed % 2**64))  # k-means takes no negative seeds
        for task, soft in zip(tasks, found, strict=True)
    ]


def search_config(task: InversionTask, config: InvertMethodConfig) -> SearchConfig:
    """The run's and the method's settings as the search takes them."""
    token_penalty, language_weight = objective_weights(task)
    return SearchConfig(
        max_tokens=task.config.max_tokens,
        token_penalty=token_penalty,
        language_weight=language_weight,
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


def objective_weights(task: InversionTask) -> tuple[float, float]:
    """The cosines that a token must earn and that a nat of language is worth: as asked for, or as the target's cosines spread."""
    asked, spread = (task.config.token_penalty, task.config.language_weight), task.bundle.spread
    usual = SearchConfig.token_penalty, SearchConfig.language_weight
    if spread is not None and None in asked:
        measured = spread(task.target)
        usual = TOKEN_PER_SPREAD * measured, NAT_PER_SPREAD * measured
    token, nat = (by_default if given is None else given for given, by_default in zip(asked, usual, strict=True))
    return token, nat


def searched(
    task: InversionTask,
    config: InvertMethodConfig,
    stage: SoftStage | None,
    words: Sequence[int],
    search_settings: SearchConfig | None = None,
) -> InversionOutput:
    """The distinct best prompts of a search.

    Args:
        task: the target and the run's options.
        config: how many prompts to retrieve and words to propose.
        stage: what the soft stage found, where there was one; it goes into the output.
        words: indices of lexicon words that it proposes, best first.
        search_settings: in place of `search_config(task, config)`.

    Raises:
        InputError: the required words do not fit into one prompt.
    """
    return alone(searching(task, config, stage, words, search_settings), task.clip)


def searching(
    task: InversionTask,
    config: InvertMethodConfig,
    stage: SoftStage | None,
    words: Sequence[int],
    search_settings: SearchConfig | None = None,
) -> Steps[InversionOutput]:
    """`searched`, step by step."""
    captions = [task.bundle.lexicon.segment(text) for text in task.captions]
    nearest = retrieved_prompts(task, config.n_retrieved)
    retrieved = [*captions, *nearest.values()]
    near = content_words(retrieved[: len(captions) + config.n_word_sources], task.bundle)
    sparse = sparse_words(task, config.n_sparse) if config.n_sparse else []
    proposals = list(dict.fromkeys([*sparse, *words[: config.n_proposed], *near]))
    needed = required(task)
    settings = search_settings or search_config(task, config)
    rules = needed, proposals, task.banned(), retrieved, task.language
    search = Search(task.bundle, task.scorer(), task.history, settings, *rules)
    search.anchors = tuple(task.bundle.lexicon.words[word].text for word in sparse)
    if needed and not search.allowed(needed):
        raise InputError(too_long(needed, task.clip.max_prompt_tokens))
    chosen = different_templates_first(list(nearest.values()), task.bundle.lexicon)[: config.n_starts]
    if task.bundle.compose is not None:
        added = [prompt for text, prompt in nearest.items() if text in task.bundle.corpus.added]
        composed = task.bundle.compose(search, task.target)
        chosen = (composed if isinstance(composed, list) else (yield from composed))[: config.n_starts]
        chosen = [*chosen, *different_templates_first(added, task.bundle.lexicon)[: config.n_starts]]
    classes = task.bundle.zero_shot.classify(task.target) if task.bundle.zero_shot and task.images else None
    likely = [] if classes is None else likeliest_things(task, classes, config.n_classes)
    said = yield from shortened_captions(search, [shortened(prompt, settings.max_tokens) for prompt in captions])
    starts = [*captions, *(one.words for one in said if one is not None), *chosen, *likely]
    pool = yield from search.steps(startable(search, initial_prompts(task, starts)))
    if classes is not None:
        pool = last_choice(task, config, classes, pool)
    short = [("", 0.0) if one is None else (one.prompt, one.score) for one in said]
    return replace(output(task, stage, search, pool), shortened=short)


def likeliest_things(task: InversionTask, classes: Classes, n: int) -> list[Prompt]:
    """The captions of the n likeliest classes that hold nothing banned."""
    allowed = filter(task.allows, classes.likeliest_first())
    return [task.bundle.lexicon.segment(text) for text in itertools.islice(allowed, n)]


def last_choice(task: InversionTask, config: InvertMethodConfig, classes: Classes, pool: Pool) -> Pool:
    """The pool as the final prompt is chosen from it; a `token_penalty` that was asked for stays what it is."""
    slope = config.token_penalty_slope if task.config.token_penalty is None else 0.0
    return rerank(pool, classes, config.class_weight, slope, task.bundle.usual_cosine)


def too_long(needed: Prompt, most: int) -> str:
    """Why the required words make no prompt of a model that reads so many tokens."""
    n = token_count(needed)
    if n > most:
        return f"the required words are {n} tokens, and this model reads {most}: require fewer"
    return "the required words do not fit into one prompt: require fewer, or raise `max_tokens`"


def output(task: InversionTask, stage: SoftStage | None, search: Search, pool: Pool) -> InversionOutput:
    chosen = search.distinct(pool, task.config.top)
    for one in chosen[:1]:
        task.history.report_choice(one.prompt, one.objective)
    prompts = [(c.prompt, c.score) for c in chosen]
    if stage is None:
        return InversionOutput(prompts)
    soft = stage.soft
    best = int(soft.scores.argmax())
    return InversionOutput(
        prompts=prompts,
        soft_score=float(soft.scores.max()),
        projections=project(soft.embeddings[best], task.bundle.token_index),
        concepts=stage.concepts,
        soft=soft.embeddings[best],
    )


def prepare(bundle: ModelBundle, config: InvertConfig) -> None:
    """Encode the corpus, the words that starts are composed of, and the captions that pictures are classified by."""
    bundle.encode_once()
    if bundle.zero_shot:
        _ = bundle.zero_shot.latents


def retrieved_prompts(task: InversionTask, n: int) -> dict[str, Prompt]:
    """Of the n prompts of the corpus nearest to the target those that hold nothing banned, nearest first: text → words."""
    nearest = task.encoded_corpus().nearest(task.target, n)
    prompts = {text: task.bundle.lexicon.segment(text) for text, _ in nearest}
    return {text: prompt for text, prompt in prompts.items() if not contains_phrase(prompt, task.banned())}


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
        heaviest = soft.weights.sum((0, 1)).topk(min(MAX_SOFT_TOKENS, soft.weights.shape[2]))  # of (T,)
        tokens = index.token_ids[heaviest.indices].tolist()
        for token, weight in zip(tokens, heaviest.values.tolist(), strict=True):
            for word in index.lexicon.words_with_token[token][:WORDS_PER_TOKEN]:
                shares[word] = shares.get(word, 0.0) + weight
    for concept in found:
        for rank, (word, _) in enumerate(concept.words[:WORDS_PER_CONCEPT]):
            shares[word] = shares.get(word, 0.0) + concept.share / (rank + 1)
    return [word for word, _ in sorted(shares.items(), key=lambda pair: (-pair[1], pair[0]))]
