"""A file of prompts is read line by line, whatever is in it: long lines, odd line ends, pipes, what is no text."""

from __future__ import annotations

import os
import threading
import tracemalloc

import pytest

from invert import corpus_file
from invert.corpus_file import MAX_LENGTH, read_corpus
from invert.errors import InputError


def test_distinct_lines_in_lower_case_without_blanks(tmp_path):
    (tmp_path / "a.txt").write_bytes("\ufeffA Fox\r\n\n  two owls \rа fox\n\ta fox\u2028a wolf".encode())
    assert read_corpus(tmp_path / "a.txt") == ("a fox", "two owls", "а fox", "a wolf")


def test_a_line_is_cut_and_the_next_one_is_whole(tmp_path):
    (tmp_path / "a.txt").write_text("x" * (3 * MAX_LENGTH + 7) + "\na fox\n" + "y" * MAX_LENGTH + "\nan owl")
    assert read_corpus(tmp_path / "a.txt") == ("x" * MAX_LENGTH, "a fox", "y" * MAX_LENGTH, "an owl")


def test_one_long_line_costs_no_memory(tmp_path):
    (tmp_path / "a.txt").write_text("a red fox and " * 1_500_000)  # 21 MB
    tracemalloc.start()
    prompts = read_corpus(tmp_path / "a.txt")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(prompts) == 1 and len(prompts[0]) <= MAX_LENGTH and peak < 1 << 20


def test_more_prompts_than_can_be_used_are_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(corpus_file, "MAX_PROMPTS", 3)
    (tmp_path / "a.txt").write_text("a\nb\nc\nc\n")
    assert read_corpus(tmp_path / "a.txt") == ("a", "b", "c")
    (tmp_path / "a.txt").write_text("a\nb\nc\nd\n")
    with pytest.raises(InputError, match=r"`corpus` .*more than 3 prompts"):
        read_corpus(tmp_path / "a.txt")


def test_a_pipe_is_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=lambda: (tmp_path / "pipe").write_text("a fox\n"))
    writer.start()
    assert read_corpus(tmp_path / "pipe") == ("a fox",)
    writer.join()


@pytest.mark.parametrize("content", [b"", b"\n \n\t\n", b"\xff\xfe\x00caf\xe9", b"a fox\nan\0owl\n", b"x" * 3000 + b"\0\n"])
def test_what_holds_no_prompts_is_one_sentence(tmp_path, content):
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(InputError, match=r"the `corpus` .*a.txt"):
        read_corpus(tmp_path / "a.txt")


@pytest.mark.parametrize("name", ["nowhere.txt", "", ".", "n" * 300, "a\0b", "[/b]"])
def test_a_path_that_is_no_file_is_one_sentence(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"the `corpus` .* cannot be read"):
        read_corpus(name)
