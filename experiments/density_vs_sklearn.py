"""Are DBSCAN and HDBSCAN faster than scikit-learn's and the package hdbscan's, from 1,000 to 1,000,000 points?

Twenty blobs of unit spread and one point in twenty anywhere. Processor seconds of one thread: medians of 5 in turns, one
run where that is longer than 20 s. Who would not end in time is run on halves, quarters, … of the points, and extrapolated
by how it grew. DBSCAN's radius is the median distance to the tenth neighbor, so that it has as many at every size. The
package hdbscan is left out where it is not installed.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from typing import Any

import numpy as np
import sklearn.cluster
import torch
from sklearn.metrics import adjusted_rand_score

from clustering import DBSCAN, HDBSCAN, NearestNeighbors
from experiments.harness.kept import Kept, Row
from experiments.harness.runner import Context
from experiments.harness.timing import Cost, cost, costs_in_turns, growth_exponent, one_thread

HDBSCAN_PROBLEMS = ((1_000_000, 2), (100_000, 64))  # points, features
DBSCAN_POINTS, DBSCAN_FEATURES = (1_000, 10_000, 100_000, 1_000_000), (2, 8, 16, 64)
LEAST, SMALLEST = 8, 10  # points near a core point; points of a cluster
BLOBS, SPREAD, NOISE = 20, 4.0, 20
GOALS = {"HDBSCAN": 5.0, "DBSCAN": 1.0}  # times faster than the others
LIMITS = {"HDBSCAN": 600.0, "DBSCAN": 60.0}  # seconds that a run may be expected to take
SLOW, REPEATS = 20.0, 5
FEWEST = 1_000  # points of the smallest part that is run
Fit = Callable[[np.ndarray], np.ndarray]


def run(context: Context) -> dict[str, Any]:
    kept, rows = Kept(context), []
    smaller = 20 if context.quick else 1
    problems = [("HDBSCAN", *problem) for problem in HDBSCAN_PROBLEMS]
    problems += [("DBSCAN", n, d) for d in DBSCAN_FEATURES for n in DBSCAN_POINTS]
    with one_thread():
        for name, n, d in problems:
            n = max(FEWEST, n // smaller)
            rows.append(kept.row(f"{name}, {n:,} × {d}", partial(compare, name, n, d, context.seed)))
    kept.finish()
    return {"goals": GOALS, "limits": LIMITS, "rows": rows}


def points(n: int, d: int, seed: int) -> np.ndarray:
    """(N, D) float64."""
    rng = np.random.default_rng(seed)
    centers = rng.normal(0, SPREAD, (BLOBS, d))
    x = centers[rng.integers(BLOBS, size=n)] + rng.standard_normal((n, d))
    x[: n // NOISE] = rng.uniform(-2.5 * SPREAD, 2.5 * SPREAD, (n // NOISE, d))
    return x


def contenders(name: str, x: np.ndarray) -> dict[str, Fit]:
    """Who is compared; each has what suits these points."""
    if name == "HDBSCAN":
        found: dict[str, Fit] = {
            "ours": lambda x: HDBSCAN(SMALLEST).fit(x).labels_,
            "scikit-learn": lambda x: sklearn.cluster.HDBSCAN(SMALLEST, copy=True).fit(x).labels_,
        }
        if find_spec("hdbscan"):
            import hdbscan

            others = SMALLEST - 1  # neighbors, where we and scikit-learn count the point itself, too
            found["hdbscan"] = lambda x: hdbscan.HDBSCAN(SMALLEST, others, core_dist_n_jobs=1).fit(x).labels_
        return found
    asked = torch.from_numpy(x[np.random.default_rng(0).choice(len(x), 200)])
    eps = float(NearestNeighbors(10).fit(torch.from_numpy(x)).kneighbors(asked)[0][:, -1].median())
    return {
        "ours": lambda x: DBSCAN(eps, LEAST).fit(x).labels_,
        "scikit-learn": lambda x: sklearn.cluster.DBSCAN(eps=eps, min_samples=LEAST).fit(x).labels_,
    }


def compare(name: str, n: int, d: int, seed: int) -> Row:
    x = points(n, d, seed)
    calls = contenders(name, x)
    for fit in calls.values():
        fit(x[: min(n, FEWEST)])  # loads what is compiled
    labels: dict[str, dict[int, np.ndarray]] = {who: {} for who in calls}
    grown = {who: grow(partial(fit_part, name, who, seed, d, labels[who]), n, LIMITS[name]) for who in calls}
    ended = [who for who, parts in grown.items() if max(parts) == n]
    repeats = REPEATS if all(grown[who][n].seconds <= SLOW for who in ended) else 1
    if ended and repeats > 1:
        for who, median in costs_in_turns({who: partial(calls[who], x) for who in ended}, repeats).items():
            grown[who][n] = median
    row: Row = {
        "estimator": name,
        "n": n,
        "d": d,
        "repeats": repeats,
        "processor_seconds": {},
        "seconds": {},
        "extrapolated_from": {},
    }
    for who, parts in grown.items():
        row["processor_seconds"][who] = expected(parts, n, "processor_seconds")
        row["seconds"][who] = expected(parts, n, "seconds")
        if who not in ended:
            row["extrapolated_from"][who] = max(parts)
    own = row["processor_seconds"]["ours"]
    row["times_faster"] = {who: seconds / own for who, seconds in row["processor_seconds"].items() if who != "ours"}
    row["agreement"] = {who: agreement(labels["ours"], labels[who]) for who in calls if who != "ours"}
    return row


def fit_part(name: str, who: str, seed: int, d: int, labels: dict[int, np.ndarray], n: int) -> Cost:
    """What n points cost; their labels are kept."""
    x = points(n, d, seed)
    fit = contenders(name, x)[who]
    found: list[np.ndarray] = []
    spent = cost(lambda: found.append(fit(x)))
    labels[n] = found[0]
    return spent


def grow(fit: Callable[[int], Cost], n: int, limit: float) -> dict[int, Cost]:
    """Costs by the number of points: of a 64th, a 32nd, … of n, until all of it, or until twice as many would take too long."""
    found: dict[int, Cost] = {}
    for halvings in range(6, -1, -1):
        size = n >> halvings
        if size < FEWEST and halvings:
            continue
        if found and expected(found, size, "processor_seconds") > limit:
            break
        found[size] = fit(size)
    return found


def expected(parts: dict[int, Cost], n: int, of: str) -> float:
    """What n points cost: measured, or by how the costs of the last two parts grew; of one part, with the square."""
    if n in parts:
        return float(getattr(parts[n], of))
    sizes = sorted(parts)[-2:]
    spent = [float(getattr(parts[size], of)) for size in sizes]
    exponent = growth_exponent(sizes, spent)
    return float(spent[-1] * (n / sizes[-1]) ** (2.0 if exponent is None else max(1.0, exponent)))


def agreement(ours: dict[int, np.ndarray], theirs: dict[int, np.ndarray]) -> float:
    """Adjusted Rand index on the most points that both have labeled: 1 for one and the same partition."""
    size = max(set(ours) & set(theirs))
    return float(adjusted_rand_score(theirs[size], ours[size]))
