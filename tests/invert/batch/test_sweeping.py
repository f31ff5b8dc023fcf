"""What an earlier state of the input left goes, and what others have done since stays."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from experiments.harness.stub_solver import StubSolver
from invert.batch.shards import Shard, plan
from invert.batch.sources import PLAN_FOLDER
from invert.batch.sweeping import sweep, written_in
from invert.batch.work import DONE, Job, attempt
from tests.invert.batch.shard_cases import png, rows_of, tar_of

SIZE = 2


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Five pictures: three shards."""
    (tmp_path / "photos").mkdir()
    for i in range(5):
        (tmp_path / "photos" / f"{i}.png").write_bytes(png(i))
    return tmp_path / "photos"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def job_of(out: Path) -> Job:
    return Job(str(out), "c")


def run(source: Path, out: Path, part: tuple[int, int] = (0, 1)) -> list[Shard]:
    """A run, or a part of one, from its plan to its end."""
    before, every = written_in(out), list[Shard]()
    shards = plan([str(source)], out, SIZE, part, job_of(out).is_done, every)
    assert all(attempt(shard, StubSolver(), job_of(out)).status == DONE for shard in shards)
    sweep(shards, job_of(out), every, before)
    return shards


def keys(out: Path) -> list[object]:
    return sorted(str(row["key"]) for row in rows_of(out))


def test_a_folder_that_shrinks_keeps_no_pictures_of_shards_that_are_no_more(photos: Path, out: Path) -> None:
    run(photos, out)
    for name in ("0.png", "1.png", "2.png"):
        (photos / name).unlink()
    run(photos, out)
    assert keys(out) == ["3.png", "4.png"]


def test_a_parquet_file_that_shrinks_does_the_same(tmp_path: Path, out: Path) -> None:
    file = tmp_path / "t.parquet"
    for count in (5, 2):
        pq.write_table(pa.table({"image": [png(i) for i in range(count)]}), file, row_group_size=1)
        run(file, out)
    assert keys(out) == ["0", "1"]


def test_of_parts_the_last_one_removes_them(photos: Path, out: Path) -> None:
    run(photos, out)
    (photos / "4.png").unlink()
    (photos / "0.png").write_bytes(png(9) + b" ")  # so that the first shard is done anew
    run(photos, out, (1, 2))
    assert keys(out) == ["0.png", "1.png", "2.png", "3.png", "4.png"]
    run(photos, out, (0, 2))
    assert keys(out) == ["0.png", "1.png", "2.png", "3.png"]


def test_a_run_whose_input_has_changed_removes_nothing_of_what_was_done_since(photos: Path, tars: list[Path], out: Path) -> None:
    job, older = job_of(out), [*run(photos, out), *run(tars[0], out)]
    (photos / "0.png").write_bytes(png(7) + b" ")
    tar_of(tars[0], 3, 70)
    before, slow = written_in(out), plan([str(photos), str(tars[0])], out, SIZE)
    assert all(attempt(shard, StubSolver(), job).status == DONE for shard in slow)
    (photos / "0.png").write_bytes(png(8))
    tar_of(tars[0], 2, 80)
    newer = [*run(photos, out), *run(tars[0], out)]
    for shard in slow:  # as it had published it only now
        job.output(shard).write_bytes(job.output(newer[0]).read_bytes())
    sweep(slow, job, before=before)
    assert all(map(job.is_done, newer)) and not job.is_done(older[0])


def test_while_a_shard_is_still_to_be_done_nothing_that_it_may_stand_for_goes(photos: Path, out: Path) -> None:
    run(photos, out)
    for name in ("0.png", "1.png", "2.png"):
        (photos / name).unlink()
    before, shards = written_in(out), plan([str(photos)], out, SIZE)
    sweep(shards, job_of(out), before=before)
    assert keys(out) == ["0.png", "1.png", "2.png", "3.png", "4.png"]


def test_lists_of_a_plan_that_was_given_up_go(photos: Path, out: Path) -> None:
    plan([str(photos)], out, SIZE)
    (photos / "0.png").unlink()
    run(photos, out)
    assert not (out / PLAN_FOLDER).exists() and len(keys(out)) == 4


def test_results_of_other_sources_stay(tars: list[Path], photos: Path, out: Path) -> None:
    run(tars[0], out)
    tars[1].rename(tars[0])
    run(photos, out)
    assert len(keys(out)) == 10
