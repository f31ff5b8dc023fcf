"""`python -m kernels.bench` as a person runs it, and what it makes of its figures."""

from __future__ import annotations

import json
import sys
from functools import partial
from itertools import groupby
from pathlib import Path
from types import ModuleType

import pytest
import torch
import typer
from typer.testing import CliRunner, Result

from kernels import bench, bench_input, record, timing, tune, tune_products
from kernels.bench import app, compare, operands, read_resources
from kernels.bench_input import LESSON, is_feasible, sizes
from kernels.checks import CHECKS, name_of
from kernels.tiles import label_tile, power_of_two, rows_each
from kernels.timing import interleaved_time
from kernels.tune import SHAPES, candidates

CPU = torch.device("cpu")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


def test_the_command_prints_a_table_and_writes_json(tmp_path: Path) -> None:
    ran = run("32", "8x16x4", "--backends", "einsum,numba", "--budget", "0.1", "--json", str(tmp_path / "bench.json"))
    assert ran.exit_code == 0, ran.output
    assert "GFLOP/s" in ran.stdout and "einsum" in ran.stdout
    found = json.loads((tmp_path / "bench.json").read_text())
    assert [(row["backend"], row["m"], row["k"], row["n"]) for row in found["rows"]] == [
        ("einsum", 32, 32, 32),
        ("numba", 32, 32, 32),
        ("einsum", 8, 16, 4),
        ("numba", 8, 16, 4),
    ]
    assert found["copy_bytes_per_second"] > 0 and found["threads"] >= 1


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("3x",), "is no product: write MxKxN"),
        (("0",), "is no product"),
        (("8", "--backends", "blas"), "unknown backend 'blas'"),
        (("8", "--dtype", "int8"), "unknown dtype 'int8'"),
        (("8", "--device", "abacus"), "unknown device 'abacus': choose cpu or cuda"),
        (("8", "--device", "meta"), "nothing is measured on 'meta'"),
        (("8", "--device", "cuda:99"), "there is no"),
        (("8", "--device", "cpu", "--backends", "triton"), "backend 'triton'"),
        (("8", "--backends", "numba-cuda", "--device", "cpu"), "backend 'numba-cuda'"),
        (("8", "--backends", " , "), "names none"),
        (("8", "--json", "no/such/folder/bench.json"), "there is no folder no/such/folder"),
        (("8", "--json", "-"), "give --json a path"),
        (("8", "--json", "."), "is a folder"),
        (("8", "--budget", "nan"), "--budget is nan"),
        (("8", "--budget", "-5"), "--budget is -5.0"),
        (("8", "--budget", "1", "--budget", "2"), "--budget is given twice: give it once"),
        (("8", "--json", "a.json", "--json", "a.json"), "--json is given twice: give it once"),
        (("99999999",), "give a smaller product"),
        (("9" * 5000,), "is no product"),
        (("256", "--backends", "python"), "nothing is left to measure: python is left out of 256×256×256"),
    ],
)
def test_bad_arguments_end_with_status_2_and_one_sentence(
    arguments: tuple[str, ...], sentence: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(bench, "copy_bandwidth", lambda _: pytest.fail("it was measured"))
    monkeypatch.chdir(tmp_path)
    ran = run(*arguments)
    assert ran.exit_code == 2 and not list(tmp_path.iterdir())
    assert sentence in " ".join(ran.output.replace("│", " ").split())


def test_what_is_left_out_is_named(tmp_path: Path) -> None:
    ran = run(
        "8", "65", "--backends", " python , torch", "--backends", "torch", "--budget", "0", "--json", str(tmp_path / "b.json")
    )
    assert ran.exit_code == 0, ran.output
    assert "kernels.bench: python is left out of 65×65×65, which takes it too long: up to 64×64×64" in ran.stderr
    assert [row["backend"] for row in json.loads((tmp_path / "b.json").read_text())["rows"]] == ["python", "torch", "torch"]


def test_backends_that_do_not_take_the_dtype_are_not_taken_unless_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_input, "available", lambda _: ["torch", "triton"])
    assert bench_input.backends_of("", CPU, "float64") == ["torch"]
    monkeypatch.setattr(bench_input, "unavailable_reason", lambda *_: None)
    with pytest.raises(typer.BadParameter, match="backend 'triton' takes float16, bfloat16, float32, not float64"):
        bench_input.backends_of("triton", CPU, "float64")


