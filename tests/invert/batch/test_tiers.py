"""The two tiers give what the methods give one picture at a time, and one bad picture costs itself alone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from invert.batch.tiers import ENCODED, MIXED, Found, TierPlan, Tiers, found_by, rounded
from invert.config import InvertConfig
from invert.errors import InputError

RETRIEVING = InvertConfig(method="retrieve", top=3)


def tiers_of(inverter, pictures, *arguments, **more):
    tiers = Tiers(inverter, *arguments, **more)
    return tiers, tiers([tiers.prepare(picture) for picture in pictures])


@pytest.mark.parametrize("options", [{}, {"target": "empty"}, {"ban": ("fox", "white")}])
def test_retrieval_in_a_batch_is_the_method_retrieve_of_each_picture(inverter, pictures, options):
    config = replace(RETRIEVING, **options)
    _, found = tiers_of(inverter, pictures[:2], config)
    for one, picture in zip(found, pictures[:2], strict=True):
        alone = inverter.invert(picture, config)
        assert [prompt for prompt, _ in one.alternatives] == [prompt for prompt, _ in alone.alternatives]
        assert one.prompt == alone.prompt and one.score == pytest.approx(alone.score, abs=1e-5)
        assert (one.tier, one.method, one.token_passes) == (1, "retrieve", 0)


def test_a_negative_is_taken_off_every_picture(inverter, pictures):
    _, found = tiers_of(inverter, pictures, RETRIEVING, negative="a fox")
    assert [one.prompt for one in found] == [inverter.invert(p, RETRIEVING, negative="a fox").prompt for p in pictures]


def test_a_search_gives_what_the_picture_alone_gives(inverter, pictures):
    config = InvertConfig(method="random", budget=2000, seed=3)
    tiers, found = tiers_of(inverter, pictures[:2], config)
    assert found == [found_by(inverter.invert(picture, config)) for picture in pictures[:2]] and tiers.batch == 1
    assert {one.tier for one in found} == {2} and all(one.token_passes > 0 for one in found)


def test_those_that_retrieval_serves_badly_are_searched(inverter, pictures):
    config = InvertConfig(method="random", budget=1000)
    _, retrieved = tiers_of(inverter, pictures, RETRIEVING)
    limit = sorted(one.score for one in retrieved)[1]
    tiers, found = tiers_of(inverter, pictures, config, TierPlan(search_below=limit))
    assert [one.tier for one in found] == [2 if one.score < limit else 1 for one in retrieved] and tiers.batch == MIXED
    assert sum(one.tier == 2 for one in found) == 1


def test_a_share_is_counted_in_pictures_and_takes_the_worst():
    scores = [0.3, 0.1, 0.2, 0.1, 0.5]
    assert TierPlan(search_share=0.4).searched(scores) == [1, 3]
    assert TierPlan(search_share=0.5).searched(scores) == [1, 2, 3]
    assert TierPlan(search_share=0).searched(scores) == []
    assert TierPlan(search_below=0.25, search_share=0.1).searched(scores) == [1, 2, 3]
    assert TierPlan(search_below=0.1).searched(scores) == [] == TierPlan(search_share=1).searched([])


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: TierPlan(search_share=1.5), "`search_share`"),
        (lambda: TierPlan(search_below=float("nan")), "`search_below`"),
        (lambda: TierPlan(search_below=0.1).check(RETRIEVING), "choose another one"),
        (lambda: TierPlan(search_below=0.1).check(InvertConfig(must_include=("fox",))), "`must_include`"),
        (lambda: TierPlan().check(InvertConfig(method="pez", corpus=("a",))), "`corpus`"),
    ],
)
def test_tiers_that_make_no_sense_are_refused(make, named):
    with pytest.raises(InputError, match=named):
        make()


def test_a_picture_that_fails_costs_itself_alone(inverter, pictures):
    tiers = Tiers(inverter, RETRIEVING)
    prepared = [tiers.prepare(picture) for picture in pictures]
    bad = prepared[0][0][:, :5]  # of another size than the others
    found = tiers([prepared[0], (bad, None), prepared[1]])
    assert [type(one) for one in found][::2] == [Found, Found] and isinstance(found[1], Exception)
    assert tiers.batch == ENCODED


def test_retrieval_keeps_no_picture_and_scores_are_rounded_for_output(inverter, pictures):
    tiers, found = tiers_of(inverter, pictures[:1], RETRIEVING)
    assert tiers.prepare(pictures[0])[1] is None
    short = rounded(found[0])
    assert short.score == round(found[0].score, 6) == short.alternatives[0][1] and short.prompt == found[0].prompt


def test_an_interrupted_search_is_no_result(inverter, found):
    with pytest.raises(KeyboardInterrupt):
        found_by(replace(found, interrupted=True))
