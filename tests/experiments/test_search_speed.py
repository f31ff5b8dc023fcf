"""Where a search's time goes, and what is said where an earlier commit is not at hand."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from experiments import search_speed
from invert import together
from invert.methods import invert as method


def test_the_parts_of_the_time_are_shares_of_all_of_it(monkeypatch):
    ticks = iter(range(100))
    monkeypatch.setattr(search_speed, "clock_of", lambda device: lambda: float(next(ticks)))
    monkeypatch.setattr(together, "cosines_of_rows", lambda: "scored")

    def invert_batch(images, budget):
        assert together.cosines_of_rows() == "scored"
        return [SimpleNamespace(prompt=image) for image in images]

    found, prompts = search_speed.parts_of_time(SimpleNamespace(invert_batch=invert_batch), ["a", "b"], torch.device("cpu"))
    assert prompts == ["a", "b"] and found["seconds"] == 3 / 2  # a tick before, two around the encoder, one after
    assert found["shares"]["text encoder"] == pytest.approx(1 / 3) and sum(found["shares"].values()) == pytest.approx(1)


def test_what_was_watched_is_put_back_after_an_error():
    before = together.gradients, method.project
    with pytest.raises(ZeroDivisionError), search_speed.timed(lambda: 0.0):
        assert (together.gradients, method.project) != before
        _ = 1 / 0
    assert (together.gradients, method.project) == before


def test_without_the_earlier_commit_nothing_is_compared(monkeypatch):
    monkeypatch.setattr(search_speed, "BASELINE", "0" * 40)
    assert "clone with its history" in search_speed.before_and_after(1, 1, 1)["skipped"]
