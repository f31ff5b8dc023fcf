"""Peak memory of a block of code or a call, in MiB: of a card's allocator, or of the process as Linux counts it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch


@contextmanager
def peak_memory(device: torch.device) -> Iterator[list[float | None]]:
    """`with peak_memory(device) as peak: …` and then peak[0]; None where the system does not let its mark be reset."""
    peak: list[float | None] = [None]
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        yield peak
        peak[0] = torch.cuda.max_memory_allocated(device) / 2**20
        return
    resettable = reset_high_water_mark()
    yield peak
    if resettable:
        peak[0] = status_mib("VmHWM")


def extra_memory(call: Callable[[], Any]) -> float | None:
    """MiB by which the process outgrew its size before the call; None where the mark cannot be reset."""
    if not reset_high_water_mark():
        return None
    before = status_mib("VmRSS")
    call()
    return status_mib("VmHWM") - before


def reset_high_water_mark() -> bool:
    """Make the process's peak start at what it holds now; whether the system allows it."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def status_mib(field: str) -> float:
    """A field of /proc/self/status in MiB. Unlike getrusage it does not count a parent's peak."""
    return int(Path("/proc/self/status").read_text().split(f"{field}:")[1].split()[0]) / 1024
