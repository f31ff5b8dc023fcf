"""Files are written whole beside regular files only; links, pipes and modes stay what they are."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from invert import files
from invert.errors import InputError
from invert.files import check_writable, write_file, write_output


def left(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_a_new_file_has_the_mode_that_the_user_gives_new_files(tmp_path):
    before = os.umask(0o027)
    try:
        write_file(tmp_path / "a", b"whole")
    finally:
        os.umask(before)
    assert (tmp_path / "a").read_bytes() == b"whole" and stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640
    assert left(tmp_path) == ["a"]


def test_an_old_file_keeps_its_mode(tmp_path):
    (tmp_path / "a").write_bytes(b"old")
    (tmp_path / "a").chmod(0o604)
    write_file(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"new" and stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o604


@pytest.mark.parametrize("there", [True, False])
def test_a_link_stays_a_link(tmp_path, there):
    if there:
        (tmp_path / "real").write_bytes(b"old and longer")
    (tmp_path / "link").symlink_to("real")
    write_file(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "real").read_bytes() == b"new"


def test_a_file_with_two_names_keeps_both(tmp_path):
    (tmp_path / "a").write_bytes(b"old and longer")
    os.link(tmp_path / "a", tmp_path / "b")
    write_file(tmp_path / "a", b"new")
    assert (tmp_path / "b").read_bytes() == b"new" and (tmp_path / "a").samefile(tmp_path / "b")


def test_a_pipe_is_written_into(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append((tmp_path / "pipe").read_bytes()))
    reader.start()
    check_writable(tmp_path / "pipe", "report")
    write_file(tmp_path / "pipe", b"x" * 100_000)
    reader.join()
    assert read == [b"x" * 100_000] and stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode) and left(tmp_path) == ["pipe"]


def test_a_descriptor_by_name_is_appended_to(tmp_path):
    """`--report /dev/stdout > file` keeps what was printed before."""
    code = "import os; from invert.files import write_file; os.write(1, b'first '); write_file('/dev/stdout', b'second')"
    with open(tmp_path / "out", "wb") as out:
        subprocess.run([sys.executable, "-c", code], stdout=out, check=True)
    assert (tmp_path / "out").read_bytes() == b"first second"


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    (tmp_path / "a").write_bytes(b"old")

    def full(handle, content):
        os.write(handle, content[:2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "_write_all", full)
    with pytest.raises(InputError, match=r"cannot write .*a: No space left on device"):
        write_output(tmp_path / "a", b"new content")
    assert (tmp_path / "a").read_bytes() == b"old" and left(tmp_path) == ["a"]


def test_what_a_killed_writer_left_is_removed_and_what_is_being_written_is_not(tmp_path):
    dead, alive = (tmp_path / f"{files._prefix('a')}{i}{files.PARTIAL}" for i in range(2))
    dead.write_bytes(b"half")
    other = tmp_path / f"{files._prefix('b')}0{files.PARTIAL}"
    other.write_bytes(b"of another file")
    with open(alive, "wb") as writer:
        files.fcntl.flock(writer, files.fcntl.LOCK_EX)
        write_file(tmp_path / "a", b"new")
        assert left(tmp_path) == sorted([alive.name, other.name, "a"])


def test_the_longest_name_can_be_written(tmp_path):
    write_file(tmp_path / ("n" * 255), b"new")
    assert (tmp_path / ("n" * 255)).read_bytes() == b"new"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "folder"),
        (".", "folder"),
        ("nowhere/a", "no folder"),
        ("file/a", "no folder"),
        ("n" * 256, "too long"),
        ("a\0b", "null"),
    ],
)
def test_a_path_that_cannot_be_written_is_one_sentence_with_the_parameter(tmp_path, monkeypatch, name, reason):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(InputError, match=rf"`report`: cannot write .*{reason}") as error:
        check_writable(name, "report")
    assert "\n" not in str(error.value) and left(tmp_path) == ["file"]


def test_asking_changes_nothing(tmp_path):
    (tmp_path / "a").write_bytes(b"old")
    before = (tmp_path / "a").stat()
    check_writable(tmp_path / "a", "report")
    check_writable(tmp_path / "new", "report")
    assert left(tmp_path) == ["a"] and (tmp_path / "a").stat() == before
