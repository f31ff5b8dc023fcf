"""`invert image.png --compare …`, run as a user runs it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def invert(*words: str) -> subprocess.CompletedProcess[str]:
    command = Path(sys.executable).with_name("invert")
    return subprocess.run([command, *words], capture_output=True, text=True)


def test_compare_prints_a_table_with_a_row_for_every_method(pictures, tmp_path):
    image = tmp_path / "scene.png"
    pictures[0].save(image)
    done = invert(str(image), "--method", "random", "--compare", "pez,gcg", "--budget", "600", "--seed", "1")
    assert done.returncode == 0, done.stderr
    assert all(method in done.stdout for method in ("random", "pez", "gcg", "token passes"))


def test_an_unknown_method_is_told_before_the_model_is_loaded(pictures, tmp_path):
    done = invert(str(tmp_path / "scene.png"), "--method", "interogator")
    assert done.returncode == 2
    assert "did you mean interrogator" in done.stderr.replace("'", "")
