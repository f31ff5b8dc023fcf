"""The stored weights fit the world, and training goes on exactly where it was stopped."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
from safetensors.torch import load_file

from invert.picturebook import models
from invert.picturebook.clip import load_judge, load_model
from invert.picturebook.grammar import caption, lexicon
from invert.picturebook.linear_probe import IGNORED, LinearProbe, attributes, mask_unstated
from invert.picturebook.render import render
from invert.picturebook.world import Scene, draw_scenes, held_out, objects

SCRIPT = Path(__file__).parents[3] / "scripts" / "train_picturebook.py"


@pytest.fixture(scope="module")
def script() -> Iterator[ModuleType]:
    spec = importlib.util.spec_from_file_location("train_picturebook", SCRIPT)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(SCRIPT.parent)
        spec.loader.exec_module(module)
        yield module


def test_every_token_of_a_caption_has_a_trained_row(picturebook) -> None:
    assert set(models.caption_token_ids()) <= set(models.trained_token_ids())
    known = set(models.trained_token_ids())
    for scene in draw_scenes(300, 0, "held-out"):
        assert known.issuperset(picturebook.tokenizer.encode(caption(scene)))
    assert all(known.issuperset(picturebook.tokenizer.encode(word)) for word in lexicon())


def test_a_changed_vocabulary_is_listed_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "TOKENS", tmp_path / "tokens.txt")
    models.rewrite_token_list()
    assert models.trained_token_ids() == models.caption_token_ids()
    models.trained_token_ids.cache_clear()  # the next test reads the real list again


def test_rows_that_training_never_met_are_zero_and_the_others_are_not() -> None:
    taught = load_file(models.SYNONYMS)["tokens"].tolist() if models.SYNONYMS.exists() else []
    for name in models.NAMES:
        table = models.full_state(models.WEIGHTS / f"{name}.safetensors")[models.TOKEN_TABLE]
        met = table.abs().sum(1) > 0
        assert met.nonzero()[:, 0].tolist() == sorted([*models.trained_token_ids(), *taught])


def test_all_weights_together_are_small() -> None:
    assert sum(file.stat().st_size for file in models.WEIGHTS.iterdir()) <= 40 * 2**20


def test_the_judge_is_of_another_kind_than_the_clip() -> None:
    clip, judge = (models.build(models.config(name), 8) for name in models.NAMES)
    assert type(clip.visual) is not type(judge.visual)
    assert len(clip.transformer.resblocks) != len(judge.transformer.resblocks)


def test_saved_weights_come_back(tmp_path: Path) -> None:
    torch.manual_seed(0)  # open_clip takes no generator
    model = models.build(models.config("judge"), len(models.trained_token_ids()))
    models.save_weights(model, tmp_path / "judge.safetensors")
    state = models.full_state(tmp_path / "judge.safetensors")
    rows = state.pop(models.TOKEN_TABLE)[list(models.trained_token_ids())]
    assert torch.equal(rows, model.token_embedding.weight.detach().half().float())
    own = model.state_dict()
    assert all(torch.equal(value, own[name].half().to(value.dtype)) for name, value in state.items() if value.is_floating_point())


@pytest.mark.parametrize(("name", "least"), [("clip", 0.90), ("judge", 0.85)])
def test_the_right_caption_ranks_first_among_512_held_out_ones(script: ModuleType, name: str, least: float) -> None:
    load = load_model if name == "clip" else load_judge
    assert script.evaluate(load(torch.device("cpu")), 512) >= least


@pytest.mark.long  # twenty thousand captions
def test_most_objects_beat_all_that_could_stand_in_their_place(script: ModuleType) -> None:
    assert script.objects_found(load_model(torch.device("cpu")), 10) >= 0.75


def test_retrieval_of_chance_is_chance(script: ModuleType) -> None:
    generator = torch.Generator().manual_seed(0)

    def noise(batch) -> torch.Tensor:
        return torch.randn(len(batch), 8, generator=generator)

    assert script.retrieval(noise, noise, 512, 0) < 0.05


def next_in_line() -> list[list[int]]:
    """Stands for the objects that a model finds similar to each."""
    return [[(i + 1) % len(objects())] * 24 for i in range(len(objects()))]


@pytest.mark.parametrize(
    ("name", "phase"),
    [("clip", "scenes"), ("clip", "pictures"), ("judge", "pictures"), ("judge", "families"), ("judge", "drawings")],
)
def test_a_resumed_training_is_bit_for_bit_the_unbroken_one(
    script: ModuleType, drawings: Path, name: str, phase: str, tmp_path: Path
) -> None:
    device = torch.device("cpu")
    unbroken, stopped, resumed = (script.Training(name, phase, 2, 8, 1e-3, device, drawings) for _ in range(3))
    if phase != "scenes":
        unbroken.similar = next_in_line()
        unbroken.save(tmp_path / "start.ckpt")
        stopped.load(tmp_path / "start.ckpt")
    data = unbroken.batches()
    unbroken.advance(data[0])
    losses = unbroken.advance(data[1])
    stopped.advance(stopped.batches()[0])
    stopped.save(tmp_path / "training.ckpt")
    resumed.load(tmp_path / "training.ckpt")
    assert resumed.step == 1 and resumed.advance(resumed.batches()[1]) == losses
    for whole, part in ((unbroken.model, resumed.model), (unbroken.probe, resumed.probe)):
        theirs = part.state_dict()
        assert all(torch.equal(value, theirs[key]) for key, value in whole.state_dict().items())


def test_pictures_alone_leave_the_text_tower_as_it_was(script: ModuleType) -> None:
    training = script.Training("judge", "pictures", 2, 8, 1e-3, torch.device("cpu"))
    before = {name: value.clone() for name, value in training.model.state_dict().items()}
    training.advance(training.batches()[0])
    changed = {name for name, value in training.model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed and all(name.startswith("visual.") for name in changed)


def test_every_phase_goes_on_from_the_one_before_and_writes_weights_that_load(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import picturebook_training

    monkeypatch.setattr(picturebook_training, "RANKED", 16)
    monkeypatch.setattr(script, "RANKED", 16)  # what the log says of held-out scenes is not looked at
    command = [str(SCRIPT), "judge", "scenes", "--steps", "2", "--batch", "4", "--device", "cpu"]
    monkeypatch.setattr(sys, "argv", [*command, "--folder", str(tmp_path), "--weights", str(tmp_path / "weights")])
    script.main()
    for phase in ("pictures", "families"):
        before = torch.load(tmp_path / f"judge-{script.PHASES[script.PHASES.index(phase) - 1]}.ckpt")
        training = script.Training("judge", phase, 1, 8, 0.0, torch.device("cpu"))  # a rate of 0: nothing moves
        script.train(training, tmp_path, tmp_path / "weights")
        assert all(torch.equal(value, before["model"][name]) for name, value in training.model.named_parameters())
        assert all(torch.equal(value, before["reader"][name]) for name, value in training.probe.state_dict().items())
        assert (tmp_path / f"judge-{phase}.jsonl").read_text().count('"step": 1') == 1
    models.load("judge", tmp_path / "weights")


def test_training_never_sees_a_held_out_scene(script: ModuleType) -> None:
    from picturebook_batches import training_batch

    for step in range(12):
        scenes, captions = training_batch(step, 1, 64)
        assert len(scenes) == len(captions) == 64
        assert not any(map(held_out, scenes))
        assert (scenes, captions) == training_batch(step, 1, 64)


def test_batches_drawn_by_other_processes_are_those_drawn_here(script: ModuleType, drawings: Path) -> None:
    data = script.Training("judge", "drawings", 4, 8, 1e-3, torch.device("cpu"), drawings).batches()
    data.similar = next_in_line()
    ahead = list(data.stream(1, 3, workers=1))
    for step, batch in zip((1, 2), ahead, strict=True):
        assert batch.captions == data[step].captions
        assert torch.equal(batch.images, data[step].images)


def test_drawings_by_others_are_drawn_and_unnamed_grounds_are_not_spoken_of(script: ModuleType, drawings: Path) -> None:
    from training_artwork import ManyHands

    fox = next(i for i, thing in enumerate(objects()) if thing.name == "fox")
    scenes = [Scene((fox,), ("",), "one", "", "plain", (), "plain", seed) for seed in range(64)]
    images = render(scenes, 64, jitter=1.0, artwork=ManyHands(drawings, torch.device("cpu")))
    red = (images[:, 0] > 0.6) & (images[:, 1] < 0.4) & (images[:, 2] < 0.4)
    squares = (red.float().mean((1, 2)) > 0.1).sum()
    assert 16 < squares < 64  # three in five by the font that has one, some recolored, the others by the world's own sprite
    assert caption(scenes[0]) == "a fox"
    assert attributes(scenes[0])[5:8] == [IGNORED] * 3


def test_a_caption_that_leaves_something_out_is_not_asked_for_it(script: ModuleType) -> None:
    scenes = draw_scenes(64, 0)
    labels = torch.tensor([attributes(scene) for scene in scenes])
    whole = mask_unstated(labels, scenes, [caption(scene) for scene in scenes])
    assert (whole[:, 0] == labels[:, 0]).all() and (whole[:, 8] == labels[:, 8]).all()
    nothing = mask_unstated(labels, scenes, ["picture"] * 64)
    assert (nothing[:, [0, 2, 3, 4, 5, 6, 7]] == IGNORED).all()
    probe, latents = LinearProbe(4), torch.ones(64, 4)
    assert 0 < probe.loss(latents, nothing) < probe.loss(latents, whole)
    assert probe.loss(latents, torch.full_like(labels, IGNORED)) == 0