def test_a_full_disk_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot write"):
        record.write(tmp_path / "gone" / "bench.json", {})
    assert record.obstacle(tmp_path / "bench.json") == "" and "null character" in record.obstacle(Path("a\0b"))


@pytest.mark.parametrize(
    ("module", "words", "sentence"),
    [
        (tune, ["--shapes", "9"], "--shapes 9 names none: give numbers of 0 to 3"),
        (tune, ["--shapes", "-1"], "--shapes -1 names none"),
        (tune, ["--json", "no/such/file.json"], "there is no folder no/such"),
        (tune, ["--top", "0"], "--top is 0"),
        (tune, ["--top", "1", "--top", "2"], "--top is given twice: give it once"),
        (tune, ["--shapes", "0", "1", "--shapes=2"], "--shapes is given twice: give it once, as in --shapes 0 1"),
        (tune_products, ["--json", "-"], "give --json a path"),
        (tune_products, ["--seconds", "nan"], "--seconds is nan"),
        (tune_products, ["--seconds", "-5"], "--seconds is -5.0"),
        (tune_products, ["--top", "-1"], "--top is -1"),
        (tune_products, ["--sec", "1", "--seconds", "2"], "--seconds is given twice: give it once"),
    ],
)
def test_tuning_refuses_bad_arguments_before_it_measures(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], module: ModuleType, words: list[str], sentence: str
) -> None:
    monkeypatch.setattr(sys, "argv", ["kernels.tune", *words])
    with pytest.raises(SystemExit) as end:
        module.main()
    assert end.value.code == 2 and sentence in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="with a GPU the checks run for minutes: python -m kernels.bench --check")
def test_without_a_gpu_the_checks_name_what_only_a_gpu_can_show() -> None:
    ran = run("--check")
    assert ran.exit_code == 2
    assert all(name_of(check) in ran.stdout for check in CHECKS)


def test_tiles_fit_the_card_and_the_problem() -> None:
    assert [power_of_two(n, 2) for n in (0, 1, 2, 3, 1024, 1025)] == [2, 2, 2, 4, 1024, 2048]
    for features in (5, 64, 128, 200, 4096):
        for clusters in (1, 20, 1000, 1_000_000):
            for itemsize in (2, 4):
                for capability, most in (((8, 0), 99), ((9, 0), 227)):
                    tile = label_tile(features, clusters, itemsize, capability)
                    halves = itemsize // 2  # float32 is kept as two TF32 halves
                    rows = tile.stages * tile.centers * halves + tile.points * (halves if tile.depth >= features else 1)
                    assert rows * tile.depth * itemsize <= most * 1024
                    assert tile.centers <= power_of_two(clusters, 16) and min(tile.points, tile.centers, tile.depth) >= 16
    assert [rows_each(n, 132) for n in (100, 2_000_000, 8_000_000, 10**9)] == [128, 256, 1024, 1024]


def test_tuning_needs_a_gpu_and_names_every_candidate_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for shape in SHAPES:
        found = [json.dumps(candidate) for candidate in candidates(shape)]
        assert len(found) == len(set(found)) > 5
    if not torch.cuda.is_available():
        monkeypatch.setattr(sys, "argv", ["kernels.tune"])
        with pytest.raises(SystemExit) as end:
            tune.main()
        said = capsys.readouterr().err
        assert end.value.code == 2 and said.count("\n") == 1 and "no CUDA device" in said


