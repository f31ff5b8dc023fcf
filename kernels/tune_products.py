"""`python -m kernels.tune_products`: measures candidates for the tiles of the matrix products on this machine's card.

Out: for each product cuBLAS's microseconds and those of every candidate, the quickest first, over cold caches; with --json
all of it in a file. What is found goes by hand into `TILES` and `DESCRIBED` of `kernels.backends.triton_tiles`, and into `TALL`
and `WIDE` of `kernels.backends.cuda_skinny`. As in `kernels.tune`, what Triton compiles is compiled first, in parallel.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import date
from functools import partial
from itertools import product
from math import isfinite
from pathlib import Path
from typing import Any

import torch
import triton
from torch import Tensor

from kernels import record
from kernels.backends import triton_tiles
from kernels.backends.triton_tiles import Tile
from kernels.once import OnceParser
from kernels.registry import unavailable_reason
from kernels.timing import interleaved_time

TOLERANCE = 5e-3  # of a candidate's result beside float64's, by norm: bfloat16's rounding, and TF32's
SPARE_BYTES = 227 * 1024 - triton_tiles.SPARE  # of shared memory, for the stages: more does not launch on Hopper


@dataclass(frozen=True)
class Product:
    """a (m, k) times b (k, n), row by row; `precision` as torch.set_float32_matmul_precision takes it."""

    m: int
    k: int
    n: int
    dtype: torch.dtype = torch.float32
    precision: str = "highest"

    def __str__(self) -> str:
        kind = str(self.dtype).removeprefix("torch.") if self.precision == "highest" else "TF32"
        return f"({self.m}×{self.k})·({self.k}×{self.n}) {kind}"

    @property
    def small(self) -> Product:
        """A product for which the same code is compiled: 16 divides its sizes where it divides these."""
        m, k, n = (256 if size > 1000 else size for size in (self.m, self.k, self.n))
        return Product(m, k, n, self.dtype, self.precision)

    def operands(self) -> tuple[Tensor, Tensor]:
        generator = torch.Generator("cuda").manual_seed(0)
        shapes = (self.m, self.k), (self.k, self.n)
        a, b = (torch.randn(shape, device="cuda", generator=generator).to(self.dtype) for shape in shapes)
        return a, b


PRODUCTS = (
    Product(50_000, 784, 10),
    Product(10, 784, 50_000),
    Product(50_000, 784, 10, torch.bfloat16),
    Product(4096, 4096, 4096, precision="high"),
    Product(8192, 8192, 8192, precision="high"),
    Product(2048, 2048, 2048, precision="high"),
)
Plan = tuple[str, dict[str, Any]]  # which kernel, and its setting


def plans(shape: Product) -> Iterator[Plan]:
    """What to measure for a product; "packed": b is first copied to lie column by column, the copy included in the time."""
    if shape.n <= triton_tiles.FEW:
        for rows, depth, stages, warps in product((32, 64, 128), (64, 128), (3, 4), (2, 4)):
            yield from fitting("as it lies", Tile(rows, 16, depth, stages, warps), shape)
    elif shape.m <= triton_tiles.FEW:
        for columns, depth, stages, warps in product((64, 128, 256), (16, 32, 64), (3, 5), (2, 4)):
            yield from fitting("as it lies", Tile(16, columns, depth, stages, warps), shape)
    else:
        for described in (False, True):
            for rows, columns, depth, stages, warps in (
                (128, 256, 32, 3, 8),
                (128, 256, 32, 4, 8),
                (256, 128, 32, 4, 8),
                (128, 128, 32, 4, 4),
                (128, 128, 32, 5, 8),
                (128, 128, 64, 3, 8),
                (128, 128, 32, 6, 4),
                (64, 256, 32, 4, 4),
            ):
                yield from fitting("packed", Tile(rows, columns, depth, stages, warps, described), shape)


def fitting(kernel: str, tile: Tile, shape: Product) -> Iterator[Plan]:
    """The plan, if the tile's stages fit the shared memory."""
    if tile.shared(shape.dtype.itemsize) <= SPARE_BYTES:
        yield kernel, asdict(tile)


def numba_plans(shape: Product) -> Iterator[Plan]:
    """The same for numba's kernels, which are compiled one by one."""
    if shape.dtype != torch.float32 or unavailable_reason("numba-cuda", "cuda") is not None:
        return
    if shape.n <= triton_tiles.FEW:
        for lanes, rows, warps, blocks in (
            (16, 4, 8, 2),
            (16, 4, 4, 4),
            (16, 8, 4, 2),
            (16, 8, 8, 1),
            (32, 4, 8, 2),
            (32, 8, 8, 1),
        ):
            yield "numba-cuda", {"lanes": lanes, "rows": rows, "warps": warps, "blocks": blocks}
    elif shape.m <= triton_tiles.FEW:
        for warps, blocks, ahead in ((8, 3, 4), (4, 3, 8), (8, 2, 8), (16, 1, 8)):
            yield "numba-cuda", {"warps": warps, "blocks": blocks, "ahead": ahead}


