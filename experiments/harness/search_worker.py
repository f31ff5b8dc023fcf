"""A process that inverts the same pictures whenever it is asked, with the code of one checkout.

Run as a file, so that it works with checkouts that do not know it: `python search_worker.py PICTURES BUDGET`. Each line that
it reads is a turn; each that it writes is what the turn found, as JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any


class Worker:
    """The process, from another one."""

    def __init__(self, checkout: Path, pictures: int, budget: int, threads: int) -> None:
        environment = {**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": str(threads)}
        command = [sys.executable, __file__, str(pictures), str(budget)]
        self.process = subprocess.Popen(
            command, cwd=checkout, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def turn(self) -> dict[str, Any]:
        """Wall and processor seconds, and the prompts, of one turn."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        found: dict[str, Any] = json.loads(self.process.stdout.readline())
        return found

    def close(self) -> None:
        """End the process."""
        self.process.communicate()


def serve(pictures: int, budget: int) -> None:
    from experiments.harness.pictures import scene_pictures
    from invert.inverter import Inverter

    inverter = Inverter.load(device="cpu")
    inverter.prepare()
    images = [picture.image for picture in scene_pictures(pictures, 0)]
    inverter.invert(images[0], budget=budget)
    for _ in sys.stdin:
        wall, processor = time.perf_counter(), time.process_time()
        results = inverter.invert_batch(images, budget=budget)
        times = {"wall": time.perf_counter() - wall, "processor": time.process_time() - processor}
        print(json.dumps({**times, "prompts": [result.prompt for result in results]}), flush=True)


if __name__ == "__main__":
    sys.path.pop(0)  # the folder of this file, whose modules would hide others
    serve(int(sys.argv[1]), int(sys.argv[2]))
