"""CLIP Interrogator, the package itself and our own writing of its method."""

from __future__ import annotations

import builtins
from collections.abc import Callable
from dataclasses import fields, replace
from functools import cache

import pytest
import torch
from open_clip import get_tokenizer

from invert.bundle import load_bundle
from invert.corpus import Corpus
from invert.errors import InputError
from invert.inverter import Inverter
from invert.methods import interrogator, labels
from invert.methods.interrogator_lite import tables
from invert.methods.labels import LabelTables
from invert.picturebook import models
from invert.picturebook.bundle import CORPUS_SEED, captions
from invert.picturebook.bundle import labels as picturebook_labels
from invert.picturebook.grammar import content_words, lexicon
from invert.result import Result
from invert.target import image_latent

MODES = ("fast", "classic", "best", "negative")


def few_labels() -> LabelTables:
    """A seventieth of the world, so that a chain takes a second and not a minute."""
    whole = picturebook_labels()
    return replace(whole, flavors=whole.flavors[::70], trendings=whole.trendings[::30])


@pytest.fixture(scope="module")
def small_world(inverter):
    """Both implementations over the few labels and a small corpus."""
    bundle = replace(inverter.bundle, labels=few_labels(), corpus=Corpus(captions(256, CORPUS_SEED)))
    return Inverter(bundle)


@pytest.fixture(scope="module")
def inverted(small_world, pictures) -> Callable[[int, str], Result]:
    """The result of a method on the n-th picture, found once."""
    return cache(lambda n, method: small_world.invert(pictures[n], method=method, target="raw"))


def name_of(mode: str, lite: bool) -> str:
    return "interrogator" + "-lite" * lite + ("" if mode == "best" else f"-{mode}")


@pytest.mark.parametrize("picture", [0, pytest.param(1, marks=pytest.mark.long)])
@pytest.mark.parametrize("mode", MODES)
def test_our_writing_of_the_method_gives_the_prompts_of_the_package(inverted, mode, picture):
    package, lite = (inverted(picture, name_of(mode, lite)) for lite in (False, True))
    assert lite.prompt == package.prompt
    assert lite.score == pytest.approx(package.score, abs=1e-5)


def test_a_corpus_of_the_users_is_where_its_caption_comes_from(small_world, pictures):
    own = ("two owls above a house", "a green umbrella")
    assert small_world.invert(pictures[0], method="interrogator-fast", corpus=own).prompt.startswith(own)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("each", [0, 1, 4])
def test_tables_of_fewer_phrases_than_a_chain_is_long_are_used_up(inverter, pictures, mode, each):
    whole = picturebook_labels()
    few = LabelTables(**{field.name: getattr(whole, field.name)[:each] for field in fields(LabelTables)})
    bundle = replace(inverter.bundle, labels=few, corpus=Corpus(("a fox", "two owls")))
    prompt = Inverter(bundle).invert(pictures[0], method=name_of(mode, lite=True)).prompt
    phrases = {phrase for field in fields(few) for phrase in getattr(few, field.name)} | {"a fox", "two owls"}
    assert prompt == prompt.strip() and (each == 0 or set(prompt.split(", ")) & phrases)
    assert len(prompt.split(", ")) == len(set(prompt.split(", ")))


def test_the_lite_method_runs_fewer_positions_than_the_package(inverted):
    package, lite = inverted(0, "interrogator"), inverted(0, "interrogator-lite")
    assert lite.forward_tokens * 5 < package.forward_tokens


def test_the_package_pays_for_all_77_positions_of_every_phrase(clip):
    model = interrogator.CountedClip(clip)
    model.encode_text(get_tokenizer("ViT-B-32")(["a fox", "two owls on a red background"]))
    assert model.budget.forward_tokens == 2 * 77


def test_the_package_sees_the_latents_of_the_real_open_clip_model(clip):
    tokens = get_tokenizer("ViT-B-32")(["a fox", "a blurry picture of two owls on a red background"])
    assert torch.allclose(interrogator.CountedClip(clip).encode_text(tokens), models.load("clip").encode_text(tokens), atol=1e-5)


def test_with_the_raw_target_the_package_sees_its_own_image_latent(clip, pictures):
    own = models.load("clip").encode_image(models.preprocess("clip")(pictures[0])[None])
    assert torch.allclose(torch.nn.functional.normalize(own[0], dim=0), image_latent(clip, pictures[:1]), atol=1e-5)


def test_the_labels_say_every_word_of_picturebook():
    said = {word for table in vars(picturebook_labels()).values() for phrase in table for word in phrase.split()}
    unsaid = set(lexicon()) - said - {"picture", "of", "under", "art", "and"}
    assert not unsaid


def test_where_there_is_no_time_for_a_phrase_the_caption_is_the_prompt(small_world, pictures):
    result = small_world.invert(pictures[0], method="interrogator", target="raw", stop=lambda: True)
    assert result.prompt in small_world.bundle.corpus.prompts


def test_a_spent_budget_ends_the_package_with_the_best_prompt_so_far(small_world, pictures):
    result = small_world.invert(pictures[0], method="interrogator", target="raw", budget=5000)
    assert content_words(result.prompt)
    assert result.forward_tokens < 5000 + 77 * (len(few_labels().flavors) * 3 + 50)


def test_a_text_has_no_image_to_interrogate(inverter):
    with pytest.raises(InputError, match="images only"):
        inverter.distill("a fox", method="interrogator")


def test_a_missing_package_is_told_with_the_command_that_installs_it(clip, pictures, monkeypatch):
    real = builtins.__import__

    def refuse(name, *rest, **options):
        if name == "clip_interrogator":
            raise ImportError(name)
        return real(name, *rest, **options)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(InputError, match=r"pip install 'prompt-inversion\[compare\]'"):
        Inverter(load_bundle(clip)).invert(pictures[0], method="interrogator")


def test_the_packages_own_lists_are_read_where_it_is_installed():
    lists = labels.package_labels()
    assert len(lists.flavors) > 10_000
    assert lists.artists[0].startswith("by ")
    assert "trending on Artstation" in lists.trendings


def test_interrogator_lites_phrases_are_encoded_once_a_model_and_kept(picturebook_bundle, tmp_path, monkeypatch):
    monkeypatch.setenv("INVERT_CACHE", str(tmp_path))
    labels = LabelTables(**{field.name: (f"a {field.name} fox", "an owl") for field in fields(LabelTables)})
    bundle = replace(picturebook_bundle, labels=labels)
    made = tables(bundle)["artists"].latents
    torch.testing.assert_close(made, bundle.clip.encode_text(labels.artists).float(), atol=5e-4, rtol=0)
    monkeypatch.setattr("invert.encoding.encode", lambda *_: pytest.fail("encoded again"))
    assert torch.equal(tables(replace(bundle))["artists"].latents, made)  # as another process begins
