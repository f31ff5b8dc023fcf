"""Steps that are replayed: called on the CPU, captured on a card, and fit to be captured because each launches the same."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from invert.budget import Budget
from invert.config import PARAMETERIZATIONS, InvertConfig, SoftConfig
from invert.history import History
from invert.methods.configs import PezConfig
from invert.methods.pez import PezStep
from invert.methods.task import InversionTask
from invert.models.graphs import Replay
from invert.models.linear import FrozenLinear
from invert.models.loading import load_clip
from invert.models.tower import ScaledSilu, quick_gelu
from invert.soft import SoftStep

START = torch.tensor([[0, 1, 2, 3], [10, 11, 12, 13]])
WAITING = ("_local_scalar_dense", "nonzero", "masked_select", "lift_fresh", "is_nonzero", "equal")  # of the host


class Launches(TorchDispatchMode):
    """Notes every operation with all of its arguments but tensors' contents."""

    def __init__(self) -> None:
        super().__init__()
        self.noted: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        shown = torch.utils._pytree.tree_map(lambda x: tuple(x.shape) if isinstance(x, Tensor) else x, (args, kwargs or {}))
        self.noted.append(f"{func} {shown}")
        return func(*args, **(kwargs or {}))


def launches(step: Any) -> list[str]:
    with Launches() as seen:
        step()
    return seen.noted


@pytest.fixture
def soft_step(toy_clip, toy_bundle, toy_target):
    """soft_step(kind, **SoftConfig): a step of two prompts on the toy model."""

    def make(kind: str, **settings: Any) -> SoftStep:
        table = toy_bundle.token_index.embeddings.detach()
        return SoftStep(toy_clip, toy_target, table, START, SoftConfig(parameterization=kind, **settings))

    return make


@pytest.fixture
def pez_step(toy_bundle, toy_target):
    def make() -> PezStep:
        rng = torch.Generator().manual_seed(0)
        task = InversionTask(toy_bundle, toy_target, InvertConfig(tokens=4), rng, Budget(), History())
        return PezStep([task], PezConfig(steps=8))

    return make


@pytest.mark.parametrize("kind", [*PARAMETERIZATIONS, "pez"])
def test_every_step_launches_the_same_and_waits_for_nothing(soft_step, pez_step, kind):
    step = pez_step() if kind == "pez" else soft_step(kind, steps=8)
    first, later = launches(step), [launches(step) for _ in range(3)]
    assert all(one == first for one in later)
    assert len(first) > 50 and not [one for one in first if any(f"aten.{name}." in one for name in WAITING)]


def test_a_step_that_would_not_replay_is_noticed(soft_step):
    step, calls = soft_step("mixture", steps=8), iter(range(8))
    noted = [launches(lambda: (step(), step.variable.mul_(next(calls) / 2))) for _ in range(2)]
    assert noted[0] != noted[1]
    assert any("_local_scalar_dense" in one for one in launches(lambda: float(step.best.max())))


@pytest.mark.parametrize("kind", [*PARAMETERIZATIONS, "pez"])
def test_on_the_cpu_a_replay_is_a_call(soft_step, pez_step, kind):
    direct, replayed = (pez_step() if kind == "pez" else soft_step(kind, steps=6) for _ in range(2))
    advance = Replay(replayed, torch.device("cpu"))
    for _ in range(6):
        direct()
        advance()
    names = ("ids", "scores", "continuous") if kind == "pez" else ("variable", "best", "gradient")
    assert all(torch.equal(getattr(direct, name), getattr(replayed, name)) for name in names)
    assert replayed.adam.taken.tolist() == [6]


@pytest.mark.parametrize("kind", ["continuous", "mixture"])
def test_the_steps_are_those_of_the_plain_loop(soft_step, toy_clip, toy_bundle, toy_target, kind):
    """The loop that one writes with torch's AdamW, its rates and temperatures in Python."""
    steps, table = 10, toy_bundle.token_index.embeddings.detach()
    step = soft_step(kind, steps=steps)
    at = (table[START].clone() if kind == "continuous" else F.one_hot(START, len(table)) * 2.0).to(table.dtype)
    at.requires_grad_(True)
    rate = SoftConfig.lr * (float(table.std()) if kind == "continuous" else 1.0)
    optimizer = torch.optim.AdamW([at], lr=rate, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps - 1)
    for i in range(steps):
        rows = at if kind == "continuous" else (at / 0.1 ** (i / (steps - 1))).softmax(-1) @ table
        scores = toy_clip.encode_embeddings(toy_clip.add_special_embeddings(rows)).float() @ toy_target
        optimizer.zero_grad()
        (-scores.sum()).backward()
        optimizer.step()
        schedule.step()
        step()
        torch.testing.assert_close(step.best[i], scores.max().detach()[None])
        torch.testing.assert_close(step.variable, at.detach())


def test_quick_gelu_as_a_scaled_silu_has_the_same_values_and_gradients():
    x = torch.linspace(-8, 8, 41, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(ScaledSilu.apply(x, 1.702), quick_gelu(x))
    assert torch.autograd.gradcheck(lambda x: ScaledSilu.apply(x, 1.702), x)


def test_one_product_for_queries_keys_and_values_is_the_three(toy_clip):
    block, x = toy_clip.tower.layers[0], torch.randn(2, 5, 16, dtype=torch.float64)
    assert block.query_key_value is None  # made on a card only
    weights = [(linear.weight, linear.bias) for linear in (block.query, block.key_value)]
    joined = copy.copy(block)
    joined.query_key_value = FrozenLinear(*(torch.cat(parts) for parts in zip(*weights, strict=True)))
    for apart, together in zip(block.queries_keys_values(x), joined.queries_keys_values(x), strict=True):
        torch.testing.assert_close(apart, together)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a card")
@pytest.mark.parametrize("kind", PARAMETERIZATIONS)
def test_on_a_card_a_replayed_step_scores_as_one_that_is_launched(kind):
    clip = load_clip("picturebook", device="cuda")
    target = F.normalize(torch.ones(256, device="cuda"), dim=0)
    config = SoftConfig(parameterization=kind)
    launched, replayed = (SoftStep(clip, target, clip.token_embeddings[:500], START.cuda(), config) for _ in range(2))
    advance = Replay(replayed, clip.device)
    for _ in range(6):
        launched()
        advance()
    torch.testing.assert_close(launched.best[:6], replayed.best[:6], rtol=1e-3, atol=1e-4)
