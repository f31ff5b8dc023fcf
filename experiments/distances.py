"""Are the lesson's three ways to write a distance equal, and how long does each take?

One point against many and many against many, as broadcast, einsum and matmul, with our fourth, feature by feature.
The thread settles on einsum 'ij,ij->i' for a single point and asks which form to batch.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from clustering.pairwise import FORMULATIONS, choose_formulation, distances
from experiments.harness.figures import figure
from experiments.harness.runner import Context
from experiments.harness.timing import interleaved_seconds

SHAPES = [(1, 1500, 2), (1500, 1500, 2), (1000, 1000, 16), (1000, 1000, 64), (1000, 1000, 512)]


def run(context: Context) -> dict[str, Any]:
    rows: list[dict[str, Any]] = []
    for n, k, d in SHAPES[:3] if context.quick else SHAPES:
        generator = torch.Generator().manual_seed(context.seed)
        x = torch.randn(n, d, generator=generator).to(context.device)
        y = torch.randn(k, d, generator=generator).to(context.device)
        exact = (x.double()[:, None] - y.double()).square().sum(2)
        calls = {name: partial(distances, x, y, formulation=name) for name in FORMULATIONS}
        seconds = interleaved_seconds(calls, 3 if context.quick else 7)
        worst = {name: float((call().double() - exact).abs().max() / exact.max()) for name, call in calls.items()}
        row = {"shape": [n, k, d], "chosen": choose_formulation(x, y)}
        rows.append({**row, "milliseconds": {name: s * 1e3 for name, s in seconds.items()}, "largest_relative_error": worst})
    draw(context, rows)
    return {
        "rows": rows,
        "equal": max(max(row["largest_relative_error"].values()) for row in rows) < 1e-5,
        "chosen_within_factor": max(row["milliseconds"][row["chosen"]] / min(row["milliseconds"].values()) for row in rows),
    }


def draw(context: Context, rows: list[dict[str, Any]]) -> None:
    made, (axes,) = figure(width=8)
    for number, name in enumerate(FORMULATIONS):
        places = [i + 0.2 * (number - 1.5) for i in range(len(rows))]
        axes.bar(places, [row["milliseconds"][name] for row in rows], 0.2, label=name)
    axes.set_xticks(range(len(rows)), [" × ".join(map(str, row["shape"])) for row in rows])
    axes.set(yscale="log", ylabel="milliseconds", xlabel="points × points × features", title="Four ways to write a distance")
    axes.legend()
    made.savefig(context.path("times.png"))
