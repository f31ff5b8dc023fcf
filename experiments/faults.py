"""Is a picture lost, done twice or half written when processes are killed, disks fill up and inputs are damaged?

Runs of `invert.batch` on a stub model, disturbed: kill -9 of drivers and workers at random moments, a full disk, an output
folder that becomes read-only, damaged pictures among good ones, two drivers at once, a picture that changes while it is read. In
the end the output has to be, byte for byte, that of an undisturbed run.
"""

from __future__ import annotations

import random
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from experiments.harness.faults import disks, kills, pictures
from experiments.harness.faults.verdicts import Verdict
from experiments.harness.runner import Context

KILLS, MUTATED, RUNS = 20, 1000, 5
QUICK_KILLS, QUICK_MUTATED, QUICK_RUNS = 2, 60, 1


def run(context: Context) -> dict[str, Any]:
    rng = random.Random(context.seed)
    times, mutated, runs = (QUICK_KILLS, QUICK_MUTATED, QUICK_RUNS) if context.quick else (KILLS, MUTATED, RUNS)
    parts: dict[str, Callable[[Path], Verdict]] = {
        "driver killed": lambda folder: kills.kill_drivers(folder, times, rng),
        "worker killed": lambda folder: kills.kill_workers(folder, times, rng),
        "two drivers at once": lambda folder: kills.two_drivers(folder, runs),
        "disk full": disks.full_disk,
        "read-only output": disks.read_only,
        "mutated pictures": lambda folder: pictures.mutated(folder, mutated, rng),
        "a picture that changes": lambda folder: pictures.changing(folder, runs, rng),
    }
    found: dict[str, Verdict] = {}
    for name, part in parts.items():
        with tempfile.TemporaryDirectory() as folder:
            found[name] = part(Path(folder))
        print(f"{name}: {found[name].to_json()}", file=sys.stderr, flush=True)
    totals = {kind: sum(getattr(part, kind) for part in found.values()) for kind in ("lost", "twice", "half_written", "wrong")}
    parts_found = {name: part.to_json() for name, part in found.items()}
    return {**totals, "parts": parts_found, "failed": any(part.failed for part in found.values())}
