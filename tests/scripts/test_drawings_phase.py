"""CLIP and judge learn from many hands, names beside pictures, and go on from a start file."""

from __future__ import annotations

import copy
import math
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from invert.models.clip import resized
from invert.picturebook import models
from invert.picturebook.render import Slot, render
from invert.picturebook.world import COLORS, LAYOUTS, draw_scenes, objects

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
import picturebook_training
import train_picturebook
import training_artwork
from picturebook_batches import as_bytes, normalize
from picturebook_losses import NAMING_SCALE, naming_loss
from picturebook_training import Training

OTHERS = 8  # a step that shows others' drawings, in scenes drawn at random
NAMED = 30  # names that a step contrasts its pictures with, where they do not matter
STARTS = Path(__file__).parents[2] / "experiments" / "starts"


@pytest.fixture(scope="module")
def training() -> Training:
    return Training("clip", "drawings", 4, 8, 1e-3, torch.device("cpu"), named=NAMED)


def test_the_clips_token_table_is_left_out_of_training(training: Training) -> None:
    frozen = {name for name, parameter in training.model.named_parameters() if not parameter.requires_grad}
    assert frozen == {"token_embedding.weight"}
    for name, phase in (("judge", "drawings"), ("clip", "scenes")):
        assert all(p.requires_grad for p in Training(name, phase, 4, 8, 1e-3, torch.device("cpu")).model.parameters())


def test_a_file_to_begin_from_that_is_not_there_is_named(training: Training, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"clip-families\.ckpt is not there: give the file to begin from with --start"):
        train_picturebook.train(training, tmp_path, tmp_path)


