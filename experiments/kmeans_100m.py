"""Does k-means cluster a hundred million points from disk within 2 GiB of memory?

Writes 100,000,000 × 16 numbers (6.4 GB; --quick: 1,000,000) as shards into a temporary folder, clusters them by
`KMeans.fit(Shards(folder))`, and keeps the peak of the process's memory. Both show how long they still take. Wall
seconds depend on what else the machine does (its load before the beginning is kept, too), processor seconds do not.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track

from clustering import KMeans, Shards
from experiments.harness.memory import peak_memory, status_mib
from experiments.harness.runner import Context
from invert.errors import InputError

FEATURES, CLUSTERS, ITERATIONS = 16, 32, 20
SHARD_ROWS = 500_000
ROWS = 1 << 17  # of a chunk
LIMIT_MIB = 2048


def run(context: Context) -> dict[str, Any]:
    n = 1_000_000 if context.quick else 100_000_000
    with tempfile.TemporaryDirectory(prefix="kmeans-100m-") as name:
        folder = Path(name)
        free, needed = shutil.disk_usage(folder).free, 4 * n * FEATURES
        if free < 1.1 * needed:
            raise InputError(
                f"{folder} has {free / 1e9:.1f} GB free, the points take {needed / 1e9:.1f}: set TMPDIR to another disk"
            )
        with peak_memory(context.device) as peak:
            before, load, began, worked = status_mib("VmRSS"), os.getloadavg()[0], time.perf_counter(), time.process_time()
            write_shards(folder, n, context.seed)
            written, worked_writing = time.perf_counter(), time.process_time()
            shards = Shards(folder, rows=ROWS, device=context.device)
            model = KMeans(CLUSTERS, max_iter=ITERATIONS, random_state=context.seed, verbose=1).fit(shards)
            fitted, worked_fitting = time.perf_counter(), time.process_time()
    return {
        "points": n,
        "features": FEATURES,
        "clusters": CLUSTERS,
        "bytes_on_disk": needed,
        "iterations": model.n_iter_,
        "inertia_per_point": model.inertia_ / n,
        "seconds_to_write": written - began,
        "seconds_to_fit": fitted - written,
        "processor_seconds_to_write": worked_writing - worked,
        "processor_seconds_to_fit": worked_fitting - worked_writing,
        "load_before": load,
        "mib_before": before,
        "peak_mib": peak[0],
        "failed": peak[0] is not None and peak[0] > LIMIT_MIB,
    }


def write_shards(folder: Path, n: int, seed: int) -> None:
    """n points of unit variance around CLUSTERS centers, SHARD_ROWS a file."""
    rng = np.random.default_rng(seed)
    centers = rng.normal(0, 4, (CLUSTERS, FEATURES)).astype(np.float32)
    firsts = range(0, n, SHARD_ROWS)
    for number, first in enumerate(track(firsts, "writing", console=Console(stderr=True))):
        rows = min(SHARD_ROWS, n - first)
        points = rng.standard_normal((rows, FEATURES), np.float32)
        points += centers[rng.integers(0, CLUSTERS, rows)]
        np.save(folder / f"{number:05d}.npy", points)
