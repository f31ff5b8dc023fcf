"""What belongs to a model comes in one bundle; what is exchanged in it leaves the rest as it was."""

from __future__ import annotations

import dataclasses
import shutil

import pytest
import torch
from PIL import Image
from transformers import CLIPModel

from invert.bundle import ModelBundle, generic_bundle, imagenet_phrases, load_bundle
from invert.errors import InputError
from invert.inverter import Inverter
from invert.lexicon import ENGLISH_FUNCTION_WORDS
from invert.models.loading import load_clip
from invert.picturebook import bundle as picturebook_world
from invert.picturebook.grammar import caption
from invert.picturebook.world import draw_scenes
from invert.prior.class_ngram import ClassNgramPrior
from invert.prior.uniform import UniformPrior
from invert.registry import BUNDLES
from tests.invert.conftest import saved_folder


@pytest.fixture(scope="module")
def generic(transformers_clip) -> ModelBundle:
    return generic_bundle(transformers_clip.clip)


def test_a_model_brings_the_bundle_of_its_name_and_any_other_the_generic_one(picturebook, transformers_clip):
    assert load_bundle(picturebook).name == "picturebook"
    assert load_bundle(transformers_clip.clip).name == "generic"
    assert load_bundle(picturebook, "generic").name == "generic"
    assert {"picturebook", "generic"} <= set(BUNDLES.names())


def test_an_unknown_bundle_is_one_sentence(picturebook):
    with pytest.raises(InputError, match=r"unknown bundle 'picturbook' \(did you mean 'picturebook'\?\): choose one of"):
        load_bundle(picturebook, "picturbook")


# The generic bundle -------------------------------------------------------------------------------


def test_the_generic_bundle_offers_whole_lower_case_words_of_one_token(generic):
    texts = {word.text for word in generic.lexicon.words}
    assert {"fox", "umbrella", "a", "above"} <= texts and len(texts) > 20_000
    assert all(text.isascii() and text.isalpha() and text.islower() for text in texts)
    assert all(len(word.ids) == 1 for word in generic.lexicon.words)
    special = {*generic.clip.frame.before, *generic.clip.frame.after}
    assert not special & set(generic.token_index.token_ids.tolist())


@pytest.mark.parametrize("library", ["transformers", "open_clip"])
def test_rows_that_only_fill_the_table_are_no_words(library, generic, transformers_clip, tmp_path, monkeypatch):
    """Tables are often filled up to a multiple of 64 rows."""
    monkeypatch.setenv("INVERT_CACHE", str(tmp_path / "cache"))
    if library == "transformers":
        folder = shutil.copytree(transformers_clip.name, tmp_path / "padded")
        model = CLIPModel.from_pretrained(folder)
        table = model.text_model.embeddings.token_embedding.weight.data
        more = torch.cat([table, torch.ones(64, table.shape[1])])
        model.text_model.embeddings.token_embedding = torch.nn.Embedding.from_pretrained(more)
        model.config.text_config.vocab_size = len(more)
        model.save_pretrained(folder)
    else:
        _, folder = saved_folder(tmp_path, width=16, heads=2, layers=1, quick_gelu=False, vocab=49408 + 64)
    bundle = generic_bundle(load_clip(str(folder), "cpu"))
    assert len(bundle.clip.token_embeddings) == 49408 + 64
    assert bundle.lexicon.words == generic.lexicon.words
    for method in ("random", "pez"):
        found = Inverter(bundle).invert(Image.new("RGB", (32, 32), "red"), method=method, budget=2000, restarts=1, tokens=3)
        assert found.prompt


def test_it_knows_nothing_of_picturebooks_grammar(generic):
    assert generic.lexicon.function_words == ENGLISH_FUNCTION_WORDS
    assert {"two", "left", "small", "large", "picture", "background"}.isdisjoint(ENGLISH_FUNCTION_WORDS)
    assert {"a", "the", "of", "and", "with", "under"} <= ENGLISH_FUNCTION_WORDS
    prompts = [generic.lexicon.segment(text) for text in ("a small dog", "a dog")]
    assert generic.lexicon.content(prompts[0]) != generic.lexicon.content(prompts[1])


def test_its_corpus_is_imagenets_and_teaches_no_prior(generic):
    assert 990 < len(imagenet_phrases()) <= 1000
    assert generic.corpus.prompts == imagenet_phrases() and not generic.corpus.teaches_prior
    assert isinstance(generic.prior, UniformPrior)
    assert isinstance(generic.with_(corpus=["a fox above a house"]).prior, ClassNgramPrior)


def test_it_has_no_generator_no_labels_no_gap_and_judges_itself(generic):
    assert generic.generator is None and generic.labels is None and generic.modality_gap is None
    assert generic.evaluator() is generic.clip


def test_tokens_that_were_never_trained_are_no_words(picturebook):
    words = generic_bundle(picturebook).lexicon.words
    assert "fox" in {word.text for word in words} and len(words) < 3_000
    assert picturebook.token_embeddings[[word.ids[0] for word in words]].any(1).all()


# picturebook's ------------------------------------------------------------------------------------


