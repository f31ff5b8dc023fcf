"""Standard output that is full, closed or left by its reader: no traceback, and the files are written all the same."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest


class Broken(io.StringIO):
    """A stream whose first line fails with the error."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def write(self, text: str) -> int:
        raise self.error


@pytest.mark.parametrize(
    ("error", "status", "sentences"),
    [
        (OSError(28, "No space left on device"), 2, 1),
        (BrokenPipeError(32, "Broken pipe"), 141, 0),
        (ValueError("closed file"), 2, 1),
    ],
)
def test_what_cannot_be_printed_is_in_the_report(run, light, pictures, tmp_path, monkeypatch, error, status, sentences):
    monkeypatch.setattr(sys, "stdout", Broken(error))
    done = run(*pictures, "--report", tmp_path / "page.html")
    assert done.status == status and len(done.sentences) == sentences and light.calls == 1
    assert (tmp_path / "page.html").read_text().count("<section>") == 1


def test_a_closed_stdout_is_one_sentence_before_the_work(run, light, pictures, monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    done = run(pictures[0])
    assert done.status == 2 and done.sentences == ["invert: standard output is closed: the prompts cannot be printed"]
    assert light.calls == 0


def test_a_closed_stderr_is_no_error(run, pictures, monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    assert run(pictures[0], "nowhere.png").status == 2


OBJECTS = (sys.executable, "-m", "invert.picturebook", "objects")
HELP = (sys.executable, "-c", "import sys; sys.argv = ['invert', '--help']; from invert.cli import main; main()")


@pytest.mark.parametrize("words", [OBJECTS, HELP], ids=["results", "help"])
def test_a_process_whose_reader_has_gone_ends_in_silence(words):
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(words, stdout=write, stderr=subprocess.PIPE, text=True, cwd=Path(__file__).parents[3])
    os.close(write)
    assert done.returncode == 141 and done.stderr == ""


@pytest.mark.parametrize("redirection", [">/dev/full", ">&-"])
def test_a_process_whose_output_is_full_or_closed_ends_with_one_sentence(redirection):
    command = f"'{sys.executable}' -m invert.picturebook objects {redirection}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, cwd=Path(__file__).parents[3])
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1, done.stderr