def test_tuning_products_needs_a_gpu_and_names_every_plan_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for shape in tune_products.PRODUCTS:
        found = [json.dumps(plan) for plan in tune_products.plans(shape)]
        assert len(found) == len(set(found)) > 5
        sizes_of = (shape.m, shape.k, shape.n), (shape.small.m, shape.small.k, shape.small.n)
        assert [size % 16 for size in sizes_of[0]] == [size % 16 for size in sizes_of[1]]  # the same code
    if not torch.cuda.is_available():
        monkeypatch.setattr(sys, "argv", ["kernels.tune_products"])
        with pytest.raises(SystemExit) as end:
            tune_products.main()
        said = capsys.readouterr().err
        assert end.value.code == 2 and said.count("\n") == 1 and "no CUDA device" in said


def test_rates_and_shares_follow_from_seconds() -> None:
    rows = compare(["torch", "einsum"], *operands(30, 20, 10, torch.float32, CPU), bandwidth=1e9, budget=0.05)
    torch_row, einsum = rows
    assert torch_row.of_torch == 1
    assert einsum.of_torch == pytest.approx(torch_row.seconds / einsum.seconds)
    assert einsum.gflops == pytest.approx(2 * 30 * 20 * 10 / einsum.seconds / 1e9)
    assert einsum.gbytes == pytest.approx(4 * (600 + 200 + 300) / einsum.seconds / 1e9)
    assert einsum.of_copy == pytest.approx(einsum.gbytes)


def test_a_backend_that_does_not_take_the_dtype_or_would_not_end_is_left_out() -> None:
    assert compare(["triton"], *operands(4, 4, 4, torch.float64, CPU), bandwidth=1e9, budget=0.01) == []
    assert is_feasible("python", 64, 64, 64) and not is_feasible("python", 256, 256, 256)
    assert is_feasible("broadcast", 50_000, 784, 10) and is_feasible("torch", 8192, 8192, 8192)


def test_operands_depend_on_nothing_but_the_seed() -> None:
    assert torch.equal(operands(3, 4, 5, torch.float32, CPU, 1)[0], operands(3, 4, 5, torch.float32, CPU, 1)[0])
    assert not torch.equal(operands(3, 4, 5, torch.float32, CPU, 1)[0], operands(3, 4, 5, torch.float32, CPU, 2)[0])


def test_sizes() -> None:
    assert sizes("64") == (64, 64, 64) and sizes(LESSON) == (50_000, 784, 10)
    with pytest.raises(typer.BadParameter):
        sizes("1x2")


class Clock:
    """Stands in for the module `time`: it goes on by what sleeps, and by nothing else."""

    now = 0.0

    def perf_counter(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(timing, "time", clock)
    return clock


def test_calls_take_turns_and_the_first_of_a_turn_is_not_counted(clock: Clock) -> None:
    order: list[str] = []

    def call(name: str) -> None:
        order.append(name)
        clock.sleep(0.02 if len(order) < 3 or order[-2] != name else 0.004)  # slow at first, and after another's turn

    seconds = interleaved_time({name: partial(call, name) for name in "ab"}, CPU, budget=10, most=3)
    turns = [name for name, _ in groupby(order[2:])]
    assert turns == ["a", "b"] * 3
    assert seconds == pytest.approx({"a": 0.004, "b": 0.004})


def test_a_slow_call_runs_once_in_a_turn(clock: Clock) -> None:
    order: list[float] = []
    seconds = interleaved_time({"slow": lambda: order.append(clock.sleep(0.11) or 0)}, CPU, budget=10, most=2)  # type: ignore[func-returns-value]
    assert len(order) == 3 and seconds["slow"] == pytest.approx(0.11)


def test_resources_are_those_of_the_longest_kernel() -> None:
    events = [
        {"cat": "kernel", "dur": 3, "args": {"registers per thread": 40, "shared memory": 0}},
        {"cat": "kernel", "dur": 9, "args": {"registers per thread": 128, "shared memory": 33792}},
        {"cat": "cpu_op", "dur": 99, "args": {}},
    ]
    assert read_resources({"traceEvents": events}) == {"registers": 128, "shared_bytes": 33792}
    assert read_resources({"traceEvents": []}) == {"registers": None, "shared_bytes": None}
