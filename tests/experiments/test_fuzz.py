"""The fuzzers find nothing in a few inputs of each kind, and do find what is wrong."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.fuzz import COUNTS, run_part
from experiments.harness.fuzzing.verdicts import Case, unclear, watch


@pytest.mark.parametrize("name", COUNTS)
def test_a_few_inputs_of_every_kind_end_well(name: str) -> None:
    part = run_part(name, 20, seed=7)
    assert part.tried == 20 and not part.findings


def test_the_same_seed_makes_the_same_inputs() -> None:
    from experiments.harness.fuzzing.clusterings import cases

    assert [case.name for case in cases(30, 1)] == [case.name for case in cases(30, 1)]
    assert [case.name for case in cases(30, 1)] != [case.name for case in cases(30, 2)]


def fails(error: BaseException) -> None:
    raise error


FAULTS = {
    "traceback": Case("a bug", lambda: fails(KeyError("x")), (ValueError,)),
    "sentence": Case("two lines", lambda: fails(ValueError("a\nb")), (ValueError,)),
    "wrong": Case("a wrong answer", lambda: 3, (ValueError,), lambda answer: f"{answer} instead of 4"),
    "process": Case("a program", lambda: subprocess.run([sys.executable, "-c", ""]), (ValueError,)),
}


@pytest.mark.parametrize("kind", FAULTS)
def test_every_kind_of_fault_is_found(kind: str) -> None:
    part = watch("faults", 0, [FAULTS[kind]])
    assert [finding.kind for finding in part.findings] == [kind]


def test_an_answer_where_there_is_none_is_found() -> None:
    part = watch("faults", 0, [Case("nonsense is taken", lambda: 3, (ValueError,), must_fail=True)])
    assert part.to_json()["silent_wrongs"] == 1


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="the system does not tell a peak of memory")
def test_memory_that_grows_is_found() -> None:
    code = """
import numpy as np
from experiments.harness.fuzzing.verdicts import Case, watch
part = watch("faults", 0, [Case("a large array", lambda: np.ones(64 << 20, np.uint8).sum(), (ValueError,))], memory=10)
print([finding.kind for finding in part.findings], 50 <= part.peak_mib <= 100)
"""  # a process of its own: memory that other tests have freed would be taken again, and nothing would grow
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    assert done.stdout.split(maxsplit=1) == ["['memory']", "True\n"]


def test_what_is_no_one_sentence() -> None:
    assert unclear("") and unclear("a\nb") and unclear("\x1b[31m") and unclear("internal error: x")
    assert unclear("x.png is empty: give an image file") is None
