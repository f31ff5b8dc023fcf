"""What a caller sets for all of torch changes no prompt and breaks no model, and stays set."""

from __future__ import annotations

import os

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


def test_an_error_leaves_what_was_set():
    torch.set_default_dtype(torch.float64)
    try:
        with pytest.raises(KeyError), usual_torch():
            assert torch.get_default_dtype() == torch.float32
            raise KeyError
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
