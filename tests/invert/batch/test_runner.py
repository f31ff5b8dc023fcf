"""A folder through a mapper: what is written, what a bad picture costs, and what an interrupted or changed run does again."""

from __future__ import annotations

import csv
import io
import json
import os
import tracemalloc

import pyarrow.parquet
import pytest
from PIL import Image

import invert.batch.journal
from invert.batch import reading
from invert.batch.delivery import Wanted
from invert.batch.find import Patterns, find_pictures
from invert.batch.journal import ALL as ALL_OUTPUTS
from invert.batch.journal import Journal, kept_of
from invert.batch.outputs import COLUMNS, write_csv
from invert.batch.sidecars import Sidecars, names
from invert.batch.tiers import Found
from invert.errors import InputError

CAPTIONS = Wanted(captions=Sidecars())
ALL = ("metadata", "jsonl", "csv", "parquet")


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_every_table_holds_every_picture_in_order(perform, folder, tmp_path):
    done = perform(folder, formats=ALL)
    assert (done.total, done.done, done.failed, done.earlier) == (10, 10, 0, 0)
    rows = lines(folder / "prompts.jsonl")
    files = [row["file_name"] for row in rows]
    assert files == sorted(files) and all((folder / name).exists() for name in files)
    assert rows[0]["prompt"] == "a picture of 12 pixels" and rows[0]["score"] == 0.12 and rows[0]["tier"] == 1
    assert lines(folder / "metadata.jsonl")[0] == {"file_name": "12.png", "text": "a picture of 12 pixels", "score": 0.12}
    with open(folder / "prompts.csv", newline="", encoding="utf-8") as file:
        assert [row["file_name"] for row in csv.DictReader(file)] == files
    table = pyarrow.parquet.read_table(folder / "prompts.parquet").to_pylist()
    assert table == rows and not (folder / "errors.jsonl").exists()


@pytest.mark.parametrize("name", ["a\r.png", 'a\n,".png', "a\r\n.png"])
def test_a_line_of_a_csv_table_ends_where_its_row_does(name):
    write_csv([dict.fromkeys(COLUMNS, "") | {"file_name": name}] * 2, file := io.BytesIO())
    assert [row["file_name"] for row in csv.DictReader(io.StringIO(file.getvalue().decode(), newline=""))] == [name] * 2


def test_a_picture_that_the_model_may_not_know_is_counted_and_says_so_in_tables_and_gallery(perform, folder, widths):
    widths.answers[13] = Found("a fox", 0.1, 1, "widths", 0, (("a fox", 0.1),), doubt="unlike all")
    assert perform(folder, formats=ALL, report=True).doubted == 1
    rows = lines(folder / "prompts.jsonl")
    assert [row["doubt"] for row in rows if row["doubt"] is not None] == ["unlike all"]
    assert pyarrow.parquet.read_table(folder / "prompts.parquet").to_pylist() == rows
    assert "<small>unlike all</small>" in (folder / "gallery" / "page-00001.html").read_text()


def test_datasets_read_metadata_as_an_imagefolder(perform, folder):
    perform(folder)
    rows = lines(folder / "metadata.jsonl")
    # What `datasets` asks of metadata.jsonl: objects of one set of keys, file_name a path of a picture below the file's folder.
    assert {frozenset(row) for row in rows} == {frozenset({"file_name", "text", "score"})}
    assert all(not os.path.isabs(row["file_name"]) and ".." not in row["file_name"].split("/") for row in rows)
    assert [Image.open(folder / row["file_name"]).width for row in rows] == [
        int(row["text"].removeprefix("a picture of ").removesuffix(" pixels")) for row in rows
    ]


def test_captions_stand_beside_their_pictures(perform, folder):
    perform(wanted=CAPTIONS)
    assert (folder / "12.txt").read_text() == "a picture of 12 pixels\n"
    assert (folder / "sub" / "11.txt").read_text() == "a picture of 11 pixels\n"
    assert len(list(folder.rglob("*.txt"))) == 10


