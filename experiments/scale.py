"""What do ten thousand shards cost around the model: memory of the driver, and time a shard?

Ten thousand tars of one picture each go through every engine on a stub model that takes no time, so that all that is measured is
ours: planning, locks, reading, writing, reports. Beside it stands what a picture takes on picturebook's CLIP in each tier, one
thread: a shard of a thousand pictures is what the overhead is a share of.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torchvision.transforms.functional import to_pil_image

from experiments.harness.faults.verdicts import write_tars
from experiments.harness.runner import FOLDER, Context
from invert.batch.tiers import TierPlan, Tiers
from invert.config import InvertConfig
from invert.inverter import Inverter
from invert.picturebook.render import render
from invert.picturebook.world import draw_scenes

SHARDS, RAY_SHARDS, QUICK_SHARDS = 10_000, 500, 100
PICTURES, SEARCHED, QUICK_PICTURES = 640, 4, 16
SHARD_PICTURES = 1000
SAMPLED = 10  # times that memory is looked at over a run


def run(context: Context) -> dict[str, Any]:
    count = QUICK_SHARDS if context.quick else SHARDS
    tiers = speeds(QUICK_PICTURES if context.quick else PICTURES, 1 if context.quick else SEARCHED)
    engines = {}
    with tempfile.TemporaryDirectory() as folder:
        for engine, shards in {"local": count, "processes": count, "ray": min(count, RAY_SHARDS)}.items():
            engines[engine] = overhead(Path(folder) / engine, engine, shards)
            share = engines[engine]["driver_seconds_a_shard"] / (SHARD_PICTURES * tiers["1"]["seconds_a_picture"])
            engines[engine]["share_of_a_shard_of_1000_in_tier_1"] = round(share, 5)
            print(engine, engines[engine], file=sys.stderr, flush=True)
    return {"tiers": tiers, "engines": engines, "load_average_at_the_end": os.getloadavg()[0]}


def speeds(pictures: int, searched: int) -> dict[str, dict[str, float]]:
    """Seconds a picture of each tier, decoding left out; one thread, processor time, which other processes hardly change."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    inverter = Inverter.load("picturebook", device="cpu")
    images = [to_pil_image(scene) for scene in render(draw_scenes(pictures, 5, "held-out"))]
    found: dict[str, dict[str, float]] = {}
    for tier, method, count in (("1", "retrieve", pictures), ("2", "invert", searched)):
        solver = Tiers(inverter, InvertConfig(method=method), TierPlan())
        solver([solver.prepare(images[0])])  # builds what a model needs once
        began, wall = time.process_time(), time.perf_counter()
        for start in range(0, count, solver.batch):
            solver([solver.prepare(image) for image in images[start : min(start + solver.batch, count)]])
        seconds = (time.process_time() - began) / count
        found[tier] = {"pictures": count, "seconds_a_picture": round(seconds, 5), "pictures_a_second": round(1 / seconds, 2)}
        found[tier]["wall_seconds_a_picture"] = round((time.perf_counter() - wall) / count, 5)
    torch.set_num_threads(threads)
    return found


def overhead(folder: Path, engine: str, shards: int) -> dict[str, Any]:
    """Memory and processor time of a driver, and wall time, for that many shards of one picture each."""
    write_tars(folder / "one", 1, 1)
    (folder / "in").mkdir()
    for i in range(shards):  # a shard is known by its path
        (folder / "in" / f"{i:05d}.tar").symlink_to(folder / "one" / "00000.tar")
    began = time.perf_counter()
    workers = ["--workers", "2"] if engine != "local" else []
    command = [sys.executable, "-m", "experiments.harness.stub_run", "--engine", engine, *workers]
    command += ["--watch", str(max(1, shards // SAMPLED)), str(folder / "out"), str(folder / "in")]
    done = subprocess.run(command, cwd=FOLDER.parent, capture_output=True, text=True, check=True)
    wall = time.perf_counter() - began
    lines = [line.split() for line in done.stdout.splitlines() if line.startswith("watch ")]
    memory = [round(float(line[2])) for line in lines]
    began = time.perf_counter()
    subprocess.run(command, cwd=FOLDER.parent, capture_output=True, text=True, check=True)
    return {
        "shards": len(list((folder / "out").glob("*.parquet"))),
        "driver_mib": memory,
        "driver_seconds_a_shard": round(float(lines[-1][3]) / shards, 5),
        "wall_seconds_a_shard": round(wall / shards, 5),
        "seconds_to_find_all_done": round(time.perf_counter() - began, 2),
    }
