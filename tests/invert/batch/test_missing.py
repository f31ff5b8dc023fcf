"""A picture that a Parquet file names by path and that is missing is a row until it can be read, and costs no other one."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from experiments.harness.stub_solver import StubSolver
from invert.batch import missing, readers
from invert.batch.shards import plan
from invert.batch.sources import MISSING
from invert.batch.sweeping import sweep, written_in
from invert.batch.work import DONE, FAILED, Job, Report, attempt
from tests.invert.batch.shard_cases import png, rows_of


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Names three pictures, of which b.png is missing and c.png is damaged."""
    (tmp_path / "a.png").write_bytes(png(1))
    (tmp_path / "c.png").write_bytes(b"no picture")
    pq.write_table(pa.table({"path": ["a.png", "b.png", "c.png"]}), tmp_path / "t.parquet")
    return tmp_path / "t.parquet"


@pytest.fixture
def job(tmp_path: Path) -> Job:
    (tmp_path / "out").mkdir()
    return Job(str(tmp_path / "out"), "c")


def run(table: Path, job: Job, solver: StubSolver | None = None) -> Report:
    before = written_in(Path(job.out))
    (shard,) = plan([str(table)], Path(job.out))
    report = Report(shard.name, "before") if job.is_done(shard) else attempt(shard, solver or StubSolver(), job)
    sweep([shard], job, before=before)
    return report


def errors(job: Job) -> list[object]:
    return [row["error"] for row in rows_of(Path(job.out))]


def test_its_shard_is_done_again_once_it_can_be_read_and_then_no_more(table: Path, job: Job) -> None:
    assert run(table, job).status == DONE and run(table, job).status == "before"
    assert [error and str(error).split(" ", 1)[1] for error in errors(job)][:2] == [None, "does not exist: check the path"]
    (table.parent / "b.png").write_bytes(png(2))
    assert run(table, job).status == DONE and [error is None for error in errors(job)] == [True, True, False]
    assert run(table, job).status == "before" and sorted(os.listdir(job.out)) == ["_logs", next(Path(job.out).glob("t-*")).name]


def test_the_others_that_are_missing_still_are_looked_for_later(table: Path, job: Job) -> None:
    (table.parent / "a.png").unlink()
    run(table, job)
    for name in ("a.png", "b.png"):
        (table.parent / name).write_bytes(png(1))
        assert run(table, job).status == DONE
    assert [error is None for error in errors(job)] == [True, True, False]


def test_one_that_may_not_be_read_counts_as_missing(table: Path, job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    path, access = str(table.parent / "a.png"), os.access

    def refusing(name: Any, *_: object) -> Any:
        raise PermissionError(13, "Permission denied", name)

    monkeypatch.setattr(readers, "open", refusing, raising=False)
    monkeypatch.setattr(os, "access", lambda name, mode: name != path and access(name, mode))
    (table.parent / "c.png").unlink()
    assert run(table, job).status == DONE and f"{path} may not be read: check its permissions" == errors(job)[0]
    monkeypatch.undo()
    assert run(table, job).status == DONE and errors(job)[0] is None


def test_a_result_does_not_lose_a_picture_that_has_gone_since(table: Path, job: Job) -> None:
    run(table, job)
    (table.parent / "a.png").rename(table.parent / "b.png")
    assert (report := run(table, job)).status == DONE and report.errors == 1
    assert [error is None for error in errors(job)] == [True, True, False] and run(table, job).status == "before"
    prompts = [row["prompt"] for row in rows_of(Path(job.out))]
    assert prompts[0] == prompts[1] != "" and not (Path(job.out) / MISSING).exists()


def test_a_run_that_is_killed_before_it_shortens_the_list_forgets_nothing(
    table: Path, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    (table.parent / "a.png").unlink()
    run(table, job)
    (table.parent / "b.png").write_bytes(png(2))
    monkeypatch.setattr(missing, "keep", lambda *_: None)  # it never gets to that
    run(table, job)
    monkeypatch.undo()
    (table.parent / "a.png").write_bytes(png(1))
    assert run(table, job).status == DONE and [error is None for error in errors(job)] == [True, True, False]


def test_one_that_changes_all_the_time_leaves_the_shard_to_the_next_run(
    table: Path, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readers, "_is_settled", lambda *_: False)
    report = run(table, job)
    assert report.status == FAILED and "a.png changed since" in report.message and not errors(job)


def test_lists_of_an_earlier_state_of_the_parquet_file_go(table: Path, job: Job) -> None:
    run(table, job)
    (listing,) = (Path(job.out) / MISSING).iterdir()
    assert json.loads(listing.read_text()) == str(table.parent / "b.png")
    pq.write_table(pa.table({"path": ["a.png"]}), table)
    assert run(table, job).status == DONE and errors(job) == [None] and not (Path(job.out) / MISSING).exists()
