"""The seed's questions: the measuring parts of the experiments on inputs whose answer is known."""

from __future__ import annotations

from functools import partial

import pytest
import torch
import torch.nn.functional as F

from experiments import layers, soup, words
from experiments.compare_budget import with_budget
from experiments.empty_prompt import ranked
from experiments.harness.records import MethodEntry
from invert.models.loading import load_clip
from invert.picturebook.grammar import lexicon
from invert.project import Projection

KNOWN = set(lexicon())


@pytest.fixture(scope="module")
def clip():
    return load_clip(device="cpu")


def test_token_rows_themselves_are_always_found_again(clip):
    generator = torch.Generator().manual_seed(0)
    ids = layers.prompts(clip, 4, generator)
    found = layers.recovered(clip, ids, partial(clip.tower.hidden, layer=0), 60, generator)
    assert found["accuracy"] == 1
    assert found["relative_error"] < 0.05


def test_a_deeper_state_gives_more_than_the_latent_alone(clip):
    ids = layers.prompts(clip, 4, torch.Generator().manual_seed(0))
    states = (partial(clip.tower.hidden, layer=1), clip.tower.encode)
    deep, latent = (layers.recovered(clip, ids, state, 30, torch.Generator().manual_seed(0)) for state in states)
    assert deep["accuracy"] > latent["accuracy"]


@pytest.mark.parametrize(
    ("prompt", "kinds"),
    [
        ("a fox above a red umbrella on a striped blue and white background", set()),
        ("a fox, two owls, a neon picture", set()),
        ("fox <|endoftext|> <|endoftext|>", {"special token"}),
        ("fox <end_of_text>", {"special token"}),
        ("fox !!! owl", {"other than letters"}),
        ("fox fox owl", {"repeat"}),
        ("fox owl fox red fox", {"repeat"}),
        ("a fox to the left of a owl on a red background", set()),
        ("foxumbre owl", {"torn word"}),
    ],
)
def test_nonsense_is_told_by_its_kind(prompt, kinds):
    assert soup.nonsense(prompt, KNOWN) == kinds


def test_the_whole_table_holds_special_and_untrained_rows(clip):
    table = soup.whole_table(clip)
    assert len(table.embeddings) == len(clip.token_embeddings)
    assert clip.frame.pad in table.token_ids.tolist()


def test_shares_count_combinations_and_what_has_no_word():
    found = [
        Projection((1,), 0.2, True),
        Projection((1, 2), 0.3, True),
        Projection((3,), 2.0, False),
        Projection((4,), 0.1, True),
    ]
    shares = words.shares(torch.tensor([0.2, 0.9, 2.0, 0.1]), found, limit=0.5)
    assert shares["combination_is_nearer"] == 0.25
    assert shares["no_single_word"] == 0.5
    assert shares["no_word_nor_combination"] == 0.25


def test_a_target_on_its_caption_ranks_first_and_a_shuffled_one_does_not():
    texts = F.normalize(torch.randn(50, 16, generator=torch.Generator().manual_seed(0)), dim=1)
    assert ranked(texts, texts)["true_caption_first"] == 1
    assert ranked(texts, texts)["distance_of_the_clouds"] == 0
    assert ranked(texts.roll(1, 0), texts)["true_caption_first"] == 0


def test_a_budget_is_scaled_and_every_other_option_kept():
    scaled = with_budget(MethodEntry("pez", "pez", {"budget": 7, "tokens": 8}), 0.1)
    assert scaled.name == "pez × 0.1"
    assert scaled.options == {"budget": 7_000, "tokens": 8}
