"""Our AdamW with its schedule on the device is torch's, bit for bit."""

from __future__ import annotations

import math

import pytest
import torch

from invert.adam import AdamW

STEPS = 25
RATES = {"constant": [0.1] * STEPS, "cosine": [0.15 * (1 + math.cos(math.pi * i / (STEPS - 1))) for i in range(STEPS)]}


@pytest.mark.parametrize("rates", RATES)
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_it_moves_as_torch_does(rates, weight_decay, dtype):
    rng = torch.Generator().manual_seed(0)
    start = torch.randn(3, 4, 5, generator=rng, dtype=dtype)
    theirs, mine = start.clone().requires_grad_(True), start.clone()
    reference = torch.optim.AdamW([theirs], lr=1.0, weight_decay=weight_decay, foreach=False, fused=False)
    adam = AdamW(mine, RATES[rates], weight_decay)
    for i in range(STEPS):
        theirs.grad = torch.randn(start.shape, generator=rng, dtype=dtype) * 10.0 ** (i % 7 - 6)
        reference.param_groups[0]["lr"] = RATES[rates][i]
        reference.step()
        adam.update(theirs.grad)
        assert torch.equal(mine, theirs), i
    assert adam.taken.tolist() == [STEPS]


def test_gradients_of_less_precision_are_taken_up_in_that_of_the_variable():
    gradient = torch.tensor([0.5, -2.0], dtype=torch.bfloat16)
    mine, same = torch.zeros(2), torch.zeros(2)
    AdamW(mine, [0.1]).update(gradient)
    AdamW(same, [0.1]).update(gradient.float())
    assert mine.dtype == torch.float32 and torch.equal(mine, same) and mine.any()


def test_there_may_be_no_step():
    AdamW(torch.zeros(2), [])
