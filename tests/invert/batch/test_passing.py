"""What keeps a picture from being read for a moment is no row; what is wrong with it for good is one."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from experiments.harness.stub_solver import StubSolver
from invert.batch import readers
from invert.batch.parquet import row_groups
from invert.batch.readers import Columns, read_parquet, read_picture
from invert.batch.shards import Shard, plan
from invert.batch.states import PassingError
from invert.batch.sweeping import sweep
from invert.batch.tars import read_tar
from invert.batch.work import DONE, FAILED, Job, Report, attempt
from tests.invert.batch.shard_cases import png, rows_of, tar_of

needs_proc = pytest.mark.skipif(not os.path.exists("/proc/self/mem"), reason="a file whose first byte cannot be read")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    (tmp_path / "photos").mkdir()
    for name in ("a.png", "b.png", "c.png"):
        (tmp_path / "photos" / name).write_bytes(png(ord(name[0])))
    return tmp_path / "photos"


@pytest.fixture
def job(tmp_path: Path) -> Job:
    (tmp_path / "out").mkdir()
    return Job(str(tmp_path / "out"), "c")


def run(source: Path, job: Job, between: Callable[[], object] = lambda: None) -> tuple[Shard, Report]:
    """A source of one shard: `between` its plan and the work on it something happens."""
    (shard,) = plan([str(source)], Path(job.out))
    between()
    return shard, attempt(shard, StubSolver(), job)


@pytest.fixture
def forbid(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """forbid(path): it may not be read; monkeypatch.undo() allows it again. Rights do not bind root."""
    access, opened = os.access, open

    def forbidden(path: Path) -> None:
        def refusing(name: Any, *arguments: Any, **more: Any) -> Any:
            if name == str(path):
                raise PermissionError(errno.EACCES, "Permission denied")
            return opened(name, *arguments, **more)

        monkeypatch.setattr(os, "access", lambda name, mode: name != str(path) and access(name, mode))
        monkeypatch.setattr(readers, "open", refusing, raising=False)

    return forbidden


@pytest.mark.parametrize("change", ["goes", "grows", "is touched"])
def test_a_listed_picture_that_is_another_one_by_now_leaves_its_shard_to_the_next_run(
    photos: Path, job: Job, change: str
) -> None:
    picture = photos / "b.png"
    changes = {
        "goes": picture.unlink,
        "grows": lambda: picture.write_bytes(picture.read_bytes() + b" "),
        "is touched": lambda: os.utime(picture, (1, 1)),
    }
    _, report = run(photos, job, changes[change])
    assert report.status == FAILED and not rows_of(Path(job.out))
    assert str(picture) in report.message and "since it was looked up: start again" in report.message
    _, report = run(photos, job)
    assert report.status == DONE and [row["error"] for row in rows_of(Path(job.out))] == [None] * (2 if change == "goes" else 3)


def test_so_does_one_that_changes_when_the_others_have_been_read(photos: Path, job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    (shard,) = plan([str(photos)], Path(job.out))
    read = readers.read_picture

    def reading(key: str, path: str, planned: Any) -> Any:
        if key == "c.png":
            os.unlink(path)
        return read(key, path, planned)

    monkeypatch.setattr(readers, "read_picture", reading)
    report = attempt(shard, StubSolver(), job)
    assert report.status == FAILED and "c.png has gone" in report.message and not rows_of(Path(job.out))


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.EMFILE, errno.EACCES])
def test_a_picture_that_the_system_cannot_open_now_leaves_its_shard_to_the_next_run(
    photos: Path, job: Job, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    (shard,) = plan([str(photos)], Path(job.out))
    monkeypatch.setattr(readers, "open", failing, raising=False)
    monkeypatch.setattr(type(shard), "listed", lambda _: iter([("a.png", readers.state_of(str(photos / "a.png")))]))
    report = attempt(shard, StubSolver(), job)
    assert report.status == FAILED and not rows_of(Path(job.out))
    assert f"{photos / 'a.png'} cannot be read now ({os.strerror(number)}): mend that and start again" in report.message


def test_a_picture_that_may_never_be_read_costs_no_other_one_and_is_done_when_it_may(
    photos: Path, job: Job, forbid: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    forbid(photos / "b.png")
    assert run(photos, job)[1].status == DONE
    rows = rows_of(Path(job.out))
    assert [row["error"] for row in rows] == [None, f"{photos / 'b.png'} may not be read: check its permissions", None]
    monkeypatch.undo()
    shard, report = run(photos, job)
    sweep([shard], job)
    assert report.pictures == 3 and [row["error"] for row in rows_of(Path(job.out))] == [None] * 3


@pytest.mark.parametrize("forbidden_first", [True, False])
def test_permissions_that_change_meanwhile_leave_the_shard_to_the_next_run(
    photos: Path, job: Job, forbid: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch, forbidden_first: bool
) -> None:
    if forbidden_first:
        forbid(photos / "b.png")
    _, report = run(photos, job, monkeypatch.undo if forbidden_first else lambda: forbid(photos / "b.png"))
    assert report.status == FAILED and "b.png changed since" in report.message and not rows_of(Path(job.out))


def test_what_is_no_file_is_a_row_and_is_not_waited_for(photos: Path, job: Job) -> None:
    os.mkfifo(photos / "pipe.png")
    os.symlink("nowhere.png", photos / "link.png")
    assert run(photos, job)[1].status == DONE
    errors = {str(row["key"]): row["error"] for row in rows_of(Path(job.out)) if row["error"]}
    assert errors == {
        "link.png": f"{photos / 'link.png'} does not exist: check the path",
        "pipe.png": f"{photos / 'pipe.png'} is no regular file: give files",
    }


# Tars and Parquet files -------------------------------------------------------------------------


def test_a_tar_that_goes_away_or_may_not_be_read_any_more_has_no_output(
    tmp_path: Path, job: Job, forbid: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    tar = tar_of(tmp_path / "s.tar", 2)
    _, report = run(tar, job, lambda: forbid(tar))
    assert report.status == FAILED and "s.tar changed since" in report.message
    assert run(tar, job)[1].status == DONE  # it may not be read from the start
    assert [row["error"] for row in rows_of(Path(job.out))] == [f"{tar} may not be read: check its permissions"]
    monkeypatch.undo()
    shard, report = run(tar, job)
    sweep([shard], job)
    assert report.pictures == 2 and len(rows_of(Path(job.out))) == 2
    tar_of(tar, 3)
    _, report = run(tar, job, tar.unlink)
    assert report.status == FAILED and "s.tar has gone since" in report.message


@needs_proc
@pytest.mark.parametrize("read", [lambda path: list(read_tar(path)), lambda path: read_picture("a", path)])
def test_a_disk_that_fails_is_not_taken_for_a_damaged_file(tmp_path: Path, read: Callable[[str], object]) -> None:
    os.symlink("/proc/self/mem", tmp_path / "s")
    with pytest.raises(PassingError, match=f"{tmp_path / 's'} cannot be read now"):
        read(str(tmp_path / "s"))


@pytest.fixture
def table(tmp_path: Path) -> Path:
    pq.write_table(pa.table({"image": [png(1), png(2)]}), tmp_path / "t.parquet", row_group_size=1)
    return tmp_path / "t.parquet"


def test_a_parquet_file_that_the_system_cannot_read_now_has_no_output(
    table: Path, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    (shard,) = plan([str(table)], Path(job.out))

    class Failing(pq.ParquetFile):  # type: ignore[misc]
        def iter_batches(self, *_: Any, **__: Any) -> Iterator[Any]:
            raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(pq, "ParquetFile", Failing)
    report = attempt(shard, StubSolver(), job)
    assert report.status == FAILED and "t.parquet cannot be read now (Input/output error)" in report.message


def test_a_parquet_file_that_cannot_be_opened_now_is_not_cut_as_if_it_were_damaged(
    table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(_: str) -> None:
        raise OSError(errno.ESTALE, "Stale file handle")

    monkeypatch.setattr(pq, "ParquetFile", failing)
    with pytest.raises(PassingError, match="Stale file handle"):
        list(row_groups(str(table), 1))


def test_a_picture_that_a_parquet_file_names_and_that_is_not_there_is_a_row(tmp_path: Path) -> None:
    pq.write_table(pa.table({"path": ["gone.png", "a\0b.png", "."]}), tmp_path / "t.parquet")
    (shard,) = plan([str(tmp_path / "t.parquet")], tmp_path)
    errors = [sample.error for sample in read_parquet(shard, Columns())]
    assert [any(word in error for word in ("does not exist", "null byte", "no regular file")) for error in errors] == [True] * 3
