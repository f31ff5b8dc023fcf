"""Every engine gives the same rows, whoever is killed meanwhile."""

from __future__ import annotations

import importlib.util
import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from experiments.harness.stub_solver import MakeStub
from invert.batch.engines import Workers, local, processes
from invert.batch.engines import ray as ray_engine
from invert.batch.locks import acquire
from invert.batch.shards import Shard, plan
from invert.batch.sweeping import sweep
from invert.batch.work import DONE, FAILED, LOCKS, LOGS, STOPPED, Job, Report
from invert.errors import InputError
from tests.invert.batch.shard_cases import do, rows_of, tar_of

SLOW = MakeStub(seconds=0.1, batch=2)  # so that a kill meets a shard in hand


@pytest.fixture
def shards(tmp_path: Path) -> list[Shard]:
    """Six tars of five pictures."""
    return plan([str(tar_of(tmp_path / f"{i:05d}.tar", 5, 10 * i)) for i in range(6)], tmp_path / "out")


def files(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.glob("*.parquet")}


@pytest.fixture
def undisturbed(shards: list[Shard], tmp_path: Path) -> dict[str, bytes]:
    do([Path(shard.source) for shard in shards], tmp_path / "undisturbed")
    return files(tmp_path / "undisturbed")


def killing(victims: Callable[[], list[int]]) -> Callable[[Report], None]:
    """After the first report, kill a process that has a shard in hand."""
    killed: list[int] = []

    def on_report(report: Report) -> None:
        assert report.status == DONE, report.message
        if not killed and victims():
            killed.append(victims()[0])
            os.kill(killed[0], signal.SIGKILL)

    return on_report


def test_a_shard_of_a_killed_worker_is_taken_over(shards: list[Shard], undisturbed: dict[str, bytes], tmp_path: Path) -> None:
    out = tmp_path / "out"

    def children() -> list[int]:
        return [child.pid for child in multiprocessing.active_children() if child.pid is not None]

    processes.run(shards, Workers(SLOW, ("", "")), Job(str(out), "c"), killing(children))
    assert files(out) == undisturbed
    sweep(shards, Job(str(out), "c"))  # who is killed right after publishing leaves its lock
    assert not (out / LOCKS).exists()


def test_an_interrupted_run_gives_its_locks_back(shards: list[Shard], tmp_path: Path) -> None:
    def interrupt(_: Report) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        processes.run(shards, Workers(SLOW, ("", "")), Job(str(tmp_path / "out"), "c"), interrupt)
    assert os.listdir(tmp_path / "out" / LOCKS) == [] and 1 <= len(files(tmp_path / "out")) < 6


class Unloadable:
    """A model that is not there."""

    def __call__(self, device: str) -> object:
        raise InputError("there is no model")


def test_a_model_that_is_not_there_is_said_once(shards: list[Shard], tmp_path: Path) -> None:
    told: list[Report] = []
    processes.run(shards, Workers(Unloadable(), ("",)), Job(str(tmp_path / "out"), "c"), told.append)  # type: ignore[arg-type]
    actor = ray_engine.ShardActor(Workers(Unloadable()), Job(str(tmp_path / "out"), "c"))  # type: ignore[arg-type]
    told.append(actor.done({}))
    assert [(report.status, report.message) for report in told] == [(STOPPED, "there is no model")] * 2


class Killer:
    """Ends the process that meets it: what a decoder with a bug does."""

    def __call__(self, device: str) -> object:
        os._exit(7)


def test_workers_that_cannot_even_load_end_the_run(shards: list[Shard], tmp_path: Path) -> None:
    told: list[Report] = []
    processes.run(shards, Workers(Killer(), ("",)), Job(str(tmp_path / "out"), "c"), told.append)  # type: ignore[arg-type]
    assert [report.status for report in told] == [STOPPED] and "exit status 7" in told[0].message


def test_a_shard_that_ends_its_worker_again_and_again_is_given_up(shards: list[Shard], tmp_path: Path) -> None:
    told: list[Report] = []
    driver = processes.Driver(Workers(SLOW), Job(str(tmp_path), "c"), told.append)
    driver.waiting = deque()
    for _ in range(processes.ATTEMPTS):
        process, connection = DeadProcess(), multiprocessing.Pipe()[0]
        assert not driver.listen(processes.Worker(process, connection, "", shards[0], ready=True))
    assert [report.status for report in told] == [FAILED] and shards[0].name in told[0].message
    assert len(driver.waiting) == processes.ATTEMPTS - 1


class DeadProcess:
    exitcode = -11

    def join(self) -> None:
        """It has ended."""


def test_a_shard_of_another_run_is_waited_for(shards: list[Shard], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, job = tmp_path / "out", Job(str(tmp_path / "out"), "c")
    (out / LOCKS).mkdir(parents=True)
    other = acquire(out / LOCKS / f"{job.output(shards[0]).name}.lock")
    told: list[Report] = []
    assert other is not None
    monkeypatch.setattr(local, "time", SimpleNamespace(sleep=lambda _: other.release()))  # it ends while we wait
    local.run(shards, Workers(MakeStub()), job, told.append)
    assert sorted(report.shard for report in told) == sorted(shard.name for shard in shards)
    assert told[-1].shard == shards[0].name and len(rows_of(out)) == 30


def test_nothing_is_loaded_where_nothing_is_to_do(shards: list[Shard], undisturbed: dict[str, bytes], tmp_path: Path) -> None:
    job = Job(str(tmp_path / "undisturbed"), "c")
    for engine in (local, processes, ray_engine):
        told: list[Report] = []
        engine.run(shards, Workers(Killer()), job, told.append)  # type: ignore[arg-type]
        assert [report.status for report in told] == [DONE] * 6


@pytest.mark.long
@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs the extra ray")
def test_ray_loses_nothing_when_a_worker_is_killed(shards: list[Shard], undisturbed: dict[str, bytes], tmp_path: Path) -> None:
    out = tmp_path / "out"

    def actors() -> list[int]:  # each has a log of its own
        return [int(name.rsplit("-", 1)[1].removesuffix(".jsonl")) for name in os.listdir(out / LOGS)]

    try:
        ray_engine.run(shards, Workers(SLOW, ("", "")), Job(str(out), "c"), killing(actors))
    finally:
        import ray

        ray.shutdown()
    assert files(out) == undisturbed
    sweep(shards, Job(str(out), "c"))
    assert not (out / LOCKS).exists()


@pytest.mark.parametrize(
    ("devices", "gpus", "cluster", "wanted"),
    [
        ((), None, {"CPU": 8.0}, (8, 0.0)),
        ((), None, {"CPU": 8.0, "GPU": 2.0}, (2, 1.0)),
        ((), 0.5, {"CPU": 8.0, "GPU": 2.0}, (4, 0.5)),
        ((), 0, {"CPU": 8.0, "GPU": 2.0}, (8, 0.0)),
        (("", "", ""), None, {"CPU": 8.0, "GPU": 2.0}, (3, 1.0)),
    ],
)
def test_ray_has_as_many_workers_as_the_cluster_has_room_for(
    devices: tuple[str, ...], gpus: float | None, cluster: dict[str, float], wanted: tuple[int, float]
) -> None:
    assert ray_engine._sizes(Workers(MakeStub(), devices, gpus), cluster) == wanted


def test_cards_that_the_cluster_lacks_are_not_waited_for() -> None:
    with pytest.raises(InputError, match="`gpus` is 1, but the cluster has 0"):
        ray_engine._sizes(Workers(MakeStub(), gpus=1), {"CPU": 8.0})
