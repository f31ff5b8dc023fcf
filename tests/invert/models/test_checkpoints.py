"""ARCHITECTURE/checkpoint: read as its weights were trained, strictly, and from OpenAI's TorchScript too."""

from __future__ import annotations

import json
import logging
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from open_clip.model import CLIP, CustomTextCLIP
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from safetensors.torch import load_file, save_file

from invert.errors import InputError
from invert.models import open_clip_settings
from invert.models.clip import Clip
from invert.models.loading import load_clip
from invert.models.open_clip import checkpoint_in
from invert.models.open_clip_settings import known, of_checkpoint
from invert.models.torchscript import is_torchscript, tensors_of
from invert.models.turns import Turns
from invert.silence import no_warnings
from tests.invert.conftest import rough
from tests.invert.models.conftest import VISION

PROMPTS = ["a fox", "two owls on a branch"]
PICTURE = Image.effect_noise((64, 40), 90).convert("RGB")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., tuple[Any, Path]]:
    """Makes an architecture of open_clip's list small; gives a random model of it, and its checkpoint."""

    def make(architecture: str, **changes: Any) -> tuple[Any, Path]:
        config = open_clip.get_model_config(architecture) or {}
        config.update(embed_dim=16, vision_cfg=dict(VISION), **changes)
        config["text_cfg"].update(width=16, heads=2, layers=2)
        monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, architecture, config)
        torch.manual_seed(0)  # open_clip takes no generator
        settings = {key: value for key, value in config.items() if key != "custom_text"}
        model = rough((CustomTextCLIP if config.get("custom_text") else CLIP)(**settings))
        save_file(model.state_dict(), tmp_path / "weights.safetensors")
        return model, tmp_path / "weights.safetensors"

    return make


def refusal(name: str, turns: Turns | None = None) -> str:
    """The one sentence with which a checkpoint is refused."""
    with pytest.raises(InputError) as caught:
        load_clip(name, "cpu", turns=turns)
    message = str(caught.value)
    assert "\n" not in message and name in message
    return message


@torch.no_grad()
def assert_same(clip: Clip, model: Any, preprocess: Any) -> None:
    tokens = open_clip.get_tokenizer("ViT-B-32", context_length=clip.context_length)(PROMPTS)
    torch.testing.assert_close(clip.encode_text(PROMPTS), model.encode_text(tokens, normalize=True), atol=1e-5, rtol=0)
    theirs = model.encode_image(preprocess(PICTURE)[None], normalize=True)
    torch.testing.assert_close(clip.encode_image([PICTURE]), theirs, atol=1e-5, rtol=0)


# What a checkpoint does not say of itself --------------------------------------------------------


@pytest.mark.parametrize("architecture", ["PE-Core-B-16", "MobileCLIP-S1", "ViT-B-16-plus-240"])
def test_pictures_are_made_as_for_all_weights_known_for_the_architecture(small: Any, architecture: str) -> None:
    model, file = small(architecture)
    settings = next(iter(known(architecture).values()))
    fields = {key: settings[key] for key in ("mean", "std", "interpolation", "resize_mode")}
    right = image_transform_v2(PreprocessCfg(size=32, **fields), is_train=False)
    assert_same(load_clip(f"{architecture}/{file}", "cpu"), model, right)


@pytest.mark.parametrize("architecture", ["ViT-B-16-SigLIP2", "ViT-L-14-CLIPA", "MobileCLIP2-S4"])
def test_every_family_has_its_own_preprocessing(architecture: str, caplog: pytest.LogCaptureFixture) -> None:
    found = of_checkpoint("mine", architecture, Path("mine.pt"))
    for settings in known(architecture).values():
        assert found["image_mean"] == settings["mean"] and found["image_std"] == settings["std"]
        assert found["image_interpolation"] == settings["interpolation"]
        assert found["image_resize_mode"] == settings["resize_mode"] and not found["force_quick_gelu"]
    assert not caplog.records


