"""Numbers that float16 cannot hold are told in one sentence, wherever they come up; a type that holds them goes on."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import invert.cli
from invert.budget import Budget
from invert.config import SoftConfig
from invert.encoding import encode_prompts
from invert.errors import InputError
from invert.history import History
from invert.inverter import Inverter
from invert.models.clip import Clip
from invert.models.loading import load_clip
from invert.models.turns import Turns
from invert.scorer import PromptScorer
from invert.soft import optimize
from invert.together import Scores, cosines
from tests.invert.models.conftest import of_open_clip, save_clip, spread

PICTURE = Image.new("RGB", (40, 32), "red")
OVERFLOWS = r"^float16 overflows in the model '.*': take `dtype=\"bfloat16\"`$"
RARE = "zebra"  # a word that overflows where others do not


@pytest.fixture
def saved(tmp_path: Path) -> Callable[[Callable[[Any], None]], str]:
    """A CLIPModel of transformers with a change, in a folder."""

    def save(change: Callable[[Any], None]) -> str:
        model = spread(save_clip(tmp_path, 77)[0])
        with torch.no_grad():
            change(model)
        model.save_pretrained(tmp_path)
        return str(tmp_path)

    return save


def always(model: Any) -> None:
    model.text_model.embeddings.position_embedding.weight[:, 0] += 6e4
    model.text_model.embeddings.token_embedding.weight[:, 0] += 6e4


def rarely(model: Any) -> None:
    from invert.picturebook.text_encoder import tokenizer

    (token,) = tokenizer()(RARE, add_special_tokens=False)["input_ids"]
    model.text_model.embeddings.position_embedding.weight[:, 0] += 3e3
    model.text_model.embeddings.token_embedding.weight[token, 0] += 6.4e4


def in_images(model: Any) -> None:
    model.vision_model.embeddings.class_embedding += 6e4
    model.vision_model.embeddings.position_embedding.weight[0] += 6e4


def in_float16(folder: str, low_memory: bool = False) -> Clip:
    return load_clip(folder, device="cpu", dtype="float16", turns=Turns() if low_memory else None)


@pytest.mark.parametrize("low_memory", [False, True])
def test_a_model_that_overflows_is_told_when_it_is_loaded(saved, low_memory) -> None:
    folder = saved(always)
    with pytest.raises(InputError, match=OVERFLOWS):
        in_float16(folder, low_memory)
    for dtype in ("float32", "bfloat16"):
        assert load_clip(folder, device="cpu", dtype=dtype).encode_text(["a fox"]).isfinite().all()


def test_encode_says_so_instead_of_that_all_is_encoded(saved, capsys, monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("INVERT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(sys, "argv", ["invert", "encode", "--model", saved(always), "--dtype", "float16", "--device", "cpu"])
    with pytest.raises(SystemExit) as exit:
        invert.cli.main()
    error = capsys.readouterr().err
    assert exit.value.code == 2 and "float16 overflows" in error and error.strip().endswith("take --dtype bfloat16")


def ask_side_by_side(clip: Clip, target: torch.Tensor) -> None:
    ids, eot = clip.tokenize(["a fox", f"a {RARE}"])
    cosines(clip, [Scores(ids, eot, target, Budget(max_seconds=60))])


WAYS: dict[str, Callable[[Clip, torch.Tensor], Any]] = {
    "encode_text": lambda clip, target: clip.encode_text(["a fox", f"a {RARE}"]),
    "encode_prompts": lambda clip, target: encode_prompts(clip, ["a fox", f"a {RARE}"]),
    "together": ask_side_by_side,
    "score_text": lambda clip, target: PromptScorer(clip, target, Budget()).score_text(f"a {RARE}"),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_prompt_that_overflows_is_told_wherever_prompts_are_encoded(saved, monkeypatch, tmp_path, way: str) -> None:
    monkeypatch.setenv("INVERT_CACHE", str(tmp_path / "cache"))
    clip = in_float16(saved(rarely), low_memory=True)
    target = clip.encode_text(["a fox"])[0]
    with pytest.raises(InputError, match=OVERFLOWS):
        WAYS[way](clip, target)
    assert not list((tmp_path / "cache").rglob("*.npz"))


@pytest.mark.parametrize(("method", "options"), [("invert", {"corpus": [f"a {RARE}", "a fox"]}), ("gcg", {}), ("pez", {})])
def test_a_search_that_meets_one_ends_with_the_sentence(saved, monkeypatch, tmp_path, method: str, options: dict) -> None:
    monkeypatch.setenv("INVERT_CACHE", str(tmp_path / "cache"))
    inverter = Inverter.load(saved(rarely), "english", device="cpu", dtype="float16")
    if method != "invert":  # as if every word were that one
        clip = inverter.clip
        inverter.bundle.token_index  # noqa: B018 (made from the table as it is)
        clip.tower.table[:49406, 0] = 6.4e4
    with pytest.raises(InputError, match=OVERFLOWS):
        inverter.invert(PICTURE, method=method, budget=2000, **options)


def test_soft_prompts_that_overflow_are_told(picturebook: Clip) -> None:
    clip = load_clip("picturebook", device="cpu", dtype="float16")
    index = Inverter.load("picturebook", device="cpu").bundle.token_index
    clip.tower.positions = clip.tower.positions.clone().index_fill(0, torch.tensor([2]), torch.inf)
    scorer = PromptScorer(clip, picturebook.encode_text(["a fox"])[0], Budget())
    start = torch.zeros(1, 4, dtype=torch.long)
    with pytest.raises(InputError, match=OVERFLOWS):
        optimize(scorer, index, start, SoftConfig(steps=2), History())


def test_pictures_that_overflow_are_told(saved) -> None:
    folder = saved(in_images)
    assert in_float16(folder).exact.encode_image([PICTURE]).isfinite().all()
    clip = in_float16(folder, low_memory=True)  # which keeps no copy in float32
    for encode in (clip.encode_image, lambda images: clip.encode_preprocessed(clip.preprocess(images[0])[None])):
        with pytest.raises(InputError, match=OVERFLOWS):
            encode([PICTURE])


def test_numbers_that_overflow_elsewhere_are_of_damaged_weights(picturebook: Clip) -> None:
    clip = load_clip("picturebook", device="cpu")
    clip.tower.table = clip.tower.table * 1e38
    with pytest.raises(InputError, match=r"float32 overflows in the model 'picturebook', so its weights are damaged"):
        clip.encode_text(["a fox"])


TOO_LARGE, NOT_FINITE = r"too large for float16, in .*: take `dtype=", r"not finite, in .*: download them again"


@pytest.mark.parametrize(("value", "why"), [(7e4, TOO_LARGE), (torch.inf, NOT_FINITE), (torch.nan, NOT_FINITE)])
@pytest.mark.parametrize("low_memory", [False, True])
@pytest.mark.parametrize("library", ["transformers", "open_clip"])
def test_a_weight_that_float16_cannot_hold_is_no_damage(saved, tmp_path, library, low_memory, value: float, why: str) -> None:
    if library == "transformers":
        folder = saved(lambda model: model.text_model.encoder.layers[0].mlp.fc2.bias.fill_(value))
    else:
        folder = str(of_open_clip(tmp_path, "ViT-B-32", None).folder)
        file = tmp_path / "open_clip_model.safetensors"
        state = load_file(file)
        state["transformer.resblocks.0.mlp.c_proj.bias"].fill_(value)
        save_file(state, file)
    with pytest.raises(InputError, match=why):
        in_float16(folder, low_memory)
    if value == 7e4:
        assert load_clip(folder, device="cpu", dtype="bfloat16").encode_text(["a fox"]).isfinite().all()
