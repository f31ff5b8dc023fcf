"""The bundled model and a few of its pictures, loaded once for all tests of methods."""

from __future__ import annotations

import pytest
import torch
from torchvision.transforms.functional import to_pil_image

from invert.config import InvertConfig
from invert.inverter import Inverter
from invert.meter import Meter
from invert.methods import Problem
from invert.picturebook.render import render
from invert.picturebook.world import draw_scenes
from invert.target import image_latent


@pytest.fixture(scope="session")
def inverter():
    return Inverter.load("picturebook", "cpu")


@pytest.fixture(scope="session")
def clip(inverter):
    return inverter.clip


@pytest.fixture(scope="session")
def pictures():
    """Held-out scenes as Pillow images."""
    return [to_pil_image(picture) for picture in render(draw_scenes(3, 7, "held-out"))]


@pytest.fixture
def problem(inverter, pictures):
    """make(budget, **config) → a Problem on the first picture."""

    def make(budget: int | None = None, **options) -> Problem:
        config = InvertConfig(target="raw", **{"tokens": 6, **options})
        target = image_latent(inverter.clip, pictures[:1])
        generator = torch.Generator().manual_seed(config.seed)
        return Problem(inverter.clip, target, inverter.vocabulary(), config, generator, Meter(budget), tuple(pictures[:1]))

    return make
