"""Back and forth between soft and hard prompts: polish the words, read the polished rows as words, search from those.

In: a picture with its hard prompt. Out: another one, whose words the denoiser explains the picture by better. Polishing, with
several draws of noise, says what the words lack; its rows are read as their nearest tokens, as combinations of tokens, and as
k-means concepts over all draws; the discrete search goes on from there on CLIP's latent. Of what it finds the prompt of the
least denoising error is kept, and the next turn begins at it, until that error no longer falls.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import torch
from torch import Tensor

from experiments.harness.soft_subjects import Subject
from invert.budget import Budget
from invert.config import SearchConfig
from invert.diffusion.denoising import Denoising
from invert.diffusion.polish import polish
from invert.history import History
from invert.lexicon import Prompt, text_of
from invert.project import concepts, project
from invert.scorer import PromptScorer
from invert.search import Search
from invert.together import alone

TURNS, DRAWS = 3, 2  # turns at most, and polished prompts of each
POLISH_STEPS, CHECK_EVERY = 12, 6
WORDS_PER_TOKEN, WORDS_PER_CONCEPT = 3, 2
BUDGET = 20_000  # token passes of the search in a turn
KEPT = 8  # prompts of the search that the denoiser chooses among
NOISES = 32  # that it does so by, the same in all turns


@cache
def back_and_forth(subject: Subject) -> str:
    """The prompt after the last turn that lowered the denoising error."""
    found, error = subject.hard, float("inf")
    for turn in range(TURNS):
        words, reading = read(subject, found, turn)
        candidates = dict.fromkeys([found, *searched(subject, [found, reading], words)])
        errors = denoising_errors(subject, list(candidates))
        best = min(errors, key=lambda text: errors[text])
        improved = best != found and errors[best] < error
        found, error = best, errors[best]
        if not improved:
            break
    return found


def chosen_by_error(subject: Subject) -> str:
    """What one turn gives without the polishing: the search goes on from the hard prompt, and the denoiser chooses."""
    errors = denoising_errors(subject, list(dict.fromkeys([subject.hard, *searched(subject, [subject.hard], [])])))
    return min(errors, key=lambda text: errors[text])


def read(subject: Subject, prompt: str, turn: int) -> tuple[list[int], str]:
    """The lexicon's words that polishing the prompt asks for, and the prompt as its polished rows read.

    Args:
        subject: the picture.
        prompt: where polishing begins.
        turn: chooses the noises.
    """
    lab, index = subject.lab, subject.lab.inverter.bundle.token_index
    start = subject.rows(prompt)
    drawn = torch.stack([polished_by(subject, start, DRAWS * turn + draw) for draw in range(DRAWS)])  # (DRAWS, L, D)
    nearest = project(drawn.flatten(0, 1), index)
    tokens = dict.fromkeys(token for projection in nearest for token in projection.ids)
    by_token = [word for token in tokens for word in index.lexicon.words_with_token[token][:WORDS_PER_TOKEN]]
    agreed = [word for one in concepts(drawn, index, lab.seed) for word, _ in one.words[:WORDS_PER_CONCEPT]]
    first = project(drawn[0], index, most=1)
    reading = lab.inverter.clip.tokenizer.decode([token for projection in first for token in projection.ids])
    return list(dict.fromkeys([*by_token, *agreed])), reading


def polished_by(subject: Subject, start: Tensor, draw: int) -> Tensor:
    """The words' rows (L, D) after a short polishing with noises of that number."""
    config = replace(subject.lab.config, steps=POLISH_STEPS, check_every=CHECK_EVERY)
    rng = torch.Generator().manual_seed(1000 * (subject.lab.seed + 1) + draw)
    return polish(subject.lab.generator, [subject.picture.image], start, rng, config).embeddings[: len(start)]


def searched(subject: Subject, starts: Sequence[str], words: Sequence[int]) -> list[str]:
    """The distinct best prompts of a search from the starts, with the words tried everywhere."""
    bundle = subject.lab.inverter.bundle
    scorer = PromptScorer(bundle.clip, subject.target, Budget(BUDGET))
    sources: list[Prompt] = [bundle.lexicon.segment(text) for text in (subject.hard, subject.retrieved)]
    search = Search(bundle, scorer, History(), SearchConfig(), proposal_words=words, retrieved=sources)
    begin = [prompt for prompt in map(bundle.lexicon.segment, starts) if search.allowed(prompt)]
    pool = alone(search.steps(begin), bundle.clip)
    return [text_of(candidate.words) for candidate in search.distinct(pool, KEPT)]


@torch.no_grad()
def denoising_errors(subject: Subject, prompts: Sequence[str]) -> dict[str, float]:
    """Prompt → how badly the denoiser explains the picture by it, on noises that no polishing saw."""
    lab = subject.lab
    denoising = Denoising(lab.generator, [subject.picture.image])
    rng = torch.Generator().manual_seed(1000 * (lab.seed + 1) + 999)
    batch = denoising.sample_noise(NOISES, lab.config.timestep_fraction, rng)
    return {text: float(denoising.loss(lab.generator.encode([text]), batch)[0]) for text in prompts}
