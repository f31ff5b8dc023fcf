"""The lesson's homework: DBSCAN and LSH in tensor algebra, against plain Python and against a CPU library.

DBSCAN as the textbook has it (a queue and two loops), scikit-learn's, and ours; locality-sensitive hashing with
dictionaries, FAISS's, and ours. The same results, or the same recall measured, and the times.
"""

from __future__ import annotations

import random
from collections import defaultdict, deque
from typing import Any

import faiss
import numpy as np
import sklearn.cluster
import torch
from sklearn.datasets import make_moons
from sklearn.metrics import adjusted_rand_score

from clustering import DBSCAN, NearestNeighbors
from experiments.harness.figures import figure
from experiments.harness.runner import Context
from experiments.harness.timing import median_seconds, wall_seconds

EPS, LEAST = 0.1, 8
K, FEATURES, TABLES, HASHES = 10, 16, 12, 4
PLAIN_MOST = 3_000  # points given to plain Python


def run(context: Context) -> dict[str, Any]:
    sizes = (1_000, 3_000) if context.quick else (1_000, 3_000, 30_000, 100_000)
    found = {"dbscan": [dbscan(n, context) for n in sizes], "lsh": [lsh(n, context) for n in sizes]}
    draw(context, found)
    return found


def plain_dbscan(points: list[tuple[float, float]], eps: float, least: int) -> list[int]:
    """The textbook: visit every point, grow a cluster from each unvisited core point."""

    def near(i: int) -> list[int]:
        x, y = points[i]
        return [j for j, (a, b) in enumerate(points) if (a - x) ** 2 + (b - y) ** 2 <= eps * eps]

    labels: list[int | None] = [None] * len(points)
    cluster = -1
    for i in range(len(points)):
        if labels[i] is not None:
            continue
        neighbors = near(i)
        if len(neighbors) < least:
            labels[i] = -1
            continue
        cluster += 1
        labels[i] = cluster
        queue = deque(neighbors)
        while queue:
            j = queue.popleft()
            if labels[j] == -1:
                labels[j] = cluster
            if labels[j] is not None:
                continue
            labels[j] = cluster
            more = near(j)
            if len(more) >= least:
                queue.extend(more)
    return [label if label is not None else -1 for label in labels]


def dbscan(n: int, context: Context) -> dict[str, Any]:
    """Seconds of each, and agreement with scikit-learn (adjusted Rand index; 1 is equal up to renaming)."""
    x, _ = make_moons(n, noise=0.06, random_state=context.seed)
    eps = EPS * (3000 / n) ** 0.5 if n > 3000 else EPS  # as many neighbors at every size
    labels: dict[str, Any] = {}
    points = torch.from_numpy(x).to(context.device)
    calls = {
        "ours": lambda: labels.update(ours=DBSCAN(eps, LEAST).fit(points).labels_.cpu().numpy()),
        "scikit-learn": lambda: labels.update(theirs=sklearn.cluster.DBSCAN(eps=eps, min_samples=LEAST).fit(x).labels_),
    }
    if n <= PLAIN_MOST:
        calls["plain Python"] = lambda: labels.update(plain=np.array(plain_dbscan(list(map(tuple, x.tolist())), eps, LEAST)))
    seconds = {name: wall_seconds(call, context.device) for name, call in calls.items()}
    for name in ("ours", "scikit-learn"):
        seconds[name] = median_seconds(calls[name], 5, context.device)
    agreement = {name: float(adjusted_rand_score(labels["theirs"], found)) for name, found in labels.items()}
    return {"n": n, "seconds": seconds, "agreement": agreement, "clusters": int(labels["theirs"].max()) + 1}


def plain_lsh(points: list[list[float]], queries: list[list[float]], width: float, seed: int) -> list[list[int]]:
    """Tables of buckets as dictionaries; candidates ranked by their true distance."""
    rng = random.Random(seed)
    tables = []
    for _ in range(TABLES):
        planes = [([rng.gauss(0, 1) for _ in range(FEATURES)], rng.random() * width) for _ in range(HASHES)]
        buckets = defaultdict(list)
        for i, point in enumerate(points):
            buckets[key_of(point, planes, width)].append(i)
        tables.append((planes, buckets))
    found = []
    for query in queries:
        candidates = {i for planes, buckets in tables for i in buckets.get(key_of(query, planes, width), ())}
        ranked = sorted(candidates, key=lambda i: sum((a - b) ** 2 for a, b in zip(points[i], query, strict=True)))
        found.append(ranked[:K])
    return found


def key_of(point: list[float], planes: list[tuple[list[float], float]], width: float) -> tuple[int, ...]:
    return tuple(int((sum(a * b for a, b in zip(point, plane, strict=True)) + shift) // width) for plane, shift in planes)


def lsh(n: int, context: Context) -> dict[str, Any]:
    """Seconds to index and to answer 500 queries, and the recall of the true nearest 10; clustered points."""
    rng = np.random.default_rng(context.seed)
    centers = rng.standard_normal((max(1, n // 200), FEATURES)) * 4
    x = (centers[rng.integers(len(centers), size=n)] + rng.standard_normal((n, FEATURES))).astype(np.float32)
    queries = x[:500] + 0.1 * rng.standard_normal((500, FEATURES)).astype(np.float32)
    _, truth = NearestNeighbors(K, algorithm="brute").fit(x).kneighbors(queries)
    answers: dict[str, Any] = {}

    def faiss_lsh() -> None:
        index = faiss.IndexLSH(FEATURES, 256)
        index.add(x)
        answers["faiss"] = index.search(queries, K)[1]

    on_device, ask = torch.from_numpy(x).to(context.device), torch.from_numpy(queries).to(context.device)
    calls = {
        "ours": lambda: answers.update(ours=NearestNeighbors(K, algorithm="lsh").fit(on_device).kneighbors(ask)[1].cpu().numpy()),
        "faiss": faiss_lsh,
        "brute": lambda: answers.update(
            brute=NearestNeighbors(K, algorithm="brute").fit(on_device).kneighbors(ask)[1].cpu().numpy()
        ),
    }
    seconds = {name: median_seconds(call, 3, context.device) for name, call in calls.items()}
    if n <= PLAIN_MOST:
        seconds["plain Python"] = wall_seconds(
            lambda: answers.update(plain=plain_lsh(x.tolist(), queries.tolist(), 8.0, context.seed))
        )
    return {"n": n, "seconds": seconds, "recall": {name: recall(found, truth) for name, found in answers.items()}}


def recall(found: Any, truth: np.ndarray) -> float:
    return float(np.mean([len(set(map(int, row)) & set(map(int, true))) / K for row, true in zip(found, truth, strict=True)]))


def draw(context: Context, found: dict[str, list[dict[str, Any]]]) -> None:
    made, axes = figure(2)
    for ax, (task, rows) in zip(axes, found.items(), strict=True):
        for name in dict.fromkeys(name for row in rows for name in row["seconds"]):
            some = [(row["n"], row["seconds"][name]) for row in rows if name in row["seconds"]]
            ax.plot(*zip(*some, strict=True), "o-", label=name)
        ax.set(xscale="log", yscale="log", xlabel="points", ylabel="seconds", title=task)
        ax.legend()
    made.savefig(context.path("times.png"))
