"""What `python -m kernels.bench` is asked for, checked before anything is measured: each mistake is one sentence.

In: the words of the command line; out: a device, backends, products, and what of them is left out, with the reason.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import typer

from kernels.arrays import FLOATS
from kernels.registry import BACKENDS, available, unavailable_reason

LESSON = "50000x784x10"
MOST_DIGITS = 9  # of a side
# Multiplications that a backend does in seconds: three Python loops, and a broadcast product, which writes each to memory.
FEASIBLE = {"python": 64**3, "broadcast": 1 << 29}
COPIES = 3  # of operands and result that a backend may hold at once

Sizes = tuple[int, int, int]  # M, K and N of (M, K) times (K, N)


@dataclass(frozen=True)
class Work:
    """A product and the backends that are measured on it; left_out: the others that were asked for, each with its reason."""

    sizes: Sizes
    backends: tuple[str, ...]
    left_out: tuple[str, ...]


def device_of(name: str) -> torch.device:
    """The device; BadParameter where there is none of that name here."""
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise typer.BadParameter(f"unknown device {name!r}: choose cpu or cuda") from error
    if device.type not in ("cpu", "cuda") or (device.type == "cpu" and device.index):
        raise typer.BadParameter(f"nothing is measured on {name!r}: choose cpu or cuda")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise typer.BadParameter("there is no CUDA GPU here: use --device cpu")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise typer.BadParameter(f"there is no {name} here: the last is cuda:{torch.cuda.device_count() - 1}")
    return device


def dtype_of(name: str) -> torch.dtype:
    """The dtype; BadParameter for others than floats."""
    number = getattr(torch, name, None)
    if number not in FLOATS:
        raise typer.BadParameter(f"unknown dtype {name!r}: choose float16, bfloat16, float32 or float64")
    return number


def backends_of(text: str, device: torch.device, dtype: str) -> list[str]:
    """The backends that are named, or all that can run here; BadParameter for one that is unknown or cannot run."""
    if not text:
        return [name for name in available(device.type) if dtype in BACKENDS[name].dtypes]
    names = list(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    if not names:
        raise typer.BadParameter(f"--backends {text!r} names none: choose from {', '.join(BACKENDS)}")
    for name in names:
        if name not in BACKENDS:
            raise typer.BadParameter(f"unknown backend {name!r}: choose from {', '.join(BACKENDS)}")
        if (reason := unavailable_reason(name, device.type)) is not None:
            raise typer.BadParameter(reason)
        if dtype not in BACKENDS[name].dtypes:
            raise typer.BadParameter(f"backend {name!r} takes {', '.join(BACKENDS[name].dtypes)}, not {dtype}")
    return names


def check_budget(seconds: float) -> None:
    """BadParameter where it is no time."""
    if not (math.isfinite(seconds) and seconds >= 0):
        raise typer.BadParameter(f"--budget is {seconds}: give a number of seconds, 0 or more")


def works(shapes: Sequence[str], names: Sequence[str], dtype: torch.dtype, device: torch.device) -> list[Work]:
    """Each product with the backends that end in seconds; BadParameter where that is none, or memory does not hold it."""
    found = [work(sizes(shape), names) for shape in shapes]
    for one in found:
        check_memory(one.sizes, dtype, device)
        if not one.backends:
            raise typer.BadParameter(f"nothing is left to measure: {'; '.join(one.left_out)}")
    return found


def work(size: Sizes, names: Sequence[str]) -> Work:
    """The product with those of the backends that end in seconds on it."""
    able = tuple(name for name in names if is_feasible(name, *size))
    return Work(size, able, tuple(reasons(size, (name for name in names if name not in able))))


def reasons(size: Sizes, names: Iterator[str]) -> Iterator[str]:
    for name in names:
        most = round(FEASIBLE[name] ** (1 / 3))
        product = "×".join(map(str, size))
        yield f"{name} is left out of {product}, which takes it too long: up to {most}×{most}×{most} it is measured"


def is_feasible(backend: str, m: int, k: int, n: int) -> bool:
    """Whether a backend ends in seconds: the first steps of the ladder are for small products only."""
    return m * k * n <= FEASIBLE.get(backend, m * k * n)


def check_memory(size: Sizes, dtype: torch.dtype, device: torch.device) -> None:
    """BadParameter where operands and results do not fit: they are drawn in main memory, in float32."""
    m, k, n = size
    numbers = m * k + k * n + m * n
    places = {"main memory": (numbers * max(4, dtype.itemsize), main_memory())}
    if device.type == "cuda":
        places["the GPU's memory"] = (numbers * dtype.itemsize, torch.cuda.mem_get_info(device)[0])
    for place, (needed, there) in places.items():
        if needed * COPIES > there:
            raise typer.BadParameter(
                f"{m}x{k}x{n} takes {COPIES} times {needed / 1e9:,.1f} GB, and {place} has {there / 1e9:,.1f} GB: "
                "give a smaller product"
            )


def main_memory() -> float:
    """Bytes of this machine; without end where the system does not say."""
    try:
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, ValueError, OSError):  # not on Windows
        return math.inf


def sizes(shape: str) -> Sizes:
    """M, K and N of "MxKxN" or of "N"."""
    parts = [part.strip() for part in shape.lower().split("x")]
    numbers = [int(part) if part.isdecimal() and len(part) <= MOST_DIGITS else 0 for part in parts]
    numbers *= 3 if len(numbers) == 1 else 1
    if len(numbers) != 3 or min(numbers) < 1:
        shown = shape if len(shape) <= 60 else f"{shape[:60]}…"
        raise typer.BadParameter(f"{shown!r} is no product: write MxKxN, such as {LESSON}, or N for a square one")
    return numbers[0], numbers[1], numbers[2]
