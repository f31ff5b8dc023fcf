"""The figures of the experiments `generator` and `roundtrip`, on pictures and rows of known worth."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchvision.transforms.functional import to_tensor

from experiments import generator, roundtrip
from experiments.harness.pictures import scene_pictures
from experiments.harness.records import RunRecord
from invert.diffusion.roundtrip import RegenerationScores
from invert.models.loading import load_clip
from invert.picturebook.grammar import caption
from invert.picturebook.render import render
from invert.picturebook.world import draw_scenes


def test_rendered_pictures_are_recognised_and_mixed_up_ones_are_not() -> None:
    judge = load_clip("picturebook-judge", device="cpu")
    scenes = draw_scenes(64, 0, "held-out")
    latents, texts = judge.encode_image(render(scenes, 64)), judge.encode_text([caption(scene) for scene in scenes])
    right, wrong = generator.judged(latents[:48], texts, scenes), generator.judged(latents[:48].roll(1, 0), texts, scenes)
    assert right["own_caption_first"] > 0.9 and right["same_objects_first"] >= right["own_caption_first"]
    assert wrong["own_caption_first"] == 0
    assert right["similarity"] > wrong["similarity"] + 0.2


def test_objects_are_recovered_from_the_share_of_images_that_show_them() -> None:
    scenes = draw_scenes(64, 1, "held-out")
    namer = roundtrip.Namer(load_clip("picturebook-judge", device="cpu"), scenes)
    shown = render([scenes[0], scenes[0], scenes[5], scenes[9]], 64)
    assert namer.recovered(shown, scenes[0]) == 0.5


def records(method: str, cosines: list[float], judged: list[float]) -> list[RunRecord]:
    same = {"method": method, "kind": "held-out", "pixels": 0.1, "colours": 0.2, "objects": 1.0}
    pairs = enumerate(zip(cosines, judged, strict=True))
    return [{"picture": f"scene-{i}", "cosine": cosine, "judge": judge, **same} for i, (cosine, judge) in pairs]


def test_means_differences_and_correlations_are_of_the_method_alone() -> None:
    every = records("invert", [0.1, 0.2, 0.3], [0.5, 0.6, 0.7]) + records("pez", [0.3, 0.2, 0.1], [0.1, 0.2, 0.3])
    found = roundtrip.summary(every, seed=0)
    judge = found["invert"]["judge"]
    assert judge["mean"] == pytest.approx(0.6) and judge["low"] <= 0.6 <= judge["high"]
    assert (found["invert"]["correlation"], found["pez"]["correlation"]) == pytest.approx((1, -1))
    difference = roundtrip.differences(every, "invert", seed=0)["pez"]
    assert (difference["mean"], difference["low"], difference["high"]) == pytest.approx((0.4, 0.4, 0.4))


def test_a_correlation_of_equal_scores_is_not_made_up() -> None:
    assert roundtrip.correlation(records("pez", [0.2, 0.2, 0.2], [0.1, 0.2, 0.3]), "pez") is None
    assert np.array_equal(roundtrip.column(records("pez", [0.2], [0.1]), "pez", "cosine"), [0.2])


def test_a_single_image_is_timed() -> None:
    class Quick:
        calls = 0

        def generate(self, prompts: list[str]) -> torch.Tensor:
            Quick.calls += len(prompts)
            return torch.zeros(1)

    assert generator.seconds_alone(Quick(), ["a fox"] * 9) >= 0  # type: ignore[arg-type]
    assert Quick.calls == generator.TIMED


def test_a_record_holds_the_means_over_a_prompts_own_images() -> None:
    (picture,) = scene_pictures(1, 0)
    said = {roundtrip.TRUTH: picture.truth, "pez": "two owls"}
    again = RegenerationScores(torch.zeros(2, 2, 3, 64, 64), *(torch.tensor([[0.2, 0.4], [0.6, 0.6]]) for _ in range(3)))
    again.images[0, 1] = to_tensor(picture.image)
    judge = load_clip("picturebook-judge", device="cpu")
    namer = roundtrip.Namer(judge, [picture.scene, *draw_scenes(63, 1)])
    true, pez = roundtrip.records_of(picture, said, again, load_clip("picturebook", device="cpu"), namer)
    assert (true["method"], true["prompt"], pez["method"]) == (roundtrip.TRUTH, picture.truth, "pez")
    assert true["judge"] == pytest.approx(0.3) and pez["colours"] == pytest.approx(0.6)
    assert true["cosine"] > pez["cosine"] and (true["objects"], pez["objects"]) == (0.5, 0.0)
