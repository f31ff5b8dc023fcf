"""`python -m kernels.tune`: measures the candidates for every tile of the k-means kernels on this machine's card.

Out: a table of milliseconds for each shape, the quickest first, and with --json all of it in a file. What is found goes into
`kernels/tiles.py` by hand, with a reason; nothing is searched when a user calls. Candidates are compiled first, in parallel
processes that share Triton's cache, because compiling takes longer than measuring.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import torch

from kernels import record
from kernels.lloyd import Lloyd
from kernels.once import OnceParser
from kernels.tiles import LabelTile, power_of_two

SMALL = 1 << 14  # points that compile the same code as a million: sizes that 16 divides


@dataclass(frozen=True)
class Shape:
    """A problem to tune for."""

    points: int
    features: int
    clusters: int
    dtype: torch.dtype

    def __str__(self) -> str:
        kind = str(self.dtype).removeprefix("torch.")
        return f"{self.points:,} x {self.features} {kind}, k = {self.clusters:,}"


SHAPES = (
    Shape(8_000_000, 128, 1024, torch.float16),
    Shape(1_000_000, 64, 256, torch.float32),
    Shape(50_000, 512, 1024, torch.float32),
    Shape(10_000_000, 2, 8, torch.float32),
)


def graph_time(call: Callable[[], object], calls: int = 5, repeats: int = 7) -> float:
    """Median milliseconds of a call, from a graph of several: no launch gaps, as in a fit."""
    call()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(calls):
            call()
    graph.replay()
    times = []
    for _ in range(repeats):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        graph.replay()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end) / calls)
    return median(times)


def label_tiles(shape: Shape) -> Iterator[LabelTile]:
    """Tiles worth measuring: wide enough for the tensor cores, small enough for registers and shared memory."""
    itemsize = shape.dtype.itemsize
    depth = power_of_two(shape.features, 16)
    if itemsize == 2 and depth <= 256:
        for tensor in (False, True):
            yield LabelTile(128, 128, depth, 8, 2, tensor=tensor)
            yield LabelTile(128, 64, depth, 8, 3, tensor=tensor)
            yield LabelTile(64, 128, depth, 4, 2, tensor=tensor)
        yield LabelTile(128, 64, depth, 8, 2, tensor=True)
        yield LabelTile(128, 128, depth, 4, 2)
    elif depth <= 128:
        for tensor in (False, True):
            yield LabelTile(128, 64, depth, 8, 2, tensor=tensor)
            yield LabelTile(64, 64, depth, 4, 2, tensor=tensor)
            yield LabelTile(128, 128, depth, 8, 2, tensor=tensor)
        yield LabelTile(128, 64, depth, 8, 1)
        for warps, points in ((8, 128), (4, 64)):
            yield LabelTile(points, 256, 32, warps, 3, tensor=True)
            yield LabelTile(points, 256, 32, warps, 2, tensor=True)
            yield LabelTile(points, 128, 32, warps, 3, tensor=True)
            yield LabelTile(points, 128, 32, warps, 4, tensor=True)
            yield LabelTile(points, 64, 32, warps, 3, tensor=True)
    else:
        for depth in (32, 64):
            yield LabelTile(128, 128, depth, 8, 3 if depth == 32 else 2, tensor=True)
            yield LabelTile(128, 64, depth, 8, 3 if depth == 32 else 2, tensor=True)
        yield LabelTile(128, 128, 32, 8, 3)
        yield LabelTile(128, 256, 32, 8, 3, tensor=True)
        yield LabelTile(128, 256, 32, 8, 4, tensor=True)
        yield LabelTile(128, 256, 32, 8, 2, tensor=True)
        yield LabelTile(64, 256, 32, 4, 3, tensor=True)
        yield LabelTile(64, 128, 32, 4, 3, tensor=True)


def candidates(shape: Shape) -> Iterator[tuple[str, dict[str, Any]]]:
    """What to measure: a stage of the iteration and its setting."""
    if shape.features == 2:
        for block, warps in ((64, 1), (256, 4), (128, 4), (256, 8), (512, 8), (512, 16), (1024, 16)):
            for warps_each in (12, 16, 24, 32):  # of a multiprocessor
                if warps_each % warps == 0:
                    yield "pass", {"block": block, "warps": warps, "each": warps_each // warps}
        return
    for tile in label_tiles(shape):
        yield "labels", {"tile": asdict(tile)}
    for share in (128, 512, 1024, 2048):
        for rows, warps in ((16, 4), (16, 2), (32, 8)):
            yield "sums", {"share": share, "rows": rows, "warps": warps}


def prepare(shape: Shape, stage: str, setting: dict[str, Any], x: torch.Tensor) -> Callable[[], None]:
    """A call that runs the stage in this setting over x."""
    centers = x[: shape.clusters].float()
    if stage == "labels":
        lloyd = Lloyd(x, None, shape.clusters, tile=LabelTile(**setting["tile"]))
        lloyd.load(centers)
        return lambda: lloyd.assignment.label(lloyd.labels)
    lloyd = Lloyd(x, None, shape.clusters)
    lloyd.load(centers)
    if stage == "pass":
        lloyd.set_few(setting["block"], setting["warps"], setting["each"])
        return lambda: lloyd.step(-1.0)
    lloyd.set_share(setting["share"], setting["rows"], setting["warps"])
    lloyd.assignment.label(lloyd.labels)
    torch.sort(lloyd.labels, out=(lloyd.ordered, lloyd.order))
    return lloyd.gather


def points_of(shape: Shape) -> torch.Tensor:
    """Blobs that overlap, so that clusters are of unequal sizes, as they are in data, and none is empty."""
    generator = torch.Generator("cuda").manual_seed(0)
    middles = torch.randn(shape.clusters, shape.features, device="cuda", generator=generator) / 2
    x = torch.empty(shape.points, shape.features, dtype=shape.dtype, device="cuda")
    for rows in x.split(1 << 20):
        labels = torch.randint(shape.clusters, (len(rows),), device="cuda", generator=generator)
        rows.copy_(middles[labels] + torch.randn(len(rows), shape.features, device="cuda", generator=generator))
    return x


def compile_part(shapes: Sequence[Shape], part: int, parts: int) -> None:
    """Compile every `parts`-th candidate from `part` on."""
    for shape in shapes:
        x = points_of(replace(shape, points=SMALL))
        for number, (stage, setting) in enumerate(candidates(shape)):
            if number % parts == part:
                try:
                    prepare(shape, stage, setting, x)()
                except Exception as error:  # reported when it is measured
                    print(f"{shape} {stage} {setting}: {type(error).__name__}", file=sys.stderr)
    torch.cuda.synchronize()


def measure(shape: Shape) -> list[dict[str, Any]]:
    """Every candidate's milliseconds, the quickest of each stage first."""
    x, found = points_of(shape), []
    for stage, setting in candidates(shape):
        try:
            milliseconds: float | None = graph_time(prepare(shape, stage, setting, x))
            reason = None
        except Exception as error:  # too much shared memory, say: a candidate that this card cannot run
            milliseconds, reason = None, f"{type(error).__name__}: {error}"[:200]
        found.append({"shape": str(shape), "stage": stage, "ms": milliseconds, "reason": reason, **setting})
    return sorted(found, key=lambda row: (row["stage"], row["ms"] is None, row["ms"] or 0))


