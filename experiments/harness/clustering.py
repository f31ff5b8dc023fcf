"""What the clustering experiments share: the lesson's data, fair timing, growth exponents, peak memory, figures."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from matplotlib.figure import Figure
from torch import Tensor

SPREAD = 5.0  # variance of each of the lesson's clusters, along each axis
BANDWIDTH = 2.5  # the lesson's


class Labelled(NamedTuple):
    """points (N, D), the cluster that each was drawn from (N,), and the clusters' true centroids (K, D)."""

    points: Tensor
    owner: Tensor
    centroids: Tensor

    def error(self, moved: Tensor) -> float:
        """Mean distance of the points, where they are now, to the centroid that they were drawn from."""
        return float((moved - self.centroids[self.owner]).norm(dim=1).mean())


def lesson(n: int = 1500, clusters: int = 6, features: int = 2, seed: int = 42, sizes: Sequence[int] | None = None) -> Labelled:
    """The lesson's data: centroids uniform in [−35, 35]^D, points around them with variance 5; of equal sizes unless given."""
    generator = torch.Generator().manual_seed(seed)
    centroids = torch.rand(clusters, features, generator=generator) * 70 - 35
    counts = torch.tensor(sizes) if sizes else torch.full((clusters,), n // clusters)
    owner = torch.arange(clusters).repeat_interleave(counts)
    noise = torch.randn(len(owner), features, generator=generator) * math.sqrt(SPREAD)
    return Labelled(centroids[owner] + noise, owner, centroids)


def clock(call: Callable[[], Any], device: torch.device | None = None) -> float:
    """Wall seconds of one call, a GPU's queued work included."""
    on_gpu = device is not None and device.type == "cuda"
    if on_gpu:
        torch.cuda.synchronize(device)
    began = time.perf_counter()
    call()
    if on_gpu:
        torch.cuda.synchronize(device)
    return time.perf_counter() - began


def alternate(calls: Mapping[str, Callable[[], Any]], repeats: int = 5) -> dict[str, float]:
    """Median seconds of each call, one of each in turn, so that all share the machine's moods; one unmeasured first."""
    for call in calls.values():
        call()
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            seconds[name].append(clock(call))
    return {name: statistics.median(times) for name, times in seconds.items()}


def growth_exponent(sizes: Sequence[float], seconds: Sequence[float]) -> float | None:
    """The slope of log time over log size, by least squares; None for fewer than two sizes."""
    if len(sizes) < 2:
        return None
    x, y = [math.log(n) for n in sizes], [math.log(s) for s in seconds]
    mean_x, mean_y = statistics.fmean(x), statistics.fmean(y)
    return sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / sum((a - mean_x) ** 2 for a in x)


def extra_memory(call: Callable[[], Any]) -> float | None:
    """MiB by which the process outgrew its size before the call; None where Linux does not let the mark be reset."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return None
    before = status_mib("VmRSS")
    call()
    return status_mib("VmHWM") - before


def status_mib(field: str) -> float:
    """A field of /proc/self/status in MiB."""
    return int(Path("/proc/self/status").read_text().split(f"{field}:")[1].split()[0]) / 1024


def figure(columns: int = 1, rows: int = 1, width: float = 5.2, height: float = 4.0) -> tuple[Figure, list[Any]]:
    """A figure and its axes, row by row."""
    made = Figure(figsize=(width * columns, height * rows), dpi=110, layout="constrained")
    return made, list(made.subplots(rows, columns, squeeze=False).flatten())
