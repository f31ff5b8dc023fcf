"""kill -9 of a real process at random moments: nothing lost, nothing twice, no half-written file, the same bytes."""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[3]
RUN = """
import sys, time
from pathlib import Path
from invert.batch.delivery import Wanted
from invert.batch.find import Patterns, find_pictures
from invert.batch.journal import Journal
from invert.batch.runner import Run, RunSettings
from invert.batch.sidecars import Sidecars
from invert.batch.tiers import Found

class Slow:
    batch = 5
    def prepare(self, image):
        return image.width
    def __call__(self, widths):
        time.sleep(0.01)
        return [Found(f"{w} pixels", w / 100, 1, "slow", 0, ((f"{w} pixels", w / 100),)) for w in widths]

folder = sys.argv[1]
state = Path(folder) / ".invert"
state.mkdir(exist_ok=True)
wanted = Wanted(Sidecars(existing="append"), metadata=True)
settings = RunSettings(Path(folder), state, ("metadata", "jsonl", "csv"), True, wanted)
pictures = find_pictures([folder], Patterns(), print)
print("ready", flush=True)
with Journal(state / "journal.jsonl", {}, wanted.how) as journal:
    Run(pictures, journal, settings, Slow).run()
"""


def started(folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", RUN, str(folder)], cwd=ROOT, stdout=subprocess.PIPE, text=True)


def test_killed_at_random_moments_a_run_comes_to_the_bytes_of_an_undisturbed_one(tmp_path, draw, content):
    made, undisturbed, killed = tmp_path / "made", tmp_path / "a", tmp_path / "b"
    for width in range(10, 90):
        draw(made / ("sub" if width % 3 else ".") / f"{width}.png", width)
    (made / "12.txt").write_text("mine"), (made / "bad.png").write_bytes(b"no picture")
    for folder in (undisturbed, killed):
        shutil.copytree(made, folder)
    assert started(undisturbed).wait() == 0

    moments, kills = random.Random(0), 0
    for _ in range(3):
        process = started(killed)
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        time.sleep(moments.uniform(0.0, 0.25))
        process.send_signal(signal.SIGKILL)
        kills += process.wait() == -signal.SIGKILL
        for line in (killed / ".invert" / "journal.jsonl").read_text().splitlines()[:-1]:
            json.loads(line)
    assert kills
    assert started(killed).wait() == 0
    expected, found = content(undisturbed), content(killed)
    marked = {name for name in expected if name.startswith("gallery/page")}  # they name modification times
    assert expected.keys() == found.keys()
    assert {n: expected[n].replace(b"a/", b"b/") for n in expected.keys() - marked} == {
        n: found[n] for n in expected.keys() - marked
    }
    assert (killed / "12.txt").read_text() == "mine, 12 pixels\n"
    keys = [
        row["key"]
        for line in (killed / ".invert/journal.jsonl").read_text().splitlines()
        for row in json.loads(line).get("rows", ())
    ]
    assert len(set(keys)) == 81
