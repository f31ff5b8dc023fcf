"""Scenes follow their seed, and the held-out ones never reach training."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from invert.picturebook.world import (
    ATLAS,
    COLORS,
    LAYOUTS,
    PATTERNS,
    STYLES,
    change_one,
    draw_scenes,
    held_out,
    objects,
)


def test_the_world_is_as_large_as_promised() -> None:
    assert len(objects()) >= 900 and len(COLORS) >= 12 and len(PATTERNS) >= 4 and len(STYLES) >= 6 and len(LAYOUTS) >= 6


def test_the_same_seed_gives_the_same_scenes_and_another_seed_others() -> None:
    assert draw_scenes(50, 3) == draw_scenes(50, 3)
    assert draw_scenes(50, 3) == draw_scenes(80, 3)[:50]
    assert draw_scenes(50, 3) != draw_scenes(50, 4)


def test_the_splits_share_no_pair_of_objects_and_no_combination() -> None:
    train, test = draw_scenes(4000, 0), draw_scenes(2000, 0, "held-out")
    assert not any(map(held_out, train)) and all(map(held_out, test))
    pairs = [{frozenset(s.objects) for s in scenes if len(s.objects) == 2} for scenes in (train, test)]
    assert not pairs[0] & pairs[1]


def test_a_scene_is_in_the_same_split_from_whatever_side_it_is_seen() -> None:
    from dataclasses import replace

    for scene in draw_scenes(300, 0, "held-out"):
        if len(scene.objects) == 2:
            assert held_out(replace(scene, objects=scene.objects[::-1], layout="above", style="neon", seed=1))
        assert held_out(replace(scene, seed=scene.seed + 1))


def test_every_attribute_is_drawn_in_both_splits() -> None:
    for split in ("train", "held-out"):
        scenes = draw_scenes(2000, 1, split)
        for field, values in (("layout", LAYOUTS), ("pattern", PATTERNS), ("style", STYLES)):
            assert {getattr(scene, field) for scene in scenes} == set(values)
        assert {tint for scene in scenes for tint in scene.tints} == {"", *COLORS}


@given(seed=st.integers(0, 10**6))
def test_scenes_are_consistent(seed: int) -> None:
    for scene in draw_scenes(3, seed):
        assert len(scene.objects) == len(scene.tints) == (2 if scene.layout in ("beside", "above") else 1)
        assert len(scene.colors) == (1 if scene.pattern == "plain" else 2)
        assert list(scene.colors) == sorted(scene.colors, key=list(COLORS).index)
        assert bool(scene.corner) == (scene.layout == "corner")
        assert all(not tint or objects()[i].tint for i, tint in zip(scene.objects, scene.tints, strict=True))
        assert scene.layout != "two" or objects()[scene.objects[0]].plural


@given(seed=st.integers(0, 10**6))
def test_a_near_miss_keeps_the_objects(seed: int) -> None:
    (scene,) = draw_scenes(1, seed)
    near = change_one(scene, random.Random(seed))
    assert set(near.objects) == set(scene.objects) and near.seed != scene.seed
    assert near.layout == scene.layout or len(near.objects) == len(scene.objects)


@pytest.mark.parametrize(
    ("package", "phrase"), [("fonts-noto-color-emoji", "SIL OPEN FONT LICENSE"), ("unicode-cldr-core", "UNICODE")]
)
def test_both_licences_lie_beside_the_sprites(package: str, phrase: str) -> None:
    text = (ATLAS.parent / "licences" / f"{package}.txt").read_text(encoding="utf8")
    assert phrase in text
