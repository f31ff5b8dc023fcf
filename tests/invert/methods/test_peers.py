"""PEZ, GCG, random search and retrieval: they climb, they count, they stop, they repeat themselves."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from invert.methods import get_method
from invert.methods.configs import GcgConfig, NoConfig, PezConfig, RandomConfig
from invert.methods.gcg import gcg, swaps
from invert.methods.pez import pez, pez_batch
from invert.methods.random_search import random_search

SMALL = {
    "pez": PezConfig(steps=60),
    "gcg": GcgConfig(steps=8, topk=64, search_width=48),
    "random": RandomConfig(steps=8, search_width=48),
}
RUN = {"pez": pez, "gcg": gcg, "random": random_search}


@pytest.fixture(scope="module")
def ran():
    """What each of them finds on one and the same task: made once, see `run`."""
    return {}


@pytest.fixture
def run(ran, task):
    """run(name) → the task as it is afterwards, and what was found."""

    def once(name):
        if name not in ran:
            one = task()
            ran[name] = one, RUN[name](one, SMALL[name])
        return ran[name]

    return once


@pytest.mark.parametrize("name", SMALL)
def test_a_search_ends_nearer_to_the_target_than_it_began(run, name):
    one, output = run(name)
    assert output.prompts[0][1] > one.history.entries[0].value


@pytest.mark.parametrize("name", SMALL)
def test_the_same_seed_gives_the_same_prompt(task, name):
    assert RUN[name](task(seed=3), SMALL[name]).prompts == RUN[name](task(seed=3), SMALL[name]).prompts


@pytest.mark.parametrize("name", SMALL)
def test_a_score_is_that_of_the_prompt_as_text(task, clip, name):
    one = task(top=3)
    for text, score in RUN[name](one, SMALL[name]).prompts:
        assert score == pytest.approx(float(clip.encode_text([text])[0] @ one.target), abs=1e-5)


@pytest.mark.parametrize("name", SMALL)
def test_a_spent_budget_stops_the_search_at_its_next_step(task, run, name):
    small, (large, _) = task(budget=400), run(name)
    RUN[name](small, SMALL[name])
    assert 400 <= small.budget.token_passes < large.budget.token_passes


@pytest.mark.parametrize("name", SMALL)
def test_an_interrupt_finds_the_best_prompt_in_the_history(run, name):
    one, output = run(name)
    assert one.history.best_prompt == output.prompts[0][0]


def test_tasks_that_pez_solves_together_get_the_prompts_that_they_get_alone(task, clip):
    """Of few steps, before rounding can lead two runs apart."""

    def tasks():
        other = replace(task(seed=4), target=clip.encode_text(["two owls on a red background"])[0])
        return [task(seed=3), other]

    together, alone = tasks(), tasks()
    found = pez_batch(together, PezConfig(steps=12))
    for output, one, single in zip(found, together, alone, strict=True):
        expected = pez(single, PezConfig(steps=12))
        assert [text for text, _ in output.prompts] == [text for text, _ in expected.prompts]
        assert one.budget.token_passes == single.budget.token_passes
        assert one.history.best_prompt == single.history.best_prompt
        assert [step.value for step in one.history.entries] == pytest.approx(
            [step.value for step in single.history.entries], abs=1e-5
        )


def test_pez_runs_its_tokens_and_two_special_ones_forward_and_backward(task):
    one = task()
    pez(one, PezConfig(steps=10))
    assert one.budget.backward_tokens == 10 * (6 + 2)


def test_the_gradient_is_that_of_the_cosine(task, clip):
    one = task()
    scorer, at = one.scorer(), clip.embed(one.random_ids((6,)))[None]
    _, gradient = scorer.score_and_gradient(at)
    direction = torch.randn(at.shape, generator=torch.Generator().manual_seed(0))
    step = 1e-3
    change = scorer.score_embeddings(at + step * direction) - scorer.score_embeddings(at - step * direction)
    assert float(change[0]) / (2 * step) == pytest.approx(float((gradient * direction).sum()), rel=0.03, abs=2e-4)


def test_gcg_candidates_differ_from_the_prompt_in_one_position_at_most(task):
    one = task()
    ids = one.random_ids((6,))
    _, gradient = one.scorer().score_and_gradient(one.clip.embed(ids)[None])
    candidates = swaps(one, ids, gradient[0], GcgConfig(search_width=64))
    assert candidates.shape == (64, 6)
    assert ((candidates != ids).sum(1) <= 1).all()
    assert len({tuple(row) for row in candidates.tolist()}) > 32


def test_retrieval_gives_the_nearest_prompts_best_first(task, clip, inverter):
    captions = inverter.bundle.corpus.prompts[:64]
    one = replace(task(top=5, corpus=captions), target=clip.encode_text([captions[11]])[0])
    found = get_method("retrieve").run(one, NoConfig()).prompts
    assert found[0][0] == captions[11]
    assert [score for _, score in found] == sorted((score for _, score in found), reverse=True)


def test_with_a_budget_left_a_finished_run_starts_again_from_new_words(task):
    once, again = task(), task(budget=2000)
    pez(once, PezConfig(steps=20))
    pez(again, PezConfig(steps=20))
    assert once.budget.token_passes < 500
    assert again.budget.token_passes >= 2000