def test_a_run_goes_on_from_what_another_left(training: Training, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picturebook_training, "similar_objects", lambda latents: [])
    monkeypatch.setattr(picturebook_training, "portraits", lambda: draw_scenes(1, 0))
    training.save_start(tmp_path / "start.safetensors")
    assert "model.token_embedding.weight" not in load_file(tmp_path / "start.safetensors")
    other = Training("clip", "drawings", 4, 8, 1e-3, torch.device("cpu"))
    other.start_from(tmp_path / "start.safetensors")
    mine, theirs = training.model.state_dict(), other.model.state_dict()
    mine["token_embedding.weight"] = models.compact_state(models.WEIGHTS / "clip.safetensors")["token_embedding.weight"]
    for name, value in theirs.items():
        torch.testing.assert_close(value, mine[name], rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(other.probe.linear.weight, training.probe.linear.weight, rtol=1e-3, atol=1e-4)


def test_the_clip_begins_with_imagenets_trunk_and_the_teachers_words(
    training: Training, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(picturebook_training, "similar_objects", lambda latents: [])
    monkeypatch.setattr(picturebook_training, "portraits", lambda: draw_scenes(1, 0))
    trunk = training.model.visual.trunk.state_dict()
    package = {f"_{i}": value + 1 for i, value in enumerate(trunk.values())}  # its names differ, its order does not
    torch.save({**package, "_fc.weight": torch.zeros(1000, 1280), "_fc.bias": torch.zeros(1000)}, tmp_path / "lite0.pth")
    other = Training("clip", "drawings", 4, 8, 1e-3, torch.device("cpu"))
    other.start_from(tmp_path / "lite0.pth")
    for name, value in other.model.visual.trunk.state_dict().items():
        assert torch.equal(value, trunk[name] + 1), name
    words = picturebook_training.text_part(models.compact_state(models.WEIGHTS / "clip.safetensors"))
    assert all(torch.equal(value, other.model.state_dict()[name]) for name, value in words.items())


def test_the_first_stages_stay_as_they_are(drawings: Path) -> None:
    training = Training("clip", "drawings", 4, 2, 1e-2, torch.device("cpu"), drawings, named=NAMED, frozen=3)
    before = {name: value.clone() for name, value in training.model.visual.state_dict().items()}
    training.advance(training.batches()[OTHERS])
    moved = {name for name, value in training.model.visual.state_dict().items() if not torch.equal(value, before[name])}
    assert not any(name.startswith(("trunk.conv_stem", "trunk.bn1", "trunk.blocks.0.", "trunk.blocks.1.")) for name in moved)
    assert {"trunk.blocks.2.0.conv_dw.weight", "trunk.blocks.2.0.bn1.running_mean", "head.pool.qkv.weight"} <= moved


def test_a_locked_text_tower_stays_as_it_is_and_names_everything(drawings: Path) -> None:
    training = Training("clip", "drawings", 4, 2, 1e-2, torch.device("cpu"), drawings, locked_text=True)
    before = {name: value.clone() for name, value in training.model.state_dict().items()}
    names = training.encode_names(torch.arange(len(objects())))
    training.advance(training.batches()[OTHERS])
    moved = {name for name, value in training.model.state_dict().items() if not torch.equal(value, before[name])}
    assert moved and all(name.startswith("visual.") for name in moved)
    torch.testing.assert_close(training.locked_names, names)


@pytest.mark.parametrize("name", ["clip", "judge"])
def test_a_probe_alone_goes_on_with_the_weights_that_ship(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picturebook_training, "similar_objects", lambda latents: [])
    monkeypatch.setattr(picturebook_training, "portraits", lambda: draw_scenes(1, 0))
    training = Training(name, "drawings", 4, 8, 1e-3, torch.device("cpu"))
    training.start_from(STARTS / f"{name}.safetensors")
    ships = models.compact_state(models.WEIGHTS / f"{name}.safetensors")
    assert all(torch.equal(value, ships[key].to(value.dtype)) for key, value in training.model.state_dict().items())
    monkeypatch.setattr(picturebook_training, "retrieval", lambda *_: 0.0)  # which captions come first is asked elsewhere
    assert training.held_out(200, 7)["read_0"] > 0.85  # it reads the first object off these latents


def test_the_rate_falls_with_the_steps_or_with_the_time(training: Training, drawings: Path) -> None:
    training = Training("judge", "drawings", 1000, 2, 1.0, torch.device("cpu"), drawings, named=NAMED)
    batch = training.batches()[OTHERS]
    rates = []
    for spent in (0.0, 0.5, 1.0):
        training.step = picturebook_training.WARM_UP
        training.advance(batch, spent)
        rates.append(training.optimizers[0].param_groups[0]["lr"])
    assert rates[0] == pytest.approx(0.5 * (1 + math.cos(math.pi * picturebook_training.WARM_UP / 1000)))
    assert rates[1:] == [pytest.approx(0.5), pytest.approx(0.0, abs=1e-9)]


def test_a_picture_is_contrasted_with_the_names_of_what_it_shows() -> None:
    names = F.normalize(torch.randn(2, len(objects()), 16, generator=torch.Generator().manual_seed(0)), dim=2)
    labels = torch.zeros(3, 9, dtype=torch.long)
    labels[:, :2] = torch.tensor([[5, len(objects())], [5, 9], [7, len(objects())]])
    labels[2, 4] = LAYOUTS.index("two")
    right = torch.stack([names[0, 5], names[0, 5] + names[0, 9], names[1, 7]])
    cosines = torch.stack([names[0] @ right[0], names[0] @ F.normalize(right[1], dim=0), names[1] @ right[2]])
    logs = (NAMING_SCALE * cosines.double()).log_softmax(1)
    wanted = -(logs[0, 5] + (logs[1, 5] + logs[1, 9]) / 2 + logs[2, 7]) / 3
    assert float(naming_loss(3 * right, names, labels)) == pytest.approx(float(wanted), rel=1e-4)
    assert naming_loss(right, names, labels) < naming_loss(right.roll(1, 0), names, labels)


def test_a_part_of_the_names_gives_the_loss_among_them(training: Training) -> None:
    few = Training("clip", "drawings", 4, 8, 1e-3, torch.device("cpu"), named=NAMED)
    labels = torch.zeros(4, 9, dtype=torch.long)
    labels[:, :2] = torch.tensor([[5, len(objects())], [5, 9], [1051, len(objects())], [0, 700]])
    things, placed = few.things_named(labels)
    assert len(things) <= NAMED + 6 and {0, 5, 9, 700, 1051} <= set(things.tolist())
    assert things[placed[placed[:, 1] < len(things)][:, :2]].tolist() == [[5, 9], [0, 700]]
    names = F.normalize(torch.randn(2, len(objects()), 16, generator=torch.Generator().manual_seed(0)), dim=2)
    picture = torch.randn(4, 16, generator=torch.Generator().manual_seed(1))
    others = torch.ones(len(objects()), dtype=torch.bool).index_fill(0, things, False)
    among = naming_loss(picture, names[:, things], placed)
    cosines = torch.einsum("be,ne->bn", F.normalize(picture, dim=1), names[0]).masked_fill(others, -torch.inf)
    logs = (NAMING_SCALE * cosines).log_softmax(1)
    wanted = -(logs[0, 5] + (logs[1, 5] + logs[1, 9]) / 2 + logs[2, 1051] + (logs[3, 0] + logs[3, 700]) / 2) / 4
    assert float(among) == pytest.approx(float(wanted), rel=1e-4)


def test_others_drawings_are_pulled_onto_what_the_teacher_sees_in_the_worlds_own(training: Training, drawings: Path) -> None:
    batch = Training("clip", "drawings", 4, 8, 1e-3, torch.device("cpu"), drawings).batches()[OTHERS]
    assert 0 < batch.paired.sum() == len(batch.own)
    knows, size = models.load("clip").visual, models.config("clip")["vision_cfg"]["image_size"]
    with torch.no_grad():
        training.model.train()
        seen, wanted = training.see(batch.images)[batch.paired], knows(normalize(resized(batch.own / 255, size)))
    assert F.cosine_similarity(training.teach(batch.own), wanted).min() > 0.99  # bfloat16
    loss = training.pair_losses(batch)["teaching"].detach()
    assert float(loss) == pytest.approx(float(1 - F.cosine_similarity(seen.double(), wanted.double()).mean()), abs=0.02)
    assert not any(parameter.grad is not None for parameter in training.teacher.parameters())
    alone = replace(batch, paired=torch.zeros_like(batch.paired), own=torch.empty(0))
    assert "teaching" not in training.pair_losses(alone)


def test_the_clip_sees_the_worlds_size_and_its_own(drawings: Path) -> None:
    batches = Training("clip", "drawings", 4, 8, 1e-3, torch.device("cpu"), drawings).batches()
    batches.similar = [[(i + 1) % len(objects())] for i in range(len(objects()))]
    assert [batches[step].images.shape[-1] for step in range(8)] == [64, 64, 128, 64, 64, 64, 128, 64]
    judge = Training("judge", "drawings", 4, 8, 1e-3, torch.device("cpu"), drawings).batches()
    assert [judge[step].images.shape[-1] for step in (8, 14)] == [64, 64]
    assert batches[OTHERS].images.dtype == torch.uint8 and not judge[OTHERS].paired.any()


def test_two_steps_of_three_show_the_world_as_it_ships(drawings: Path) -> None:
    """There a hue is what the caption says; others' drawings have hues of their own."""
    batches = Training("clip", "drawings", 4, 16, 1e-3, torch.device("cpu"), drawings).batches()
    batches.similar = [[(i + 1) % len(objects())] for i in range(len(objects()))]
    scenes, captions = batches.sample(3)
    assert all(scene.colors for scene in scenes) and len(captions) == 16
    assert torch.equal(batches.render(scenes, 3), as_bytes(render(scenes, models.IMAGE_SIZE)))
    alone = copy.copy(batches)
    alone.artwork = None
    for step, same in ((6, True), (5, False)):
        scenes, _ = batches.sample(step)
        assert torch.equal(batches.render(scenes, step), alone.render(scenes, step)) == same


def test_a_drawing_in_one_ink_takes_its_tint_for_ink(drawings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_artwork, "CHANGES", ())
    monkeypatch.setattr(training_artwork, "INKED", ("squares",))
    artwork = training_artwork.ManyHands(drawings, torch.device("cpu"))
    fox, square = [thing.name for thing in objects()].index("fox"), len(objects())
    slots = [Slot(fox, sprite, 0, 0, 1, 0, False, tint) for sprite, tint in ((square, "white"), (square, ""), (fox, "white"))]
    tiles = artwork.tiles([slot.sprite for slot in slots], 0, torch.device("cpu"))
    changed = artwork.vary(tiles.clone(), slots)
    assert (255 * changed[0, :3, 36, 36]).round().tolist() == list(COLORS["white"])
    assert torch.equal(changed[0, 3], tiles[0, 3]) and torch.equal(changed[1:], tiles[1:])
