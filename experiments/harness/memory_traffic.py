"""How many bytes a CUDA kernel moves for the shape of its blocks, read off the kernel's own Python code.

In: a product's shape and a block; out: counts of 32-byte sectors, 128-byte lines and steps of warps. The kernel runs
thread by thread on arrays that note addresses instead of holding numbers; a warp's accesses are then put together as
the hardware does it. A `Card` turns counts into clocks: ASSUMED has round figures of Hopper's order (see Luo et al.,
Dissecting the NVIDIA Hopper Architecture, 2025), H200 four that were fitted to rows of its own table.
Source: NVIDIA, CUDA C++ Best Practices Guide, "Coalesced access to global memory".
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import ceil
from types import FunctionType, SimpleNamespace
from typing import Any

from kernels.backends import cuda_naive

SECTOR, LINE, WARP = 32, 128, 32  # bytes, bytes, threads
NUMBER = 4  # bytes of float32
STEPS = SECTOR // NUMBER  # of k that are traced: a sector read along k serves so many, and then all repeats
RESIDENT = 2048  # threads of a multiprocessor
L1 = 192 * 1024  # bytes of a Hopper multiprocessor's 256 KiB that cache global memory, at least


@dataclass(frozen=True)
class Card:
    """What a multiprocessor does in a clock, and how long a load takes."""

    l1_sectors: float = 4  # asked of L1 in a clock: 128 bytes
    l1_lines: float = float("inf")  # of a load that lie apart, looked up in a clock
    l2_sectors: float = 1  # that come from L2 in a clock: 32 bytes
    hit: float = 33  # clocks until a load returns from L1
    miss: float = 500  # clocks until a load returns from memory
    overlapped: float = 4  # steps of k whose loads overlap
    step: float = 0  # clocks in which the instructions of one warp's step of k are issued
    clocks_per_ms: float | None = None  # of all multiprocessors together

    @property
    def wait(self) -> float:
        """Clocks of a step of k for a warp that is alone: a sector misses once, then hits."""
        return self.miss / STEPS + self.hit / self.overlapped


ASSUMED = Card()
# An H200 at 1.98 GHz, fitted to four of the 18 times of `results/matmul-blocks-h200.json`: `step` to the transpose's
# 2x128 (32 instructions, most of them 64-bit indices, at 2.4 a clock), `l1_lines` to the product's 32x8, `miss` to its
# 1x256; `l2_sectors` is the 64 bytes that NVIDIA documents.
H200 = Card(l1_lines=1.4, l2_sectors=2, miss=835, step=13.5, clocks_per_ms=132 * 1.98e6)

Block = tuple[int, int]


@dataclass(frozen=True)
class Traffic:
    """What one product costs, summed over the grid."""

    requested: float  # sectors that the warps' loads ask of L1
    lines: float  # lines that they lie in, load by load
    fetched: float  # sectors that come into L1 from L2 or beyond
    steps: float  # steps of k of warps in which at least one thread computes
    rounds: float  # steps of k that blocks take one after another, as many at once as fit a multiprocessor
    working: float  # share of a block's threads that have a number to compute

    def limits(self, card: Card) -> dict[str, float]:
        """Clocks, those of all multiprocessors added up, by what could be the limit."""
        return {
            "loads": max(self.requested / card.l1_sectors, self.lines / card.l1_lines),
            "memory": self.fetched / card.l2_sectors,
            "latency": self.rounds * card.wait,
            "instructions": self.steps * card.step,
        }

    def clocks(self, card: Card = ASSUMED) -> float:
        """Clocks of the worst limit."""
        return max(self.limits(card).values())

    def limit(self, card: Card = ASSUMED) -> str:
        """Its name."""
        limits = self.limits(card)
        return max(limits, key=limits.__getitem__)


class Addresses:
    """A matrix of float32, row after row in memory, that notes which addresses are read."""

    def __init__(self, start: int, rows: int, row_bytes: int, columns: int) -> None:
        self.start, self.row_bytes, self.shape = start, row_bytes, (rows, columns)
        self.read: list[int] = []

    def __getitem__(self, index: tuple[int, int]) -> float:
        self.read.append(self.start + index[0] * self.row_bytes + index[1] * NUMBER)
        return 0.0

    def __setitem__(self, index: tuple[int, int], value: float) -> None:
        """Stores are one for each K loads: not counted."""


def loads_of(thread: Block, m: int, k: int, n: int, kernel: Any = cuda_naive.product) -> tuple[list[int], list[int]]:
    """Addresses in a and in b that one thread of the grid reads in its first STEPS of k, in order."""
    steps = min(k, STEPS)
    a, b, c = Addresses(0, m, k * NUMBER, steps), Addresses(1 << 40, steps, n * NUMBER, n), Addresses(1 << 41, m, n * NUMBER, n)
    position = SimpleNamespace(grid=lambda dims: thread, gridsize=lambda dims: (1 << 31, 1 << 31))
    FunctionType(kernel.py_func.__code__, {"cuda": position, "range": range})(a, b, c)
    return a.read, b.read


def traffic(m: int, k: int, n: int, block: Block) -> Traffic:
    """Traffic of (M, K) times (K, N), both row by row, in blocks of `block` = (x over rows, y over columns) threads."""
    x, y = block
    together_on_one = RESIDENT // (x * y)  # blocks of a multiprocessor
    requested = lines = fetched = steps = working = 0.0
    for row0, blocks_down in starts(m, x):
        for column0, blocks_across in starts(n, y):
            # in the order in which the hardware fills warps
            traced = [loads_of((row0 + i % x, column0 + i // x), m, k, n) for i in range(x * y)]
            weight = blocks_down * blocks_across * k / min(k, STEPS)
            asked = requests(traced)
            everything = [address for loads in traced for operand in loads for address in operand]
            held = together_on_one * count(everything, LINE) * LINE <= L1
            requested += weight * asked
            lines += weight * requests(traced, LINE)
            steps += blocks_down * blocks_across * k * sum(any(a for a, _ in warp) for warp in warps_of(traced))
            fetched += weight * (count(everything, SECTOR) if held else asked)  # a line that is pushed out comes again
            working += blocks_down * blocks_across * sum(bool(a) for a, _ in traced)
    blocks = ceil(m / x) * ceil(n / y)
    return Traffic(requested, lines, fetched, steps, blocks * k / together_on_one, working / (blocks * x * y))


def starts(total: int, side: int) -> list[tuple[int, int]]:
    """First index and number of the blocks along one dimension: those that are full, and the one at the edge."""
    full, rest = divmod(total, side)
    return [(first, number) for first, number in ((0, full), (full * side, int(rest > 0))) if number]


def warps_of(traced: list[tuple[list[int], list[int]]]) -> list[list[tuple[list[int], list[int]]]]:
    """A block's threads, warp by warp."""
    return [traced[first : first + WARP] for first in range(0, len(traced), WARP)]


def requests(traced: list[tuple[list[int], list[int]]], size: int = SECTOR) -> int:
    """Sectors that a block's warps ask for: of each load, those that its threads' addresses lie in."""
    return sum(
        count(at_once, size) for warp in warps_of(traced) for operand in (0, 1) for at_once in together(t[operand] for t in warp)
    )


def together(loads: Iterable[list[int]]) -> Iterable[tuple[int, ...]]:
    """What the threads of a warp read at the same time; threads with nothing to do read nothing."""
    return zip(*[addresses for addresses in loads if addresses], strict=True)


def count(addresses: Iterable[int], size: int) -> int:
    """How many aligned pieces of memory of `size` bytes the addresses lie in."""
    return len({address // size for address in addresses})
