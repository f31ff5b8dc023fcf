"""A pipeline with missing or damaged weights is refused with a sentence, and one in half precision alone is read."""

from __future__ import annotations

import json
import shutil
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DiffusionPipeline
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

import invert.diffusion.roundtrip as roundtrip
from invert.diffusion.drawing import open_generator
from invert.diffusion.generator import Generator
from invert.diffusion.loading import variant_on_hub
from invert.diffusion.options import DrawingOptions
from invert.diffusion.roundtrip import RoundTrip
from invert.diffusion.weights import variant_of
from invert.errors import InputError
from invert.methods.denoiser import opened
from invert.models.loading import load_clip
from invert.models.turns import Turns
from tests.invert.conftest import Adapted
from tests.invert.diffusion.families import small_pipeline
from tests.invert.hub_server import hub_of


@pytest.fixture
def copied(pipeline_folders: dict[str, Path], tmp_path: Path) -> Path:
    """An SDXL's folder that a test may spoil."""
    return Path(shutil.copytree(pipeline_folders["SDXL"], tmp_path / "sdxl"))


def edited(folder: Path, part: str, change: Callable[[dict[str, Tensor]], object]) -> None:
    (file,) = (folder / part).glob("*.safetensors")
    state = load_file(file)
    change(state)
    save_file(state, file, metadata={"format": "pt"})


def refusal(folder: Path) -> str:
    with pytest.raises(InputError) as caught:
        open_generator(str(folder), "cpu")
    message = str(caught.value)
    assert "\n" not in message and str(folder) in message
    return message


@pytest.mark.parametrize(
    ("part", "ending"),
    [("text_encoder", "0.mlp.fc1.weight"), ("text_encoder_2", "text_projection.weight"), ("unet", "conv_in.weight"),
     ("vae", "decoder.conv_in.weight")],
)  # fmt: skip
def test_a_missing_weight_is_named_and_not_made_up(copied: Path, part: str, ending: str) -> None:
    edited(copied, part, lambda state: state.pop(next(key for key in state if key.endswith(ending))))
    message = refusal(copied)
    assert "are incomplete" in message and f"({part}: " in message and f"{ending}): download it again" in message


@pytest.mark.parametrize(("part", "value"), [("text_encoder", "nan"), ("unet", "nan"), ("vae", "inf")])
def test_weights_that_are_not_finite_are_refused(copied: Path, part: str, value: str) -> None:
    edited(copied, part, lambda state: next(t for t in state.values() if t.ndim > 1).view(-1)[:1].fill_(float(value)))
    assert f"not finite, in {part}: " in refusal(copied)


def test_the_text_encoder_of_another_family_is_looked_at_too(tmp_path: Path) -> None:
    small_pipeline("PixArt").save_pretrained(tmp_path)
    open_generator(str(tmp_path), "cpu")  # T5 reads its token table under another name
    edited(tmp_path, "text_encoder", lambda state: state.pop(next(key for key in state if key.endswith("wo.weight"))))
    assert "(text_encoder: " in refusal(tmp_path)


def test_a_folder_in_half_precision_alone_is_read(pipeline_folders: dict[str, Path], tmp_path: Path) -> None:
    whole = DiffusionPipeline.from_pretrained(pipeline_folders["SDXL"])
    whole.save_pretrained(tmp_path, variant="fp16")
    shutil.copytree(tmp_path / "vae", folder_beside := pipeline_folders["SDXL"] / "vae_of_another", dirs_exist_ok=True)
    assert folder_beside.is_dir()
    assert variant_of(tmp_path) == "fp16" and variant_of(pipeline_folders["SDXL"]) is None
    read, usual = (Generator.load(str(folder), "cpu") for folder in (tmp_path, pipeline_folders["SDXL"]))
    assert torch.equal(read.generate(["a fox"], steps=1), usual.generate(["a fox"], steps=1))
    edited(tmp_path, "text_encoder", lambda state: state.pop(next(key for key in state if key.endswith("fc1.weight"))))
    assert "(text_encoder: " in refusal(tmp_path)


