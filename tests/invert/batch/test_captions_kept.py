"""Captions of pictures that come, go and are replaced between runs with the same and with other options."""

from __future__ import annotations

import os

import pytest

from invert.batch.delivery import Wanted
from invert.batch.find import Picture
from invert.batch.sidecars import Sidecars, names
from invert.cli.run import doubled
from invert.errors import InputError

CAPTIONS = Wanted(Sidecars())


def test_a_caption_half_delivered_is_never_that_of_the_picture_that_took_its_place(perform, folder, draw, monkeypatch):
    monkeypatch.setattr(Sidecars, "write", killed)
    with pytest.raises(SystemExit):
        perform(folder, wanted=CAPTIONS)
    monkeypatch.undo()
    draw(folder / "12.png", 50)
    perform(folder, wanted=CAPTIONS)
    assert (folder / "12.txt").read_text() == "a picture of 50 pixels\n"


def killed(self, path, prompt):
    raise SystemExit


def test_captions_go_back_to_what_they_were_asked_to_be_before(perform, folder):
    for prefix in ("A ", "B ", "A "):
        perform(folder, wanted=Wanted(Sidecars(prefix=prefix, existing="overwrite")))
        assert (folder / "12.txt").read_text() == f"{prefix}a picture of 12 pixels\n"


def test_a_picture_keeps_its_caption_whatever_comes_beside_it(perform, folder, draw):
    perform(folder, wanted=CAPTIONS)
    draw(folder / "12.jpg", 21)  # is first by name
    perform(folder, wanted=Wanted(Sidecars(prefix="a photo of ", existing="overwrite")))
    assert (folder / "12.txt").read_text() == "a photo of a picture of 12 pixels\n"
    assert (folder / "12.jpg.txt").read_text() == "a photo of a picture of 21 pixels\n"


@pytest.mark.parametrize("existing", ["append", "prepend"])
@pytest.mark.parametrize("affixes", [{"prefix": " \n"}, {"suffix": " \n"}])
@pytest.mark.parametrize("old", ["mine", "", None])
def test_white_space_at_the_edge_adds_no_caption_twice(existing, affixes, old):
    captions = Sidecars(existing=existing, **affixes)
    assert captions.caption("ours", captions.caption("ours", old)) is None


@pytest.mark.parametrize(
    ("pictures", "wanted"),
    [
        (["A.jpg", "a.png"], ["A.txt", "a.png.txt"]),
        (["A.PNG", "A.png", "a.PNG", "a.png"], ["A.txt", "A.png.txt", "a.PNG.txt.txt", "a.png.txt.txt.txt"]),
        (["x/A.jpg", "y/a.png"], ["A.txt", "a.txt"]),
    ],
)
def test_captions_differ_by_more_than_upper_and_lower_case(pictures, wanted):
    found = [Picture(key, key) for key in pictures]
    assert list(names(found, {}).values()) == wanted
    assert names(found[1:], {found[0].key: wanted[0]})[found[1].key] == wanted[1]
    assert doubled(found) == ("" if "/" in pictures[0] else pictures[1])


def test_the_names_of_captions_are_as_short_as_a_file_system_wants_them():
    stem = "\u00fc" * 120 + "y" * 11  # of 251 bytes
    found = names([Picture(f"{stem}.{ending}", "") for ending in ("jpg", "png", "PNG", "Png")], {})
    assert next(iter(found.values())) == f"{stem}.txt" and len({name.casefold() for name in found.values()}) == 4
    assert all(len(os.fsencode(name)) <= 255 and name.endswith(".txt") for name in found.values())


def test_a_pipe_in_the_place_of_a_caption_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.txt")
    with pytest.raises(InputError, match="is no regular file"):
        Sidecars(existing="append").write(str(tmp_path / "a.txt"), "ours")
