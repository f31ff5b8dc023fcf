"""Wall seconds of calls: alone, as a median, or in turn with others, so that background load affects all equally.

Turns are taken by `kernels.timing`, the timer of the kernels' own benchmark: warmed up, medians, and a GPU's
queued work waited for.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean, median
from typing import Any

import torch

from kernels.timing import interleaved_time

CPU = torch.device("cpu")
Call = Callable[[], Any]


def wall_seconds(call: Call, device: torch.device = CPU) -> float:
    """Wall seconds of one call, a GPU's queued work included."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    began = time.perf_counter()
    call()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began


def median_seconds(call: Call, repeats: int, device: torch.device = CPU) -> float:
    """Median wall seconds of a call made `repeats` times."""
    return median(wall_seconds(call, device) for _ in range(repeats))


def interleaved_seconds(calls: Mapping[str, Call], repeats: int, device: torch.device = CPU) -> dict[str, float]:
    """Median seconds of each call, after one that is not measured; all are called in turn, `repeats` times."""
    return interleaved_time(calls, device, budget=math.inf, most=repeats)


def growth_exponent(sizes: Sequence[float], seconds: Sequence[float]) -> float | None:
    """The slope of log time over log size, by least squares; None for fewer than two sizes."""
    if len(sizes) < 2:
        return None
    x, y = [math.log(n) for n in sizes], [math.log(s) for s in seconds]
    mean_x, mean_y = fmean(x), fmean(y)
    return sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / sum((a - mean_x) ** 2 for a in x)
