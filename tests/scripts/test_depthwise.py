"""The quick gradients of depthwise convolutions are torch's own."""

from __future__ import annotations

import copy
import sys
from pathlib import Path

import pytest
import torch
from timm.layers import create_conv2d
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
from depthwise import quicken


def gradients(conv: nn.Module, x: Tensor, weights: Tensor) -> tuple[Tensor, ...]:
    """Of the weighted sum of the convolution's output, with respect to its input and its kernel; the output too."""
    x = x.clone().requires_grad_()
    output = conv(x)
    return output.detach(), *torch.autograd.grad((output * weights).sum(), [x, *conv.parameters()])


@pytest.mark.parametrize("side", [3, 5, 7])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("padding", ["same", ""])  # timm's, whose padding depends on the picture's size, and torch's
@pytest.mark.parametrize("shape", [(4, 4), (9, 6), (11, 16)])
def test_gradients_are_torchs(side: int, stride: int, padding: str, shape: tuple[int, int]) -> None:
    draw = torch.Generator().manual_seed(0)
    conv = create_conv2d(6, 6, side, stride=stride, padding=padding, depthwise=True).double()
    x = torch.randn(3, 6, *shape, dtype=torch.float64, generator=draw)
    weights = torch.randn(conv(x).shape, dtype=torch.float64, generator=draw)
    quick = copy.deepcopy(conv)
    quicken(quick)
    for found, true in zip(gradients(quick, x, weights), gradients(conv, x, weights), strict=True):
        torch.testing.assert_close(found, true)


def test_only_what_is_slow_is_changed_and_in_bfloat16_too() -> None:
    quick_already, slow = (create_conv2d(8, 8, side, depthwise=True) for side in (3, 5))
    model = nn.Sequential(quick_already, slow, create_conv2d(8, 16, 1), nn.Conv2d(1, 1, 5))
    quicken(model)
    assert ["forward" in vars(layer) for layer in model] == [False, True, False, False]
    x = torch.randn(2, 8, 6, 6, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16):
        rounded = gradients(slow, x.bfloat16(), torch.ones(()))
    for found, true in zip(rounded, gradients(slow, x, torch.ones(())), strict=True):
        assert (found.float() - true).abs().max() < 0.02 * true.abs().max()
