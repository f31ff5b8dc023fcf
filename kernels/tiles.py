"""Which tiles the k-means kernels take: a table by features, clusters, dtype and compute capability, with a reason each.

In: the shape of the problem; out: block sizes. No search runs when a user calls: `python -m kernels.tune` measures the
candidates on a card, and its figures go into this table by hand.
"""

from __future__ import annotations

from dataclasses import dataclass

FEW_FEATURES = 4  # up to here `few_kernel`'s lanes hold whole points
FEW_NUMBERS = 48  # most numbers of (clusters, features + 1), padded, that a lane sums in registers
FEW = (256, 4, 4)  # of `few_kernel`: points at a time, warps, programs a multiprocessor


@dataclass(frozen=True)
class LabelTile:
    """A program of `label_kernel`: `points` meet `centers` at a time over `depth` features; powers of two, at least 16."""

    points: int
    centers: int
    depth: int
    warps: int
    stages: int
    lanes: int = 8
    tensor: bool = False  # centers by tensor descriptors


def power_of_two(number: int, least: int = 1) -> int:
    """The smallest power of two that is at least `number` and `least`."""
    return max(least, 1 << max(0, number - 1).bit_length())


def label_tile(features: int, clusters: int, itemsize: int, capability: tuple[int, int] = (9, 0)) -> LabelTile:
    """The tile of `label_kernel`, as measured on an H200 (2026-11-26, `kernels.tune`); smaller ones before Hopper."""
    most = power_of_two(clusters, 16)
    depth = power_of_two(features, 16)
    if capability < (9, 0):  # 99 KiB of shared memory hold these everywhere
        return LabelTile(64, min(64, most), min(depth, 128 // itemsize), 4, 3)
    if itemsize == 2 and depth <= 128:
        # two programs a multiprocessor: one multiplies while the other takes minima; 256 centers leave room for one only
        return LabelTile(128, min(128, most), depth, 8, 2)
    if itemsize == 2:
        return LabelTile(128, min(128, most), 64, 8, 3, tensor=True)
    # float32's two halves fill the registers, so features are walked too; the wider the tile, the less is read again
    return LabelTile(128, min(256, most), min(depth, 32), 8, 2 if depth <= 64 else 3, tensor=True)


def rows_each(points: int, multiprocessors: int) -> int:
    """Rows that a program of `gather_kernel` adds: about 64 programs a multiprocessor, of 128 to 1,024 rows each.

    Of 8,000,000 x 128 (float16) 512 and 1,024 were the quickest, 128 took 13 % longer; of 1,000,000 x 64 all within 4 %.
    """
    return min(1024, power_of_two(points // (multiprocessors * 64), 128))


ROWS_AT_A_TIME, GATHER_WARPS = 16, 4  # of `gather_kernel`: the quickest of (8, 16, 32) x (1, 2, 4) at every shape measured
