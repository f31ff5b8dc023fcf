"""The packed product is the plain one, forward and backward, whatever comes in."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from invert.models import linear as module
from invert.models.linear import FrozenLinear


@pytest.fixture(autouse=True, params=[0, module.PACKED_FROM], ids=["packed", "as by default"])
def from_which_size_weights_are_packed(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PACKED_FROM", request.param)


def layer(n: int, k: int, dtype: torch.dtype = torch.float32, bias: bool = True) -> tuple[torch.Tensor, torch.Tensor | None]:
    generator = torch.Generator().manual_seed(n * 1000 + k)
    weight = torch.randn(n, k, generator=generator).to(dtype)
    return weight, torch.randn(n, generator=generator).to(dtype) if bias else None


@given(n=st.integers(1, 70), k=st.integers(1, 70), rows=st.integers(0, 40), bias=st.booleans())
def test_product_and_gradient_are_those_of_the_plain_layer(n: int, k: int, rows: int, bias: bool) -> None:
    weight, offset = layer(n, k, bias=bias)
    x = torch.randn(2, rows, k, generator=torch.Generator().manual_seed(rows)).requires_grad_(True)
    outputs = FrozenLinear(weight, offset)(x), F.linear(x, weight, offset)
    torch.testing.assert_close(*outputs, rtol=1e-4, atol=1e-4)
    ours, theirs = (torch.autograd.grad(y.square().sum(), x)[0] for y in outputs)
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)


def test_rows_that_do_not_lie_in_order_are_read_right() -> None:
    weight, bias = layer(12, 8)
    for x in (torch.randn(8, 5).T, torch.randn(3, 5, 16)[..., ::2], torch.randn(1, 1, 8).expand(3, 4, 8)):
        torch.testing.assert_close(FrozenLinear(weight, bias)(x), F.linear(x, weight, bias), rtol=1e-4, atol=1e-5)


def test_the_weight_can_be_read_back_after_packing() -> None:
    weight, bias = layer(20, 30)
    linear = FrozenLinear(weight, bias)
    linear(torch.randn(2, 30).requires_grad_(True)).sum().backward()
    assert torch.equal(linear.weight, weight)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_types_take_the_plain_way_and_stay_what_they_are(dtype: torch.dtype) -> None:
    weight, bias = layer(6, 4, dtype)
    x = torch.randn(3, 4, dtype=dtype)
    assert torch.equal(FrozenLinear(weight, bias)(x), F.linear(x, weight, bias))


def test_no_gradient_reaches_the_weight() -> None:
    weight, bias = layer(6, 4)
    parameter = torch.nn.Parameter(weight)
    FrozenLinear(parameter, bias)(torch.randn(3, 4).requires_grad_(True)).sum().backward()
    assert parameter.grad is None
