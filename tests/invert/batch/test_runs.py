"""An output folder is of one configuration, from the moment when a run begins in it."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from experiments.harness.stub_solver import StubSolver
from invert.batch import runs
from invert.batch.locks import acquire, this_process
from invert.batch.runs import claim
from invert.batch.shards import digest, plan
from invert.batch.sources import LOCKS, RUN_FILE
from invert.batch.sweeping import sweep
from invert.batch.tiers import Found
from invert.batch.work import STOPPED, Job, attempt
from invert.errors import InputError
from tests.invert.batch.shard_cases import rows_of
from tests.invert.batch.test_locks import dead_process

OURS, THEIRS = {"seed": 0}, {"seed": 1}


def owner_of(out: Path) -> object:
    return json.loads((out / RUN_FILE).read_text())


def claimed(out: Path, configuration: dict[str, int]) -> bool:
    """Whether a run of it may begin now."""
    try:
        with claim(out, configuration):
            return True
    except InputError:
        return False


def test_a_folder_in_which_a_run_has_only_begun_is_not_taken_by_another_configuration(tmp_path: Path) -> None:
    with claim(tmp_path, OURS):
        with (
            pytest.raises(InputError, match=r"at work in it \(`seed` was 0 and is 1\): give another `out`"),
            claim(tmp_path, THEIRS),
        ):
            pytest.fail("it was taken")
        assert owner_of(tmp_path) == OURS
    assert claimed(tmp_path, THEIRS) and owner_of(tmp_path) == THEIRS


def test_runs_of_one_configuration_share_a_folder_and_the_last_one_leaves_no_lock(tmp_path: Path) -> None:
    assert claimed(tmp_path, THEIRS)  # and nothing came of it
    with claim(tmp_path, OURS), acquire(tmp_path / LOCKS / "shard.lock") or pytest.fail():
        assert claimed(tmp_path, OURS)
    assert os.listdir(tmp_path) == [RUN_FILE]


def test_the_lock_of_a_run_that_was_killed_keeps_nobody_out_and_is_removed(tmp_path: Path) -> None:
    (tmp_path / LOCKS).mkdir()
    dead = asdict(replace(this_process(), pid=dead_process()))
    for name in (f"{runs.RUN_LOCK}0-0.lock", "shard.lock"):
        (tmp_path / LOCKS / name).write_text(json.dumps(dead))
    (tmp_path / RUN_FILE).write_text(json.dumps(THEIRS))
    assert claimed(tmp_path, OURS)
    assert os.listdir(tmp_path) == [RUN_FILE]


def test_a_worker_that_outlives_its_killed_run_keeps_others_out(tmp_path: Path) -> None:
    assert claimed(tmp_path, THEIRS)
    (tmp_path / LOCKS).mkdir()
    with acquire(tmp_path / LOCKS / "shard.lock") or pytest.fail():
        assert not claimed(tmp_path, OURS)


def test_tasks_of_an_array_that_begin_at_once_do_not_keep_each_other_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert claimed(tmp_path, THEIRS)

    def another_task(out: Path, current: object) -> bool:
        (out / RUN_FILE).write_text(json.dumps(current))  # after we have looked at it
        return True

    monkeypatch.setattr(runs, "_is_at_work", another_task)
    assert claimed(tmp_path, OURS)


def test_a_folder_that_may_only_be_read_can_be_asked_what_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert claimed(tmp_path, OURS)

    def refused(_: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(runs, "locked", refused)
    assert claimed(tmp_path, OURS) and not claimed(tmp_path, THEIRS)


def test_a_full_disk_is_named_where_a_run_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(runs, "locked", full)
    with pytest.raises(InputError, match="No space left on device; choose a writable `out`"), claim(tmp_path, OURS):
        pytest.fail("it began")


def test_a_run_that_has_lost_its_folder_neither_writes_nor_removes_anything(tars: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    ours, theirs = (Job(str(out), digest(configuration)) for configuration in (OURS, THEIRS))
    shards = plan([str(tars[0])], out)

    class Sleeper(StubSolver):
        def __call__(self, prepared: Sequence[Any]) -> Sequence[Found | Exception]:
            if not rows_of(out):
                (out / RUN_FILE).write_text(json.dumps(THEIRS))
                attempt(shards[0], StubSolver(), theirs)
            return super().__call__(prepared)

    report = attempt(shards[0], Sleeper(), ours)
    assert report.status == STOPPED and "another configuration" in report.message
    with pytest.raises(InputError, match="taken over"):
        sweep(shards, ours)
    assert [path.name for path in out.glob("*.parquet")] == [theirs.output(shards[0]).name]