def test_a_repository_in_half_precision_alone_is_read(pipeline_folders: dict[str, Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(pipeline_folders["SD 1"], tmp_path / "half"))
    for file in folder.rglob("*.safetensors"):
        file.rename(file.with_suffix(".fp16.safetensors"))
    with hub_of(folder, tmp_path / "cache") as hub:
        read = Generator.load("me/half", "cpu")
        assert sum(file.endswith(".fp16.safetensors") for file in hub.fetched) == 3
        assert variant_on_hub("me/half", files_only=True) == "fp16"  # by what the cache holds
    (file,) = (folder / "unet").glob("*.safetensors")
    assert torch.equal(read.pipeline.unet.conv_in.weight, load_file(file)["conv_in.weight"])


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        ("GatedRepo", "accept its terms on the hub"),
        ("RepoNotFound", "the hub has no model 'me/half'"),
        ("", "'me/half' is damaged or no diffusers pipeline"),
    ],
)
def test_a_repository_that_may_not_be_read_says_why(tmp_path: Path, code: str, sentence: str) -> None:
    with hub_of(tmp_path, tmp_path / "cache", code), pytest.raises(InputError, match=sentence):
        open_generator("me/half", "cpu")


def test_a_repository_without_a_parts_weights_is_incomplete_and_not_out_of_reach(copied: Path, tmp_path: Path) -> None:
    shutil.rmtree(copied / "unet")
    with hub_of(copied, tmp_path / "cache"), pytest.raises(InputError, match="'me/sdxl' is damaged"):
        open_generator("me/sdxl", "cpu")


def test_a_tokenizer_without_words_is_named(copied: Path) -> None:
    shutil.rmtree(copied / "tokenizer_2")
    assert "has no vocabulary (tokenizer_2): download it again" in refusal(copied)


def test_a_refiner_is_one_sentence(copied: Path) -> None:
    index = json.loads((copied / "model_index.json").read_text())
    nothing = {"text_encoder": [None, None], "tokenizer": [None, None]}
    (copied / "model_index.json").write_text(json.dumps(index | nothing | {"_class_name": "StableDiffusionXLImg2ImgPipeline"}))
    assert "has not all the text encoders of its kind" in refusal(copied)


def test_a_folder_below_the_home_is_found(
    pipeline_folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(pipeline_folders["SDXL"].parent))
    assert open_generator("~/SDXL", "cpu").name == "~/SDXL"


@pytest.mark.parametrize(("n_seeds", "n_loaded"), [(1, 3), (5, 10)])  # once when it is named
def test_generator_and_judge_are_not_in_memory_together(
    pipeline_folders: dict[str, Path], transformers_clip: Adapted, n_seeds: int, n_loaded: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(roundtrip, "COMPARED_AT_ONCE", 2)
    prompts, seeds = ["a fox", "two owls", "a cat"], tuple(range(n_seeds))
    drawn_with: list[Callable[[], object]] = []

    def rated(turns: Turns | None) -> list[tuple[int, float]]:
        clip = load_clip(transformers_clip.name, "cpu", turns=turns)
        generator, visual = opened(str(pipeline_folders["SD 1"]), clip), clip.visual

        def alone(pixels: Tensor) -> Tensor:
            latents = visual(pixels)
            assert turns is None or not any(unet() for unet in drawn_with)
            return latents

        clip.visual = alone
        trip = RoundTrip(generator, clip, seeds, lambda _: [], options=DrawingOptions(steps=1))
        return [(image.seed, image.judge) for image in trip.rated(prompts, Image.new("RGB", (40, 40), "red"))]

    whole = rated(None)
    read = Generator.__init__

    def counted(self: Generator, pipeline: Any, name: str) -> None:
        read(self, pipeline, name)
        drawn_with.append(weakref.ref(pipeline.unet))

    monkeypatch.setattr(Generator, "__init__", counted)
    in_turn = rated(Turns())
    assert len(drawn_with) == n_loaded
    assert [seed for seed, _ in in_turn] == [seed for seed, _ in whole] == list(seeds) * 3
    assert [judged for _, judged in in_turn] == pytest.approx([judged for _, judged in whole], abs=1e-4)
