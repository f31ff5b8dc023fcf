"""Whatever a caller hands over by mistake is answered by one sentence that names the parameter."""

from __future__ import annotations

import copy
import math
import pickle
import threading
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

from invert import (
    Budget,
    InputError,
    InvertConfig,
    Inverter,
    from_open_clip,
    from_transformers,
    load_bundle,
    load_clip,
    register,
)
from invert.config import SearchConfig, SoftConfig
from invert.corpus import Corpus, read_corpus
from invert.diffusion.generator import GenerateConfig, Generator
from invert.diffusion.options import DrawingOptions
from invert.given import described
from invert.methods import get_method
from invert.methods.configs import PezConfig
from invert.models.joint import check_weights
from invert.phrase_file import read_phrases

NO_VALUES = (None, object(), {}, [None], torch.zeros(3))
SURROGATE = "a fox \udcff"  # as os.listdir names a file whose bytes are no UTF-8


def refused(named: str, call, *given) -> None:
    """The call is refused in one line that begins with the parameter, or names it."""
    with pytest.raises(InputError) as error:
        call(*given)
    sentence = str(error.value)
    assert f"`{named}`" in sentence and "\n" not in sentence and len(sentence) < 300, sentence


@pytest.fixture(scope="module")
def picture() -> Image.Image:
    return Image.new("RGB", (32, 32), "teal")


@pytest.mark.parametrize("value", [None, 5, 2.5, object(), {"a": 1}, {1}], ids=described)
def test_what_is_no_picture(inverter, picture, value):
    refused("image", inverter.invert, value)
    refused("image", inverter.analyze, value)
    refused("image", inverter.rate, "a fox", value)
    refused("images", inverter.invert_batch, [value])
    refused("images", inverter.invert_joint, [picture, value])
    refused("image", inverter.analyze, [picture, value])
    if not isinstance(value, set):
        refused("images", inverter.invert_batch, value)
        refused("images", inverter.invert_joint, value)
    if value is not None:
        refused("negative", lambda: inverter.invert(picture, negative=value))
        refused("negative", lambda: inverter.analyze(picture, negative=value))
        refused("gap_images", lambda: inverter.bundle.with_(gap_images=[value]))
    refused("images", inverter.clip.encode_image, [value])


def test_no_picture_at_all(inverter):
    refused("gap_images", lambda: inverter.bundle.with_(gap_images=[]))
    refused("images", inverter.clip.encode_image, [])
    refused("images", inverter.clip.encode_image, torch.zeros(3))
    refused("prompts", inverter.clip.encode_text, [])


@pytest.mark.parametrize("value", [None, 5, b"x", ["a fox"], {}, SURROGATE], ids=described)
def test_what_is_no_prompt(inverter, picture, value):
    refused("prompt", inverter.distill, value)
    refused("prompt", inverter.score, value, torch.zeros(256))
    refused("prompt", inverter.rate, value, picture)
    refused("prompts", inverter.clip.encode_text, [value])
    refused("init_prompt", lambda: InvertConfig(init_prompt=value))


@pytest.mark.parametrize("value", [None, 5, "x", [1.0], torch.zeros(3)], ids=described)
def test_what_is_no_target(inverter, value):
    refused("target", inverter.score, "a fox", value)


@pytest.mark.parametrize("value", [5, "pez", {}, [], {"tokens": 4}, torch.zeros(3)], ids=described)
def test_what_is_no_config(inverter, picture, value):
    for call in (
        lambda: inverter.invert(picture, value),
        lambda: inverter.invert_batch([picture], value),
        lambda: inverter.invert_joint([picture], value),
        lambda: inverter.distill("a fox", value),
        lambda: inverter.analyze(picture, config=value),
        lambda: inverter.rate("a fox", picture, value),
        lambda: inverter.prepare(value),
        lambda: inverter.bundle_for(value),
    ):
        refused("config", call)


@pytest.mark.parametrize("name", ["on_best", "on_step", "stop"])
@pytest.mark.parametrize("value", [5, "print", threading.Event()], ids=described)
def test_what_is_no_function(inverter, picture, name, value):
    refused(name, lambda: inverter.invert(picture, **{name: value}))


@pytest.mark.parametrize(
    "phrases",
    [5, ["a fox"], "a fox", torch.zeros(3), {"a": None}, {"a": 5}, {"a": b"x"}, {"a": [None]}, {5: ["a"]}, {"a": [SURROGATE]}],
    ids=lambda value: str(value)[:20],
)
def test_what_are_no_phrases(inverter, picture, phrases):
    refused("phrases", lambda: inverter.analyze(picture, phrases=phrases))


