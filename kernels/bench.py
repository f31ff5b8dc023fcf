"""`python -m kernels.bench`: every backend's time beside torch's and beside the speed of memory, as table and JSON.

In: shapes, a dtype, a device; out: a table on the terminal and `bench.json`. Every share is of something measured
in the same run. `--check` runs instead what only a GPU can show (`kernels.checks`).
"""

from __future__ import annotations

import json
import platform
import sys
import tempfile
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.table import Table
from torch import Tensor

from kernels import checks, record
from kernels.api import matmul
from kernels.arrays import dtype_name
from kernels.bench_input import LESSON, backends_of, check_budget, device_of, dtype_of, works
from kernels.once import OnceEach
from kernels.registry import BACKENDS
from kernels.timing import Call, copy_bandwidth, interleaved_time


@dataclass(frozen=True)
class Row:
    """One backend on one product (M, K) times (K, N)."""

    backend: str
    m: int
    k: int
    n: int
    dtype: str
    seconds: float
    gflops: float  # 2 M K N operations, per second, in 1e9
    gbytes: float  # operands read once and result written once, per second, in 1e9
    of_copy: float  # share of the measured copy bandwidth
    of_torch: float  # share of torch's rate on the same product, in the same run
    registers: int | None = None  # of a thread, CUDA only
    shared_bytes: int | None = None  # of a block, CUDA only


def operands(m: int, k: int, n: int, dtype: torch.dtype, device: torch.device, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Random a (M, K) and b (K, N); the same seed gives the same numbers on every device."""
    generator = torch.Generator().manual_seed(seed)
    a, b = (torch.randn(shape, generator=generator, device="cpu").to(device, dtype) for shape in ((m, k), (k, n)))
    return a, b


def compare(names: list[str], a: Tensor, b: Tensor, bandwidth: float, budget: float = 2.0) -> list[Row]:
    """Measure those of the backends that take the dtype, in turns with torch. bandwidth: bytes per second of a copy."""
    (m, k), n = a.shape, b.shape[1]
    names = [name for name in names if dtype_name(a) in BACKENDS[name].dtypes]
    calls: dict[str, Call] = {name: partial(matmul, a, b, name) for name in dict.fromkeys(["torch", *names])}
    seconds = interleaved_time(calls, a.device, budget)
    traffic = a.element_size() * (m * k + k * n + m * n)
    return [
        Row(
            backend=name,
            m=m,
            k=k,
            n=n,
            dtype=dtype_name(a),
            seconds=seconds[name],
            gflops=2 * m * k * n / seconds[name] / 1e9,
            gbytes=traffic / seconds[name] / 1e9,
            of_copy=traffic / seconds[name] / bandwidth,
            of_torch=seconds["torch"] / seconds[name],
            **(resources(calls[name]) if a.is_cuda else {}),
        )
        for name in names
    ]


def resources(call: Call) -> dict[str, int | None]:
    """Registers and shared memory of the longest CUDA kernel that a call launches, as the driver reports them."""
    activities = [torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profile:
        call()
        torch.cuda.synchronize()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "trace.json")
        profile.export_chrome_trace(str(path))
        return read_resources(json.loads(path.read_text()))


def read_resources(trace: dict[str, list[dict]]) -> dict[str, int | None]:
    """The same from a trace in Chrome's format, as torch's profiler writes it; None where it tells nothing."""
    kernels = [event for event in trace["traceEvents"] if event.get("cat") == "kernel"]
    longest: dict = max(kernels, key=lambda event: event["dur"], default={"args": {}})["args"]
    return {"registers": longest.get("registers per thread"), "shared_bytes": longest.get("shared memory")}


def table(rows: list[Row], title: str) -> Table:
    """The rows as a table for the terminal."""
    columns = ("backend", "M×K×N", "ms", "GFLOP/s", "GB/s", "of copy", "of torch")
    cuda = any(row.registers is not None for row in rows)
    grid = Table(*columns, *(("registers", "shared") if cuda else ()), title=title)
    for row in rows:
        figures = (
            f"{row.seconds * 1e3:.3f}",
            f"{row.gflops:.1f}",
            f"{row.gbytes:.1f}",
            f"{row.of_copy:.0%}",
            f"{row.of_torch:.0%}",
        )
        compiled = (str(row.registers), str(row.shared_bytes)) if cuda else ()
        grid.add_row(row.backend, f"{row.m}×{row.k}×{row.n}", *figures, *compiled)
    return grid


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command(cls=OnceEach)
def main(
    shapes: Annotated[list[str] | None, typer.Argument(help="Products as MxKxN, or N for a square one.")] = None,
    backends: Annotated[
        list[str] | None, typer.Option(help="Names, separated by commas; all that can run here if not given.")
    ] = None,
    dtype: Annotated[str, typer.Option(help="float16, bfloat16, float32 or float64.")] = "float32",
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cuda" if torch.cuda.is_available() else "cpu",
    output: Annotated[Path, typer.Option("--json", help="Where the figures go.")] = Path("bench.json"),
    budget: Annotated[float, typer.Option(help="Seconds to spend on each product.")] = 2.0,
    check: Annotated[bool, typer.Option("--check", help="Run the checks that need a GPU, and no benchmark.")] = False,
) -> None:
    """Time the matmul backends, or check them on a GPU."""
    if check:
        raise typer.Exit(checks.main(Console()))
    if problem := record.obstacle(output):
        raise typer.BadParameter(problem)
    check_budget(budget)
    where, number = device_of(device), dtype_of(dtype)
    names = backends_of(",".join(backends or ()), where, dtype)
    planned = works(shapes or ["64", "256", "1024", LESSON], names, number, where)
    for one in planned:
        for sentence in one.left_out:
            print(f"kernels.bench: {sentence}", file=sys.stderr)
    bandwidth = copy_bandwidth(where)
    rows: list[Row] = []
    for one in planned:
        rows += compare(list(one.backends), *operands(*one.sizes, number, where), bandwidth, budget)
    machine = torch.cuda.get_device_name(where) if where.type == "cuda" else platform.processor() or platform.machine()
    threads = torch.get_num_threads()
    Console().print(table(rows, f"{machine}, {threads} threads, copy {bandwidth / 1e9:.1f} GB/s"))
    about = {"machine": machine, "threads": threads, "torch": torch.__version__, "copy_bytes_per_second": bandwidth}
    try:
        record.write(output, {**about, "rows": [asdict(row) for row in rows]})
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


if __name__ == "__main__":
    app()
