"""The experiment on faults: small parts of it go well, and what is wrong is counted."""

from __future__ import annotations

import random
from pathlib import Path

from experiments.harness.faults import pictures, verdicts
from experiments.harness.faults.verdicts import Verdict, finish, judge, outputs, write_tars


def test_damaged_pictures_cost_no_good_one(tmp_path: Path) -> None:
    verdict = pictures.mutated(tmp_path, 40, random.Random(0))
    assert not verdict.failed and verdict.note.startswith("40 mutated")


def test_what_is_lost_doubled_or_half_written_is_counted(tmp_path: Path) -> None:
    keys = write_tars(tmp_path / "in", 3, 2)
    assert finish(tmp_path / "out", tmp_path / "in")[0] == 0
    undisturbed = outputs(tmp_path / "out")
    sound = Verdict()
    judge(tmp_path / "out", keys, undisturbed, sound)
    assert not sound.failed
    first, second, third = sorted((tmp_path / "out").glob("*.parquet"))
    first.with_name("copy.parquet").write_bytes(first.read_bytes())
    second.write_bytes(second.read_bytes()[:-9])
    third.unlink()
    log = next((tmp_path / "out" / verdicts.LOGS).iterdir())
    log.write_text(log.read_text() * 2)
    locks = tmp_path / "out" / verdicts.LOCKS
    locks.mkdir()  # which a run takes away with it at its end
    (locks / "left.lock").touch()
    found = Verdict()
    judge(tmp_path / "out", keys, undisturbed, found)
    assert (found.lost, found.twice, found.half_written, found.wrong) == (4, 5, 1, 2) and found.failed
