"""kill -9 of drivers and of workers at random moments, and two drivers at once."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from pathlib import Path

from experiments.harness.faults.verdicts import Verdict, finish, judge, outputs, rows, start, write_tars
from invert.batch.engines.processes import ATTEMPTS

TARS, PICTURES = 12, 8
SLOW = {"engine": "processes", "workers": 2, "seconds": 0.05, "batch": 2}  # a shard takes 0.2 s
MOMENTS = 4.0  # seconds after the start within which a process is killed: loading, working and ending


def kill_drivers(folder: Path, times: int, rng: random.Random) -> Verdict:
    """Kill the driver, start again, until it was killed that many times; then let it end."""
    verdict, keys = Verdict(), write_tars(folder / "in", TARS, PICTURES)
    undisturbed = _undisturbed(folder)
    out = folder / "out"
    done = 0
    while verdict.runs < times:
        process = start(out, folder / "in", **SLOW)
        time.sleep(rng.uniform(0.3, MOMENTS))
        if process.poll() is None:
            process.kill()
        process.communicate()
        verdict.runs += 1
        rows(out, verdict)
        if len(outputs(out)) == TARS:  # all done: judge it and begin anew
            done += 1
            _settled(folder, out)
            judge(out, keys, undisturbed, verdict)
            out = folder / f"out{done}"
    _settled(folder, out)
    judge(out, keys, undisturbed, verdict)
    return verdict


def kill_workers(folder: Path, times: int, rng: random.Random) -> Verdict:
    """Kill workers, one after the other, under living drivers; every driver has to end by itself, with everything done."""
    verdict, keys = Verdict(), write_tars(folder / "in", TARS, PICTURES)
    undisturbed = _undisturbed(folder)
    run = 0
    while verdict.runs < times:
        out = folder / f"out{run}"
        run += 1
        process = start(out, folder / "in", **SLOW)
        for _ in range(ATTEMPTS - 1):  # one more, and the driver would rightly give up
            time.sleep(rng.uniform(0.5, MOMENTS / 2))
            workers = children(process.pid)
            if workers and process.poll() is None:
                os.kill(rng.choice(workers), signal.SIGKILL)
                verdict.runs += 1
                rows(out, verdict)
        process.communicate()
        verdict.wrong += process.returncode != 0
        judge(out, keys, undisturbed, verdict)
    return verdict


def two_drivers(folder: Path, times: int) -> Verdict:
    """Two runs of two workers each share an output folder."""
    verdict, keys = Verdict(), write_tars(folder / "in", TARS, PICTURES)
    undisturbed = _undisturbed(folder)
    for run in range(times):
        out = folder / f"out{run}"
        both = [start(out, folder / "in", **SLOW) for _ in range(2)]
        for process in both:
            process.communicate()
            verdict.wrong += process.returncode != 0
        verdict.runs += 2
        judge(out, keys, undisturbed, verdict)
    return verdict


def children(pid: int) -> list[int]:
    """The workers of a driver: its child processes, but for the one that tracks semaphores."""
    listed = subprocess.run(["ps", "-o", "pid=,args=", "--ppid", str(pid)], capture_output=True, text=True, check=False).stdout
    return [int(line.split()[0]) for line in listed.splitlines() if "spawn_main" in line]


def _undisturbed(folder: Path) -> dict[str, bytes]:
    finish(folder / "undisturbed", folder / "in")
    return outputs(folder / "undisturbed")


def _settled(folder: Path, out: Path) -> None:
    """Let a run end; workers of killed drivers may still be at their last shard, which it waits for."""
    finish(out, folder / "in", **SLOW)
