"""Help and usage errors of every sub-command load nothing heavy: they answer before torch could even be imported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from invert.cli.subcommands import SUBCOMMANDS

HEAVY = ("torch", "numpy", "PIL", "open_clip", "transformers", "diffusers", "faiss", "matplotlib", "pyarrow", "gradio", "ray")
CODE = f"""
import io, sys
from contextlib import redirect_stderr, redirect_stdout
from invert.cli import main

name = sys.argv[1]
for words in (["--help"], ["--no-such-option"]):
    sys.argv = ["invert", name, *words]
    with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
        try:
            main()
        except SystemExit as exit:
            status = exit.code or 0
    helps = words == ["--help"]
    assert (status, bool(out.getvalue()), bool(err.getvalue())) == ((0, True, False) if helps else (2, False, True)), words
    assert not (heavy := set({HEAVY}) & set(sys.modules)), (words, heavy)
"""


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_the_help_and_the_usage_errors_of_every_subcommand_import_nothing_heavy(name: str) -> None:
    done = subprocess.run([sys.executable, "-c", CODE, name], capture_output=True, text=True, cwd=Path(__file__).parents[3])
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("package", ["clustering", "invert", "kernels"])
def test_importing_a_package_loads_neither_torch_nor_scikit_learn(package: str) -> None:
    code = f"import sys, {package}; sys.exit(str({{'torch', 'numpy', 'numba', 'sklearn', 'scipy'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[3])
    assert done.stderr.strip() == "set()"
