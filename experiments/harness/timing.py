"""Wall seconds of calls: alone, as a median, or in turn with others, so that background load affects all equally.

Turns are taken by `kernels.timing`, the timer of the kernels' own benchmark: warmed up, medians, and a GPU's
queued work waited for.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from statistics import fmean, median
from typing import Any, NamedTuple

import torch
from threadpoolctl import threadpool_limits

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


class Cost(NamedTuple):
    """What a call took: on the wall, and of processors, which does not depend on what else the machine does."""

    seconds: float
    processor_seconds: float


@contextmanager
def one_thread() -> Iterator[None]:
    """Hold torch, and every library with threads of its own, to one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(before)


def cost(call: Call) -> Cost:
    """Of one call, on processors."""
    began, worked = time.perf_counter(), time.process_time()
    call()
    return Cost(time.perf_counter() - began, time.process_time() - worked)


def costs_in_turns(calls: Mapping[str, Call], repeats: int) -> dict[str, Cost]:
    """Medians of each call's wall and processor seconds; all are called in turn, `repeats` times."""
    found: dict[str, list[Cost]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            found[name].append(cost(call))
    return {name: Cost(*(median(column) for column in zip(*costs, strict=True))) for name, costs in found.items()}


def growth_exponent(sizes: Sequence[float], seconds: Sequence[float]) -> float | None:
    """The slope of log time over log size, by least squares; None for fewer than two sizes."""
    if len(sizes) < 2:
        return None
    x, y = [math.log(n) for n in sizes], [math.log(s) for s in seconds]
    mean_x, mean_y = fmean(x), fmean(y)
    return sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / sum((a - mean_x) ** 2 for a in x)
