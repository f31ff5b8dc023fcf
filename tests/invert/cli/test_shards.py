"""`invert shards` as a user runs it: arguments that are refused, and real runs of the bundled model."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from experiments.harness.stub_solver import MakeStub
from invert.batch.engines import Workers
from invert.batch.runs import claim
from invert.cli import shards
from invert.cli.command import run_command as main_command
from invert.cli.subcommands import run_subcommand
from invert.errors import InputError
from tests.invert.batch.shard_cases import tar_of, write_tar


def run(*words: object) -> int:
    return run_subcommand(["shards", *map(str, words)])


@pytest.fixture
def tar(tmp_path: Path, pictures: list[Path]) -> Path:
    """Two pictures of known truth, and one that is none."""
    members = {f"{i}.png": picture.read_bytes() for i, picture in enumerate(pictures[:2])}
    return write_tar(tmp_path / "00000.tar", {**members, "bad.png": b"no picture"})


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "no shards given"),
        (["x.tar"], "add --out FOLDER"),
        (["x.tar", "--out", "OUT"], "x.tar does not exist"),
        (["OUT", "--out", "OUT"], "is an input too"),
        (["x.tar", "--out", "OUT", "--engine", "spark"], "unknown --engine 'spark': choose one of local, processes, ray"),
        (["x.tar", "--out", "OUT", "--workers", "2"], "--workers are other processes: add --engine processes"),
        (["x.tar", "--out", "OUT", "--engine", "ray", "--workers", "0"], "--workers is 0"),
        (["x.tar", "--out", "OUT", "--gpus", "1"], "--gpus are shared out by Ray"),
        (["x.tar", "--out", "OUT", "--shard", "0/4"], "--shard is '0/4': give i/N"),
        (["x.tar", "--out", "OUT", "--shard", "slurm"], "--shard slurm reads SLURM_ARRAY_TASK_ID"),
        (["x.tar", "--out", "OUT", "--shard-size", "0"], "--shard-size is 0"),
        (["x.tar", "--out", "OUT", "--decoders", "0"], "--decoders is 0"),
        (["x.tar", "--out", "OUT", "--search-share", "2"], "--search-share is 2"),
    ],
)
def test_arguments_that_make_no_sense_are_one_sentence(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], words: list[str], sentence: str
) -> None:
    words = [word.replace("OUT", str(tmp_path / "out")).replace("x.tar", str(tmp_path / "x.tar")) for word in words]
    assert run(*words) == 2
    said = capfd.readouterr().err
    assert sentence in said and len(said.splitlines()) == 1


def test_a_tar_becomes_a_parquet_file_of_what_invert_says_of_each_picture(
    tar: Path, tmp_path: Path, pictures: list[Path], capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert run(tar, "--out", out, "--method", "retrieve") == 0
    said = capfd.readouterr()
    assert not said.out and "1 of 1 shards are done; 3 pictures now; 1 of them without a prompt" in said.err
    (file,) = out.glob("*.parquet")
    rows = pq.read_table(file).to_pylist()
    found = [(row["key"], row["tier"], row["error"] is None) for row in rows]
    assert found == [("0", 1, True), ("1", 1, True), ("bad", 0, False)]
    for row, picture in zip(rows[:2], pictures, strict=False):
        assert main_command([str(picture), "--method", "retrieve"]) == 0
        assert capfd.readouterr().out.strip() == row["prompt"]
    before = file.read_bytes()
    assert run(tar, "--out", out, "--method", "retrieve") == 0
    assert "1 of 1 shards are done; 1 from before" in capfd.readouterr().err and file.read_bytes() == before


def test_a_model_that_cannot_be_loaded_is_one_sentence(tar: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(tar, "--out", tmp_path / "out", "--model", tmp_path) == 2
    said = capfd.readouterr().err.splitlines()
    assert len(said) == 1 and str(tmp_path) in said[0]


def test_what_retrieval_served_worst_is_searched(tar: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run(tar, "--out", out, "--method", "random", "--budget", "200", "--search-share", "0.5") == 0
    (file,) = out.glob("*.parquet")
    rows = pq.read_table(file).to_pylist()
    assert sorted(row["tier"] for row in rows) == [0, 1, 2]
    assert all((row["token_passes"] > 0) == (row["tier"] == 2) for row in rows)


def test_a_folder_keeps_to_one_configuration(tar: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    for configuration in ({"seed": 1}, {"seed": 0, "method": "retrieve"}):  # nothing came of the first
        with claim(out, configuration):
            pass
    (out / "00000.parquet").touch()
    with claim(out, {"method": "retrieve", "seed": 0}):
        pass
    with (
        pytest.raises(InputError, match=r"another configuration \(`seed` was 0 and is 1\): give another `out`"),
        claim(out, {"method": "retrieve", "seed": 1}),
    ):
        pytest.fail("it was taken")
    assert run(tar, "--out", out) == 2
    assert "give another --out" in capfd.readouterr().err


def test_while_a_run_is_at_work_no_other_configuration_takes_its_folder(
    tar: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    out, statuses = tmp_path / "out", list[int]()

    def begun(*_: object) -> Workers:  # nothing has been written yet, and no shard is in hand
        statuses.append(run(tar, "--out", out, "--method", "retrieve", "--seed", "7"))
        return Workers(MakeStub())

    monkeypatch.setattr(shards, "workers_of", begun)
    assert run(tar, "--out", out, "--method", "retrieve") == 0 and statuses == [2]
    assert "has a run of another configuration at work in it (--seed was" in capfd.readouterr().err
    assert len(list(out.glob("*.parquet"))) == 1 and not (out / "_locks").exists()


def test_parts_of_an_array_make_the_whole(tar: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "workers_of", lambda *_: Workers(MakeStub()))
    out = tmp_path / "out"
    tars = [tar, *(write_tar(tmp_path / f"{i:05d}.tar", {"a.txt": b"no picture"}) for i in range(1, 3))]
    for task in (4, 5):
        for name, value in {"ID": task, "MIN": 4, "COUNT": 2}.items():
            monkeypatch.setenv(f"SLURM_ARRAY_TASK_{name}", str(value))
        run(*tars, "--out", out, "--method", "retrieve", "--shard", "slurm")
        assert len(list(out.glob("*.parquet"))) == (2 if task == 4 else 3)


def test_a_folder_that_cannot_be_written_is_refused_before_anything_is_loaded(
    tar: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(tar, "--out", tar / "out") == 2
    assert "choose a writable --out" in capfd.readouterr().err


def test_results_of_inputs_that_are_gone_stay_and_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shards, "workers_of", lambda *_: Workers(MakeStub()))
    (tmp_path / "tars").mkdir()
    out, tars = tmp_path / "out", [tar_of(tmp_path / "tars" / f"{i}.tar", 1) for i in range(2)]
    assert run(tmp_path / "tars", "--out", out, "--method", "retrieve") == 0
    assert "note:" not in capfd.readouterr().err
    tars[0].unlink()
    assert run(tmp_path / "tars", "--out", out, "--method", "retrieve") == 0
    (old,) = out.glob("0-*.parquet")
    assert "keeps 1 result of inputs that have gone" in (said := capfd.readouterr().err) and f"{old.name} (of {tars[0]})" in said
