"""`python -m invert.picturebook` draws scenes and lists objects, as `invert --scene` and `--list-objects` do."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from PIL import Image

from invert.picturebook import commands
from invert.picturebook.drawing import DRAWN_SIZE


@pytest.fixture
def run(monkeypatch, capsys):
    def command(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["picturebook", *map(str, words)])
        with pytest.raises(SystemExit) as exit:
            commands.main()
        out, err = capsys.readouterr()
        return int(exit.value.code or 0), out, err

    return command


def test_a_scene_is_drawn_and_said(run, tmp_path):
    status, out, err = run("draw", "two owls on a blue background", tmp_path / "out.png")
    assert (status, out, err) == (0, "", "two owls on a blue background\n")
    with Image.open(tmp_path / "out.png") as picture:
        assert picture.size == (DRAWN_SIZE, DRAWN_SIZE)


def test_words_that_are_not_drawn_are_named(run, tmp_path):
    status, out, err = run("draw", "drei fluffy owls, dreaming of Öl on a dotted blue background", tmp_path / "out.png")
    understood, note = err.splitlines()
    assert (status, out, understood) == (0, "", "two owls on a blue background")
    assert note.startswith("invert: note: not drawn") and note.endswith(": drei, fluffy, dreaming, öl, dotted")


def test_the_same_seed_draws_the_same(run, tmp_path):
    for name, seed in (("a.png", 1), ("b.png", 1), ("c.png", 2)):
        assert run("draw", "a fox", tmp_path / name, "--seed", seed)[0] == 0
    a, b, c = ((tmp_path / name).read_bytes() for name in ("a.png", "b.png", "c.png"))
    assert a == b != c


def test_objects_are_listed(run):
    status, out, _ = run("objects")
    assert status == 0 and "fox" in out.splitlines() and len(out.splitlines()) > 900


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ((), "draw"),
        (("paint",), "paint"),
        (("draw", "a fox"), "path"),
        (("draw", "a glorp on a red background", "out.png"), "glorp"),
        (("draw", "a fox", "out.xyz"), "out.xyz"),
        (("draw", "a fox", "/nowhere/out.png"), "/nowhere"),
        (("draw", "a fox", "b.h5"), "pictures in color are not written as HDF5; give a path that ends in .png"),
        (("draw", "a fox", "b.xbm"), "not written as XBM"),
        (("draw", "a fox", "b.palm"), "not written as PALM"),
        (("draw", "a fox", "a.png", "--seed", "1", "--seed", "2"), "--seed is given twice"),
    ],
)
def test_bad_input_is_one_sentence(run, monkeypatch, tmp_path: Path, words, named):
    monkeypatch.chdir(tmp_path)
    status, out, err = run(*words)
    assert status == 2 and out == "" and len(err.splitlines()) == 1 and named in err and not list(tmp_path.iterdir())


def test_help_is_there(run):
    assert run("-h")[0] == 0 and "objects" in run("--help")[1]
