"""SDXL's pair: one prompt for both text encoders, and soft prompts that diffusers reads into both."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionXLPipeline
from PIL import Image
from safetensors.torch import load_file

from invert.diffusion.generator import Generator
from invert.errors import InputError
from invert.inverter import Inverter
from invert.methods.denoiser import obstacle_to_soft_prompts
from tests.invert.diffusion.conftest import run
from tests.invert.diffusion.pairs import save_with_clips

QUICK = ("--method", "nearest", "--restarts", 1, "--soft-steps", 2, "--tokens", 3)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """The name of the joined CLIPs, and the folder of the SDXL that has their text encoders."""
    return save_with_clips("SDXL", tmp_path_factory.mktemp("sdxl"))


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    Image.new("RGB", (64, 48), "teal").save(tmp_path / "teal.png")
    return tmp_path / "teal.png"


def test_the_soft_prompt_of_the_pair_conditions_diffusers_sdxl_as_it_was_found(
    monkeypatch: pytest.MonkeyPatch,
    pair: tuple[str, Path],
    picture: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    name, folder = pair
    file = tmp_path / "soft.safetensors"
    words = ("--model", name, "--model-weights", "3,1", "--embedding", file, "--json")
    drawing = ("--generate", 1, "--generator", folder)
    assert run(monkeypatch, picture, *words, *drawing, *QUICK) == 0
    found = json.loads(capsys.readouterr().out)
    narrow, wide = (found["model_scores"][model] for model in name.split("+"))
    assert found["score"] == pytest.approx(0.75 * narrow + 0.25 * wide, abs=1e-5)
    assert len(found["soft_drawn"]) == 1  # SDXL draws from both parts of it

    state = load_file(file)
    assert {key: tuple(rows.shape) for key, rows in state.items()} == {"clip_l": (3, 16), "clip_g": (3, 32)}
    pipeline = StableDiffusionXLPipeline.from_pretrained(folder, add_watermarker=False)
    pipeline.set_progress_bar_config(disable=True)
    readers = {"clip_l": (pipeline.text_encoder, pipeline.tokenizer), "clip_g": (pipeline.text_encoder_2, pipeline.tokenizer_2)}
    for key, (encoder, tokenizer) in readers.items():
        pipeline.load_textual_inversion(state[key], token="<picture>", text_encoder=encoder, tokenizer=tokenizer)
        ids = tokenizer.convert_tokens_to_ids(["<picture>", "<picture>_1", "<picture>_2"])
        assert torch.equal(encoder.get_input_embeddings().weight[ids], state[key])
    with torch.no_grad():
        theirs = pipeline.encode_prompt("<picture>", device="cpu", do_classifier_free_guidance=False)
        ours = Generator.load(str(folder), "cpu").encode_embeddings([state["clip_l"][None], state["clip_g"][None]])
    torch.testing.assert_close(theirs[0], ours.hidden)
    torch.testing.assert_close(theirs[2], ours.pooled)
    assert pipeline("<picture>", num_inference_steps=1, output_type="np").images.shape[0] == 1


def test_soft_prompts_are_drawn_where_model_and_pipeline_have_the_same_text_encoders(
    pair: tuple[str, Path], generators: dict[str, Generator]
) -> None:
    name, folder = pair
    one = Inverter.load(name.split("+")[0], device="cpu")
    generator = Generator.load(str(folder), "cpu")
    assert not generator.shares_token_embeddings(one.clip, one.bundle.token_index.token_ids)
    assert "joined by + as `model`, `sdxl` for SDXL's own" in obstacle_to_soft_prompts(one.bundle, generator)
    both = Inverter.load(name, device="cpu")
    assert generator.shares_token_embeddings(both.clip, both.bundle.token_index.token_ids)
    assert obstacle_to_soft_prompts(both.bundle, generator) == ""
    assert "has one text encoder: give the model of that alone" in obstacle_to_soft_prompts(both.bundle, generators["SD 1"])
    with pytest.raises(InputError, match="two text encoders"):
        both.invert(Image.new("RGB", (8, 8)), method="textual-inversion", generator=str(folder))


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            ("--model-weights", "1,2,3"),
            "`model_weights` are 3, but 2 models are joined".replace("`model_weights`", "--model-weights"),
        ),
        (("--model-weights", "1,none"), "--model-weights is '1,none': give a number for each model"),
        (("--model-weights", "1,0"), "--model-weights have to be numbers above 0"),
    ],
)
def test_weights_that_do_not_fit_are_one_sentence(
    monkeypatch: pytest.MonkeyPatch,
    pair: tuple[str, Path],
    picture: Path,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    sentence: str,
) -> None:
    assert run(monkeypatch, picture, "--model", pair[0], *words) == 2
    assert sentence in capsys.readouterr().err
