"""A lock has one owner, and a dead one loses it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from invert.batch import locks
from invert.batch.locks import Lock, acquire, publish, read_owner, this_process


def left_by(path: Path, owner: locks.Owner) -> None:
    path.write_text(json.dumps(asdict(owner)))


def dead_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_lock_is_held_once_and_free_again_afterwards(tmp_path: Path) -> None:
    with acquire(tmp_path / "a.lock") or pytest.fail():
        assert acquire(tmp_path / "a.lock") is None
        assert acquire(tmp_path / "b.lock") is not None
    assert acquire(tmp_path / "a.lock") is not None


def test_the_lock_of_a_dead_process_is_taken_over(tmp_path: Path) -> None:
    left_by(tmp_path / "a.lock", replace(this_process(), pid=dead_process()))
    lock = acquire(tmp_path / "a.lock")
    assert lock is not None and lock.held


def test_a_process_number_that_is_used_again_is_no_owner(tmp_path: Path) -> None:
    left_by(tmp_path / "a.lock", replace(this_process(), started="1"))
    assert acquire(tmp_path / "a.lock") is not None


def test_the_owner_on_another_machine_lives_as_long_as_it_touches_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    left_by(path, replace(this_process(), machine="elsewhere", pid=dead_process()))
    assert acquire(path) is None
    os.utime(path, (0, 0))
    assert acquire(path) is not None


def test_the_owner_touches_its_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "HEARTBEAT", 0.01)
    touched = threading.Event()
    monkeypatch.setattr(locks.os, "utime", lambda path: touched.set())
    with acquire(tmp_path / "a.lock") or pytest.fail():
        assert touched.wait(600)


def test_who_lost_the_lock_does_not_take_it_from_the_next_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "HEARTBEAT", 600)  # it sleeps however long this takes
    path = tmp_path / "a.lock"
    sleeper = acquire(path)
    assert sleeper is not None
    os.utime(path, (0, 0))
    heir = acquire(path)
    assert heir is not None and not sleeper.held
    sleeper.release()
    assert heir.held


def test_a_fresh_lock_that_was_moved_by_mistake_is_put_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two found it stale at once; the other one has broken it and taken it meanwhile."""
    path = tmp_path / "a.lock"
    stale = replace(this_process(), pid=dead_process())
    left_by(path, stale)
    reads = iter([stale])
    heir: list[Lock | None] = []

    def read(asked: Path) -> locks.Owner | None:
        found = next(reads, None)
        if found is not None:  # after we have looked, before we act
            heir.append(acquire(path))
        return found or read_owner(asked)

    monkeypatch.setattr(locks, "read_owner", read)
    assert not locks.break_if_stale(path)
    assert heir[0] is not None and heir[0].held


def test_of_many_threads_one_gets_a_stale_lock(tmp_path: Path) -> None:
    left_by(tmp_path / "a.lock", replace(this_process(), pid=dead_process()))
    barrier, found = threading.Barrier(8), []

    def take() -> None:
        barrier.wait()
        found.append(acquire(tmp_path / "a.lock"))

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(lock is not None and lock.held for lock in found) == 1


@pytest.mark.parametrize("links", [True, False])
def test_a_name_is_given_once(tmp_path: Path, links: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not links:
        monkeypatch.setattr(locks.os, "link", lambda *_: (_ for _ in ()).throw(OSError(locks.errno.EPERM, "no links")))
    for content, wanted in (("first", True), ("second", False)):
        (tmp_path / "partial").write_text(content)
        assert publish(tmp_path / "partial", tmp_path / "final") is wanted
    assert (tmp_path / "final").read_text() == "first" and os.listdir(tmp_path) == ["final"]
