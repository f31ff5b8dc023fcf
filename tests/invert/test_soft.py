"""Gradient descent on embeddings: it climbs, it lands on words, it counts, it stops, it repeats itself."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from invert.config import InvertConfig
from invert.meter import Meter
from invert.methods import Problem
from invert.methods.nearest import soft_prompts
from invert.models.clip import Clip
from invert.soft import KINDS, SoftConfig, SoftPrompts, framed, optimise
from invert.vocabulary import Vocabulary

START = torch.tensor([[0, 1, 2, 3], [10, 11, 12, 13], [30, 31, 32, 33]])  # 3 restarts of 4 tokens
POSITIONS = START.numel() + 2 * len(START)


@pytest.fixture
def run(toy_clip: Clip, toy_words: Vocabulary, toy_target: Tensor):
    """run(kind, meter=, start=, **SoftConfig) on the toy model."""

    def soft(kind: str, meter: Meter | None = None, start: Tensor = START, **settings) -> SoftPrompts:
        return optimise(toy_clip, toy_words, toy_target, start, SoftConfig(kind=kind, **settings), meter or Meter())

    return soft


def to_nearest_row(embeddings: Tensor, vocabulary: Vocabulary) -> Tensor:
    return torch.cdist(embeddings.flatten(0, 1), vocabulary.rows).amin(1)


@pytest.mark.parametrize("kind", KINDS)
def test_every_parameterisation_ends_nearer_to_the_target_than_its_words_began(run, toy_clip, toy_words, toy_target, kind):
    began = toy_clip.encode_embeddings(framed(toy_clip, toy_words.rows[START])).float() @ toy_target
    ended = run(kind, steps=60).scores
    assert ended.mean() > began.mean() + 0.05 and ended.max() > began.max()


@pytest.mark.parametrize("kind", KINDS)
def test_the_scores_are_those_of_the_embeddings_handed_back(run, toy_clip, toy_target, kind):
    soft = run(kind, steps=5)
    latents = toy_clip.encode_embeddings(framed(toy_clip, soft.embeddings))
    torch.testing.assert_close(soft.scores, latents.float() @ toy_target)
    assert not soft.embeddings.requires_grad and not soft.scores.requires_grad


def test_the_free_kind_begins_at_the_words_rows_and_has_no_weights(run, toy_words):
    soft = run("free", steps=0)
    assert torch.equal(soft.embeddings, toy_words.rows[START]) and soft.weights is None


def test_a_mixture_is_a_convex_combination_of_rows(run, toy_words):
    soft = run("mixture", steps=5)
    assert (soft.weights >= 0).all()
    torch.testing.assert_close(soft.weights.sum(-1), torch.ones(START.shape, dtype=soft.weights.dtype))
    torch.testing.assert_close(soft.embeddings, soft.weights @ toy_words.rows)


def test_a_mixture_lands_on_rows_as_it_cools(run, toy_words):
    ended = [run("mixture", steps=40, cold=cold) for cold in (1.0, 0.1, 0.01)]
    heaviest = [float(soft.weights.amax(-1).mean()) for soft in ended]
    distances = [float(to_nearest_row(soft.embeddings, toy_words).mean()) for soft in ended]
    assert heaviest == sorted(heaviest) and heaviest[-1] > 0.8
    assert distances == sorted(distances, reverse=True) and distances[-1] < 0.5 * distances[0]


def test_a_rounded_prompt_consists_of_rows(run, toy_words):
    soft = run("rounded", steps=10)
    assert to_nearest_row(soft.embeddings, toy_words).max() < 1e-6
    torch.testing.assert_close(soft.embeddings, toy_words.rows[soft.weights.argmax(-1)])


@pytest.mark.parametrize("kind", KINDS)
def test_every_position_run_is_counted(run, kind):
    meter = Meter()
    run(kind, meter, steps=5)
    assert meter.backward_tokens == 5 * POSITIONS
    assert meter.forward_tokens == 6 * POSITIONS  # the result is scored once more
    assert [step.stage for step in meter.trace] == ["soft"] * 5


def test_a_spent_budget_stops_the_descent_after_the_step_it_is_spent_in(run):
    meter = Meter(max_token_passes=3 * POSITIONS)  # a step runs forward and backward
    run("mixture", meter, steps=50)
    assert len(meter.trace) == 2


def test_spent_seconds_stop_it_as_well(run):
    meter = Meter(max_seconds=1e-9)
    run("mixture", meter, steps=50)
    assert len(meter.trace) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_restarts_do_not_see_each_other(run, kind):
    together = run(kind, steps=8)
    for i, start in enumerate(START):
        alone = run(kind, start=start[None], steps=8)
        torch.testing.assert_close(alone.embeddings[0], together.embeddings[i], rtol=1e-5, atol=1e-7)


def test_the_models_table_and_the_start_are_left_as_they_were(run, toy_clip):
    table, start = toy_clip.token_embeddings.clone(), START.clone()
    run("free", steps=3)
    assert torch.equal(toy_clip.token_embeddings, table) and torch.equal(START, start)


def test_the_generators_seed_decides_the_start_and_nothing_else_does(toy_clip, toy_words, toy_target):
    def drawn(seed: int) -> Tensor:
        config = InvertConfig(tokens=4, restarts=2)
        generator = torch.Generator().manual_seed(seed)
        problem = Problem(toy_clip, toy_target, toy_words, config, generator, Meter())
        return soft_prompts(problem, SoftConfig(steps=4)).embeddings

    first = drawn(3)
    torch.manual_seed(99)  # the global state is of no account
    assert torch.equal(first, drawn(3)) and not torch.equal(first, drawn(4))
    assert first.shape == (2, 4, 16)


def test_an_unknown_parameterisation_is_named(run):
    with pytest.raises(ValueError, match="unknown parameterisation 'hard': one of free, mixture, rounded"):
        run("hard")
