"""Low memory: towers that take turns compute what the whole model computes, and are not in memory together."""

from __future__ import annotations

import gc
import json
import shutil
import sys
import weakref
from pathlib import Path

import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import invert.cli
from invert.errors import InputError
from invert.models.loading import load_clip
from invert.models.partial import Checkpoint
from invert.models.turns import DRAWING, IMAGES, TEXT, Part, Placement, Turns
from tests.invert.conftest import saved_folder

PROMPTS = ["a fox", "two owls on a striped blue and white background"]
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def picture() -> Image.Image:
    pixels = torch.randint(0, 256, (40, 50, 3), generator=torch.Generator().manual_seed(3), dtype=torch.uint8)
    return Image.fromarray(pixels.numpy())


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model in a folder as open_clip writes it."""
    return saved_folder(tmp_path_factory.mktemp("small"), width=64, heads=4, layers=2, quick_gelu=True)[1]


@pytest.fixture(scope="module", params=["open_clip", "transformers", "joined"])
def name(request: pytest.FixtureRequest, small: Path) -> str:
    theirs = request.getfixturevalue("transformers_clip").name
    return {"open_clip": str(small), "transformers": theirs, "joined": f"{small}+{theirs}"}[request.param]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_towers_in_turn_compute_what_the_whole_model_computes(name: str, dtype: str, picture: Image.Image) -> None:
    turns = Turns()
    clip, whole = load_clip(name, "cpu", dtype, turns=turns), load_clip(name, "cpu", dtype)
    for _ in range(2):  # and again when they come back
        torch.testing.assert_close(clip.encode_image([picture]), whole.encode_image([picture]))
        assert [part.role for part in turns.present] == [IMAGES]  # of joined models one at a time
        torch.testing.assert_close(clip.encode_text(PROMPTS), whole.encode_text(PROMPTS))
        assert {part.role for part in turns.present} == {TEXT} and len(turns.present) == name.count("+") + 1
    assert clip.dtype == getattr(torch, dtype) and clip.exact is clip
    ids, eot = clip.tokenize(PROMPTS)
    cached = clip.tower.encode_with_prefix(clip.tower.prefix(clip.embed(ids[0, :1])), clip.embed(ids[:, 1:]), eot - 1)
    torch.testing.assert_close(
        torch.nn.functional.normalize(cached.float(), dim=1), whole.encode_text(PROMPTS), atol=2e-2, rtol=0
    )


def test_the_weights_of_a_tower_that_left_are_gone(small: Path, picture: Image.Image) -> None:
    turns = Turns()
    clip = load_clip(str(small), "cpu", turns=turns)

    def bytes_of_weights() -> int:
        gc.collect()
        found = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in gc.get_objects() if counted(t)}
        return sum(found.values())

    def counted(value: object) -> bool:
        if type(value) not in (torch.Tensor, torch.nn.Parameter) or value.is_meta:
            return False
        return value.layout == torch.strided and value.numel() > 1000  # repacked weights of other tests show no storage

    clip.encode_text(PROMPTS)
    with_text = bytes_of_weights()
    clip.encode_image([picture])
    with_images = bytes_of_weights()
    whole = load_clip(str(small), "cpu")
    both = bytes_of_weights() - with_images
    table = clip.token_embeddings.numel() * 4
    tensors = load_file(small / "open_clip_model.safetensors")
    text = sum(t.numel() * 4 for key, t in tensors.items() if not key.startswith("visual.") and t.numel() > 1000) - table
    images = sum(t.numel() * 4 for key, t in tensors.items() if key.startswith("visual.") and t.numel() > 1000)
    assert with_images - with_text == pytest.approx(images - text, abs=0.1 * (images + text))
    assert both == pytest.approx(table + text + images, rel=0.1)
    del whole


def test_a_part_comes_back_and_another_leaves_for_it() -> None:
    class Large:
        pass

    turns = Turns()
    text, images, drawing = (Part(turns, role, Large) for role in (TEXT, IMAGES, DRAWING))
    first = weakref.ref(text.get())
    assert text.get() is first()
    images.get()
    assert first() is None and turns.present == [images]
    drawing.get()
    assert isinstance(text.get(), Large) and turns.present == [text]


@pytest.mark.parametrize(("ending", "works"), [("pt", True), ("legacy.pt", False)])
def test_checkpoints_are_read_a_part_at_a_time_where_their_format_allows_it(
    small: Path, tmp_path: Path, ending: str, works: bool
) -> None:
    state = load_file(small / "open_clip_model.safetensors")
    file = tmp_path / f"model.{ending}"
    torch.save(
        {"state_dict": {f"module.{key}": value for key, value in state.items()}}, file, _use_new_zipfile_serialization=works
    )
    if not works:
        with pytest.raises(InputError, match="leave out `low_memory`"):
            Checkpoint("m", [file])
        return
    read = dict(Checkpoint("m", [file]).read(["ln_final.weight"], Placement(CPU, torch.float16)))
    assert torch.equal(read["ln_final.weight"], state["ln_final.weight"].half())


@pytest.mark.parametrize("damage", ["missing", "not finite", "another shape", "cut"])
def test_damaged_weights_are_one_sentence(small: Path, tmp_path: Path, damage: str, picture: Image.Image) -> None:
    folder = shutil.copytree(small, tmp_path / "copy")
    file = folder / "open_clip_model.safetensors"
    state = load_file(file)
    if damage == "missing":
        del state["visual.conv1.weight"]
    elif damage == "not finite":
        state["visual.conv1.weight"][0, 0, 0, 0] = float("nan")
    elif damage == "another shape":
        state["visual.conv1.weight"] = state["visual.conv1.weight"][:-1].clone()
    save_file(state, file)
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(InputError, match="weights of"):
        load_clip(str(folder), "cpu", turns=Turns()).encode_image([picture])


def test_the_command_finds_the_same_prompt(
    small: Path, tmp_path: Path, picture: Image.Image, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    picture.save(tmp_path / "picture.png")
    (tmp_path / "corpus.txt").write_text("a red fox\ntwo owls on a branch\n")
    found = []
    for more in ((), ("--low-memory",)):
        words = (tmp_path / "picture.png", "--model", small, *more, "--method", "retrieve", "--corpus", tmp_path / "corpus.txt")
        monkeypatch.setattr(sys, "argv", ["invert", *map(str, words), "--json"])
        with pytest.raises(SystemExit) as exit:
            invert.cli.main()
        assert not exit.value.code
        result = json.loads(capsys.readouterr().out)
        found.append((result["prompt"], pytest.approx(result["score"], abs=1e-6)))
    assert found[0] == found[1]


def test_a_model_that_is_always_whole_says_so(caplog: pytest.LogCaptureFixture) -> None:
    load_clip("picturebook", "cpu", turns=Turns())
    assert "stays in memory whole" in caplog.text


def test_open_clips_factory_still_knows_what_is_asked_of_it() -> None:
    """A model without weights is built on no device at all."""
    with torch.device("meta"):
        model, _, _ = open_clip.create_model_and_transforms("ViT-bigG-14", load_weights=False, device="meta")
    assert all(parameter.is_meta for parameter in model.parameters())


def test_weights_that_change_between_two_turns_are_refused(small: Path, tmp_path: Path, picture: Image.Image) -> None:
    folder = Path(shutil.copytree(small, tmp_path / "model"))
    clip = load_clip(str(folder), "cpu", turns=Turns())
    clip.encode_text(PROMPTS)
    file = folder / "open_clip_model.safetensors"
    save_file({name: 2 * tensor for name, tensor in load_file(file).items()}, tmp_path / "other")
    (tmp_path / "other").replace(file)
    with pytest.raises(InputError, match="have changed while they were in use"):  # else its towers were two models'
        clip.encode_image([picture])


def test_no_other_weights_are_read_than_the_whole_model_has(transformers_clip, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(transformers_clip.name, tmp_path / "model"))
    state = load_file(folder / "model.safetensors")
    for other in ("model_ema.safetensors", "model.fp16.safetensors", "model-00001-of-00001.safetensors"):
        save_file({name: 2 * tensor for name, tensor in state.items()}, folder / other, metadata={"format": "pt"})
    for whole in (True, False):
        if not whole:  # in parts, which an index names
            (folder / "model.safetensors").unlink()
            names = sorted(state)
            parts = {f"part-{i}.safetensors": names[i::2] for i in range(2)}
            for part, own in parts.items():
                save_file({name: state[name] for name in own}, folder / part, metadata={"format": "pt"})
            index = {"metadata": {}, "weight_map": {name: part for part, own in parts.items() for name in own}}
            (folder / "model.safetensors.index.json").write_text(json.dumps(index))
        clip = load_clip(str(folder), "cpu", turns=Turns())
        torch.testing.assert_close(clip.encode_text(PROMPTS), transformers_clip.clip.encode_text(PROMPTS))
    for turns in (None, Turns()):
        (folder / "part-1.safetensors").unlink(missing_ok=True)
        with pytest.raises(InputError, match=r"incomplete \(part-1\.safetensors is missing\)"):
            load_clip(str(folder), "cpu", turns=turns)


@pytest.mark.parametrize(("architecture", "size"), [("PE-Core-T-16-384", 384), ("swin_base_patch4_window7_224", 224)])
def test_a_model_that_cannot_be_built_a_tower_at_a_time_stays_whole_and_says_so(
    architecture: str, size: int, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = open_clip.get_model_config(architecture) or {}
    config["text_cfg"].update(width=16, heads=2, layers=1)
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, architecture, config)
    torch.manual_seed(0)  # open_clip takes no generator
    model = open_clip.create_model(architecture).eval()
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, tmp_path / "model.safetensors")
    clip = load_clip(f"{architecture}/{tmp_path}/model.safetensors", "cpu", turns=Turns())
    assert "stays in memory whole" in caplog.text
    pixels = torch.rand(1, 3, size, size)
    with torch.no_grad():
        torch.testing.assert_close(clip.encode_preprocessed(pixels), model.encode_image(pixels, normalize=True))


def test_a_damaged_configuration_is_one_sentence(transformers_clip, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(transformers_clip.name, tmp_path / "model"))
    config = json.loads((folder / "config.json").read_text())
    for text in ([], {"hidden_size": "x"}):
        (folder / "config.json").write_text(json.dumps(config | {"text_config": text}))
        with pytest.raises(InputError, match=r"config\.json of the model .* is damaged"):
            load_clip(str(folder), "cpu", turns=Turns())
