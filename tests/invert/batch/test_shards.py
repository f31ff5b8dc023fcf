"""The plan of a run, and how a shard becomes a file: once, whole, and the same for the same input."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from experiments.harness.stub_solver import StubSolver
from invert.batch import locks, work
from invert.batch.locks import Lock, acquire
from invert.batch.shards import parse_part, plan
from invert.batch.sources import PLAN_FOLDER, RUN_FILE
from invert.batch.sweeping import sweep
from invert.batch.tiers import Found
from invert.batch.work import DONE, FAILED, HELD, Job, attempt, run_shard
from invert.errors import InputError
from invert.images import load_image
from tests.invert.batch.shard_cases import do, png, rows_of, tar_of


def files(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.glob("*.parquet")}


# Plans ------------------------------------------------------------------------------------------


def test_parts_share_the_shards_without_rest(tars: list[Path], tmp_path: Path) -> None:
    parts = [plan([str(tmp_path)], tmp_path / "out", part=(i, 2)) for i in range(2)]
    assert [len(part) for part in parts] == [2, 1]
    assert {shard.source for part in parts for shard in part} == set(map(str, tars))


def test_a_shard_that_is_given_twice_is_done_once(tars: list[Path], tmp_path: Path) -> None:
    assert len(plan([str(tars[0]), str(tmp_path), os.path.relpath(tars[1])], tmp_path / "out")) == 3


@pytest.mark.parametrize("kind", ["folder", "tar", "parquet"])
def test_inputs_that_are_links_to_each_other_are_done_once_under_the_first_name(tmp_path: Path, kind: str) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").write_bytes(png(1))
    pq.write_table(pa.table({"image": [png(1)]}), tmp_path / "t.parquet")
    name = {"folder": "photos", "tar": tar_of(tmp_path / "s.tar", 1).name, "parquet": "t.parquet"}[kind]
    link = tmp_path / f"link-{name}"
    link.symlink_to(tmp_path / name)
    for given in ([link, tmp_path / name], [tmp_path / name, link, link]):
        assert [shard.source for shard in plan(map(str, given), tmp_path / "out")] == [str(given[0])]


def test_pictures_that_lie_in_out_are_input_and_results_are_not(tmp_path: Path) -> None:
    out = tmp_path / "photos" / "out"
    for path in (tmp_path / "photos" / "a.png", out / "b.png", out / "sub" / "c.png"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(1))
    for _ in range(2):
        shards, _ = do([tmp_path / "photos"], out)
        (out / RUN_FILE).touch()
        sweep(shards, Job(str(out), "c"))
        assert [row["key"] for row in rows_of(out)] == ["a.png", "out/b.png", "out/sub/c.png"]


def test_parquet_files_that_lie_in_out_are_input_and_results_are_not(tmp_path: Path) -> None:
    (out := tmp_path / "out").mkdir()
    for name in ("t.parquet", "out/t.parquet"):
        pq.write_table(pa.table({"image": [png(1)]}), tmp_path / name)
    for _ in range(2):
        shards, _ = do([tmp_path], out)
        (out / RUN_FILE).touch()
        assert [shard.source for shard in shards] == [str(tmp_path / "t.parquet"), str(out / "t.parquet")]


def test_a_folder_of_results_alone_is_said_to_be_one(tars: list[Path], tmp_path: Path) -> None:
    do(tars, out := tmp_path / "out")
    (out / RUN_FILE).touch()
    with pytest.raises(InputError, match="out holds nothing but results of an earlier run: give what they were made from"):
        plan([str(out)], tmp_path / "other")


def test_the_metadata_beside_tars_are_no_shards(tars: list[Path], tmp_path: Path) -> None:
    (tmp_path / "00000.parquet").write_bytes(b"img2dataset's")
    assert {shard.kind for shard in plan([str(tmp_path)], tmp_path / "out")} == {"tar"}


@pytest.mark.parametrize(
    ("text", "environment", "wanted"),
    [
        ("1/1", {}, (0, 1)),
        ("3/8", {}, (2, 8)),
        ("slurm", {"ID": "4", "MIN": "1", "COUNT": "8"}, (3, 8)),
        ("SLURM", {"ID": "30", "MIN": "10", "COUNT": "4", "STEP": "10"}, (2, 4)),
    ],
)
def test_parts_are_read(text: str, environment: dict[str, str], wanted: tuple[int, int]) -> None:
    assert parse_part(text, {f"SLURM_ARRAY_TASK_{key}": value for key, value in environment.items()}) == wanted


@pytest.mark.parametrize(
    ("text", "environment"),
    [
        ("0/8", {}),
        ("9/8", {}),
        ("8", {}),
        ("slurm", {}),
        ("slurm", {"ID": "x", "MIN": "0", "COUNT": "2"}),
        ("slurm", {"ID": "9", "MIN": "1", "COUNT": "3"}),
    ],
)
def test_what_is_no_part_is_refused(text: str, environment: dict[str, str]) -> None:
    with pytest.raises(InputError, match="shard"):
        parse_part(text, {f"SLURM_ARRAY_TASK_{key}": value for key, value in environment.items()})


@pytest.mark.parametrize(("name", "wanted"), [("s3://bucket/a.tar", "an address"), ("a.tar", "not exist"), ("", "not exist")])
def test_what_is_no_input_is_refused(tmp_path: Path, name: str, wanted: str) -> None:
    with pytest.raises(InputError, match=wanted):
        plan([name if "://" in name else str(tmp_path / name / "x.tar")], tmp_path)
    with pytest.raises(InputError, match="holds no tars"):
        plan([str(tmp_path)], tmp_path)


# Outputs ----------------------------------------------------------------------------------------


def test_every_picture_is_a_row_and_the_bytes_are_the_same_again(tars: list[Path], tmp_path: Path) -> None:
    _, reports = do(tars, tmp_path / "a")
    rows = rows_of(tmp_path / "a")
    assert [row["key"] for row in rows] == [f"{10 * i + j:05d}" for i in range(3) for j in range(5)]
    assert all(row["error"] is None and row["tier"] == 1 and str(row["prompt"]).startswith("pixels") for row in rows)
    assert [(report.status, report.pictures, report.tiers) for report in reports] == [(DONE, 5, {"1": 5})] * 3
    do(tars, tmp_path / "b")
    assert files(tmp_path / "a") == files(tmp_path / "b")


def test_a_done_shard_is_left_alone_and_a_changed_one_takes_its_place(tars: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    do(tars, out)
    before = files(out)
    shards, reports = do(tars, out)
    assert [report.pictures for report in reports] == [0, 0, 0] and files(out) == before
    tar_of(tars[0], 4, 50)
    shards, _ = do(tars, out)
    sweep(shards, Job(str(out), "c"))
    assert len(files(out)) == 3 and len(rows_of(out)) == 14
    assert sum(name in before for name in files(out)) == 2


def test_another_configuration_is_another_output(tars: list[Path], tmp_path: Path) -> None:
    shard = plan([str(tars[0])], tmp_path)[0]
    assert shard.output("a") != shard.output("b") and shard.output("a").startswith("00000-")


def test_a_shard_in_hand_is_not_taken_and_nothing_is_left_behind(tars: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    shards, _ = do(tars[:1], out)
    job = Job(str(out), "other")
    lock = acquire(out / work.LOCKS / f"{job.output(shards[0]).name}.lock")
    assert lock is not None and attempt(shards[0], StubSolver(), job).status == HELD
    lock.release()
    assert attempt(shards[0], StubSolver(), job).status == DONE
    assert os.listdir(out / work.LOCKS) == []


def test_a_writer_that_slept_while_another_one_took_over_writes_nothing(
    tars: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "HEARTBEAT", 600)  # it sleeps however long this takes
    out = tmp_path / "out"
    shards, _ = do(tars[:1], out)
    job = Job(str(out), "other")

    class Sleeper(StubSolver):
        def __call__(self, prepared: Sequence[Any]) -> Sequence[Found | Exception]:
            os.utime(out / work.LOCKS / f"{job.output(shards[0]).name}.lock", (0, 0))
            assert attempt(shards[0], StubSolver(), job).status in (DONE, HELD)
            return super().__call__(prepared)

    assert attempt(shards[0], Sleeper(), job).status == HELD
    assert len(files(out)) == 2 and os.listdir(out / work.LOCKS) == []


def test_a_tar_that_is_still_being_written_has_no_output(tars: list[Path], tmp_path: Path) -> None:
    (out := tmp_path / "out").mkdir()
    shard = plan([str(tars[0])], out)[0]

    class Appending(StubSolver):
        def __call__(self, prepared: Sequence[Any]) -> Sequence[Found | Exception]:
            with open(tars[0], "ab") as file:
                file.write(b"more")
            return super().__call__(prepared)

    for solver in (Appending(), StubSolver()):
        report = attempt(shard, solver, Job(str(out), "c"))
        assert report.status == FAILED and "changed since" in report.message and not files(out)


def test_who_is_killed_after_publishing_leaves_a_lock_that_is_swept_away(tars: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    shards, _ = do(tars, out)
    job = Job(str(out), "c")
    dead, alive = (out / work.LOCKS / f"{job.output(shard).name}.lock" for shard in shards[:2])
    dead.write_text("of a machine that is gone")
    os.utime(dead, (0, 0))
    with acquire(alive) or pytest.fail():
        sweep(shards, job)
        assert os.listdir(out / work.LOCKS) == [alive.name]
    sweep(shards, job)
    assert not (out / work.LOCKS).exists()  # nobody is at work any more


def test_a_folder_that_another_run_removed_as_it_ended_is_made_again(
    tars: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    removed: list[bool] = []

    def after_a_sweep(path: Path) -> Lock | None:
        if not removed:
            sweep([], Job(str(out), "other"))
            removed.append(not path.parent.exists())
        return acquire(path)

    monkeypatch.setattr(work, "acquire", after_a_sweep)
    (shard,) = plan([str(tars[0])], out)
    assert attempt(shard, StubSolver(), Job(str(out), "c")).status == DONE and removed == [True]


def test_lists_of_pictures_that_are_done_leave_no_folder(tmp_path: Path) -> None:
    folder, out = tmp_path / "pictures", tmp_path / "out"
    folder.mkdir()
    Image.new("RGB", (4, 4), "red").save(folder / "a.png")
    (shard,) = plan([str(folder)], out)
    job = Job(str(out), "c")
    sweep([shard], job)
    assert (out / PLAN_FOLDER).exists()  # it is still to be done
    assert attempt(shard, StubSolver(), job).status == DONE
    sweep([shard], job)
    assert not (out / PLAN_FOLDER).exists() and not (out / work.LOCKS).exists() and len(files(out)) == 1


# Errors -----------------------------------------------------------------------------------------


class Failing(StubSolver):
    """Fails for the n-th picture of the first tar, or for all."""

    def __init__(self, n: int | None, error: Exception) -> None:
        super().__init__(batch=4)
        self.bad = None if n is None else self.prepare(load_image(png(n)))
        self.error = error

    def __call__(self, prepared: Sequence[Any]) -> Sequence[Found | Exception]:
        solved = super().__call__(prepared)
        return [self.error if self.bad is None or (self.bad == p).all() else one for p, one in zip(prepared, solved, strict=True)]


@pytest.mark.parametrize("error", [RuntimeError("boom"), InputError("too odd")])
@pytest.mark.parametrize("n", [1, 4])  # the last one is a batch of its own
def test_a_picture_that_cannot_be_inverted_costs_no_other_one(tars: list[Path], tmp_path: Path, error: Exception, n: int) -> None:
    (out := tmp_path / "out").mkdir()
    run_shard(plan([str(tars[0])], out)[0], Failing(n, error), Job(str(out), "c"))
    rows = rows_of(out)
    assert [row["error"] is None for row in rows] == [i != n for i in range(5)]
    assert str(error) in str(rows[n]["error"]) and rows[n]["score"] is None


def test_a_machine_that_fails_is_no_pictures_fault(tars: list[Path], tmp_path: Path) -> None:
    (out := tmp_path / "out").mkdir()
    report = attempt(plan([str(tars[0])], out)[0], Failing(None, RuntimeError("no card")), Job(str(out), "c"))
    assert report.status == FAILED and "no card" in report.message and not files(out)


def test_bad_pictures_are_rows_with_a_sentence(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, content in (("a.png", png(1)), ("b.png", b"no picture"), ("c.png", b""), ("d.png", png(2)[:60])):
        (folder / name).write_bytes(content)
    do([folder], tmp_path / "out")
    rows = rows_of(tmp_path / "out")
    assert [row["error"] is None for row in rows] == [True, False, False, False]
    assert all(str(row["error"]).startswith(f"{row['key']} is ") for row in rows[1:])


def test_an_output_folder_that_takes_nothing_stops_the_run(
    tars: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    (out := tmp_path / "out").mkdir()
    monkeypatch.setattr(work, "publish", full)
    report = attempt(plan([str(tars[0])], out)[0], StubSolver(), Job(str(out), "c"))
    assert report.status == work.STOPPED and "No space left on device; what is done stays" in report.message
    assert not files(out) and os.listdir(out / work.LOCKS) == []
