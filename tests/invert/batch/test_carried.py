"""Prompts that pictures carry, in a run: used, shown or left, and ours written into them."""

from __future__ import annotations

import json
import os

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

import invert.files
from invert.batch.delivery import Wanted
from invert.images.embedded import read_embedded

ALL = ("metadata", "jsonl", "csv", "parquet")


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def carrying(path, prompt):
    info = PngInfo()
    info.add_text("parameters", f"{prompt}\nSteps: 20, Sampler: Euler, Seed: 1")
    Image.new("RGB", (12, 9)).save(path, pnginfo=info)


@pytest.mark.parametrize("embedded", ["use", "show", "ignore"])
def test_what_becomes_of_a_prompt_that_a_picture_carries(perform, folder, widths, embedded):
    carrying(folder / "12.png", "a fox")
    perform(folder, embedded=embedded, formats=ALL, report=True)
    row = lines(folder / "prompts.jsonl")[0]
    assert row["prompt"] == ("a fox" if embedded == "use" else "a picture of 12 pixels")
    assert row["embedded"] == (None if embedded == "ignore" else {"prompt": "a fox", "source": "parameters"})
    assert (row["score"] is None) == (embedded == "use") == (12 not in widths.seen)
    assert ("carries: a fox" in (folder / "gallery" / "page-00001.html").read_text()) == (embedded == "show")


def test_our_prompt_goes_into_the_pictures_once_and_no_pixel_changes(perform, folder, widths):
    carrying(folder / "12.png", "a fox")
    pixels = {path: Image.open(path).tobytes() for path in folder.rglob("*.png")}
    done = perform(folder, wanted=Wanted(metadata=True))
    assert {path: Image.open(path).tobytes() for path in folder.rglob("*.png")} == pixels
    assert read_embedded(folder / "14.png").prompt == "a picture of 14 pixels"
    assert read_embedded(folder / "12.png").prompt == "a fox" and done.left == 1
    before = {path: path.read_bytes() for path in folder.rglob("*.png")}
    again = perform(folder, load=lambda: pytest.fail("loaded"), wanted=Wanted(metadata=True))
    assert again.earlier == 10 and {path: path.read_bytes() for path in folder.rglob("*.png")} == before
    perform(folder, wanted=Wanted(metadata=True, replace=True), embedded="ignore")
    assert read_embedded(folder / "12.png").prompt == "a picture of 12 pixels"


def test_a_run_killed_while_metadata_is_written_goes_on_to_the_same_tables(perform, folder, widths, content, monkeypatch):
    write, count = invert.files.write_file, []

    def killed(path, content, tidy=True):
        if str(path).endswith(".png"):
            count.append(path)
            if len(count) == 3:
                raise SystemExit
        write(path, content, tidy)

    monkeypatch.setattr("invert.batch.delivery.write_file", killed)
    with pytest.raises(SystemExit):
        perform(folder, wanted=Wanted(metadata=True))
    monkeypatch.undo()
    widths.seen.clear()
    perform(folder, wanted=Wanted(metadata=True))
    assert len(widths.seen) == 6 and all(read_embedded(path) for path in folder.rglob("*.png"))
    assert lines(folder / "metadata.jsonl")[0]["text"] == "a picture of 12 pixels"


def test_a_picture_of_several_names_is_left_alone(perform, folder, tmp_path):
    os.link(folder / "12.png", tmp_path / "backup.png")
    before = (tmp_path / "backup.png").read_bytes()
    done = perform(folder, wanted=Wanted(metadata=True))
    assert done.refused[0] == 1 and "12.png has several names (hard links)" in done.refused[1]
    assert (tmp_path / "backup.png").read_bytes() == before


def test_metadata_that_a_full_disk_refused_is_written_another_time(perform, folder, monkeypatch):
    write = invert.files.write_file

    def full(path, content, tidy=True):
        if str(path).endswith("12.png"):
            raise OSError(28, "No space left on device")
        write(path, content, tidy)

    monkeypatch.setattr("invert.batch.delivery.write_file", full)
    assert perform(folder, wanted=Wanted(metadata=True)).refused[0] == 1
    monkeypatch.undo()
    perform(folder, wanted=Wanted(metadata=True))
    assert read_embedded(folder / "12.png").prompt == "a picture of 12 pixels"


def test_a_picture_that_takes_no_metadata_is_counted_and_stays(perform, folder, draw):
    draw(folder / "a.bmp", 30)
    before = (folder / "a.bmp").read_bytes()
    done = perform(folder, wanted=Wanted(metadata=True))
    assert done.refused[0] == 1 and "a.bmp has no place for a prompt" in done.refused[1]
    assert (folder / "a.bmp").read_bytes() == before and done.done == 11