def test_picturebook_brings_its_judge_generator_labels_and_gap(picturebook_bundle):
    assert picturebook_bundle.generator == "picturebook"
    assert picturebook_bundle.evaluator() is picturebook_bundle.evaluator()
    assert picturebook_bundle.evaluator().name == "picturebook-judge"
    assert picturebook_bundle.labels is not None and "a fox" in picturebook_bundle.labels.flavors
    assert picturebook_bundle.modality_gap is not None and picturebook_bundle.modality_gap.norm() > 0.1


def test_its_corpus_holds_no_caption_of_a_held_out_scene(picturebook_bundle):
    prompts = picturebook_bundle.corpus.prompts
    assert len(prompts) > 4_000 and len(set(prompts)) == len(prompts)
    assert prompts == picturebook_world.captions(picturebook_world.CORPUS_SIZE, picturebook_world.CORPUS_SEED)
    assert {caption(scene) for scene in draw_scenes(500, 0, "held-out")}.isdisjoint(prompts)


def test_some_captions_of_its_corpus_say_nothing_of_a_ground():
    prompts = picturebook_world.captions(400, 3)
    bare = [prompt for prompt in prompts if "background" not in prompt]
    assert 0 < len(bare) <= len(prompts) / picturebook_world.GROUNDLESS_EVERY + 1
    assert all(f"{prompt} on " not in " ".join(prompts) for prompt in bare)  # each is a scene of its own


def test_the_judge_is_loaded_by_name_too(picturebook_bundle):
    judge = load_clip("picturebook-judge", device="cpu")
    assert torch.equal(judge.token_embeddings, picturebook_bundle.evaluator().token_embeddings)


# with_ --------------------------------------------------------------------------------------------


@pytest.fixture
def toy(toy_bundle) -> ModelBundle:
    """A bundle of this test's own, everything in it computed."""
    bundle = dataclasses.replace(toy_bundle)
    _ = bundle.token_index, bundle.prior
    return bundle


def test_a_corpus_of_ones_own_teaches_a_prior_and_leaves_the_index(toy):
    own = toy.with_(corpus=[" W1 w2 ", "", "w1 w2", "w3"])
    assert own.corpus.prompts == ("w1 w2", "w3") and own.corpus.teaches_prior
    assert isinstance(own.prior, ClassNgramPrior) and isinstance(toy.prior, UniformPrior)
    assert own.token_index is toy.token_index


def test_banned_words_leave_the_lexicon_the_index_and_the_prior(toy):
    banned = toy.with_(ban=["W3"])
    assert len(banned.lexicon) == 61 and 3 not in banned.token_index.token_ids.tolist()
    assert len(banned.prior.slot_log_probs((), 0, True)) == 61
    assert len(toy.lexicon) == 62


def test_the_gap_is_measured_on_the_images_that_are_given(inverter, pictures, picturebook):
    alone = dataclasses.replace(inverter.bundle, measure_gap=None)
    measured = alone.with_(gap_images=pictures)
    images = picturebook.encode_image(pictures).float().mean(0)
    assert alone.modality_gap is None and measured.modality_gap is not None
    assert abs(float((measured.modality_gap + images).norm()) - 1) < 0.5  # a mean of unit text latents


def test_nothing_exchanged_shares_everything(toy):
    same = toy.with_()
    assert same.prior is toy.prior and same.token_index is toy.token_index
    table = same.once("table", lambda: [1])
    assert toy.once("table", lambda: [2]) is table
    assert dataclasses.replace(toy).once("table", lambda: [3]) == [3]


def test_a_bundle_that_nobody_holds_is_forgotten(picturebook):
    """No module keeps a model alive."""
    import gc
    import weakref

    bundle = load_bundle(picturebook).with_(corpus=["a fox", "two owls"])
    _ = bundle.token_index, bundle.prior, bundle.encoded_corpus
    bundle.once("something", dict)
    gone = weakref.ref(bundle)
    del bundle
    gc.collect()
    assert gone() is None


def test_a_corpus_is_encoded_as_far_as_time_allows_and_kept_once_it_is_whole(picturebook_bundle, tmp_path, monkeypatch):
    monkeypatch.setenv("INVERT_CACHE", str(tmp_path))
    own = picturebook_bundle.with_(corpus=[f"a fox above {n} houses" for n in range(600)])
    part = own.corpus_within(lambda: True)
    assert 0 < len(part.prompts) < 600 and len(part.latents) == len(part.prompts)
    whole = own.corpus_within(lambda: False)
    assert len(whole.prompts) == 600 and own.encoded_corpus is whole is own.corpus_within(lambda: True)


def test_a_corpus_is_encoded_ahead_in_stages(picturebook_bundle, tmp_path, monkeypatch):
    monkeypatch.setenv("INVERT_CACHE", str(tmp_path))
    prompts = [f"a fox above {n} houses" for n in range(600)]
    own = picturebook_bundle.with_(corpus=prompts)
    assert own.encode(seconds=1e-9) == (256, 600) and len(own.corpus_within(lambda: False).prompts) == 256
    assert own.encode() == (600, 600) and own.encoded_corpus.prompts == own.corpus.prompts


def test_an_empty_corpus_is_nothing_to_start_from(toy):
    with pytest.raises(InputError, match="comes without prompts to start from: give a `corpus`"):
        _ = toy.encoded_corpus
