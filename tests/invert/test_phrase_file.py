"""Files of phrases, one a category: whatever is in them, and a folder of them."""

from __future__ import annotations

import pytest

from invert import phrase_file
from invert.errors import InputError
from invert.phrase_file import MAX_LENGTH, read_phrases


def test_the_stem_is_the_category_and_lines_are_phrases_as_they_are_written(tmp_path):
    (tmp_path / "art styles.v2.txt").write_bytes("\ufeffPixel Art\r\n\n  by Goya \nPixel Art\n".encode())
    assert read_phrases(tmp_path / "art styles.v2.txt") == {"art styles.v2": ("Pixel Art", "by Goya")}


def test_a_folder_holds_a_file_a_category(tmp_path):
    (tmp_path / "b.txt").write_text("a fox")
    (tmp_path / "a.TXT").write_text("red\nblue\n")
    (tmp_path / "README.md").write_text("no phrases")
    (tmp_path / ".hidden.txt").write_text("no phrase")
    (tmp_path / "c.txt").mkdir()
    assert list(read_phrases(tmp_path).items()) == [("a", ("red", "blue")), ("b", ("a fox",))]


@pytest.mark.parametrize("content", [b"", b"\n \n\t\n", b"\xff\xfe\x00caf\xe9", b"PK\x03\x04\x00\x00"])
def test_what_holds_no_phrases_is_one_sentence(tmp_path, content):
    (tmp_path / "good.txt").write_text("a fox")
    (tmp_path / "pets.txt").write_bytes(content)
    for path in (tmp_path / "pets.txt", tmp_path):
        with pytest.raises(InputError, match=r"^the `phrases` .*pets.txt .*: .* one phrase a line$"):
            read_phrases(path)


def test_a_line_that_is_too_long_is_named(tmp_path):
    (tmp_path / "pets.txt").write_text(f"{'x' * MAX_LENGTH}\n\n{'y' * MAX_LENGTH}")
    assert len(read_phrases(tmp_path / "pets.txt")["pets"]) == 2
    for end in ("", "\n", "z\n", "z" * 1000):
        (tmp_path / "pets.txt").write_text(f"a fox\n\n{'x' * (MAX_LENGTH + 1)}{end}")
        with pytest.raises(InputError, match=rf"^line 3 of the `phrases` .*pets.txt is longer than {MAX_LENGTH} characters"):
            read_phrases(tmp_path / "pets.txt")


def test_more_phrases_than_can_be_ranked_are_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(phrase_file, "MAX_PHRASES", 3)
    (tmp_path / "a.txt").write_text("a\nb\nb\n")
    (tmp_path / "b.txt").write_text("c\n")
    assert sum(map(len, read_phrases(tmp_path).values())) == 3
    (tmp_path / "b.txt").write_text("c\nd\n")
    with pytest.raises(InputError, match=r"^`phrases`: .* has more than 3 phrases"):
        read_phrases(tmp_path)


@pytest.mark.parametrize("name", ["nowhere.txt", "", "n" * 300, "a\0b", "[/b]"])
def test_a_path_that_is_no_file_is_one_sentence(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"^the `phrases` .* cannot be read"):
        read_phrases(name)


def test_a_folder_without_phrases_is_one_sentence(tmp_path):
    with pytest.raises(InputError, match=r"a folder without .txt files"):
        read_phrases(tmp_path)
