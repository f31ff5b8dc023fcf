"""What zero-shot classification brings to a search, on the bundled model and on pools made by hand."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torchvision.transforms.functional import to_pil_image

from invert.config import InvertConfig
from invert.errors import InputError
from invert.found import Pool, Scored
from invert.inverter import Inverter
from invert.lexicon import text_of
from invert.methods.configs import InvertMethodConfig
from invert.methods.invert import last_choice
from invert.picturebook.bundle import zero_shot_captions
from invert.picturebook.grammar import parse
from invert.picturebook.render import render
from invert.picturebook.world import objects
from invert.search import Search
from invert.zero_shot import Classes, ZeroShot, rerank


@pytest.fixture(scope="module")
def bundle(inverter):
    return inverter.bundle


@pytest.fixture(scope="module")
def classes(bundle) -> Classes:
    return bundle.zero_shot.classify(bundle.clip.encode_text(["a fox"])[0])


def pool_of(bundle, prompts: list[str], scores: list[float]) -> Pool:
    """A pool of prompts whose objectives are their scores."""
    pool = Pool(bundle.lexicon.table.copy())
    rows, _ = pool.table.number([bundle.lexicon.segment(prompt) for prompt in prompts])
    n = torch.arange(len(prompts))
    pool.add(Scored(rows, torch.tensor(scores), torch.tensor(scores, dtype=torch.float64), torch.zeros_like(n), n + 1, n + 1))
    return pool


def order(pool: Pool) -> list[str]:
    return [pool.text(i) for i in pool.best_first().tolist()]


# Classes ------------------------------------------------------------------------------------------


def test_every_word_of_the_world_that_names_an_object_has_the_caption_of_it_alone(bundle):
    captions = zero_shot_captions()
    words = {word.text for word in bundle.lexicon.words}
    names = {thing.name for thing in objects()} | {thing.plural for thing in objects() if thing.plural}
    assert set(captions) == names and names <= words
    assert captions["fox"] == captions["foxes"] == "a fox"
    assert captions["houses"] != captions["house"]  # a pictograph of its own, and the plural of another
    assert len(set(captions.values())) == len(objects())


def test_the_likeliest_classes_have_the_largest_cosines(bundle, classes):
    target = bundle.clip.encode_text(["a fox"])[0]
    ranked = classes.likeliest_first()
    exact = bundle.clip.encode_text(ranked).double() @ target.double()
    assert ranked[0] == "a fox" and sorted(ranked) == sorted(classes.captions)
    assert bool((exact[:-1] - exact[1:] > -2e-3).all())  # the latents are kept in float16


def test_a_pictures_object_is_the_likeliest_class(bundle):
    picture = to_pil_image(render([parse("a fox on a white background")], 64, torch.device("cpu"))[0])
    assert bundle.zero_shot.classify(bundle.clip.encode_image([picture])[0]).likeliest_first()[0] == "a fox"


def test_rows_have_the_mean_cosine_of_what_they_name(bundle, classes):
    prompts = ["a fox", "two foxes", "a fox above a red car on a white background", "a red background", "zeppelin fox"]
    pool = pool_of(bundle, prompts, [0.0] * len(prompts))
    cosine = dict(zip(classes.captions, classes.cosines.double().tolist(), strict=True))
    expected = [cosine["a fox"], cosine["a fox"], (cosine["a fox"] + cosine["a car"]) / 2, 0.0, cosine["a fox"]]
    found = classes.mean_of_rows(pool.found.rows, pool.table)
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("captions", [{}, None, ["fox"], {"fox": 3}, {3: "a fox"}])
def test_captions_that_name_nothing_are_refused(bundle, captions):
    with pytest.raises(InputError, match="captions"):
        ZeroShot(bundle.clip, captions)


@pytest.mark.parametrize(
    ("name", "value"),
    [("zero_shot", {"fox": "a fox"}), ("usual_cosine", 2.0), ("usual_cosine", float("nan")), ("usual_cosine", "a")],
)
def test_a_bundle_refuses_what_is_no_such_part(bundle, name, value):
    with pytest.raises(InputError, match=name):
        replace(bundle, **{name: value})


# The last choice ----------------------------------------------------------------------------------


def test_of_prompts_that_score_alike_the_one_that_names_what_is_there_is_chosen(bundle, classes):
    pool = pool_of(bundle, ["a red car", "a fox"], [0.60, 0.58])
    assert order(pool) == ["a red car", "a fox"]
    assert order(rerank(pool, classes, weight=1.0)) == ["a fox", "a red car"]
    assert order(rerank(pool, classes, weight=0.0)) == order(pool) == ["a red car", "a fox"]  # its own order stays


def test_tokens_have_to_earn_more_where_the_best_prompt_falls_short(bundle, classes):
    pool = pool_of(bundle, ["a fox on a red background", "a fox"], [0.50, 0.49])
    assert order(rerank(pool, classes, 0.0, 0.1, 0.55))[0] == "a fox"  # four tokens more for 0.005 each
    for slope, usual in ((0.1, 0.5), (0.1, None), (0.0, 0.55)):
        enough = rerank(pool, classes, 0.0, slope, usual)
        assert order(enough)[0] == "a fox on a red background"
        assert torch.equal(enough.found.objectives, pool.found.objectives)


def test_an_empty_pool_stays_empty(bundle, classes):
    assert len(rerank(Pool(bundle.lexicon.table.copy()), classes, 1.0, 0.1, 0.6)) == 0


def test_a_token_penalty_that_was_asked_for_stays_what_it_is(bundle, classes):
    pool = pool_of(bundle, ["a fox on a red background", "a fox"], [0.50, 0.49])
    chosen = {}
    for asked in (None, 0.0005):
        task = SimpleNamespace(bundle=replace(bundle, usual_cosine=0.6), config=InvertConfig(token_penalty=asked))
        chosen[asked] = order(last_choice(task, InvertMethodConfig(class_weight=0.0), classes, pool))[0]
    assert chosen == {None: "a fox", 0.0005: "a fox on a red background"}


@pytest.mark.parametrize("settings", [{}, {"class_weight": 0.0, "token_penalty_slope": 5.0}])
def test_what_is_told_last_is_the_result_and_lacks_nothing(inverter, pictures, settings):
    for options in (
        {"must_include": ("xylophone",), "budget": 1},
        {"budget": 2_000},
        {"must_include": ("star",), "budget": 2_000},
    ):
        told: list[str] = []
        result = inverter.invert(
            pictures[1],
            **options,
            soft_steps=0,
            method_config=InvertMethodConfig(**settings),
            on_best=lambda prompt, value: told.append(prompt),  # noqa: B023
        )
        assert told[-1] == result.prompt
        assert all(word in prompt for prompt in told for word in options.get("must_include", ()))


def test_a_search_begins_at_the_likeliest_classes_too_but_not_for_a_text(inverter, pictures, monkeypatch):
    begun: list[list[str]] = []
    steps = Search.steps

    def recorded(self, initial):
        begun.append([text_of(prompt) for prompt in initial])
        return steps(self, initial)

    monkeypatch.setattr(Search, "steps", recorded)
    found = inverter.bundle.zero_shot.classify(inverter.clip.encode_image(list(pictures[:1]))[0])
    settings = InvertMethodConfig(n_classes=3, rounds=1)
    inverter.invert(pictures[0], budget=500, method_config=settings)
    assert set(found.likeliest_first()[:3]) <= set(begun[0])
    inverter.invert(pictures[0], budget=500, ban=("fox",), method_config=replace(settings, n_classes=1000))
    assert not any("fox" in prompt.split() for prompt in begun[1])
    inverter.distill("a cat", budget=500, method_config=settings)
    Inverter(replace(inverter.bundle, zero_shot=None)).invert(pictures[0], budget=500, method_config=settings)
    assert len(begun[2]) < len(begun[0]) and begun[3] == [p for p in begun[0] if p not in found.likeliest_first()[:3]]
