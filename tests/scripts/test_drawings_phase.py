"""The CLIP learns from many hands with its text tower frozen, goes on from a start file, and averages with what it was."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from invert.picturebook import models
from invert.picturebook.world import LAYOUTS, objects

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
import average_towers
import picturebook_training
from picturebook_training import Training, naming_loss


@pytest.fixture(scope="module")
def training() -> Training:
    return Training("clip", "drawings", 4, 8, 1e-3, torch.device("cpu"))


def test_the_text_tower_is_left_out_of_training(training: Training) -> None:
    trained = {name for name, parameter in training.model.named_parameters() if parameter.requires_grad}
    assert "logit_scale" in trained and "visual.conv1.weight" in trained
    assert not any("transformer" in name or "token_embedding" in name or "text_projection" in name for name in trained)


def test_a_run_goes_on_from_what_another_left(training: Training, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picturebook_training, "similar_objects", lambda latents: [])
    monkeypatch.setattr(picturebook_training, "portraits", list)
    monkeypatch.setattr(Training, "encode_images", lambda self, pixels: pixels)
    monkeypatch.setattr(picturebook_training, "render", lambda scenes, size: torch.empty(0))
    training.save_start(tmp_path / "start.safetensors")
    assert (tmp_path / "start.safetensors").stat().st_size < (models.WEIGHTS / "clip.safetensors").stat().st_size
    other = Training("clip", "drawings", 4, 8, 1e-3, torch.device("cpu"))
    nn.init.ones_(other.model.visual.conv1.weight)
    other.start_from(tmp_path / "start.safetensors")
    mine, theirs = training.model.state_dict(), other.model.state_dict()
    committed = models.compact_state(models.WEIGHTS / "clip.safetensors")
    for name, value in theirs.items():
        wanted = mine[name] if name.startswith("visual.") or name == "logit_scale" else committed[name]
        torch.testing.assert_close(value, wanted, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(other.probe.linear.weight, training.probe.linear.weight, rtol=1e-3, atol=1e-4)


def test_a_picture_is_contrasted_with_the_names_of_what_it_shows() -> None:
    names = F.normalize(torch.randn(2, len(objects()), 16, generator=torch.Generator().manual_seed(0)), dim=2)
    labels = torch.zeros(3, 9, dtype=torch.long)
    labels[:, :2] = torch.tensor([[5, len(objects())], [5, 9], [7, len(objects())]])
    labels[2, 4] = LAYOUTS.index("two")
    right = torch.stack([names[0, 5], names[0, 5] + names[0, 9], names[1, 7]])
    cosines = torch.stack([names[0] @ right[0], names[0] @ F.normalize(right[1], dim=0), names[1] @ right[2]])
    logs = (picturebook_training.NAMING_SCALE * cosines.double()).log_softmax(1)
    wanted = -(logs[0, 5] + (logs[1, 5] + logs[1, 9]) / 2 + logs[2, 7]) / 3
    assert float(naming_loss(3 * right, names, labels)) == pytest.approx(float(wanted), rel=1e-4)
    assert naming_loss(right, names, labels) < naming_loss(right.roll(1, 0), names, labels)


def test_towers_average_weight_by_weight_and_count_what_they_see() -> None:
    old, new = ({"w": torch.tensor([0.0, 4.0]), "n": torch.tensor(3)}, {"w": torch.tensor([2.0, 0.0]), "n": torch.tensor(9)})
    mean = average_towers.average(old, new, 0.25)
    assert mean["w"].tolist() == [0.5, 3.0] and mean["n"] == 3
    norm = nn.BatchNorm2d(2)
    tower = nn.Sequential(norm, nn.Flatten())
    pictures = [torch.randn(64, 2, 4, 4, generator=torch.Generator().manual_seed(seed)) + seed for seed in (1, 2)]
    average_towers.measure_statistics(tower, pictures)
    wanted = torch.stack([part.double().mean((0, 2, 3)) for part in pictures]).mean(0)
    torch.testing.assert_close(norm.running_mean.double(), wanted, rtol=1e-5, atol=1e-5)
    assert not tower.training


def test_others_drawings_are_pulled_onto_what_the_teacher_sees_in_the_worlds_own(training: Training, drawings: Path) -> None:
    batch = Training("clip", "drawings", 4, 8, 1e-3, torch.device("cpu"), drawings).batches()[0]
    assert 0 < batch.paired.sum() == len(batch.own)
    ships = models.load("clip").visual
    with torch.no_grad():
        seen, wanted = training.see(batch.images)[batch.paired], ships(batch.own)
    assert F.cosine_similarity(training.teach(batch.own), wanted).min() > 0.99  # bfloat16
    loss = training.pair_losses(batch)["teaching"].detach()
    assert float(loss) == pytest.approx(float(1 - F.cosine_similarity(seen.double(), wanted.double()).mean()), abs=0.02)
    assert not any(parameter.grad is not None for parameter in training.teacher.parameters())
    alone = replace(batch, paired=torch.zeros_like(batch.paired), own=torch.empty(0))
    assert "teaching" not in training.pair_losses(alone)
