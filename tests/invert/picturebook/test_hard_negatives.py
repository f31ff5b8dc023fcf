"""Groups of hard negatives: near one another, all different, and never of the held-out split."""

from __future__ import annotations

import random
from dataclasses import replace

import torch

from invert.picturebook.grammar import caption
from invert.picturebook.hard_negatives import N_SIMILAR, hard_negative, hard_negative_group, portraits, similar_objects
from invert.picturebook.world import draw_scenes, held_out, objects

SIMILAR = [[(i + k) % len(objects()) for k in range(1, N_SIMILAR + 1)] for i in range(len(objects()))]


def test_a_group_is_of_the_training_split_and_no_two_captions_are_the_same():
    for seed in range(10):
        members = hard_negative_group(random.Random(seed), SIMILAR, 8)
        assert not any(map(held_out, members))
        assert len({caption(scene) for scene in members}) == len(members) == 8


def test_every_hard_negative_shares_most_of_the_first_scene():
    fields = ("objects", "tints", "layout", "pattern", "colors", "style")
    for seed in range(10):
        first, *others = hard_negative_group(random.Random(seed), SIMILAR, 8)
        for other in others:
            assert sum(getattr(first, name) == getattr(other, name) for name in fields) >= 3


def test_the_same_seed_gives_the_same_group():
    assert hard_negative_group(random.Random(3), SIMILAR, 8) == hard_negative_group(random.Random(3), SIMILAR, 8)


def test_similar_objects_are_the_nearest_others():
    angles = torch.arange(40) * 0.02
    similar = similar_objects(torch.stack([angles.cos(), angles.sin()], 1) * 3)
    assert set(similar[0]) == set(range(1, N_SIMILAR + 1))
    assert all(i not in near and len(near) == N_SIMILAR for i, near in enumerate(similar))


def test_portraits_show_every_object_alone():
    assert [scene.objects for scene in portraits()] == [(i,) for i in range(len(objects()))]


def test_tints_alone_change_where_they_are_asked_for():
    rng = random.Random(0)
    scenes = draw_scenes(40, 0)
    others = [hard_negative(scene, rng, SIMILAR, 1.0, tint_changes=1.0) for scene in scenes]
    assert all(replace(other, tints=one.tints, seed=one.seed) == one for one, other in zip(scenes, others, strict=True))
    assert sum(one.tints != other.tints for one, other in zip(scenes, others, strict=True)) > 10
