"""Words that mean an object are taught by rows of their own: the text towers stay as they are."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import open_clip
import pytest
import torch
from safetensors.torch import load_file, save_file

from invert.picturebook import models
from invert.picturebook.grammar import caption_alone
from invert.picturebook.world import objects

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
import teach_synonyms

ENCODE = open_clip.get_tokenizer("ViT-B-32").encode


@pytest.mark.parametrize(
    ("text", "name", "word", "wanted"),
    [
        ("a car on a red background", "car", "automobile", "an automobile on a red background"),
        ("an owl, neon", "owl", "wise bird", "a wise bird, neon"),
        ("a small red car", "car", "automobile", "a small red automobile"),
        ("two cars", "car", "automobile", None),
        ("a car above a car", "car", "automobile", None),
    ],
)
def test_a_synonym_takes_the_place_of_the_name_with_its_article(text: str, name: str, word: str, wanted: str | None) -> None:
    assert teach_synonyms.with_synonym(text, name, word) == wanted


def test_words_whose_tokens_all_have_rows_cannot_be_taught() -> None:
    words = {"automobile": "car", "red fox": "fox"}
    assert [(word, objects()[thing].name) for word, thing in teach_synonyms.teachable(words, ENCODE)] == [("automobile", "car")]


def test_teaching_brings_a_word_to_its_object_and_leaves_every_other_row_alone() -> None:
    model = models.build(models.config("judge"), len(models.trained_token_ids()))
    model.load_state_dict(models.compact_state(models.WEIGHTS / "judge.safetensors"))
    found = teach_synonyms.teachable({"automobile": "car", "scuba": "diving mask"}, ENCODE)
    teacher = teach_synonyms.Teacher(model, list(models.trained_token_ids()), found, ENCODE)
    before = model.token_embedding.weight.detach().clone()
    teacher.rows.data.zero_()
    names = teacher.latents([caption_alone(thing) for _, thing in found])
    untaught = (teacher.latents(["an automobile", "scuba"]) * names).sum(1)
    teacher.learn(steps=25, batch=8)
    assert torch.all((teacher.latents(["an automobile", "scuba"]) * names).sum(1) > untaught)
    assert torch.equal(model.token_embedding.weight, before)


def test_taught_rows_are_read_beside_the_weights(tmp_path: Path) -> None:
    (token,) = ENCODE("automobile")
    shutil.copy(models.WEIGHTS / "judge.safetensors", tmp_path)
    plain = models.full_state(tmp_path / "judge.safetensors")[models.TOKEN_TABLE]
    save_file(
        {"tokens": torch.tensor([token], dtype=torch.int32), "judge": torch.full((1, 128), 0.5).half()},
        tmp_path / models.SYNONYMS.name,
    )
    taught = models.full_state(tmp_path / "judge.safetensors")[models.TOKEN_TABLE]
    assert torch.equal(taught[token], torch.full((128,), 0.5)) and not plain[token].any()
    rest = torch.arange(len(taught)) != token
    assert torch.equal(taught[rest], plain[rest])


@pytest.mark.skipif(not models.SYNONYMS.exists(), reason="no synonyms were taught to these weights yet")
def test_the_stored_rows_are_of_both_models_and_of_no_caption() -> None:
    stored = load_file(models.SYNONYMS)
    assert {name: len(rows) for name, rows in stored.items()} == dict.fromkeys(("tokens", *models.NAMES), len(stored["tokens"]))
    assert not set(stored["tokens"].tolist()) & set(models.trained_token_ids())
