"""Results in an output folder are known by what they were made from, whatever name or link led to it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from invert.batch.earlier import outlived
from invert.batch.shards import plan
from invert.batch.sources import source_of
from invert.batch.work import Job
from tests.invert.batch.shard_cases import do, png, rows_of, tar_of


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder of a tar and of pictures, which link leads to."""
    (tmp_path / "data" / "photos").mkdir(parents=True)
    for i in range(3):
        (tmp_path / "data" / "photos" / f"{i}.png").write_bytes(png(i))
    tar_of(tmp_path / "data" / "s.tar", 2)
    (tmp_path / "link").symlink_to("data")
    return tmp_path / "data"


@pytest.mark.parametrize("name", ["s.tar", "photos"])
def test_an_input_that_another_run_reached_by_another_link_is_done_once(data: Path, tmp_path: Path, name: str) -> None:
    out = tmp_path / "out"
    do([tmp_path / "link" / name], out, size=2)
    rows = rows_of(out)
    os.symlink(data / name, tmp_path / f"again-{name}")
    for given in (data / name, tmp_path / f"again-{name}", tmp_path / "link" / name):
        shards, reports = do([given], out, size=2)
        assert {shard.source for shard in shards} == {str(tmp_path / "link" / name)}
        assert not any(report.pictures for report in reports)
    assert rows_of(out) == rows


def test_an_input_with_results_of_its_own_keeps_its_name(data: Path, tmp_path: Path) -> None:
    out, job = tmp_path / "out", Job(str(tmp_path / "out"), "c")
    (shard,) = do([data / "s.tar"], out)[0]
    (tmp_path / "aside").mkdir()
    job.output(shard).rename(tmp_path / "aside" / job.output(shard).name)
    do([tmp_path / "link" / "s.tar"], out)
    (tmp_path / "aside" / job.output(shard).name).rename(job.output(shard))
    assert [shard.source for shard in plan([str(data / "s.tar")], out)] == [str(data / "s.tar")]


def test_a_link_that_leads_elsewhere_by_now_is_another_input(data: Path, tmp_path: Path) -> None:
    do([tmp_path / "link" / "s.tar"], tmp_path / "out")
    data.rename(tmp_path / "moved")
    shards, reports = do([tmp_path / "moved" / "s.tar"], tmp_path / "out")
    assert [shard.source for shard in shards] == [str(tmp_path / "moved" / "s.tar")] and reports[0].pictures == 2


def lost(out: Path, *inputs: Path) -> list[str]:
    names = {source_of(shard.name) for shard in plan(map(str, inputs), out)}
    return sorted(Path(source).name for source in outlived(out, names, [str(path) for path in inputs]))


def test_results_without_an_input_are_told_and_those_of_other_inputs_are_not(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    tars = [tar_of(tmp_path / "tars" / f"{i}.tar", 1) for i in range(3) if (tmp_path / "tars").mkdir(exist_ok=True) is None]
    do([tmp_path / "tars", data / "s.tar", data / "photos"], out, size=2)
    assert lost(out, tmp_path / "tars") == [] and lost(out, data / "s.tar") == []
    tars[0].unlink()
    assert lost(out, tmp_path / "tars") == ["0.tar"] == lost(out, data / "photos")
    (data / "s.tar").unlink()
    assert lost(out, data) == ["0.tar", "photos", "s.tar"]  # whose pictures are those of data by now
