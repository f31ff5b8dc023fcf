"""What a method reports while it runs."""

from __future__ import annotations

import pytest

from invert.history import labeled
from invert.methods import get_method


@pytest.mark.parametrize(
    ("method", "objective", "shown"),
    [
        ("pez", 0.3125, "cosine 0.312"),
        ("invert", 0.25, "objective 0.250"),
        ("ph2p", -0.0875, "denoising error 0.087"),
        ("interrogator-negative", -0.5, "objective -0.500"),
    ],
)
def test_a_candidate_is_shown_with_the_metric_of_its_method(method: str, objective: float, shown: str) -> None:
    assert labeled(objective, get_method(method).metric) == shown
