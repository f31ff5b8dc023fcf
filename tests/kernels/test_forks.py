"""A forked process hears in a sentence that numba's threads did not come along, where it would be killed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kernels import BackendUnavailable, forks

FORK = """
import os
import numpy as np
from kernels import BackendUnavailable, matmul
one = np.eye(40)
matmul(one, one, "numba")
child = os.fork()
if child == 0:
    code = 0
    try:
        assert (matmul(one, one, "numba") == one).all()
    except BackendUnavailable as error:
        code = 7 if "spawn" in str(error) else 1
    os._exit(code)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
assert (matmul(one, one, "numba") == one).all()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
@pytest.mark.parametrize(("layer", "codes"), [("omp", ("7", "0")), ("workqueue", ("0",))])
def test_a_forked_process_is_not_killed(layer: str, codes: tuple[str, ...]) -> None:
    """0 of the first: where another OpenMP than GNU's, or none, is installed, which children may use."""
    root = Path(__file__).parents[2]
    kind = {**os.environ, "NUMBA_THREADING_LAYER": layer}
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", FORK], capture_output=True, text=True, cwd=root, env=kind)
    if "No threading layer could be loaded" in done.stderr:
        pytest.skip(f"numba has no {layer} here")
    assert done.returncode == 0 and done.stdout.strip() in codes, done.stderr


def test_the_state_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(forks._state, "inherited", False)
    forks.check_threads()
    monkeypatch.setattr(forks, "uses_gnu_openmp", lambda: True)
    forks._look_back()
    with pytest.raises(BackendUnavailable, match="NUMBA_THREADING_LAYER=workqueue"):
        forks.check_threads()


def test_other_threads_are_no_gnu_openmp(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forks.numba, "threading_layer", lambda: "workqueue")
    assert not forks.uses_gnu_openmp()

    def none_yet() -> str:
        raise ValueError

    monkeypatch.setattr(forks.numba, "threading_layer", none_yet)
    assert not forks.uses_gnu_openmp()
