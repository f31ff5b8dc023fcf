"""Pictures, shards and runs on the stub model."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from experiments.harness.stub_solver import StubSolver
from invert.batch.shards import Shard, plan
from invert.batch.work import Job, Report, run_shard


def png(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def write_tar(path: Path, members: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def tar_of(path: Path, count: int, first: int = 0) -> Path:
    return write_tar(path, {f"{i:05d}.png": png(i) for i in range(first, first + count)})


def rows_of(out: Path) -> list[dict[str, object]]:
    """Every row of a run, in the order of the files' names."""
    return [row for file in sorted(out.glob("*.parquet")) for row in pq.read_table(file).to_pylist()]


def do(inputs: list[Path], out: Path, **options: int) -> tuple[list[Shard], list[Report]]:
    """Run the inputs' shards on the stub model, here."""
    out.mkdir(exist_ok=True)
    shards = plan([str(path) for path in inputs], out, **options)
    return shards, [run_shard(shard, StubSolver(batch=3), Job(str(out), "c")) for shard in shards]
