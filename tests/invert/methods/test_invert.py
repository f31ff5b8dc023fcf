"""Where our own method's search begins and which words it is given, on the bundled model."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torchvision.transforms.functional import to_pil_image

from invert.config import SearchConfig, SoftConfig
from invert.lexicon import text_of
from invert.methods import soft_stage
from invert.methods.configs import InvertMethodConfig
from invert.methods.invert import (
    NAT_PER_SPREAD,
    TOKEN_PER_SPREAD,
    content_words,
    different_templates_first,
    initial_prompts,
    objective_weights,
    retrieved_prompts,
    search_config,
)
from invert.picturebook.bundle import FUNCTION_WORDS
from invert.picturebook.render import render
from invert.picturebook.world import draw_scenes

N, STARTS = InvertMethodConfig.n_retrieved, InvertMethodConfig.n_starts


def template(prompt) -> tuple[str, ...]:
    return tuple(word.text for word in prompt if word.text in FUNCTION_WORDS)


def test_retrieved_prompts_are_the_corpus_nearest_and_hold_nothing_banned(task):
    one = task()
    retrieved = list(retrieved_prompts(one, N).values())
    nearest = one.bundle.encoded_corpus.nearest(one.target, N)
    assert [text_of(prompt) for prompt in retrieved] == [caption for caption, _ in nearest]
    color = retrieved[0][-2].text
    rest = list(retrieved_prompts(task(ban=(color,)), N).values())
    assert rest and not any(color in text_of(prompt).split() for prompt in rest)


def test_the_search_starts_from_prompts_of_different_templates(task):
    one = task(init_prompt="a fox", must_include=("umbrella",))
    retrieved = list(retrieved_prompts(one, N).values())
    begun = initial_prompts(one, different_templates_first(retrieved, one.bundle.lexicon)[:STARTS])
    captions = begun[1:-1]
    assert text_of(begun[0]) == "a fox" and text_of(begun[-1]) == "umbrella"
    assert captions[0] == retrieved[0] and len(captions) == STARTS
    built = list(dict.fromkeys(template(prompt) for prompt in retrieved))
    assert [template(prompt) for prompt in captions][: len(built)] == built[:STARTS]


def test_the_content_words_of_retrieved_prompts_say_what_is_there(task):
    one = task()
    retrieved = list(retrieved_prompts(one, N).values())
    words = [one.bundle.lexicon.words[i].text for i in content_words(retrieved, one.bundle)]
    said = {word.text for prompt in retrieved for word in prompt}
    assert len(set(words)) == len(words) and set(words) == {text for text in said if text not in FUNCTION_WORDS}


def test_a_short_limit_shortens_the_starts(task):
    one = task(max_tokens=3)
    starts = initial_prompts(one, list(retrieved_prompts(one, STARTS).values()))
    assert all(1 <= sum(len(word.ids) for word in prompt) <= 3 for prompt in starts)


def test_the_search_takes_the_runs_and_the_methods_settings(task):
    found = search_config(task(max_tokens=7, token_penalty=0.1, language_weight=0.2), InvertMethodConfig(beam=5, pairs=3))
    assert (found.max_tokens, found.token_penalty, found.language_weight) == (7, 0.1, 0.2)
    assert (found.beam, found.pairs, found.rounds) == (5, 3, InvertMethodConfig.rounds)


def test_language_and_length_weigh_as_the_models_cosines_spread_where_the_bundle_knows(task):
    usual = SearchConfig.token_penalty, SearchConfig.language_weight
    one = task()
    assert objective_weights(one) == usual
    spreads = replace(one, bundle=replace(one.bundle, spread=lambda target: 0.25 * float(target.norm())))
    assert objective_weights(spreads) == pytest.approx((0.25 * TOKEN_PER_SPREAD, 0.25 * NAT_PER_SPREAD))
    asked = replace(spreads, config=replace(one.config, language_weight=0.0))
    assert objective_weights(asked) == pytest.approx((0.25 * TOKEN_PER_SPREAD, 0.0))


def test_pictures_side_by_side_get_what_each_gets_alone(inverter, monkeypatch):
    monkeypatch.setattr("invert.inverter.MOST_TOGETHER", 2)
    pictures = [to_pil_image(picture) for picture in render(draw_scenes(3, seed=5), 64, torch.device("cpu"))]
    options = {"budget": 3_000, "soft_steps": 4, "restarts": 2, "seed": 3}
    beside = inverter.invert_batch(pictures, **options)
    for picture, found in zip(pictures, beside, strict=True):
        alone = inverter.invert(picture, **options)
        assert (found.prompt, found.score, found.alternatives) == (alone.prompt, alone.score, alone.alternatives)
        assert found.history == alone.history and torch.equal(found.soft, alone.soft)
        assert (found.forward_tokens, found.backward_tokens) == (alone.forward_tokens, alone.backward_tokens)


def test_soft_prompts_of_several_targets_in_one_step_are_those_of_each(task, monkeypatch):
    tasks = [[task(soft_steps=3, restarts=2, tokens=4, seed=seed) for seed in (1, 2, 3)] for _ in range(2)]
    alone = soft_stage.soft_prompts_together(tasks[0], SoftConfig(steps=3))
    monkeypatch.setitem(soft_stage.MOST_WEIGHTS, "cpu", 2 * 4 * 2 * len(tasks[1][0].bundle.token_index))  # of two pictures
    for one, other, own in zip(alone, soft_stage.soft_prompts_together(tasks[1], SoftConfig(steps=3)), tasks[1], strict=True):
        torch.testing.assert_close(other.embeddings, one.embeddings, rtol=1e-3, atol=1e-4)
        assert len(own.history.entries) == 3 and own.budget.backward_tokens == 3 * 2 * 6


def test_with_seconds_each_picture_has_its_own(inverter, monkeypatch):
    asked = []

    def invert(image, settings, negative):
        asked.append((image, settings.seconds))
        return SimpleNamespace(interrupted=False)

    monkeypatch.setattr(inverter, "invert", invert)
    inverter.invert_batch(["a.png", "b.png"], seconds=60.0)
    assert asked == [("a.png", 60.0), ("b.png", 60.0)]