@pytest.mark.parametrize(
    ("existing", "text"),
    [
        ("skip", "mine\nand more\n"),
        ("overwrite", "<a picture of 12 pixels>\n"),
        ("append", "mine\nand more, <a picture of 12 pixels>\n"),
        ("prepend", "<a picture of 12 pixels>, mine\nand more\n"),
    ],
)
def test_what_becomes_of_a_caption_that_is_there(perform, folder, widths, existing, text):
    (folder / "12.txt").write_text("mine\nand more\n")
    (folder / "14.txt").write_bytes(b"\xff\n")
    done = perform(wanted=Wanted(Sidecars("<", ">", existing)))
    assert (folder / "12.txt").read_text() == text and (folder / "16.txt").read_text() == "<a picture of 16 pixels>\n"
    assert b"\xff" in (folder / "14.txt").read_bytes() or existing == "overwrite"
    assert done.skipped == (2 if existing == "skip" else 0) and (12 in widths.seen) == (existing != "skip")
    before = widths.seen.copy()
    again = perform(wanted=Wanted(Sidecars("<", ">", existing)))  # not appended twice
    assert (folder / "12.txt").read_text() == text and widths.seen == before and again.done + again.skipped == 10


def test_a_caption_is_one_line(perform, folder, widths):
    widths.answers[12] = "two\nlines"
    perform(wanted=CAPTIONS)
    assert (folder / "12.txt").read_text() == "two lines\n"


def test_pictures_of_one_stem_have_a_caption_each(perform, folder, draw):
    for name, width in (("12.jpg", 21), ("12.png.bmp", 22)):
        draw(folder / name, width)
    perform(wanted=CAPTIONS)
    assert (folder / "12.txt").read_text() == "a picture of 21 pixels\n"
    assert (folder / "12.png.txt").read_text() == "a picture of 12 pixels\n"
    assert (folder / "12.png.bmp.txt").read_text() == "a picture of 22 pixels\n"
    pictures = find_pictures([str(folder)], Patterns(), print)
    assert len(set(names(pictures, {}).values())) == len({p.key.rpartition("/")[2] for p in pictures})
    assert names(pictures, {"12.png": "12.txt"})["12.jpg"] == "12.jpg.txt"  # what has a caption keeps it


def test_a_bad_picture_costs_one_line_and_nothing_else(perform, folder, widths):
    (folder / "15.png").write_bytes(b"no picture")
    (folder / "sub" / "13.png").write_bytes((folder / "sub" / "13.png").read_bytes()[:40])
    (folder / "empty.png").touch()
    widths.answers[16] = RuntimeError("broke")
    done = perform(folder, wanted=CAPTIONS, formats=ALL)
    errors = lines(folder / "errors.jsonl")
    assert [error["file_name"] for error in errors] == ["15.png", "16.png", "empty.png", "sub/13.png"]
    assert "RuntimeError: broke" in errors[1]["error"] and "is empty" in errors[2]["error"]
    assert (done.done, done.failed) == (8, 4) and len(lines(folder / "metadata.jsonl")) == 8
    assert len(list(folder.rglob("*.txt"))) == 8


def test_a_second_run_does_nothing_again_and_loads_no_model(perform, folder, content):
    (folder / "bad.png").write_bytes(b"no picture")
    settings = {"wanted": CAPTIONS, "formats": ALL, "report": True}
    perform(folder, **settings)
    before, journal = content(folder), (folder / ".invert" / "journal.jsonl").read_bytes()
    done = perform(folder, load=lambda: pytest.fail("loaded"), **settings)
    assert (done.earlier, done.done, done.failed) == (10, 10, 1)
    assert content(folder) == before and (folder / ".invert" / "journal.jsonl").read_bytes() == journal


def test_new_changed_and_mended_pictures_are_done_and_lost_ones_leave_the_tables(perform, folder, widths, draw):
    (folder / "bad.png").write_bytes(b"no picture")
    widths.answers[18] = MemoryError()
    perform(folder)
    widths.seen.clear(), widths.answers.clear()
    draw(folder / "bad.png", 30), draw(folder / "new.png", 31), draw(folder / "12.png", 32)
    (folder / "14.png").unlink()
    done = perform(folder)
    assert sorted(widths.seen) == [18, 30, 31, 32] and (done.total, done.done, done.failed) == (11, 11, 0)
    assert "14.png" not in (folder / "metadata.jsonl").read_text() and not (folder / "errors.jsonl").exists()


def test_an_interrupted_run_writes_what_is_done_and_goes_on_to_the_same_bytes(perform, folder, widths, content, tmp_path):
    settings = {"wanted": Wanted(Sidecars(existing="append")), "formats": ALL, "report": True}
    (folder / "20.txt").write_text("mine")
    widths.answers[20] = KeyboardInterrupt()  # in the second batch
    with pytest.raises(KeyboardInterrupt):
        perform(folder, **settings)
    assert len(lines(folder / "metadata.jsonl")) == 4 and (folder / "20.txt").read_text() == "mine"
    widths.answers.clear(), widths.seen.clear()
    perform(folder, **settings)
    assert len(widths.seen) == 6
    resumed = content(folder)
    for path in [*folder.rglob("*.txt"), folder / ".invert" / "journal.jsonl"]:
        path.unlink()
    (folder / "20.txt").write_text("mine")
    perform(folder, **settings)
    assert content(folder) == resumed


