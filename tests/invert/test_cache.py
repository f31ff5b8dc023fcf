"""Arrays come back from the cache as they were, or are made again; nothing about the disk costs the result."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import numpy as np
import pytest

from invert import files
from invert.cache import cache_folder, cached_arrays, note_unwritable

TABLE = np.arange(600, dtype=np.float32).reshape(30, 20)


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("INVERT_CACHE", str(tmp_path / "cache"))
    note_unwritable.cache_clear()
    return tmp_path / "cache"


class Maker:
    """Counts how often the table is made."""

    def __init__(self) -> None:
        self.made = 0

    def __call__(self) -> dict[str, np.ndarray]:
        self.made += 1
        return {"table": TABLE}

    def read(self, shape: tuple[int, ...] = TABLE.shape) -> np.ndarray:
        return cached_arrays("model", ["table"], self, lambda arrays: arrays["table"].shape == shape)["table"]


def test_a_table_is_made_once(folder):
    make = Maker()
    assert all(np.array_equal(make.read(), TABLE) for _ in range(3)) and make.made == 1
    assert [path.name for path in folder.iterdir()] == ["model.npz"]


def damages() -> dict[str, object]:
    def zeroed(content: bytearray, first: int, last: int) -> bytes:
        content[first:last] = bytes(len(content[first:last]))
        return bytes(content)

    return {
        "empty": lambda content: b"",
        "of zeros": lambda content: bytes(len(content)),
        "cut": lambda content: bytes(content[: len(content) // 2]),
        "zeroed tail": lambda content: zeroed(content, len(content) - 64, len(content)),
        "zeroed header": lambda content: zeroed(content, 0, 64),
        "zeroed array": lambda content: zeroed(content, 1000, 1400),
        "one bit": lambda content: bytes(content[:1500]) + bytes([content[1500] ^ 1]) + bytes(content[1501:]),
        "shape": lambda content: bytes(content).replace(b"(30, 20)", b"(20, 30)"),
        "text": lambda content: b"not a table",
    }


@pytest.mark.parametrize("damage", damages().values(), ids=damages().keys())
def test_a_damaged_file_is_found_and_made_again(folder, damage):
    make = Maker()
    make.read()
    file = folder / "model.npz"
    good = file.read_bytes()
    bad = damage(bytearray(good))
    assert bad != good
    file.write_bytes(bad)
    assert np.array_equal(make.read(), TABLE) and make.made == 2
    assert np.array_equal(make.read(), TABLE) and make.made == 2


def test_every_changed_byte_is_harmless(folder):
    make = Maker()
    make.read()
    file = folder / "model.npz"
    good = file.read_bytes()
    for place in range(0, len(good), 7):
        file.write_bytes(good[:place] + bytes([good[place] ^ 0xFF]) + good[place + 1 :])
        assert np.array_equal(make.read(), TABLE), place


def test_a_table_of_another_shape_is_made_again(folder):
    make = Maker()
    make.read()
    make.read(shape=(3, 3))
    assert make.made == 2


def unwritable(folder: Path, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    if how == "a file in its place":
        folder.write_text("")
    else:

        def full(handle: int, content: bytes) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(files, "_write_all", full)


@pytest.mark.parametrize("how", ["a file in its place", "a full disk"])
def test_where_nothing_can_be_kept_the_table_is_made_and_noted_once(folder, monkeypatch, caplog, how):
    unwritable(folder, monkeypatch, how)
    make = Maker()
    with caplog.at_level(logging.WARNING, "invert"):
        assert np.array_equal(make.read(), TABLE) and np.array_equal(make.read(), TABLE)
    assert make.made == 2 and len(caplog.records) == 1 and "INVERT_CACHE" in caplog.text
    assert not folder.is_dir() or not list(folder.iterdir())


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"INVERT_CACHE": "/mine", "XDG_CACHE_HOME": "/caches", "HOME": "/home/me"}, "/mine"),
        ({"XDG_CACHE_HOME": "/caches", "HOME": "/home/me"}, "/caches/invert"),
        ({"XDG_CACHE_HOME": "relative", "HOME": "/home/me"}, "/home/me/.cache/invert"),
        ({"XDG_CACHE_HOME": "", "HOME": "/home/me"}, "/home/me/.cache/invert"),
    ],
)
def test_the_folder_is_where_the_environment_says(monkeypatch, environment, expected):
    for name in ("INVERT_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert cache_folder() == Path(expected)


def test_a_user_without_a_home_has_a_folder_too(monkeypatch):
    for name in ("INVERT_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # as for a user that is in no table
    assert cache_folder().is_absolute() and str(os.getuid()) in cache_folder().name
