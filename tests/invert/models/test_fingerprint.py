"""Latents on disk are found again by the model that made them, and by no other."""

from __future__ import annotations

import json
import shutil
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from invert.encoding import encode_prompts
from invert.models.clip import Clip
from invert.models.joint import join
from invert.models.loading import load_clip
from invert.models.open_clip import load_folder
from invert.models.turns import Placement, Turns
from tests.invert.models.conftest import of_open_clip, save_clip, spread

PROMPTS = ["a photo of a cat", "rock 'n' roll, a T-shirt (worn)", "a photo of a " + "very " * 40 + "old house"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import CLIPModel

    made = tmp_path_factory.mktemp("clip")
    config = save_clip(made, 77)[0].config
    for part in (config, config.text_config, config.vision_config):
        part.projection_dim = 32
    torch.manual_seed(0)  # transformers takes no generator
    spread(CLIPModel(config)).save_pretrained(made)
    return made


@pytest.fixture
def changed(folder: Path, tmp_path: Path) -> Callable[[Callable[[Any], None]], Path]:
    """A copy of the model's folder whose weights were changed."""

    def save(change: Callable[[Any], None]) -> Path:
        from transformers import CLIPModel

        shutil.copytree(folder, tmp_path / "changed")
        model = CLIPModel.from_pretrained(folder)
        with torch.no_grad():
            change(model.text_model)
        model.save_pretrained(tmp_path / "changed")
        return tmp_path / "changed"

    return save


def loaded(folder: Path | str) -> Clip:
    return load_clip(str(folder), device="cpu")


def check_told_apart(monkeypatch: pytest.MonkeyPatch, cache: Path, first: Clip, second: Clip) -> None:
    """Each finds its own latents, whichever was there before."""
    monkeypatch.setenv("INVERT_CACHE", str(cache))
    for clip in (first, second, first):
        found = encode_prompts(clip, PROMPTS)[1].tensor()
        assert (found - clip.encode_text(PROMPTS)).abs().max() < 1e-3
    assert first.fingerprint != second.fingerprint


@pytest.mark.parametrize("weights", [(2, 3, 1), (2, 1, 2.9), (1, 2, 3)])
def test_shares_of_joined_models_count(folder: Path, monkeypatch, tmp_path, weights) -> None:
    parts = [loaded(folder) for _ in range(3)]
    check_told_apart(monkeypatch, tmp_path, join(parts, (2, 1, 3)), join([loaded(folder) for _ in range(3)], weights))


def test_only_the_ratio_of_shares_counts(folder: Path) -> None:
    assert join([loaded(folder), loaded(folder)], (0.1, 0.2)).fingerprint == join([loaded(folder)] * 2, (1, 2)).fingerprint


def test_the_tower_of_every_joined_model_counts(folder: Path, changed, monkeypatch, tmp_path) -> None:
    """As when a LoRA was merged into the second one, whose token table stays."""

    def merge(text: Any) -> None:
        for parameter in text.encoder.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))

    other = changed(merge)
    first, second = (load_clip(f"{folder}+{last}", device="cpu") for last in (folder, other))
    check_told_apart(monkeypatch, tmp_path / "cache", first, second)


def test_positions_that_short_texts_do_not_reach_count(folder: Path, changed, monkeypatch, tmp_path) -> None:
    other = changed(lambda text: text.embeddings.position_embedding.weight[20:].add_(torch.ones(16)))
    check_told_apart(monkeypatch, tmp_path / "cache", loaded(folder), loaded(other))


def test_a_longer_context_counts(folder: Path, tmp_path: Path) -> None:
    clip, shorter = loaded(folder), loaded(folder)
    shorter.tower.positions = clip.tower.positions[:40]
    assert clip.fingerprint != shorter.fingerprint


def test_how_texts_are_cleaned_counts(monkeypatch, tmp_path) -> None:
    first = of_open_clip(tmp_path, "PE-Core-B-16", None).clip
    config = json.loads((tmp_path / "open_clip_config.json").read_text())
    config["model_cfg"]["text_cfg"]["tokenizer_kwargs"] = {"clean": "canonicalize"}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    check_told_apart(monkeypatch, tmp_path / "cache", first, loaded(tmp_path))


@pytest.mark.parametrize("coordinate", [0, 200, 255])
def test_every_coordinate_of_the_latents_counts(picturebook: Clip, monkeypatch, coordinate: int) -> None:
    encode = picturebook.encode_text

    def negated(prompts: list[str]) -> torch.Tensor:
        latents = encode(prompts)
        latents[:, coordinate] *= -1
        return latents

    other = loaded("picturebook")
    monkeypatch.setattr(other, "encode_text", negated)
    assert other.fingerprint != picturebook.fingerprint


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_model_is_found_again_with_another_number_of_threads(threads, dtype: str) -> None:
    found = set()
    for n in (1, 2):
        threads(n)
        found.add(load_clip("picturebook", device="cpu", dtype=dtype).fingerprint)
    assert len(found) == 1


def test_the_last_bits_of_latents_do_not_count(picturebook: Clip, monkeypatch) -> None:
    encode, noise = picturebook.encode_text, torch.Generator().manual_seed(0)
    other = loaded("picturebook")
    monkeypatch.setattr(other, "encode_text", lambda texts: encode(texts) * (1 + 1e-7 * torch.randn(256, generator=noise)))
    assert other.fingerprint == picturebook.fingerprint


def test_a_model_whose_towers_take_turns_is_the_same(tmp_path) -> None:
    whole = of_open_clip(tmp_path, "ViT-B-32", None).clip
    in_turns = load_folder(whole.name, tmp_path, Placement(torch.device("cpu"), torch.float32, Turns()))
    assert in_turns.fingerprint == whole.fingerprint


def test_the_token_table_is_hashed_without_a_copy() -> None:
    clip = loaded("picturebook")
    clip.encode_text(["a fox"])
    tracemalloc.start()
    try:
        assert clip.fingerprint
        assert tracemalloc.get_traced_memory()[1] < clip.token_embeddings.nbytes / 4
    finally:
        tracemalloc.stop()
