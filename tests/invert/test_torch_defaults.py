"""What a caller sets for all of torch changes no prompt and breaks no model, and stays set."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest
import torch

from invert.inverter import Inverter
from invert.torch_defaults import usual_torch

TINY = {"soft_steps": 2, "restarts": 1, "tokens": 4, "budget": 3000}


@pytest.fixture
def expected(inverter, pictures):
    return inverter.invert(pictures[0], **TINY)


def test_a_model_loaded_and_used_in_inference_mode_is_a_usual_one(pictures, expected):
    with torch.inference_mode():
        inverter = Inverter.load("picturebook", device="cpu")
        inside = inverter.invert(pictures[0], **TINY)
    after = inverter.invert(pictures[0], **TINY)
    assert inside.prompt == after.prompt == expected.prompt


def test_another_default_dtype_or_device_changes_no_prompt(pictures, expected):
    torch.set_default_dtype(torch.float64)
    torch.set_default_device("meta")
    try:
        found = Inverter.load("picturebook", device="cpu").invert(pictures[0], **TINY)
        kept = torch.get_default_dtype(), torch.get_default_device().type
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_default_device(None)
    assert kept == (torch.float64, "meta") and found.prompt == expected.prompt


@pytest.fixture
def float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def test_an_error_leaves_what_was_set(float64):
    with pytest.raises(KeyError), usual_torch():
        assert torch.get_default_dtype() == torch.float32
        raise KeyError
    assert torch.get_default_dtype() == torch.float64


@pytest.mark.parametrize("last", ["the first to enter", "the second to enter"])
def test_threads_that_overlap_compute_in_float32_and_the_last_puts_back_what_was_set(float64, last):
    inside, other_left = Event(), Event()

    def lasts() -> torch.dtype:
        with usual_torch():
            inside.set()
            other_left.wait()
            return torch.ones(1).dtype

    with ThreadPoolExecutor(1) as pool:
        if last == "the first to enter":
            lasting = pool.submit(lasts)
            inside.wait()
            with usual_torch():
                pass
        else:
            with usual_torch():
                lasting = pool.submit(lasts)
                inside.wait()
        other_left.set()
        assert lasting.result() == torch.float32
    assert torch.get_default_dtype() == torch.float64


def test_a_dtype_that_somebody_sets_meanwhile_stays():
    try:
        with usual_torch():
            torch.set_default_dtype(torch.float64)
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("value", ["true", None])
def test_loading_a_model_leaves_the_environment_as_it_is(monkeypatch, value):
    monkeypatch.delenv("TOKENIZERS_PARALLELISM", raising=False)
    if value is not None:
        monkeypatch.setenv("TOKENIZERS_PARALLELISM", value)
    before = dict(os.environ)
    Inverter.load("picturebook", device="cpu")
    assert dict(os.environ) == before
