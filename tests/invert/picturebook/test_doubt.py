"""A picture unlike all that the model was trained on has its prompt and a sentence that says so."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from torch import Tensor

from invert.batch.tiers import Tiers, found_by
from invert.bundle import load_bundle
from invert.config import InvertConfig
from invert.inverter import Inverter
from invert.models.clip import Clip
from invert.picturebook import doubt, models
from invert.target import image_latents

BLACK, WHITE = (Image.new("RGB", (64, 64), color) for color in ("black", "white"))
QUICK = InvertConfig(method="random", budget=300)
NAMES = SimpleNamespace(
    latents=torch.nn.functional.normalize(torch.randn(9, 3, generator=torch.Generator().manual_seed(0)), dim=1)
)


@pytest.fixture
def doubting(inverter: Inverter) -> Inverter:
    """picturebook, which takes black pictures for unknown."""
    black = image_latents(inverter.clip, [BLACK])[0]

    def said(latents: Tensor) -> list[str]:
        return ["unlike all" if float(latent @ black) > 0.999 else "" for latent in latents]

    return Inverter(replace(inverter.bundle, doubt=said))


def nearer_to_the_first_axis(n: int) -> dict[str, Tensor]:
    """A network on n columns that knows what lies nearer to the first axis than to the second."""
    hidden = torch.zeros(2, n)
    hidden[0, 0] = hidden[1, 1] = 1
    return {
        "hidden.weight": hidden,
        "hidden.bias": torch.zeros(2),
        "weight": torch.tensor([1.0, -1.0]),
        "bias": torch.tensor(0.0),
    }


def test_the_classifier_reads_latents_and_how_they_lie_to_the_names() -> None:
    latents = torch.tensor([[0.8, 0.6, 0.0], [0.0, 0.6, -0.8]])
    cosines = latents.double() @ NAMES.latents.double().T
    best = cosines.sort(1, descending=True).values
    soft = [(scale * cosines).exp().sum(1).log() / scale for scale in (50, 20)]
    expected = torch.stack([*latents.T, *best[:, :5].T, best[:, 0] - best[:, 1], *soft, cosines.mean(1), cosines.std(1)], 1)
    found = doubt.described(latents, NAMES)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-6)


def test_the_classifier_says_a_sentence_of_what_is_unknown_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    latents = torch.tensor([[0.8, 0.6, 0.0], [0.6, 0.8, 0.0], [-0.6, -0.8, 0.0]])
    rows = doubt.described(latents, NAMES)
    network = nearer_to_the_first_axis(rows.shape[1])
    torch.testing.assert_close(doubt.familiarity(rows, network), torch.tensor([0.2, -0.2, 0.0]))
    monkeypatch.setattr(doubt, "weights", lambda: network)
    assert doubt.sentences(NAMES, latents) == ["", doubt.SENTENCE, doubt.SENTENCE]


def test_a_result_says_it_and_a_known_picture_says_nothing(doubting: Inverter) -> None:
    unknown, known = doubting.invert(BLACK, QUICK), doubting.invert(WHITE, QUICK)
    assert unknown.prompt and unknown.doubt == unknown.to_json()["doubt"] == "unlike all"
    assert known.doubt == "" and "doubt" not in known.to_json()


def test_pictures_of_one_prompt_are_unknown_where_none_of_them_is_known(doubting: Inverter) -> None:
    assert doubting.invert_joint([BLACK, BLACK], QUICK).doubt == "unlike all"
    assert doubting.invert_joint([BLACK, WHITE], QUICK).doubt == ""


def test_a_prompt_that_the_picture_carries_is_not_doubted(doubting: Inverter) -> None:
    assert doubting.rate("a fox", BLACK).doubt == ""


@pytest.mark.parametrize("method", ["retrieve", "random"])
def test_a_folder_says_it_of_each_picture(doubting: Inverter, method: str) -> None:
    tiers = Tiers(doubting, replace(QUICK, method=method))
    found = tiers([tiers.prepare(picture) for picture in (WHITE, BLACK)])
    assert [one.doubt for one in found] == ["", "unlike all"]  # type: ignore[union-attr]
    assert found_by(doubting.invert(BLACK, QUICK)).doubt == "unlike all"


def test_other_bundles_of_the_same_model_doubt_nothing(picturebook: Clip) -> None:
    assert load_bundle(picturebook, "generic").doubt is None


@pytest.mark.skipif(not doubt.FILE.exists(), reason="the classifier is not fitted to these weights yet")
def test_the_stored_classifier_was_fitted_to_the_stored_clip() -> None:
    from safetensors import safe_open

    with safe_open(doubt.FILE, "pt") as stored:
        assert stored.metadata()["clip"] == doubt.fingerprint(models.compact_state(models.WEIGHTS / "clip.safetensors"))
    assert doubt.FILE.stat().st_size <= 300_000
