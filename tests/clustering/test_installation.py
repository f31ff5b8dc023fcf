"""Where another distribution's `kernels` has taken the place of ours, imports say so in one sentence with the repair."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import kernels
from clustering.installation import MARKER, REINSTALL

ROOT = Path(kernels.__file__).parents[1]
# Hugging Face's package in so far as it matters: the same import name, other contents.
FAKE = 'import importlib.metadata\n__version__ = "0.11.0"\ndef get_kernel(repo_id): ...\n'


def python(code: str, before: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": f"{before}{os.pathsep}{ROOT}"}
    return subprocess.run([sys.executable, "-c", code], env=environment, cwd=before, capture_output=True, text=True)


@pytest.fixture
def overwritten(tmp_path: Path) -> Path:
    (tmp_path / "kernels").mkdir()
    (tmp_path / "kernels" / "__init__.py").write_text(FAKE)
    return tmp_path


@pytest.mark.parametrize("code", ["import clustering", "import invert", "from invert.search import Search"])
def test_importing_says_in_one_sentence_what_stands_there_and_how_to_mend_it(overwritten: Path, code: str) -> None:
    done = python(code, overwritten)
    sentence = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 1 and sentence.startswith("ImportError: another distribution's package kernels")
    assert str(overwritten) in sentence and "pip uninstall kernels" in sentence and REINSTALL in sentence


def test_the_command_says_nothing_but_the_sentence(overwritten: Path) -> None:
    code = "import sys; sys.argv = ['/usr/bin/invert', '--help']; from invert.cli import main; main()"
    done = python(code, overwritten)
    assert done.returncode != 0 and done.stdout == ""
    assert done.stderr.startswith("invert: another distribution's") and len(done.stderr.splitlines()) == 1


def test_what_uninstalling_the_other_one_leaves_is_named_too(tmp_path: Path) -> None:
    (tmp_path / "clustering").symlink_to(ROOT / "clustering")
    (tmp_path / "kernels").mkdir()  # without __init__.py: a namespace
    code = f"import sys; sys.path = [p for p in sys.path if p != {str(ROOT)!r}]; import clustering"
    done = subprocess.run([sys.executable, "-S", "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1 and "is missing" in done.stderr.splitlines()[-1] and REINSTALL in done.stderr


def test_ours_is_known_and_nothing_heavy_is_imported_to_find_out(tmp_path: Path) -> None:
    assert MARKER in Path(kernels.__file__).read_text()
    done = python("import sys, invert, clustering; print({'torch', 'numpy', 'kernels'} & set(sys.modules))", tmp_path)
    assert done.stdout.strip() == "set()", done.stderr