@pytest.mark.parametrize("value", NO_VALUES, ids=described)
@pytest.mark.parametrize("name", ["tokens", "restarts", "max_tokens", "seed", "top", "language_share", "method", "target"])
def test_options_that_need_a_value(name, value):
    refused(name, lambda: InvertConfig(**{name: value}))
    refused("negative_weight", lambda: InvertConfig(negative_weight=value))


@pytest.mark.parametrize("value", [object(), "x", {}, [1, 2], torch.zeros(3), np.zeros(3)], ids=described)
@pytest.mark.parametrize("name", ["soft_steps", "budget", "seconds", "token_penalty", "language_weight"])
def test_options_that_are_numbers(name, value):
    assert getattr(InvertConfig(**{name: None}), name) is None
    refused(name, lambda: InvertConfig(**{name: value}))


@pytest.mark.parametrize("value", [5, 2.5, object(), b"x", [None], [SURROGATE], torch.zeros(3), np.array(1)], ids=described)
@pytest.mark.parametrize("name", ["corpus", "must_include", "ban"])
def test_lists_of_texts(inverter, name, value):
    refused(name, lambda: InvertConfig(**{name: value}))
    if name != "must_include":
        refused(name, lambda: inverter.bundle.with_(**{name: value}))


@pytest.mark.parametrize("value", [5, [], torch.zeros(3)], ids=described)
@pytest.mark.parametrize("name", ["generator", "caption", "caption_model", "language", "corpus_mode"])
def test_options_that_are_names(name, value):
    refused(name, lambda: InvertConfig(**{name: value}))


def test_settings_of_a_method():
    refused("steps", lambda: PezConfig(steps="many"))
    refused("steps", lambda: PezConfig(steps=2.5))
    refused("lr", lambda: PezConfig(lr=None))
    assert PezConfig(steps=np.int64(7)).steps == 7


