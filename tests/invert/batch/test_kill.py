"""kill -9 of a real process in the midst of its files: nothing lost, nothing twice, no half-written file, the same bytes."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
# Killed by what it does and not by the clock: at its n-th change of a file, wherever in it that is.
RUN = """
import os, signal, sys
from pathlib import Path
from invert.batch.delivery import Wanted
from invert.batch.find import Patterns, find_pictures
from invert.batch.journal import Journal
from invert.batch.runner import Run, RunSettings
from invert.batch.sidecars import Sidecars
from invert.batch.tiers import Found

class Widths:
    batch = 5
    def prepare(self, image):
        return image.width
    def __call__(self, widths):
        return [Found(f"{w} pixels", w / 100, 1, "widths", 0, ((f"{w} pixels", w / 100),)) for w in widths]

folder, left = sys.argv[1], int(sys.argv[2])

def count(event, arguments):
    global left
    if event in ("os.rename", "os.link", "os.remove") or event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR):
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

state = Path(folder) / ".invert"
state.mkdir(exist_ok=True)
wanted = Wanted(Sidecars(existing="append"), metadata=True)
settings = RunSettings(Path(folder), state, ("metadata", "jsonl", "csv"), True, wanted)
pictures = find_pictures([folder], Patterns(), print)
with Journal(state / "journal.jsonl", {}, wanted.how) as journal:
    sys.addaudithook(count)
    Run(pictures, journal, settings, Widths).run()
    print(left)
"""


def run(folder: Path, kill_at: int = 0) -> subprocess.CompletedProcess[str]:
    """A run that kills itself at that change of a file; it prints minus how many there were if it came to its end."""
    command = [sys.executable, "-c", RUN, str(folder), str(kill_at)]
    return subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def test_killed_at_any_moment_a_run_comes_to_the_bytes_of_an_undisturbed_one(tmp_path, draw, content):
    made, undisturbed, killed = tmp_path / "made", tmp_path / "a", tmp_path / "b"
    for width in range(10, 90):
        draw(made / ("sub" if width % 3 else ".") / f"{width}.png", width)
    (made / "12.txt").write_text("mine"), (made / "bad.png").write_bytes(b"no picture")
    for folder in (undisturbed, killed):
        shutil.copytree(made, folder)
    done = run(undisturbed)
    changes = -int(done.stdout)
    assert done.returncode == 0 and changes > 80

    for kill_at in (2, changes // 3, changes // 2):  # a run goes on where the one before was killed
        assert run(killed, kill_at).returncode == -signal.SIGKILL
        for line in (killed / ".invert" / "journal.jsonl").read_text().splitlines()[:-1]:
            json.loads(line)
    assert run(killed).returncode == 0
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
