"""Every method inverts on a SigLIP as on a CLIP, and a SigLIP judges what was found on a CLIP."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from PIL import Image
from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Resize, ToTensor

import invert.cli
from invert.budget import Budget
from invert.bundle import load_bundle
from invert.config import InvertConfig
from invert.diffusion.drawing import to_pil
from invert.diffusion.roundtrip import compare
from invert.errors import InputError
from invert.inverter import Inverter
from invert.methods.labels import LabelTables
from invert.models.fitting import transform_fits
from invert.models.joint import join
from invert.models.loading import load_clip
from invert.scorer import PromptScorer
from tests.invert.models.conftest import save_clip

CORPUS = ("a red fox", "two owls on a branch", "an old house")
SMALL = InvertConfig(tokens=3, restarts=2, soft_steps=3, max_tokens=5, budget=4000)
RETRIEVING = ("invert", "retrieve", "interrogator-lite")
PHRASES = tuple(f"{look} {thing}" for look in ("red", "old", "blue") for thing in ("house", "owls", "fox", "table"))
LABELS = LabelTables(*[PHRASES] * 6)
METHODS = ("invert", "pez", "gcg", "nearest", "random", "retrieve", "interrogator-lite")
PICTURE = Image.radial_gradient("L").resize((48, 40)).convert("RGB")


@pytest.fixture(scope="module")
def inverters(family_of: Callable) -> Callable[[str], Inverter]:
    return lambda family: Inverter(replace(load_bundle(family_of(family).clip, "generic"), labels=LABELS))


@pytest.mark.parametrize("family", ["SigLIP 2", "CLIPA"])
def test_every_method_finds_prompts_whose_score_is_the_librarys(family_of, inverters, family: str) -> None:
    encoder, inverter = family_of(family), inverters(family)
    length = encoder.clip.frame.length
    with torch.no_grad():
        target = encoder.encode_image(PICTURE)[0]
    for method in METHODS:
        found = inverter.invert(PICTURE, SMALL, method=method, corpus=CORPUS if method in RETRIEVING else ())
        with torch.no_grad():
            wanted = float(encoder.encode_text([found.prompt])[0] @ target)
        assert found.prompt and abs(found.score - wanted) < 1e-4, method
        assert found.forward_tokens % length == 0 and found.backward_tokens % length == 0, method


def test_soft_prompts_come_nearer_step_by_step(inverters) -> None:
    found = inverters("SigLIP").invert(PICTURE, SMALL, method="nearest")
    steps = [entry.value for entry in found.history if entry.stage == "soft"]
    assert steps[-1] > steps[0] and found.soft.shape == (3, 16)


def test_a_context_of_32_positions_is_read_with_the_default_options(inverters, caplog) -> None:
    found = inverters("PE-Core").invert(PICTURE, method="retrieve", corpus=CORPUS)
    assert found.prompt and "`max_tokens` is 40, but this model reads 30 tokens: taking 30" in caplog.text


def test_the_published_interrogator_says_which_one_reads_other_tokens(inverters) -> None:
    with pytest.raises(InputError, match=r"rows of 77 of CLIP's tokens, .* does not read: use `method=.interrogator-lite.`"):
        inverters("SigLIP").invert(PICTURE, SMALL, method="interrogator")


def test_a_siglip_judges_prompts_that_were_found_on_picturebook(family_of, monkeypatch, capsys, tmp_path) -> None:
    encoder, path, page = family_of("SigLIP"), tmp_path / "picture.png", tmp_path / "page.html"
    PICTURE.save(path)
    words = (path, "--method", "retrieve", "--judge", encoder.folder, "--json", "--report", page)
    assert run(monkeypatch, *words) == 0
    result = json.loads(capsys.readouterr().out)
    with torch.no_grad():
        wanted = float(encoder.encode_text([result["prompt"]])[0] @ encoder.encode_image(PICTURE)[0])
    assert abs(result["judge"] - wanted) < 1e-4
    assert "<th>judge<th>time" in page.read_text() and f'<td title="judge">{wanted:.3f}' in page.read_text()
    assert run(monkeypatch, path, "--judge", encoder.folder) == 2
    assert "--judge compares prompts but nothing shows it: add --json, --report page.html or --compare" in capsys.readouterr().err


def test_a_soft_prompt_that_no_pipeline_reads_is_not_saved(family_of, monkeypatch, capsys, tmp_path) -> None:
    path = tmp_path / "picture.png"
    PICTURE.save(path)
    words = (path, "--model", family_of("SigLIP").folder, "--bundle", "generic", "--embedding", tmp_path / "soft.safetensors")
    assert run(monkeypatch, *words) == 2
    assert "no pipeline of diffusers reads the token embeddings" in capsys.readouterr().err


def run(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    """The exit status of the command."""
    monkeypatch.setattr(sys, "argv", ["invert", *map(str, words)])
    with pytest.raises(SystemExit) as exit:
        invert.cli.main()
    return int(exit.value.code or 0)


def test_a_clip_of_248_positions_reads_long_prompts(tmp_path) -> None:
    """As LongCLIP is published for transformers: a CLIPModel with a longer table of positions."""
    model, words = save_clip(tmp_path, positions=248)
    clip = load_clip(str(tmp_path), device="cpu")
    prompts = ["a red fox on a branch " * 30, "fox " * 400]
    rows = words(prompts, padding="max_length", truncation=True, max_length=248, return_tensors="pt")
    with torch.no_grad():
        theirs = model.get_text_features(**rows).pooler_output
    assert clip.max_prompt_tokens == 246
    assert (clip.encode_text(prompts) - torch.nn.functional.normalize(theirs, dim=-1)).abs().max() < 1e-5
    target = clip.encode_image([PICTURE])[0]
    score = PromptScorer(clip, target, Budget()).score_text(prompts[0])
    assert abs(score - float(torch.nn.functional.normalize(theirs[0], dim=0) @ target)) < 1e-5


def test_drawn_images_are_judged_as_the_judges_library_reads_them(family_of, picturebook) -> None:
    """SigLIP squashes what CLIP cuts to a square."""
    drawn = torch.rand(2, 3, 40, 64, generator=torch.Generator().manual_seed(0))
    for family, as_clip in (("SigLIP", False), ("open_clip SigLIP", False), ("SigLIP 2 NaFlex", False), ("PE-Core", True)):
        encoder = family_of(family)
        assert encoder.clip.fits_as_clip == as_clip
        judged, _, _ = compare(encoder.clip, PICTURE, encoder.clip.encode_image([PICTURE])[0], drawn)
        with torch.no_grad():
            wanted = torch.cat([encoder.encode_image(image) for image in to_pil(drawn)]) @ encoder.encode_image(PICTURE)[0]
        assert (judged - wanted).abs().max() < (1e-2 if as_clip else 1e-5)
    assert picturebook.fits_as_clip


@pytest.mark.parametrize(
    ("options", "as_clip"),
    [
        ({}, True),
        ({"size": {"height": 32, "width": 32}, "do_center_crop": False}, False),  # squashed
        ({"size": {"height": 32, "width": 32}}, False),
        ({"size": {"shortest_edge": 40}}, False),  # the middle of a larger one
        ({"resample": 2}, False),  # bilinear
        ({"do_normalize": False}, False),
        ({"rescale_factor": 1 / 127.5}, False),
    ],
)
def test_a_clips_own_processor_says_how_drawn_images_are_judged(tmp_path, options: dict, as_clip: bool) -> None:
    """A CLIPModel whose processor does not crop as CLIP's: the picture itself, drawn, is judged to be the picture."""
    from torchvision.transforms.functional import pil_to_tensor
    from transformers import CLIPImageProcessor

    save_clip(tmp_path, positions=77)
    usual = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    CLIPImageProcessor(**{**usual, **options}).save_pretrained(tmp_path)
    clip = load_clip(str(tmp_path), device="cpu")
    picture = Image.effect_noise((12, 6), 120).convert("RGB").resize((96, 48), 0)
    judged, _, _ = compare(clip, picture, clip.encode_image([picture])[0], pil_to_tensor(picture)[None] / 255)
    assert clip.fits_as_clip == as_clip and abs(float(judged) - 1) < (1e-3 if as_clip else 1e-5)


@pytest.mark.parametrize(
    ("steps", "as_clip"),
    [
        ([Resize(32, InterpolationMode.BICUBIC), CenterCrop(32)], True),
        ([Resize(40, InterpolationMode.BICUBIC), CenterCrop(32)], False),
        ([Resize(32, InterpolationMode.BICUBIC), CenterCrop(28)], False),
        ([Resize(32), CenterCrop(32)], False),
        ([], False),
        ([Resize((32, 32), InterpolationMode.BICUBIC), CenterCrop(32)], False),
    ],
)
def test_a_transform_of_open_clips_says_so_too(steps: list, as_clip: bool) -> None:
    assert transform_fits(Compose([*steps, ToTensor()]), 32) == as_clip


def test_joined_models_fit_drawn_images_as_all_of_them_do(tmp_path) -> None:
    parts = []
    for _ in range(2):
        save_clip(tmp_path, positions=77)
        parts.append(load_clip(str(tmp_path), device="cpu"))
    assert join(parts).fits_as_clip
    parts[1].fits_as_clip = False
    assert not join(parts).fits_as_clip
