"""Rounded weights are the nearest of fewer digits, a file keeps all else, and what ships is rounded."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from invert.picturebook import models, pipeline

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
from round_weights import KEPT, round_file, rounded


def every_finite_number() -> torch.Tensor:
    numbers = torch.arange(1 << 16, dtype=torch.int32).to(torch.int16).view(torch.float16)
    return numbers[numbers.isfinite()]


@pytest.mark.parametrize("kept", [1, 5, 9])
def test_a_number_becomes_the_nearest_of_that_many_digits(kept: int) -> None:
    numbers = every_finite_number()
    exact = numbers.double().numpy()
    exponent = np.maximum(np.floor(np.log2(np.abs(np.where(exact == 0, 1, exact)))), -14)  # below it numbers are evenly spaced
    step = 2.0 ** (exponent - kept)
    expected = np.rint(exact / step) * step  # to even, as IEEE 754 rounds
    expected[np.abs(expected) > 65504] *= np.inf
    torch.testing.assert_close(rounded(numbers, kept).double(), torch.from_numpy(expected), rtol=0, atol=0)


def test_rounding_keeps_shape_and_takes_any_stride() -> None:
    value = torch.randn(6, 4, generator=torch.Generator().manual_seed(0)).half()
    assert torch.equal(rounded(value.T), rounded(value).T)


def test_a_file_keeps_its_vectors_its_counts_and_what_it_says_of_itself(tmp_path: Path) -> None:
    noise = torch.Generator().manual_seed(0)
    matrix, bias = torch.randn(3, 5, generator=noise).half(), torch.randn(5, generator=noise).half()
    steps, exact = torch.arange(4), torch.randn(3, 5, generator=noise)
    path = tmp_path / "a.safetensors"
    save_file({"matrix": matrix, "bias": bias, "steps": steps, "exact": exact}, path, {"format": "pt"})
    round_file(path)
    found = load_file(path)
    assert torch.equal(found["matrix"], rounded(matrix)) and not torch.equal(found["matrix"], matrix)
    assert torch.equal(found["bias"], bias) and torch.equal(found["steps"], steps) and torch.equal(found["exact"], exact)
    with safe_open(path, "pt") as file:
        assert file.metadata() == {"format": "pt"}


@pytest.mark.parametrize(
    "path", [models.WEIGHTS / "judge.safetensors", pipeline.FOLDER / "unet" / "diffusion_pytorch_model.safetensors"]
)
def test_what_ships_is_rounded(path: Path) -> None:
    matrices = [value for value in load_file(path).values() if value.ndim > 1]
    assert matrices and all(torch.equal(value, rounded(value, KEPT)) for value in matrices)