@pytest.mark.parametrize("existing", ["skip", "overwrite", "append", "prepend"])
@pytest.mark.parametrize("written", [0, 1, 3])
def test_a_run_killed_while_captions_are_written_writes_each_once(perform, folder, content, existing, written, monkeypatch):
    """The process ends after so many captions of the first batch: the journal has its rows and its intent, no confirmation."""
    (folder / "14.txt").write_text("mine")
    wanted = Wanted(Sidecars(existing=existing))
    write, count = Sidecars.write, []

    def killed(self, path, prompt):
        if len(count) == written:
            raise SystemExit
        count.append(path)
        write(self, path, prompt)

    monkeypatch.setattr(Sidecars, "write", killed)
    with pytest.raises(SystemExit):
        perform(folder, wanted=wanted)
    monkeypatch.undo()
    perform(folder, wanted=wanted)
    ours, kept = "a picture of 14 pixels", "mine"
    texts = {"skip": kept, "overwrite": f"{ours}\n", "append": f"{kept}, {ours}\n", "prepend": f"{ours}, {kept}\n"}
    assert (folder / "14.txt").read_text() == texts[existing] and len(list(folder.rglob("*.txt"))) == 10


@pytest.mark.parametrize("cut", [1, 7, 60, 400])
def test_a_journal_that_was_cut_off_anywhere_gives_the_same_tables(perform, folder, content, cut):
    perform(folder, wanted=CAPTIONS)
    before, journal = content(folder), folder / ".invert" / "journal.jsonl"
    journal.write_bytes(journal.read_bytes()[:-cut])
    perform(folder, wanted=CAPTIONS)
    assert content(folder) == before
    assert all(json.loads(line) for line in journal.read_text().splitlines())


def test_captions_wanted_later_are_written_of_what_was_computed(perform, folder, widths):
    perform(folder)
    widths.seen.clear()
    perform(folder, wanted=CAPTIONS)
    assert widths.seen == [] and len(list(folder.rglob("*.txt"))) == 10
    perform(folder, wanted=Wanted(Sidecars(prefix="art, ", existing="overwrite")))
    assert widths.seen == [] and (folder / "12.txt").read_text() == "art, a picture of 12 pixels\n"


def test_other_options_are_noticed_and_said(perform, folder):
    perform(folder, options={"method": "a", "seed": 0})
    with pytest.raises(InputError, match=r"other options \(`method` was 'a' and is 'b'\).*`restart`"):
        perform(folder, options={"method": "b", "seed": 0})


def test_two_runs_do_not_share_a_journal(tmp_path):
    with Journal(tmp_path / "j", {}), pytest.raises(InputError, match="another run"):
        Journal(tmp_path / "j", {})


def test_a_newer_journal_is_refused_and_a_restart_forgets(tmp_path):
    (tmp_path / "j").write_text('{"invert": 99, "options": {}}\n')
    with pytest.raises(InputError, match="a newer version"):
        Journal(tmp_path / "j", {})
    Journal(tmp_path / "j", {"a": 1}, restart=True).__exit__()
    Journal(tmp_path / "j", {"a": 1}).__exit__()


def test_a_journal_whose_options_are_damaged_is_refused_and_stays_as_it_is(perform, folder):
    perform(folder)
    journal = folder / ".invert" / "journal.jsonl"
    journal.write_bytes(damaged := b"\0" * 9 + journal.read_bytes()[9:])
    with pytest.raises(InputError, match=r"is damaged, .* add `restart`"):
        perform(folder)
    assert journal.read_bytes() == damaged


def test_an_older_journal_is_refused_and_a_restart_keeps_its_tables_for_its_own(tmp_path):
    (tmp_path / "j").write_text('{"invert": 1, "options": {}}\n{"rows": []}\n')
    with pytest.raises(InputError, match="an older version"):
        Journal(tmp_path / "j", {})
    assert kept_of(tmp_path / "j")["claimed"] == [ALL_OUTPUTS]
    Journal(tmp_path / "j", {}, restart=True).__exit__()
    with Journal(tmp_path / "j", {}) as journal:
        assert journal.claimed == {ALL_OUTPUTS} and not journal.entries


