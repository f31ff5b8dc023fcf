"""The generator's training script: repeatable, resumable, and what it writes is what the package loads."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from invert.errors import InputError
from invert.picturebook import models, pipeline
from invert.picturebook.world import draw_scenes, held_out

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
from round_weights import rounded

SCRIPT = Path(__file__).parents[2] / "scripts" / "train_generator.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("train_generator", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["train_generator"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def plan(script: ModuleType, folder: Path, **changes: Any) -> Any:
    settings = {"name": "vae", "steps": 2, "batch": 2, "rate": 1e-3, "cooling": 0.5, "decay": 0.99}
    return script.Plan(**{**settings, **changes}, folder=folder, device=torch.device("cpu"))


def vae_run(script: ModuleType, folder: Path) -> tuple[Any, Any]:
    torch.manual_seed(0)
    model, settings = script.build_vae(), plan(script, folder)
    return script.Run(settings, model), script.vae_loss(settings, model)


def test_a_resumed_run_is_the_unbroken_one(script: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "unbroken").mkdir()
    (tmp_path / "broken").mkdir()
    unbroken, loss = vae_run(script, tmp_path / "unbroken")
    losses = [row["loss"] for row in unbroken.train(loss, every=1)]
    first, loss = vae_run(script, tmp_path / "broken")
    assert next(first.train(loss, every=1))["loss"] == losses[0]
    resumed, loss = vae_run(script, tmp_path / "broken")
    assert resumed.step == 1
    assert [row["loss"] for row in resumed.train(loss, every=1)] == losses[1:]
    for name, value in unbroken.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name


def test_workers_see_different_scenes_and_a_step_always_the_same(script: ModuleType, tmp_path: Path) -> None:
    plans = [plan(script, tmp_path, worker=k, workers=2) for k in range(2)]
    seen = [script.sample_scenes(p, step)[0] for step in range(3) for p in plans]
    assert len({scene.seed for scenes in seen for scene in scenes}) == 12
    assert script.sample_scenes(plans[1], 2)[0] == seen[5]


def test_workers_sync_to_their_mean(script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = nn.Conv2d(3, 2, 3).to(memory_format=torch.channels_last)
    run = script.Run(plan(script, tmp_path, workers=2), model)
    weight, bias = model.weight.detach().clone(), model.bias.detach().clone()
    theirs = torch.arange(56.0)
    monkeypatch.setattr(script.dist, "all_reduce", lambda flat: flat.add_(theirs / 2))
    run.sync_weights()
    torch.testing.assert_close(model.weight.detach(), (weight + theirs[:54].view(2, 3, 3, 3)) / 2)
    torch.testing.assert_close(model.bias.detach(), (bias + theirs[54:]) / 2)


def test_the_rate_warms_up_stays_and_cools(script: ModuleType, tmp_path: Path) -> None:
    settings = plan(script, tmp_path, steps=1000, rate=1.0, cooling=0.2)
    assert settings.rate_at(0) == 0.01
    assert settings.rate_at(100) == settings.rate_at(800) == 1
    assert settings.rate_at(900) == pytest.approx(0.5)


def test_a_quarter_of_the_timesteps_is_the_last_and_the_rest_lean_to_noise(script: ModuleType) -> None:
    drawn = script.timesteps(4000, 1000, torch.Generator().manual_seed(0))
    assert (drawn == 999).float().mean() == pytest.approx(0.25, abs=0.01)
    assert (drawn[1000:] < 500).float().mean() == pytest.approx(0.25, abs=0.03)  # of a density that grows linearly


def test_simplifying_makes_backgrounds_plain_and_never_takes_a_held_out_scene(script: ModuleType) -> None:
    scenes = draw_scenes(2000, 0)
    simpler = script.simplified(scenes, script.random.Random(0))
    assert not any(held_out(scene) for scene in simpler)
    patterned = [(a, b) for a, b in zip(scenes, simpler, strict=True) if a.pattern != "plain"]
    assert sum(b.pattern == "plain" for _, b in patterned) / len(patterned) == pytest.approx(script.SIMPLIFIED, abs=0.06)
    assert all(a.objects == b.objects and a.colors[0] == b.colors[0] for a, b in patterned)


def test_some_captions_are_dropped_and_some_cut(script: ModuleType) -> None:
    scenes = draw_scenes(2000, 0)
    captions = script.sample_captions(scenes, script.random.Random(0))
    assert captions.count("") / 2000 == pytest.approx(script.EMPTY_SHARE, abs=0.02)
    assert captions == script.sample_captions(scenes, script.random.Random(0))


def test_keys_and_values_say_of_new_hidden_states_what_they_said_of_the_old_ones(script: ModuleType) -> None:
    unet = script.shipped("unet")
    assert "_name_or_path" not in unet.config
    noise = torch.Generator().manual_seed(0)
    states, turn = torch.randn(49408, 192, generator=noise), torch.randn(192, 192, generator=noise)
    old, new = (lambda ids, table=table: SimpleNamespace(last_hidden_state=table[ids]) for table in (states, states @ turn))
    layer = unet.mid_block.attentions[0].transformer_blocks[0].attn2.to_v
    said = layer(states[:50]).detach()
    script.fit_to_text(unet, old, new, size=512)
    torch.testing.assert_close(layer(states[:50] @ turn), said, atol=1e-3, rtol=1e-3)


def test_a_unet_goes_on_from_the_one_that_ships(script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(script.Plan, "rate_at", lambda self, step, spent=0.0: 0.0)  # nothing moves
    arguments = ["unet", "--steps", "1", "--batch", "1", "--every", "1", "--folder", str(tmp_path), "--device", "cpu"]
    monkeypatch.setattr(sys, "argv", ["train_generator.py", *arguments, "--start", str(models.WEIGHTS)])
    script.main()
    monkeypatch.setattr(sys, "argv", ["train_generator.py", "export", "--folder", str(tmp_path), "--out", str(tmp_path / "out")])
    script.main()
    made, ships = (pipeline.load(folder) for folder in (tmp_path / "out", pipeline.FOLDER))
    for part in ("unet", "vae"):
        for name, value in getattr(made, part).state_dict().items():
            torch.testing.assert_close(value, getattr(ships, part).state_dict()[name], atol=2e-3, rtol=2e-3)


def test_the_rate_falls_with_the_time_too(script: ModuleType, tmp_path: Path) -> None:
    settings = plan(script, tmp_path, steps=1000, rate=1.0, cooling=0.2)
    assert settings.rate_at(500, 0.7) == 1 and settings.rate_at(500, 0.9) == pytest.approx(0.5)
    assert settings.rate_at(500, 1.2) == 0


def test_the_commands_train_both_networks_and_write_what_the_package_loads(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = ["--steps", "1", "--batch", "1", "--every", "1", "--folder", str(tmp_path), "--device", "cpu"]
    for arguments in (["vae", *short], ["unet", *short], ["export", "--folder", str(tmp_path), "--out", str(tmp_path / "out")]):
        monkeypatch.setattr(sys, "argv", ["train_generator.py", *arguments])
        script.main()
    assert len((tmp_path / "generator-unet.jsonl").read_text().splitlines()) == 1
    trained = torch.load(tmp_path / "generator-unet.ckpt")["average"]["conv_in.weight"]
    loaded = pipeline.load(tmp_path / "out")
    torch.testing.assert_close(loaded.unet.conv_in.weight, rounded(trained.half()).float())
    (tmp_path / "out" / pipeline.TRAINED_WITH).write_text("of another CLIP")
    with pytest.raises(InputError, match="was trained with other weights of picturebook's CLIP"):
        pipeline.load(tmp_path / "out")