def test_the_gelu_of_all_known_weights_is_taken_and_a_note_says_so(small: Any, caplog: pytest.LogCaptureFixture) -> None:
    model, file = small("ViT-L-14-336", quick_gelu=True)
    open_clip.factory._MODEL_CONFIGS["ViT-L-14-336"].pop("quick_gelu")
    clip = load_clip(f"ViT-L-14-336/{file}", "cpu")
    assert_same(clip, model, image_transform_v2(PreprocessCfg(size=32), is_train=False))
    assert "is read with OpenAI's QuickGELU, as all weights known for ViT-L-14-336" in caplog.text


def test_where_known_weights_differ_open_clips_default_stays_and_a_note_says_so(
    small: Any, caplog: pytest.LogCaptureFixture
) -> None:
    model, file = small("ViT-L-14")
    clip = load_clip(f"ViT-L-14/{file}", "cpu", "bfloat16")
    assert_same(clip.exact, model, image_transform_v2(PreprocessCfg(size=32), is_train=False))
    assert [record.levelno for record in caplog.records] == [logging.WARNING]  # once, though it was read twice
    assert "different settings (mean, std, quick_gelu)" in caplog.text
    assert "or give ViT-L-14-quickgelu for weights such as openai's" in caplog.text


def test_the_configuration_beside_a_checkpoint_wins(small: Any, caplog: pytest.LogCaptureFixture) -> None:
    model, file = small("ViT-L-14", quick_gelu=True)
    open_clip.factory._MODEL_CONFIGS["ViT-L-14"].pop("quick_gelu")
    given = {"mean": [0.1, 0.2, 0.3], "std": [0.5, 0.6, 0.7], "interpolation": "bilinear", "resize_mode": "squash"}
    saved = {"model_cfg": {"quick_gelu": True}, "preprocess_cfg": {"size": 224, **given}}
    file.with_name("open_clip_config.json").write_text(json.dumps(saved))
    right = image_transform_v2(PreprocessCfg(size=32, **given), is_train=False)
    for turns in (None, Turns()):
        assert_same(load_clip(f"ViT-L-14/{file}", "cpu", turns=turns), model, right)
    assert not caplog.records
    file.with_name("open_clip_config.json").write_text("{")
    assert "open_clip_config.json of the model" in refusal(f"ViT-L-14/{file}")


def test_every_architecture_has_settings() -> None:
    open_clip_settings._say_once.cache_clear()
    for architecture in open_clip.list_models():
        assert set(of_checkpoint("mine", architecture, Path("mine.pt"))) <= {
            *open_clip_settings.PREPROCESSING.values(),
            "force_quick_gelu",
        }


# Strictness --------------------------------------------------------------------------------------


@pytest.mark.parametrize("turns", [None, Turns()])
def test_weights_without_a_place_in_the_model_are_refused(small: Any, turns: Turns | None) -> None:
    _, file = small("ViT-B-32")
    state = load_file(file)
    deeper = {key.replace("resblocks.1", "resblocks.2"): tensor.clone() for key, tensor in state.items() if "resblocks.1" in key}
    save_file(state | deeper, file)
    message = refusal(f"ViT-B-32/{file}", turns)
    assert "of another architecture (transformer.resblocks.2." in message


def test_tensors_that_change_nothing_are_no_other_architecture(small: Any) -> None:
    model, file = small("ViT-B-32")
    more = {"logit_bias": torch.zeros(()), "text.position_ids": torch.arange(77)[None], "attn_mask": torch.zeros(77, 77)}
    save_file(model.state_dict() | more, file)
    clip = load_clip(f"ViT-B-32/{file}", "cpu")
    assert_same(clip, model, image_transform_v2(PreprocessCfg(size=32), is_train=False))


# Files of other content --------------------------------------------------------------------------

CONTENTS: dict[str, Any] = {
    "list": [1, 2],
    "tensor": torch.ones(3),
    "integer keys": {1: torch.ones(2)},
    "state_dict of another kind": {"state_dict": [1]},
    "empty": {},
}


