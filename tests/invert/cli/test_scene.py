"""`--scene` and `--list-objects`: what picturebook itself offers."""

from __future__ import annotations

from PIL import Image


def test_a_scene_of_ones_own_is_drawn(command, tmp_path):
    done = command("--scene", "a fox above a red umbrella on a striped blue and white background", tmp_path / "out.png")
    assert done.status == 0
    with Image.open(tmp_path / "out.png") as picture:
        assert picture.width == picture.height


def test_objects_are_listed(command):
    names = command("--list-objects").out.splitlines()
    assert len(names) >= 900 and "fox" in names
