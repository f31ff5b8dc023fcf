"""Families of scenes: near one another, all different, and never of the held-out split."""

from __future__ import annotations

import random

import torch

from invert.picturebook.families import LIKENESS, family, look_alikes, portraits
from invert.picturebook.grammar import caption
from invert.picturebook.world import held_out, objects

SIMILAR = [[(i + k) % len(objects()) for k in range(1, LIKENESS + 1)] for i in range(len(objects()))]


def test_a_family_is_of_the_training_split_and_no_two_captions_are_the_same():
    for seed in range(10):
        members = family(random.Random(seed), SIMILAR, 8)
        assert not any(map(held_out, members))
        assert len({caption(scene) for scene in members}) == len(members) == 8


def test_every_relative_shares_most_of_the_first_scene():
    fields = ("objects", "tints", "layout", "pattern", "colors", "style")
    for seed in range(10):
        first, *relatives = family(random.Random(seed), SIMILAR, 8)
        for other in relatives:
            assert sum(getattr(first, name) == getattr(other, name) for name in fields) >= 3


def test_the_same_seed_gives_the_same_family():
    assert family(random.Random(3), SIMILAR, 8) == family(random.Random(3), SIMILAR, 8)


def test_look_alikes_are_the_nearest_others():
    angles = torch.arange(40) * 0.02
    similar = look_alikes(torch.stack([angles.cos(), angles.sin()], 1) * 3)
    assert set(similar[0]) == set(range(1, LIKENESS + 1))
    assert all(i not in near and len(near) == LIKENESS for i, near in enumerate(similar))


def test_portraits_show_every_object_alone():
    assert [scene.objects for scene in portraits()] == [(i,) for i in range(len(objects()))]
