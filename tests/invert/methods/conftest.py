"""Tasks on the bundled model for all tests of methods."""

from __future__ import annotations

import pytest
import torch

from invert.budget import Budget
from invert.config import InvertConfig
from invert.history import History
from invert.methods.task import InversionTask
from invert.target import image_latent


@pytest.fixture(scope="session")
def clip(inverter):
    return inverter.clip


@pytest.fixture
def task(inverter, pictures):
    """make(budget, **config) → a task on the first picture."""

    def make(budget: int | None = None, **options) -> InversionTask:
        config = InvertConfig(target="raw", **{"tokens": 6, **options})
        target = image_latent(inverter.clip, pictures[:1])
        rng = torch.Generator().manual_seed(config.seed)
        return InversionTask(inverter.bundle_for(config), target, config, rng, Budget(budget), History(), tuple(pictures[:1]))

    return make
