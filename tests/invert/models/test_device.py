"""Which device is used where none is asked for."""

from __future__ import annotations

import pytest
import torch

from invert.errors import InputError
from invert.models.device import pick_device


@pytest.mark.parametrize(
    ("cuda", "mps", "wanted"), [(True, True, "cuda"), (True, False, "cuda"), (False, True, "mps"), (False, False, "cpu")]
)
def test_cuda_comes_before_mps_and_mps_before_the_cpu(
    monkeypatch: pytest.MonkeyPatch, cuda: bool, mps: bool, wanted: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert pick_device(None) == torch.device(wanted)
    assert pick_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("device", ["meta", "hpu", "mkldnn", "", "of another world"])
def test_a_device_that_computes_nothing_here_is_one_sentence(device: str) -> None:
    with pytest.raises(InputError, match="cannot be used here"):
        pick_device(device)