@pytest.mark.parametrize("turns", [None, Turns()])
@pytest.mark.parametrize("kind", CONTENTS)
def test_a_checkpoint_without_named_tensors_is_one_sentence(tmp_path: Path, kind: str, turns: Turns | None) -> None:
    torch.save(CONTENTS[kind], tmp_path / "mine.pt")
    assert "mine.pt of the model" in (message := refusal(f"ViT-B-32/{tmp_path}/mine.pt", turns))
    assert "holds no tensors by name" in message


@pytest.mark.parametrize("ending", ["safetensors", "pt"])
def test_a_file_that_is_cut_short_is_damaged_and_needs_no_other_format(small: Any, ending: str) -> None:
    model, file = small("ViT-B-32")
    cut = file.with_name(f"cut.{ending}")
    torch.save(model.state_dict(), file.with_name("whole.pt"))
    whole = file if ending == "safetensors" else file.with_name("whole.pt")
    cut.write_bytes(whole.read_bytes()[:100_000])
    message = refusal(f"ViT-B-32/{cut}", Turns())
    assert "damaged" in message and "download it again" in message and "safetensors:" not in message


def test_the_file_that_open_clip_prefers_is_read(tmp_path: Path) -> None:
    for name in ("a.safetensors", "model.safetensors", "open_clip_pytorch_model.safetensors"):
        (tmp_path / name).touch()
        assert checkpoint_in(tmp_path).name == name
        assert Path(open_clip.factory._find_checkpoint_in_dir(tmp_path)).name == name


# TorchScript -------------------------------------------------------------------------------------


class _Archived(torch.nn.Module):
    """A model as OpenAI's archives hold it, with the settings beside the weights."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        for name, part in (*model.named_children(), *model._parameters.items()):
            setattr(self, name, part)
        for name in ("input_resolution", "context_length", "vocab_size"):
            self.register_buffer(name, torch.tensor(32))
        self.sizes = [1, 2]

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.visual(pixels)


@pytest.fixture
def archive(small: Any, tmp_path: Path) -> tuple[Any, Path]:
    """A small model in OpenAI's format, half precision, and its file."""
    model, _ = small("ViT-L-14", quick_gelu=True)
    open_clip.factory._MODEL_CONFIGS["ViT-L-14"].pop("quick_gelu")
    model = model.half()
    with no_warnings():
        traced = torch.jit.trace(_Archived(model), torch.zeros(1, 3, 32, 32, dtype=torch.float16))
        torch.jit.save(traced, tmp_path / "ViT-L-14.pt")
    return model.float(), tmp_path / "ViT-L-14.pt"


@pytest.mark.parametrize("turns", [None, Turns()])
def test_openais_own_archive_is_read_with_openais_settings(
    archive: tuple[Any, Path], turns: Turns | None, caplog: pytest.LogCaptureFixture
) -> None:
    model, file = archive
    clip = load_clip(f"ViT-L-14/{file}", "cpu", turns=turns)
    assert_same(clip, model, image_transform_v2(PreprocessCfg(size=32), is_train=False))
    assert not caplog.records


def test_an_archives_tensors_are_those_that_torch_reads(archive: tuple[Any, Path]) -> None:
    model, file = archive
    assert is_torchscript(file)
    found = {name: read() for name, read in tensors_of(file).items()}
    assert found.keys() == model.state_dict().keys()
    assert all(torch.equal(found[name], value.half()) for name, value in model.state_dict().items())


def test_an_archive_that_names_anything_but_tensors_is_refused(archive: tuple[Any, Path], tmp_path: Path) -> None:
    _, file = archive
    ran = tmp_path / "ran"
    call = f"cposix\nsystem\n(Vtouch {ran}\ntR.".encode()
    with zipfile.ZipFile(file) as old, zipfile.ZipFile(tmp_path / "evil.pt", "w") as new:
        for name in old.namelist():
            new.writestr(name, call if name.endswith("/data.pkl") else old.read(name))
    assert "is damaged or cut short" in refusal(f"ViT-L-14/{tmp_path}/evil.pt", Turns())
    refusal(f"ViT-L-14/{tmp_path}/evil.pt")
    assert not ran.exists()
    assert not is_torchscript(tmp_path / "weights.safetensors")