def call_of(plan: Plan, a: Tensor, b: Tensor) -> Callable[[], Tensor]:
    """A call that multiplies by this plan."""
    kernel, setting = plan
    if kernel == "numba-cuda":
        from kernels.backends import cuda_skinny

        if "lanes" in setting:
            return partial(cuda_skinny.tall, a, b, cuda_skinny.Tall(**setting))
        return partial(cuda_skinny.wide, a, b, cuda_skinny.Wide(**setting))
    tile = Tile(**setting)
    if kernel == "packed":
        return lambda: triton_tiles.tiled(a, triton_tiles.along_k(b), tile)
    return partial(triton_tiles.tiled, a, b, tile)


def compile_part(part: int, parts: int) -> None:
    """Compile every `parts`-th of Triton's plans from `part` on."""
    for shape in PRODUCTS:
        torch.set_float32_matmul_precision(shape.precision)
        a, b = shape.small.operands()
        for number, plan in enumerate(plans(shape)):
            if number % parts == part:
                try:
                    call_of(plan, a, b)()
                except Exception as error:  # reported when it is measured
                    print(f"{shape} {plan}: {type(error).__name__}", file=sys.stderr)


def measure(shape: Product, seconds: float) -> list[dict[str, Any]]:
    """cuBLAS's and every plan's microseconds, the quickest first; those that fail or are wrong say why."""
    torch.set_float32_matmul_precision(shape.precision)
    a, b = shape.operands()
    expected = a.double() @ b.double()
    calls: dict[str, Callable[[], Tensor]] = {"torch": partial(torch.mm, a, b)}
    rows: dict[str, dict[str, Any]] = {"torch": {"kernel": "torch"}}
    for plan in [*plans(shape), *numba_plans(shape)]:
        name, call = json.dumps(plan), call_of(plan, a, b)
        rows[name] = {"kernel": plan[0], **plan[1]}
        try:
            error = float((call().double() - expected).norm() / expected.norm())
        except Exception as failure:  # too much shared memory, say: a plan that this card cannot run
            rows[name]["reason"] = f"{type(failure).__name__}: {failure}"[:200]
            continue
        if error < TOLERANCE:  # also where it is NaN the plan is wrong
            calls[name] = call
        else:
            rows[name]["reason"] = f"off by {error:.1e}"
    for name, took in interleaved_time(calls, a.device, seconds).items():
        rows[name]["microseconds"] = 1e6 * took
    return sorted(rows.values(), key=lambda row: row.get("microseconds", float("inf")))


def main() -> None:
    parser = OnceParser(prog="python -m kernels.tune_products", description=__doc__.split("\n")[0])
    parser.add_argument("--json", type=Path, help="where to write all figures")
    parser.add_argument("--top", type=int, default=5, help="rows to print for each product")
    parser.add_argument("--seconds", type=float, default=3.0, help="to spend on each product, compiling aside")
    parser.add_argument("--part", type=int, nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.json and (problem := record.obstacle(arguments.json)):
        parser.error(problem)
    if arguments.top < 1:
        parser.error(f"--top is {arguments.top}: give 1 or more")
    if not (isfinite(arguments.seconds) and arguments.seconds >= 0):
        parser.error(f"--seconds is {arguments.seconds}: give 0 or more")
    if not torch.cuda.is_available():
        print("kernels.tune_products: there is no CUDA device here to measure", file=sys.stderr)
        raise SystemExit(2)
    if arguments.part:
        return compile_part(*arguments.part)
    parts = max(1, (os.cpu_count() or 2) - 2)
    command = [sys.executable, "-m", "kernels.tune_products", "--part"]
    workers = [subprocess.Popen([*command, str(part), str(parts)]) for part in range(parts)]
    for worker in workers:
        worker.wait()
    found: dict[str, list[dict[str, Any]]] = {}
    versions = {"torch": torch.__version__, "triton": triton.__version__}
    figures = {"date": date.today().isoformat(), "card": torch.cuda.get_device_name(), **versions, "products": found}
    for shape in PRODUCTS:
        found[str(shape)] = measure(shape, arguments.seconds)
        if arguments.json:  # after each: what was measured is kept if a later one is cut off
            record.write(arguments.json, figures)
        print(shape)
        own = [row for row in found[str(shape)] if row["kernel"] != "torch" and "microseconds" in row][: arguments.top]
        for row in [row for row in found[str(shape)] if row["kernel"] == "torch"] + own:
            print(f"  {row['microseconds']:9.1f} us  { ({k: v for k, v in row.items() if k != 'microseconds'}) }", flush=True)
    return None


if __name__ == "__main__":
    main()
