"""Which pictures a folder holds, in which order, whatever links and names there are."""

from __future__ import annotations

import os

import pytest

from invert.batch.find import Patterns, Picture, batches, find_pictures
from invert.errors import InputError


def keys(*roots, include=(), exclude=(), told=None):
    tell = (told if told is not None else []).append
    return [picture.key for picture in find_pictures([str(root) for root in roots], Patterns(include, exclude), tell)]


def test_pictures_at_any_depth_come_sorted_and_other_files_and_hidden_ones_do_not(tmp_path, draw):
    for name in ("b.png", "a/z.JPG", "a/b/c.webp", ".hidden/a.png", "a/._b.png"):
        draw(tmp_path / name, 10)
    (tmp_path / "notes.txt").write_text("no picture")
    os.mkfifo(tmp_path / "pipe.png")
    assert keys(tmp_path) == ["a/b/c.webp", "a/z.JPG", "b.png"]


def test_loops_of_links_end_and_each_folder_is_entered_once_by_its_own_name(tmp_path, draw):
    draw(tmp_path / "z/real/a.png", 10)
    os.symlink(tmp_path, tmp_path / "z/real/up")
    os.symlink(tmp_path / "z/real", tmp_path / "a-link")
    os.symlink("self", tmp_path / "self")
    os.symlink(tmp_path / "z/real/a.png", tmp_path / "one.png")
    os.symlink(tmp_path / "nowhere.png", tmp_path / "two.png")
    assert keys(tmp_path) == ["one.png", "two.png", "z/real/a.png"]


def test_a_link_to_a_folder_elsewhere_is_followed(tmp_path, draw):
    draw(tmp_path / "elsewhere/a.png", 10)
    (tmp_path / "here").mkdir()
    os.symlink(tmp_path / "elsewhere", tmp_path / "here/link")
    assert keys(tmp_path / "here") == ["link/a.png"]


ODD = ["line\nfeed.png", "tab\t.png", "grüße 狐.png", "[b] *.png", "-rf.png", "'\".png", "\x1b[31m.png"]


def test_odd_names_are_names(tmp_path, draw):
    for name in ODD:
        draw(tmp_path / name, 10)
    assert keys(tmp_path) == sorted(ODD)


def test_names_that_are_no_text_are_found_and_known_for_it(tmp_path, draw):
    path = draw(tmp_path / "a.png", 10)
    os.rename(path, os.fsencode(tmp_path) + b"/\xff.png")
    (picture,) = find_pictures([str(tmp_path)], Patterns(), print)
    assert picture == Picture("\udcff.png", f"{tmp_path}/\udcff.png") and not picture.can_be_told
    assert Picture("grüße", "grüße").can_be_told


@pytest.mark.parametrize(
    ("include", "exclude", "found"),
    [
        (["*.jpg"], [], ["a/2.jpg"]),
        (["*.jpg", "1.*"], [], ["1.png", "a/2.jpg"]),
        ([], ["a"], ["1.png", "thumbs/4.png"]),
        ([], ["a/b/"], ["1.png", "a/2.jpg", "thumbs/4.png"]),
        ([], ["thumbs", "1.png"], ["a/2.jpg", "a/b/3.png"]),
        (["a/*"], ["*.png"], ["a/2.jpg"]),
        (["./a/*"], [], ["a/2.jpg", "a/b/3.png"]),
    ],
)
def test_patterns_choose(tmp_path, draw, include, exclude, found):
    for name in ("1.png", "a/2.jpg", "a/b/3.png", "thumbs/4.png"):
        draw(tmp_path / name, 10)
    assert keys(tmp_path, include=include, exclude=exclude) == found


def test_several_folders_and_pictures_share_the_keys_and_none_is_found_twice(tmp_path, draw):
    for name in ("a/1.png", "a/b/2.png", "c/3.png", "c/4.png"):
        draw(tmp_path / name, 10)
    found = keys(tmp_path / "a/b", tmp_path / "a", tmp_path / "c/3.png")
    assert found == ["../1.png", "2.png", "../../c/3.png"]  # in the order of their paths, named from the first folder


def test_a_picture_that_is_given_by_two_names_is_found_once(tmp_path, draw):
    real, link = draw(tmp_path / "a/1.png", 10), tmp_path / "b/2.png"
    link.parent.mkdir()
    os.symlink(real, link)
    assert keys(link, real) == ["2.png"] and keys(real, link) == ["1.png"]  # under the first one


@pytest.mark.parametrize("first", [True, False])
def test_one_that_is_in_a_folder_too_has_its_name_there(tmp_path, draw, first):
    real, link = draw(tmp_path / "a/1.png", 10), tmp_path / "2.png"
    os.symlink(real, link)
    found = find_pictures([str(root) for root in ([link, real.parent] if first else [real.parent, link])], Patterns(), print)
    assert [picture.path for picture in found] == [str(real)]


@pytest.mark.parametrize(("names", "named"), [(["gone"], "gone does not exist"), ([""], "empty path"), (["a"], "no images")])
def test_nothing_to_find_is_said(tmp_path, names, named):
    (tmp_path / "a").mkdir()
    with pytest.raises(InputError, match=named):
        keys(*(tmp_path / name if name else "" for name in names))


def test_a_folder_that_cannot_be_listed_is_told_and_the_others_are_searched(tmp_path, draw, monkeypatch):
    draw(tmp_path / "a/1.png", 10), draw(tmp_path / "b/2.png", 10)
    scandir, told = os.scandir, []

    def refusing(path):
        if str(path).endswith("/a"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    assert keys(tmp_path, told=told) == ["b/2.png"] and "a cannot be listed: Permission denied" in str(told[0])


def test_what_is_left_of_a_stopped_run_comes_in_the_same_batches():
    pictures = [Picture(str(i), str(i)) for i in range(10)]
    assert [[p.key for p in batch] for batch in batches(pictures, [2, 4, 5, 6, 7, 9], 4)] == [["2"], list("4567"), ["9"]]
