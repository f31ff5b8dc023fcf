"""What repositories of the hub hold, under which names, through the libraries' own clients."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from invert.captions import load_captioner
from invert.errors import InputError
from invert.models.loading import load_clip
from invert.models.turns import Turns
from tests.invert.conftest import Adapted, saved_folder
from tests.invert.hub_server import hub_of


@pytest.mark.parametrize(("sharded", "turns"), [(True, None), (False, Turns())])
def test_weights_in_half_precision_alone_are_read_from_a_folder_and_from_the_hub(
    copied: Path, tmp_path: Path, transformers_clip: Adapted, turns: Turns | None, sharded: bool
) -> None:
    (copied / "model.safetensors").rename(copied / "model.fp16.safetensors")
    if sharded:
        in_two(copied / "model.fp16.safetensors")
    with hub_of(copied, tmp_path / "cache") as hub:
        clips = [load_clip(name, "cpu", turns=turns) for name in ("hf:me/half", str(copied))]
        assert any("fp16" in file for file in hub.fetched)
    for clip in clips:
        torch.testing.assert_close(clip.encode_text(["a fox"]), transformers_clip.clip.encode_text(["a fox"]))


def in_two(file: Path) -> None:
    """The same weights in two parts and an index, as transformers writes large ones."""
    state = load_file(file)
    ending = file.name.removeprefix("model.").removesuffix(".safetensors")
    parts = {key: f"model.{ending}-0000{1 + key.startswith('vision')}-of-00002.safetensors" for key in state}
    for part in set(parts.values()):
        save_file({key: state[key] for key in state if parts[key] == part}, file.with_name(part), {"format": "pt"})
    file.with_name(f"model.safetensors.index.{ending}.json").write_text(json.dumps({"metadata": {}, "weight_map": parts}))
    file.unlink()


@pytest.mark.parametrize("ending", ["h5", "bf16.safetensors"])
def test_weights_of_other_names_are_not_said_to_be_out_of_reach(copied: Path, tmp_path: Path, ending: str) -> None:
    (copied / "model.safetensors").rename(copied / f"model.{ending}")
    sentence = r"'me/model' holds no weights of a name that is read here \(model.safetensors, "
    with hub_of(copied, tmp_path / "cache"), pytest.raises(InputError, match=sentence):
        load_clip("hf:me/model", "cpu")


def test_a_captioner_of_another_kind_is_told_before_its_weights_are_fetched(copied: Path, tmp_path: Path) -> None:
    with hub_of(copied, tmp_path / "cache") as hub, pytest.raises(InputError, match="of type 'clip', captions no pictures"):
        load_captioner("hf:me/model", None, torch.device("cpu"))
    assert "config.json" in hub.fetched and "model.safetensors" not in hub.fetched


def test_open_clips_weights_are_read_by_every_name_that_its_folders_have(tmp_path: Path) -> None:
    (folder := tmp_path / "model").mkdir()
    saved_folder(folder, width=16, heads=2, layers=1, quick_gelu=False)
    (folder / "open_clip_model.safetensors").rename(folder / "open_clip_pytorch_model.safetensors")
    with hub_of(folder, tmp_path / "cache"):
        found = load_clip("hf:me/model", "cpu").encode_text(["a fox"])
    assert torch.equal(found, load_clip(str(folder), "cpu").encode_text(["a fox"]))
