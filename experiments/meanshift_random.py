"""How few random points may mean shift look at?

The lesson's data (6 centroids, 250 points each), 5 iterations, each batch against k random points: the mean distance
to the known centroid and the time as functions of k. Then where sampling falls apart: in 64 dimensions, and for
clusters of very unequal size.
"""

from __future__ import annotations

import statistics
from functools import partial
from typing import Any

from torch import Tensor

from clustering import MeanShift
from experiments.harness.figures import figure
from experiments.harness.lesson import BANDWIDTH, Labeled, lesson
from experiments.harness.runner import Context
from experiments.harness.timing import interleaved_seconds

STEPS = 5
SHARES = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
UNEQUAL = (1000, 300, 120, 50, 20, 10)  # 1,500 points, in clusters of very unequal size
WIDE = 8.0  # bandwidth in 64 features, where neighbors of a cluster are ten times as far apart as in the plane
BATCH = 100  # points that share one random sample: of the lesson's order of magnitude


def run(context: Context) -> dict[str, Any]:
    repeats = 2 if context.quick else 10
    plain, wide, unequal = lesson(), lesson(features=64), lesson(sizes=UNEQUAL)
    found: dict[str, Any] = {
        "lesson": curve(plain, BANDWIDTH, repeats, context),
        "64 features": curve(wide, WIDE, repeats, context),
        "unequal sizes": curve(unequal, BANDWIDTH, repeats, context),
    }
    times = timings(plain, context)
    small = smallest_clusters(unequal, repeats, context)
    draw(context, found, times)
    tenth, every = found["lesson"]["error"][SHARES.index(0.1)], found["lesson"]["error_all"]
    return {
        **found,
        "milliseconds": times,
        "times_faster_at_a_tenth": times["all"] / times["0.1"],
        "error_at_a_tenth_over_all": tenth / every,
        "unequal_error_of_the_two_smallest": small,
    }


def shifted(data: Labeled, bandwidth: float, share: float | None, seed: int, context: Context) -> Tensor:
    """Where the points are after STEPS steps, looking at a share of them, or at all (None)."""
    look = "all" if share is None else ("random", max(1, round(share * len(data.points))))
    model = MeanShift(bandwidth, neighbors=look, random_state=seed, max_iter=STEPS, tol=0, batch_size=BATCH)
    *_, last = model.steps(data.points.to(context.device))
    return last.cpu()


def curve(data: Labeled, bandwidth: float, repeats: int, context: Context) -> dict[str, Any]:
    """Errors by share, averaged over seeds; before shifting; and looking at all points."""
    errors = [statistics.fmean(data.error(shifted(data, bandwidth, s, i, context)) for i in range(repeats)) for s in SHARES]
    before, every = data.error(data.points), data.error(shifted(data, bandwidth, None, 0, context))
    return {"shares": list(SHARES), "error": errors, "error_before": before, "error_all": every, "bandwidth": bandwidth}


def timings(data: Labeled, context: Context) -> dict[str, float]:
    """Milliseconds of STEPS steps by share, taken in turns."""
    calls = {str(share): partial(shifted, data, BANDWIDTH, share, 0, context) for share in SHARES}
    calls["all"] = partial(shifted, data, BANDWIDTH, None, 0, context)
    return {name: seconds * 1e3 for name, seconds in interleaved_seconds(calls, 3 if context.quick else 7).items()}


def smallest_clusters(data: Labeled, repeats: int, context: Context) -> dict[str, float]:
    """Error of the two smallest clusters' points alone, by share: the mean over all points hides them."""
    small = data.labels >= len(UNEQUAL) - 2
    part = Labeled(data.points[small], data.labels[small], data.centroids)
    looks: list[float | None] = [0.05, 0.1, 0.5, None]
    found = {}
    for share in looks:
        moved = [shifted(data, BANDWIDTH, share, seed, context)[small] for seed in range(repeats)]
        found["all" if share is None else str(share)] = statistics.fmean(map(part.error, moved))
    return {"before": part.error(part.points), **found}


def draw(context: Context, found: dict[str, Any], times: dict[str, float]) -> None:
    made, (left, right) = figure(2)
    for name, one in found.items():
        (line,) = left.plot(one["shares"], [e / one["error_before"] for e in one["error"]], "o-", label=name)
        left.axhline(one["error_all"] / one["error_before"], color=line.get_color(), linestyle=":")
    left.axhline(1, color="gray", linewidth=0.8)
    left.set(xscale="log", xlabel="share of the points looked at", ylabel="error ÷ error before shifting")
    left.set_title("Dotted: looking at all points")
    left.legend()
    right.plot(SHARES, [times[str(s)] for s in SHARES], "o-", label="random points")
    right.axhline(times["all"], color="black", linestyle=":", label="all points")
    right.set(xscale="log", yscale="log", xlabel="share of the points looked at", ylabel="milliseconds for 5 steps")
    right.legend()
    made.savefig(context.path("curves.png"))
