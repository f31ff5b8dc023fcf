"""Gradient descent on embeddings: it climbs, it lands on words, it counts, it stops, it repeats itself."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from invert.budget import Budget
from invert.bundle import ModelBundle
from invert.config import PARAMETERIZATIONS, InvertConfig, SoftConfig
from invert.errors import InputError
from invert.history import History
from invert.methods.soft_stage import soft_prompts
from invert.methods.task import InversionTask
from invert.models.clip import Clip
from invert.scorer import PromptScorer
from invert.soft import SoftPrompts, optimize
from invert.token_index import TokenIndex

START = torch.tensor([[0, 1, 2, 3], [10, 11, 12, 13], [30, 31, 32, 33]])  # 3 restarts of 4 tokens
POSITIONS = START.numel() + 2 * len(START)


@pytest.fixture
def index(toy_bundle: ModelBundle) -> TokenIndex:
    return toy_bundle.token_index


@pytest.fixture
def run(toy_clip: Clip, index: TokenIndex, toy_target: Tensor):
    """run(kind, budget=, history=, start=, **SoftConfig) on the toy model."""

    def soft(
        kind: str, budget: Budget | None = None, history: History | None = None, start: Tensor = START, **settings
    ) -> SoftPrompts:
        scorer = PromptScorer(toy_clip, toy_target, budget or Budget())
        return optimize(scorer, index, start, SoftConfig(parameterization=kind, **settings), history or History())

    return soft


def to_nearest_row(embeddings: Tensor, index: TokenIndex) -> Tensor:
    return torch.cdist(embeddings.flatten(0, 1), index.embeddings).amin(1)


@pytest.mark.parametrize("kind", PARAMETERIZATIONS)
def test_every_parameterization_ends_nearer_to_the_target_than_its_words_began(run, toy_clip, index, toy_target, kind):
    began = toy_clip.encode_embeddings(toy_clip.add_special_embeddings(index.embeddings[START])).float() @ toy_target
    ended = run(kind, steps=60).scores
    assert ended.mean() > began.mean() + 0.05 and ended.max() > began.max()


@pytest.mark.parametrize("kind", PARAMETERIZATIONS)
def test_the_scores_are_those_of_the_embeddings_handed_back(run, toy_clip, toy_target, kind):
    soft = run(kind, steps=5)
    latents = toy_clip.encode_embeddings(toy_clip.add_special_embeddings(soft.embeddings))
    torch.testing.assert_close(soft.scores, latents.float() @ toy_target)
    assert not soft.embeddings.requires_grad and not soft.scores.requires_grad


def test_the_continuous_kind_begins_at_the_words_rows_and_has_no_weights(run, index):
    soft = run("continuous", steps=0)
    assert torch.equal(soft.embeddings, index.embeddings[START]) and soft.weights is None


def test_a_mixture_is_a_convex_combination_of_rows(run, index):
    soft = run("mixture", steps=5)
    assert (soft.weights >= 0).all()
    torch.testing.assert_close(soft.weights.sum(-1), torch.ones(START.shape, dtype=soft.weights.dtype))
    torch.testing.assert_close(soft.embeddings, soft.weights @ index.embeddings)


def test_a_mixture_lands_on_rows_as_it_cools(run, index):
    ended = [run("mixture", steps=40, temperature_end=cold) for cold in (1.0, 0.1, 0.01)]
    heaviest = [float(soft.weights.amax(-1).mean()) for soft in ended]
    distances = [float(to_nearest_row(soft.embeddings, index).mean()) for soft in ended]
    assert heaviest == sorted(heaviest) and heaviest[-1] > 0.8
    assert distances == sorted(distances, reverse=True) and distances[-1] < 0.5 * distances[0]


def test_a_straight_through_prompt_consists_of_rows(run, index):
    soft = run("straight-through", steps=10)
    assert to_nearest_row(soft.embeddings, index).max() < 1e-6
    torch.testing.assert_close(soft.embeddings, index.embeddings[soft.weights.argmax(-1)])


@pytest.mark.parametrize("kind", PARAMETERIZATIONS)
def test_every_position_run_is_counted(run, kind):
    budget, history = Budget(), History()
    run(kind, budget, history, steps=5)
    assert budget.backward_tokens == 5 * POSITIONS
    assert budget.forward_tokens == 6 * POSITIONS  # the result is scored once more
    assert [(step.stage, step.metric) for step in history.entries] == [("soft", "cosine")] * 5


def test_a_spent_budget_stops_the_descent_after_the_step_it_is_spent_in(run):
    history = History()
    run("mixture", Budget(max_token_passes=3 * POSITIONS), history, steps=50)  # a step runs forward and backward
    assert len(history.entries) == 2


def test_spent_seconds_stop_it_as_well(run):
    history = History()
    run("mixture", Budget(max_seconds=1e-9), history, steps=50)
    assert len(history.entries) == 1


@pytest.mark.parametrize("kind", PARAMETERIZATIONS)
def test_restarts_do_not_see_each_other(run, kind):
    together = run(kind, steps=8)
    for i, start in enumerate(START):
        alone = run(kind, start=start[None], steps=8)
        torch.testing.assert_close(alone.embeddings[0], together.embeddings[i], rtol=1e-5, atol=1e-7)


def test_the_models_table_and_the_start_are_left_as_they_were(run, toy_clip):
    table, start = toy_clip.token_embeddings.clone(), START.clone()
    run("continuous", steps=3)
    assert torch.equal(toy_clip.token_embeddings, table) and torch.equal(START, start)


def test_the_rngs_seed_decides_the_start_and_nothing_else_does(toy_bundle, toy_target):
    def drawn(seed: int) -> Tensor:
        config, rng = InvertConfig(tokens=4, restarts=2), torch.Generator().manual_seed(seed)
        task = InversionTask(toy_bundle, toy_target, config, rng, Budget(), History())
        return soft_prompts(task, SoftConfig(steps=4)).embeddings

    first = drawn(3)
    torch.manual_seed(99)  # the global state is of no account
    assert torch.equal(first, drawn(3)) and not torch.equal(first, drawn(4))
    assert first.shape == (2, 4, 16)


def test_an_unknown_parameterization_is_named(run):
    with pytest.raises(InputError, match="unknown `parameterization` 'hard': choose one of continuous, mixture, str"):
        run("hard")