@pytest.mark.parametrize(
    ("kind", "name", "values"),
    [
        (GenerateConfig, "steps", (None, "x", 0, 1.5, math.nan, math.inf, 10**400, -(10**6000), [1])),
        (GenerateConfig, "guidance", (None, "x", 0.5, math.nan, math.inf, torch.zeros(2))),
        (GenerateConfig, "negative", (None, 5, ["a fox"], SURROGATE)),
        (GenerateConfig, "size", (8, "8x8", (8,), (8, 0), (8, 10**5), (8, 8, 8), (8, None))),
        (DrawingOptions, "steps", ("x", 0, 1.5, math.nan, [1])),
        (DrawingOptions, "guidance", ("x", 0.5, math.nan, torch.zeros(2))),
        (DrawingOptions, "size", (8, (8, 8), b"8x8", "8")),
        (DrawingOptions, "generator_model", (5, b"x", " ")),
        (SoftConfig, "steps", (None, -1, 1.5)),
        (SoftConfig, "temperature_end", ("x", 0, math.nan)),
        (SearchConfig, "beam", (None, -1, 1.5, 10**30)),
        (SearchConfig, "token_penalty", ("x", math.nan, math.inf)),
        (PezConfig, "steps", (10**30,)),
        (Budget, "max_token_passes", ("x", -1, 1.5, math.nan)),
        (Budget, "max_seconds", ("x", -1, math.nan, math.inf)),
        (Budget, "stop", (5, "x")),
        (InvertConfig, "language_weight", (10**400,)),
        (InvertConfig, "tokens", (-(10**6000),)),
        (Corpus, "prompts", (None, 5, b"x")),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_every_config_names_the_parameter_that_it_refuses(kind, name, values):
    for value in values:
        refused(name, lambda value=value: kind(**{name: value}))


def test_configs_take_numbers_of_other_libraries_and_any_sign_that_makes_sense():
    assert GenerateConfig(steps=np.int64(3), size=[8, np.int64(9)]).size == (8, 9)
    assert SearchConfig(token_penalty=-1, language_weight=torch.tensor(-2.0)).language_weight == -2.0
    assert Corpus("a fox").prompts == Corpus(["a fox"]).prompts == ("a fox",)


def test_parts_of_a_bundle_and_of_a_method(inverter):
    for name in ("name", "clip", "lexicon", "corpus", "compose", "spread", "load_evaluator"):
        refused(name, lambda name=name: replace(inverter.bundle, **{name: 5}))
    method = get_method("pez")
    for name, value in (("name", 5), ("config_type", InvertConfig), ("run", None), ("options", {"corpsu"}), ("follows", {"x"})):
        refused(name, lambda name=name, value=value: replace(method, **{name: value}))


def test_an_option_that_there_is_not_names_the_nearest(inverter, picture):
    for call in (inverter.invert, inverter.analyze, inverter.invert_joint, inverter.invert_batch):
        given = picture if call == inverter.invert else [picture]
        with pytest.raises(TypeError, match=r"^there is no option `max_token`: did you mean `max_tokens`\?$"):
            call(given, max_token=3)
    with pytest.raises(TypeError, match=r"^there is no option `zzz`$"):
        inverter.distill("a fox", zzz=3)
    drawing = SimpleNamespace(config=GenerateConfig())
    with pytest.raises(TypeError, match=r"^there is no option `step`: did you mean `steps`\?$"):
        Generator.generate(drawing, ["a fox"], step=3)
    refused("config", Generator.generate, drawing, ["a fox"], (0,), 5)
    refused("seeds", Generator.generate, drawing, ["a fox"], 0)
    refused("seeds", Generator.generate, drawing, ["a fox"], ["x"])
    refused("prompts", Generator.generate, drawing, [None])


def test_numbers_and_folders_of_other_libraries_are_taken(tmp_path):
    config = InvertConfig(seconds=np.float32(2), token_penalty=torch.tensor(0.5), generator=tmp_path, caption=tmp_path)
    assert (config.seconds, config.token_penalty) == (2.0, 0.5) and type(config.seconds) is float
    assert config.generator == config.caption == str(tmp_path)
    assert type(InvertConfig(seconds=5).seconds) is int  # whole numbers stay whole: runs are known by their options


@pytest.mark.parametrize("value", [5, 2.5, [], {}, object()], ids=described)
def test_what_cannot_be_loaded(value):
    refused("model", Inverter.load, value)
    refused("name", load_clip, value)
    refused("bundle", lambda: Inverter.load(bundle=value))
    refused("clip", load_bundle, value)
    refused("bundle", Inverter, value)
    refused("method", register, value)
    refused("turns", lambda: load_clip(turns=value))
    refused("dtype", lambda: load_clip(dtype=value))
    refused("model_weights", check_weights, [1.0, object()], 2)
    if value != 5:
        refused("device", lambda: load_clip(device=value))
        refused("path", read_corpus, value)
        refused("path", read_phrases, value)


def test_models_of_other_kinds():
    for call in (
        lambda: from_open_clip("mine", None, open_clip.image_transform(32, is_train=False)),
        lambda: from_transformers("mine", None, None, None),
    ):
        with pytest.raises(InputError, match=r"the model 'mine' is of .*NoneType"):
            call()


def test_seconds_and_lengths(inverter):
    refused("seconds", inverter.bundle.encode, "x")
    refused("most", InvertConfig().within_context, None)
    refused("top", lambda: InvertConfig(top=None))


def test_a_bundles_own_prompts_may_hold_no_lone_surrogates_either(inverter, monkeypatch, tmp_path):
    monkeypatch.setenv("INVERT_CACHE", str(tmp_path))
    bundle = copy.copy(inverter.bundle.with_(corpus=["a fox"]))
    object.__setattr__(bundle, "corpus", Corpus((SURROGATE,)))
    refused("prompts", lambda: bundle.encoded_corpus)


def test_surrogates_in_the_name_of_a_picture_are_no_matter(inverter, tmp_path):
    Image.new("RGB", (32, 32), "teal").save(tmp_path / "\udcff.png")
    assert inverter.invert(tmp_path / "\udcff.png", method="retrieve", negative=str(tmp_path / "\udcff.png")[:-4] + ".png")


def test_values_are_shown_on_one_short_line():
    assert [described(value) for value in (None, 5, "x", "x" * 99, torch.zeros(9), object())] == [
        "None", "5", "'x'", "a str", "a Tensor", "an object",
    ]  # fmt: skip


def test_an_inverter_is_copied_and_not_pickled(inverter):
    for other in (copy.copy(inverter), copy.deepcopy(inverter)):
        assert other.bundle is inverter.bundle and other is not inverter
    for pickled in (inverter, inverter.invert, [inverter]):
        with pytest.raises(InputError, match=r"^an `Inverter` cannot be pickled: call `Inverter.load` once in each process"):
            pickle.dumps(pickled)


def test_its_parts_are_copied_and_not_pickled(inverter, toy_bundle):
    for part in (inverter.bundle, toy_bundle, inverter.clip, toy_bundle.clip):
        for other in (copy.copy(part), copy.deepcopy(part)):
            assert vars(other) == vars(part) and other is not part
    for part, sentence in (
        (inverter.bundle, r"^a `ModelBundle` cannot be pickled: call `load_bundle\(load_clip\(…\)\)` once in each process"),
        (inverter.clip, "^a `Clip` cannot be pickled: call `load_clip` once in each process"),
        ([toy_bundle.clip.encode_text], "^a `Clip` cannot"),
    ):
        with pytest.raises(InputError, match=sentence):
            pickle.dumps(part)
