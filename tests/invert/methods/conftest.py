"""Problems on the bundled model for all tests of methods."""

from __future__ import annotations

import pytest
import torch

from invert.config import InvertConfig
from invert.meter import Meter
from invert.methods import Problem
from invert.target import image_latent


@pytest.fixture(scope="session")
def clip(inverter):
    return inverter.clip


@pytest.fixture
def problem(inverter, pictures):
    """make(budget, **config) → a Problem on the first picture."""

    def make(budget: int | None = None, **options) -> Problem:
        config = InvertConfig(target="raw", **{"tokens": 6, **options})
        target = image_latent(inverter.clip, pictures[:1])
        generator = torch.Generator().manual_seed(config.seed)
        return Problem(inverter.clip, target, inverter.vocabulary(), config, generator, Meter(budget), tuple(pictures[:1]))

    return make