def test_a_full_disk_is_one_sentence_and_what_was_done_is_kept(perform, folder, widths, monkeypatch):
    fsync, calls = os.fsync, []

    def full(handle):
        calls.append(handle)
        if len(calls) == 3:  # the header, the first batch, the second one
            raise OSError(28, "No space left on device")
        fsync(handle)

    monkeypatch.setattr(invert.batch.journal.os, "fsync", full)
    with pytest.raises(InputError, match="No space left on device; what was done before is kept"):
        perform(folder)
    monkeypatch.undo()
    widths.seen.clear()
    done = perform(folder)
    assert done.earlier == 4 and len(widths.seen) == 6


def test_a_picture_that_changes_while_it_is_read_is_read_again_and_one_that_never_stops_is_bad(
    perform, folder, widths, draw, monkeypatch
):
    load, times = reading.load_image, {}

    def changing(path):
        image = load(path)
        times[path] = times.get(path, 0) + 1
        if path.endswith("12.png") and times[path] == 1:
            draw(folder / "12.png", 40)
        if path.endswith("14.png"):
            draw(folder / "14.png", 50 + times[path])
        return image

    monkeypatch.setattr(reading, "load_image", changing)
    perform(folder)
    assert 40 in widths.seen and 12 not in widths.seen and 14 not in widths.seen
    (error,) = lines(folder / "errors.jsonl")
    assert error["file_name"] == "14.png" and "changes while it is read" in error["error"]


def test_a_name_that_is_no_text_has_a_caption_but_no_row(perform, folder, tmp_path):
    os.rename(folder / "12.png", os.fsencode(folder) + b"/\xff.png")
    done = perform(folder, wanted=CAPTIONS)
    (error,) = lines(folder / "errors.jsonl")
    assert done.failed == 1 and error["file_name"] == r"\udcff.png" and "no UTF-8" in error["error"]
    (folder / ".invert" / "journal.jsonl").unlink(), [path.unlink() for path in folder.rglob("*.txt")]
    perform(wanted=CAPTIONS)
    assert os.path.exists(os.fsencode(folder) + b"/\xff.txt")


def test_a_gallery_has_pages_that_lead_to_each_other_and_are_drawn_once(perform, folder, draw, monkeypatch):
    monkeypatch.setattr("invert.batch.gallery.PER_PAGE", 4)
    (folder / "[b]<i>.png").write_bytes(b"no picture")
    perform(folder, report=True)
    gallery = folder / "gallery"
    pages = [(gallery / f"page-0000{i}.html").read_text() for i in (1, 2, 3)]
    assert [page.count("<figure id=") for page in pages] == [4, 4, 3] and "[b]&lt;i&gt;.png" in "".join(pages)
    assert sum(page.count("data:image/jpeg") for page in pages) == 10 and all("http" not in page for page in pages)
    assert 'rel="prev"' not in pages[0] and 'rel="next"' not in pages[2] and "page-00002.html" in pages[0]
    index = (gallery / "index.html").read_text()
    assert index.count("<section>") == 3 and "10 pictures with a prompt" in index and "1 without" in index
    assert "cosine 0.110 to 0.200, on average 0.155" in index and "http" not in index
    assert index.count("data:image/jpeg") == 10 and 'href="page-00002.html#1"' in index and "a picture of 11 pixels" in index
    monkeypatch.setattr("invert.batch.gallery.thumbnail_of", lambda path: pytest.fail(path))
    perform(folder, report=True)
    monkeypatch.undo()
    for path in list(folder.rglob("*.png"))[:8]:
        path.unlink()
    perform(folder, report=True)
    assert [path.name for path in sorted(gallery.iterdir())] == ["index.html", "page-00001.html"]


def test_the_index_shows_few_pictures_of_many_pages(perform, folder, monkeypatch):
    monkeypatch.setattr("invert.batch.gallery.PER_PAGE", 2)
    monkeypatch.setattr("invert.batch.gallery.INDEX_PICTURES", 3)
    perform(folder, report=True)
    index = (folder / "gallery" / "index.html").read_text()
    assert index.count("<section>") == 5 and index.count("data:image/jpeg") == 3  # one of every second page


def test_memory_does_not_grow_with_the_pictures(perform, folder, tmp_path, draw):
    """Pictures may cost what their names and places in the journal cost: 0.75 MB for 150 are 50 MB for 10,000."""

    def peak(out):
        tracemalloc.start()
        perform(tmp_path / out, formats=ALL)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    perform(tmp_path / "warm", formats=ALL)  # whatever is imported and made once
    few = peak("few")
    picture = draw(folder / "many" / "one.png", 11)
    for i in range(149):
        os.link(picture, folder / "many" / f"{i:06}.png")
    assert peak("more") - few < 0.75e6
