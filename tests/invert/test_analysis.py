"""An analysis: the phrases of each category that a picture is nearest to, by their cosines."""

from __future__ import annotations

import json
import logging
from dataclasses import replace

import pytest
import torch

from invert.analysis import known_phrases, rank_phrases
from invert.bundle import load_bundle
from invert.corpus import EncodedCorpus
from invert.english.tables import phrases
from invert.errors import InputError
from invert.inverter import Inverter
from invert.latents import LatentTable
from invert.picturebook.world import draw_scenes, objects
from invert.target import image_latent


@pytest.fixture(autouse=True)
def no_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("INVERT_CACHE", str(tmp_path))


def test_picturebooks_categories_are_those_of_its_world_and_say_what_is_there(inverter, pictures):
    scene, found = draw_scenes(3, 7, "held-out")[0], inverter.analyze(pictures[0]).categories
    assert list(found) == ["objects", "colors", "patterns", "backgrounds", "styles", "positions"]
    assert all(best == sorted(best, key=lambda pair: -pair[1]) for best in found.values())
    assert [len(best) for best in found.values()] == [5, 5, 3, 5, 5, 5]
    named = " ".join(phrase for phrase, _ in found["objects"])
    assert any(objects()[i].name in named for i in scene.objects)
    assert found["patterns"][0][0] == scene.pattern and found["colors"][0][0] in (*scene.colors, *scene.tints)


def test_a_score_is_the_cosine_of_phrase_and_target(inverter, pictures):
    latent = image_latent(inverter.clip, [pictures[0]])
    phrase, score = inverter.analyze(pictures[0], 1).categories["objects"][0]
    assert score == pytest.approx(inverter.score(phrase, latent), abs=2e-4)  # phrases are kept in half precision
    both = inverter.analyze(pictures[:2], 1).categories["objects"][0]
    assert both[1] == pytest.approx(inverter.score(both[0], image_latent(inverter.clip, pictures[:2])), abs=2e-4)


def test_target_and_negative_count(inverter, pictures):
    plain, away = inverter.analyze(pictures[0]), inverter.analyze(pictures[0], negative="on an orange background")
    assert plain != away and away != inverter.analyze(pictures[0], negative="on an orange background", negative_weight=0.1)
    assert plain != inverter.analyze(pictures[0], target="empty")


def test_phrases_of_ones_own_join_a_category_or_make_one(inverter, pictures):
    found = inverter.analyze(
        pictures[0], 2, phrases={"pets": ["a fox", " a fox ", "an owl", "a cat"], "colors": ["red", "jeans"]}
    )
    assert list(found.categories)[-1] == "pets" and len(found.categories["pets"]) == 2
    assert found.categories["colors"][0][0] in ("orange", "jeans") and "jeans" in dict(found.categories["colors"])
    assert inverter.analyze(pictures[0], 2, phrases={"pets": ["a cat"]}).categories["pets"][0][0] == "a cat"
    assert "pets" not in inverter.analyze(pictures[0], 2).categories


def test_words_that_the_model_never_met_are_left_out_and_told(inverter, pictures, caplog):
    with caplog.at_level(logging.WARNING):
        found = inverter.analyze(pictures[0], phrases={"pets": ["a fox", "a zzqx"], "none": ["zzqx"]}).categories
    assert [phrase for phrase, _ in found["pets"]] == ["a fox"] and "none" not in found
    assert [record.getMessage()[:25] for record in caplog.records] == ["1 of the 2 phrases of 'pe", "1 of the 1 phrases of 'no"]


def test_other_bundles_have_the_english_tables_of_known_words(picturebook, picturebook_bundle, toy_bundle):
    every = known_phrases(toy_bundle)  # its tokenizer reads everything, and nothing is known of its training
    assert all(set(every[category]) >= set(table) for category, table in phrases().items())
    known = known_phrases(load_bundle(picturebook, "generic"))
    assert known.keys() == phrases().keys() and "red" in known["colors"]
    assert all(0 < len(known[category]) < len(table) for category, table in every.items())
    trained = picturebook.token_embeddings.any(1)
    ids = {token for table in known.values() for phrase in table for token in picturebook.tokenizer.encode(phrase)}
    assert bool(trained[torch.tensor(sorted(ids))].all())


def test_a_phrase_of_two_tables_counts_once():
    first = {
        "a": EncodedCorpus(("x", "y"), LatentTable.of(torch.eye(2))),
        "b": EncodedCorpus(("x",), LatentTable.of(torch.eye(2)[:1])),
    }
    second = {"b": EncodedCorpus(("x", "z"), LatentTable.of(torch.tensor([[1.0, 0.0], [0.6, 0.8]])))}
    found = rank_phrases([first, second], torch.tensor([0.0, 1.0]), 2)
    assert found == {"a": [("y", 1.0), ("x", 0.0)], "b": [("z", pytest.approx(0.8)), ("x", 0.0)]}


def test_tables_are_encoded_once(picturebook_bundle, pictures, monkeypatch):
    bundle = replace(picturebook_bundle, phrases={"colors": ("red", "orange")})
    inverter, calls = Inverter(bundle), []
    monkeypatch.setattr("invert.analysis.encode_prompts", lambda clip, prompts: calls.append(prompts) or encode(clip, prompts))
    for _ in range(2):
        inverter.analyze(pictures[0], phrases={"pets": ["a fox"]})
    assert calls == [("red", "orange"), ("a fox",)]


def encode(clip, prompts):
    return list(range(len(prompts))), LatentTable.of(clip.encode_text(prompts))


def test_json_holds_every_phrase(inverter, pictures):
    analysis = inverter.analyze(pictures[0], 1)
    found = json.loads(json.dumps(analysis.to_json()))
    assert found["model"] == "picturebook"
    assert found["analysis"] == {
        category: [{"phrase": phrase, "score": score} for phrase, score in best] for category, best in analysis.categories.items()
    }


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"top": 0}, "`top` is 0"),
        ({"phrases": {"pets": []}}, "category 'pets' of `phrases` is empty"),
        ({"phrases": {"pets": "a fox"}}, "give a list of phrases"),
        ({"target": "middle"}, "unknown `target`"),
    ],
)
def test_bad_input_is_one_sentence(inverter, pictures, options, sentence):
    with pytest.raises(InputError, match=sentence):
        inverter.analyze(pictures[0], **options)


def test_no_image_is_one_sentence(inverter):
    with pytest.raises(InputError, match="there is no image"):
        inverter.analyze([])
