"""PEZ, GCG, random search and retrieval: they climb, they count, they stop, they repeat themselves."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from invert import corpus
from invert.methods import METHODS, get_method
from invert.methods.gcg import GcgConfig, gcg, swaps
from invert.methods.pez import PezConfig, pez, pez_together, score_and_gradient
from invert.methods.random_search import RandomConfig, random_search
from invert.methods.tokens import random_ids, score_ids, score_text

SMALL = {"pez": PezConfig(steps=60), "gcg": GcgConfig(steps=8, top_k=64, width=48), "random": RandomConfig(steps=8, width=48)}
RUN = {"pez": pez, "gcg": gcg, "random": random_search}


@pytest.mark.parametrize("name", SMALL)
def test_a_search_ends_nearer_to_the_target_than_it_began(problem, name):
    task = problem()
    solution = RUN[name](task, SMALL[name])
    assert solution.prompts[0][1] > task.meter.trace[0].score


@pytest.mark.parametrize("name", SMALL)
def test_the_same_seed_gives_the_same_prompt(problem, name):
    assert RUN[name](problem(seed=3), SMALL[name]).prompts == RUN[name](problem(seed=3), SMALL[name]).prompts


@pytest.mark.parametrize("name", SMALL)
def test_a_score_is_that_of_the_prompt_as_text(problem, clip, name):
    task = problem(top=3)
    for text, score in RUN[name](task, SMALL[name]).prompts:
        assert score == pytest.approx(float(clip.encode_text([text])[0] @ task.target), abs=1e-5)


@pytest.mark.parametrize("name", SMALL)
def test_a_spent_budget_stops_the_search_at_its_next_step(problem, name):
    small, large = problem(budget=400), problem()
    RUN[name](small, SMALL[name])
    RUN[name](large, SMALL[name])
    assert 400 <= small.meter.token_passes < large.meter.token_passes


@pytest.mark.parametrize("name", SMALL)
def test_an_interrupt_finds_the_best_prompt_with_the_meter(problem, name):
    task = problem()
    solution = RUN[name](task, SMALL[name])
    assert task.meter.best_prompt == solution.prompts[0][0]


def test_problems_that_pez_solves_together_get_the_prompts_that_they_get_alone(problem, clip):
    """Of few steps, before rounding can lead two runs apart."""

    def problems():
        other = replace(problem(seed=4), target=clip.encode_text(["two owls on a red background"])[0])
        return [problem(seed=3), other]

    together, alone = problems(), problems()
    found = pez_together(together, PezConfig(steps=12))
    for solution, task, single in zip(found, together, alone, strict=True):
        expected = pez(single, PezConfig(steps=12))
        assert [text for text, _ in solution.prompts] == [text for text, _ in expected.prompts]
        assert task.meter.token_passes == single.meter.token_passes
        assert task.meter.best_prompt == single.meter.best_prompt
        assert [step.score for step in task.meter.trace] == pytest.approx([step.score for step in single.meter.trace], abs=1e-5)


def test_pez_runs_its_tokens_and_two_special_ones_forward_and_backward(problem):
    task = problem()
    pez(task, PezConfig(steps=10))
    assert task.meter.backward_tokens == 10 * (6 + 2)


def test_the_gradient_is_that_of_the_cosine(problem, clip):
    task = problem()
    at = clip.embed(random_ids(task, (6,)))
    _, gradient = score_and_gradient(task, at)
    direction = torch.randn(at.shape, generator=torch.Generator().manual_seed(0))
    step = 1e-3
    change = score_and_gradient(task, at + step * direction)[0] - score_and_gradient(task, at - step * direction)[0]
    assert change / (2 * step) == pytest.approx(-float((gradient * direction).sum()), rel=0.03, abs=2e-4)


def test_gcg_candidates_differ_from_the_prompt_in_one_position_at_most(problem):
    task = problem()
    ids = random_ids(task, (6,))
    _, gradient = score_and_gradient(task, task.clip.embed(ids))
    candidates = swaps(task, ids, gradient, GcgConfig(width=64))
    assert candidates.shape == (64, 6)
    assert ((candidates != ids).sum(1) <= 1).all()
    assert len({tuple(row) for row in candidates.tolist()}) > 32


def test_scores_by_ids_are_those_of_the_model(problem, clip):
    task = problem()
    text = "two owls on a red background"
    ids = torch.tensor([clip.tokenizer.encode(text)])
    assert float(score_ids(task, ids)[0]) == pytest.approx(score_text(task, text), abs=1e-6)
    assert math.isclose(score_text(task, text), float(clip.encode_text([text])[0] @ task.target), abs_tol=1e-5)


def test_retrieval_gives_the_nearest_captions_best_first(problem, clip, monkeypatch):
    captions = corpus.corpus_captions(clip)[:64]
    monkeypatch.setattr("invert.methods.retrieve.encoded_corpus", lambda clip: corpus.encoded_corpus(clip, captions))
    task = replace(problem(top=5), target=clip.encode_text([captions[11]])[0])
    found = get_method("retrieve")(task).prompts
    assert found[0][0] == captions[11]
    assert [score for _, score in found] == sorted((score for _, score in found), reverse=True)


def test_every_method_of_the_table_can_be_had_by_name():
    assert all(callable(get_method(name)) for name in METHODS)


def test_with_a_budget_left_a_finished_run_starts_again_from_new_words(problem):
    once, again = problem(), problem(budget=2000)
    pez(once, PezConfig(steps=20))
    pez(again, PezConfig(steps=20))
    assert once.meter.token_passes < 500
    assert again.meter.token_passes >= 2000
