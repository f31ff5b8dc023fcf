"""What does mean shift look like at the lesson's speed, and slowed down by a learning rate?

The lesson moves every point all the way to its mean, and the animation is over in five frames; the thread slows it
down with a learning rate. Both are drawn, and the question whether the slow walk ends elsewhere is answered.
"""

from __future__ import annotations

from typing import Any

from clustering import MeanShift
from clustering.animate import animate_meanshift
from experiments.harness.lesson import BANDWIDTH, lesson
from experiments.harness.runner import Context

RATES = {"lesson": 1.0, "slow": 0.25}


def run(context: Context) -> dict[str, Any]:
    data = lesson(600 if context.quick else 1500)
    points = data.points.to(context.device)
    found = {}
    for name, lr in RATES.items():
        model = MeanShift(BANDWIDTH, lr=lr)
        animate_meanshift(model, points, context.path(f"{name}.gif"), fps=2 if lr == 1 else 6)
        moved = model.fit(points).shifted_.cpu()
        found[name] = {"lr": lr, "steps": model.n_iter_, "clusters": len(model.cluster_centers_), "error": data.error(moved)}
    return {"points": len(points), "error_before": data.error(data.points), **found}