def main() -> None:
    parser = OnceParser(prog="python -m kernels.tune", description=__doc__.split("\n")[0])
    parser.add_argument("--json", type=Path, help="where to write all figures")
    parser.add_argument("--top", type=int, default=6, help="rows to print for each stage")
    parser.add_argument("--part", type=int, nargs=2, help=argparse.SUPPRESS)
    parser.add_argument(
        "--shapes", type=int, nargs="+", help="numbers of the shapes to measure, from 0: " + "; ".join(map(str, SHAPES))
    )
    arguments = parser.parse_args()
    if arguments.json and (problem := record.obstacle(arguments.json)):
        parser.error(problem)
    if arguments.top < 1:
        parser.error(f"--top is {arguments.top}: give 1 or more")
    chosen = range(len(SHAPES)) if arguments.shapes is None else arguments.shapes
    if unknown := [number for number in chosen if number not in range(len(SHAPES))]:
        parser.error(f"--shapes {unknown[0]} names none: give numbers of 0 to {len(SHAPES) - 1}")
    shapes = [SHAPES[number] for number in chosen]
    if not torch.cuda.is_available():
        print("kernels.tune: there is no CUDA device here to measure", file=sys.stderr)
        raise SystemExit(2)
    if arguments.part:
        return compile_part(shapes, *arguments.part)
    parts = max(1, (os.cpu_count() or 2) - 2)
    command = [sys.executable, "-m", "kernels.tune", "--shapes", *map(str, chosen), "--part"]
    workers = [subprocess.Popen([*command, str(part), str(parts)]) for part in range(parts)]
    for worker in workers:
        worker.wait()
    rows = []
    for shape in shapes:
        found = measure(shape)
        rows += found
        print(shape)
        for stage in dict.fromkeys(row["stage"] for row in found):
            for row in [row for row in found if row["stage"] == stage][: arguments.top]:
                setting = {k: v for k, v in row.items() if k not in ("shape", "stage", "ms", "reason")}
                print(f"  {stage:7} {row['ms'] or float('nan'):8.4f} ms  {setting}", flush=True)
    if arguments.json:
        card = torch.cuda.get_device_name()
        record.write(arguments.json, {"card": card, "torch": torch.__version__, "rows": rows})
    return None


if __name__ == "__main__":
    main()
