"""Time a call so that the number can be trusted: warmed up, repeated, the median, and no help from the caches.

In: calls and a device; out: seconds of each. Calls take turns, so that a busy moment of the machine hits them
alike and their ratios stay fair. On the CPU a pause before each turn lets the thread pool of the call before fall
asleep: libraries let theirs spin on the cores for a while (OpenBLAS for 2^26 cycles), and a call of another library
that shares them then takes up to three times as long. On CUDA the clock is the device's own (events), and before each
call a large write evicts the operands from L2 and keeps the device busy while the host prepares the launch.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from statistics import median

import torch
from torch import Tensor

Call = Callable[[], object]
FLUSH_BYTES = 1 << 30  # many times any L2, and longer to write than any of our launches takes to prepare
BURST, MOST_IN_BURST = 0.02, 20  # seconds and calls of one turn
SLOW = 0.1  # seconds of a call that needs no warming up
PAUSE = 0.06  # seconds, longer than any pool spins
COPY_BYTES = {"cpu": 1 << 27, "cuda": 1 << 30}  # far more than the caches hold


def interleaved_time(calls: Mapping[str, Call], device: torch.device, budget: float = 1.0, most: int = 100) -> dict[str, float]:
    """Median seconds of each call; they alternate until each has had `most` turns or all together `budget` seconds."""
    for call in calls.values():
        call()  # compiles, allocates, fills the caches
    clock, pause = (_cuda_clock(device), 0.0) if device.type == "cuda" else (_host_clock, PAUSE)
    times: dict[str, list[float]] = {name: [] for name in calls}
    deadline = time.perf_counter() + budget
    for _ in range(most):
        for name, call in calls.items():
            time.sleep(pause)
            times[name] += _turn(clock, call)
        if time.perf_counter() > deadline:
            break
    return {name: median(seconds) for name, seconds in times.items()}


def copy_bandwidth(device: torch.device) -> float:
    """Bytes a second that a plain copy moves, read and written: the speed of memory that everything is held against."""
    source = torch.ones(COPY_BYTES[device.type] // 4, device=device)
    target = torch.empty_like(source)
    seconds = interleaved_time({"copy": lambda: target.copy_(source)}, device, budget=0.5)["copy"]
    return 2 * source.nbytes / seconds


def _turn(clock: Callable[[Call], float], call: Call) -> list[float]:
    """Seconds of the calls of one turn, but the first; of the first alone if it is slow."""
    first = clock(call)
    if first > SLOW:
        return [first]
    return [clock(call) for _ in range(min(MOST_IN_BURST, 1 + int(BURST / max(first, 1e-9))))]


def _host_clock(call: Call) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def _cuda_clock(device: torch.device) -> Callable[[Call], float]:
    flush: Tensor = torch.empty(FLUSH_BYTES, dtype=torch.uint8, device=device)
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)

    def clock(call: Call) -> float:
        flush.zero_()
        start.record(torch.cuda.current_stream(device))
        call()
        end.record(torch.cuda.current_stream(device))
        end.synchronize()
        return start.elapsed_time(end) / 1000

    return clock
