"""What stands in tars, Parquet files and folders comes out, each picture once, or a sentence in its place."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from invert.batch import readers
from invert.batch.parquet import ColumnError
from invert.batch.readers import Columns, read_parquet, read_picture
from invert.batch.samples import Sample
from invert.batch.shards import plan
from invert.batch.states import PassingError
from invert.batch.tars import read_tar, split_key
from tests.invert.batch.shard_cases import do, png, rows_of, tar_of, write_tar

NAMED = Columns()  # by the names of the columns


def read_file(path: Path, columns: Columns = NAMED) -> list[Sample]:
    return [sample for shard in plan([str(path)], path.parent) for sample in read_parquet(shard, columns)]


# webdataset -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("a.png", ("a", "png")),
        ("dir.v2/a.seg.png", ("dir.v2/a", "seg.png")),
        ("no_ending", ("no_ending", "")),
        ("a/.png", ("a/", "png")),
    ],
)
def test_keys_end_at_the_first_dot_of_the_name(name: str, wanted: tuple[str, str]) -> None:
    assert split_key(name) == wanted


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_each_sample_of_a_tar_gives_its_first_picture(tmp_path: Path, mode: str) -> None:
    members = {"a.json": b"{}", "a.PNG": png(1), "a.seg.png": png(2), "b.webp": png(3), "b.jpg": png(4), "c.txt": b"c"}
    samples = list(read_tar(str(write_tar(tmp_path / "s.tar", members, mode))))
    assert [(sample.key, sample.content) for sample in samples] == [("a", png(1)), ("b", png(3)), ("c", b"")]
    assert "holds no picture" in samples[2].error


@pytest.mark.parametrize("where", ["picture", "header", "end"])
def test_a_tar_that_breaks_off_gives_what_was_before_and_says_so(tmp_path: Path, where: str) -> None:
    tar = tar_of(tmp_path / "s.tar", 3)
    content = tar.read_bytes()
    block = 512 + -(-len(png(0)) // 512) * 512
    tar.write_bytes(content[: {"picture": 2 * block + 540, "header": 2 * block + 100, "end": 3 * block}[where]])
    samples = list(read_tar(str(tar)))
    whole = 3 if where == "end" else 2
    assert [sample.content for sample in samples[:-1]] == [png(i) for i in range(whole)]
    assert "cut off or damaged" in samples[-1].error and str(tar) in samples[-1].error


@pytest.mark.parametrize("mode", ["w:bz2", "w:xz"])
def test_a_compressed_tar_that_is_damaged_says_so(tmp_path: Path, mode: str) -> None:
    tar = write_tar(tmp_path / "s.tar", {f"{i}.png": os.urandom(60_000) for i in range(9)}, mode)
    content = bytearray(tar.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 4000] = os.urandom(4000)
    tar.write_bytes(content)
    assert "damaged" in list(read_tar(str(tar)))[-1].error


def test_a_loop_of_links_in_a_folder_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "a.png").write_bytes(png(1))
    os.symlink("loop", tmp_path / "pictures" / "loop")
    do([tmp_path / "pictures"], tmp_path / "out")
    assert len(rows_of(tmp_path / "out")) == 1


def test_a_damaged_header_in_the_middle_does_not_pass_for_the_end(tmp_path: Path) -> None:
    tar = tar_of(tmp_path / "s.tar", 3)
    content = bytearray(tar.read_bytes())
    content[1024:1536] = b"\xff" * 512
    tar.write_bytes(content)
    assert [bool(sample.error) for sample in read_tar(str(tar))] == [False, True]


@pytest.mark.parametrize("content", [b"", b"no tar", b"\x1f\x8b\x08 cut"])
def test_what_is_no_tar_is_one_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "s.tar").write_bytes(content)
    assert ["damaged" in sample.error for sample in read_tar(str(tmp_path / "s.tar"))] == [True]


def write_links(path: Path, mode: str, links: dict[str, tuple[bytes, str]]) -> list[Sample]:
    """The samples of a tar of x/a.png, the links, and b.png."""
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for name, (kind, target) in {"x/a.png": (tarfile.REGTYPE, ""), **links, "b.png": (tarfile.REGTYPE, "")}.items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, target
            content = b"" if target else png(ord(Path(name).name[0]))
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return list(read_tar(str(path)))


@pytest.mark.parametrize(
    ("name", "kind", "target", "wanted"),
    [
        ("c.png", tarfile.LNKTYPE, "x/a.png", "a"),
        ("c.png", tarfile.LNKTYPE, "./x/a.png", "a"),
        ("c.png", tarfile.SYMTYPE, "x/a.png", "a"),
        ("x/c.png", tarfile.SYMTYPE, "a.png", "a"),
        ("x/c.png", tarfile.SYMTYPE, "../b.png", "b"),  # is met before what it leads to
    ],
)
def test_links_in_a_tar_are_the_pictures_that_they_lead_to(
    tmp_path: Path, name: str, kind: bytes, target: str, wanted: str
) -> None:
    samples = write_links(tmp_path / "s.tar", "w", {name: (kind, target)})
    assert [(sample.key, sample.content) for sample in samples] == [
        ("x/a", png(ord("a"))),
        (name.removesuffix(".png"), png(ord(wanted))),
        ("b", png(ord("b"))),
    ]


def test_a_hard_link_is_what_stood_under_the_name_before_it(tmp_path: Path) -> None:
    tar = write_tar(tmp_path / "s.tar", {"a.png": png(1)})
    with tarfile.open(tar, "a") as file:
        link = tarfile.TarInfo("c.png")
        link.type, link.linkname = tarfile.LNKTYPE, "a.png"
        file.addfile(link)
    with tarfile.open(tar, "a") as file:
        again = tarfile.TarInfo("a.png")
        again.size = len(png(2))
        file.addfile(again, io.BytesIO(png(2)))
    assert [sample.content for sample in read_tar(str(tar))] == [png(1), png(1), png(2)]


def test_links_of_links_are_followed_and_loops_of_them_end(tmp_path: Path) -> None:
    links = {"c.png": (tarfile.SYMTYPE, "d.png"), "d.png": (tarfile.LNKTYPE, "x/a.png"), "e.png": (tarfile.SYMTYPE, "e.png")}
    samples = write_links(tmp_path / "s.tar", "w", links)
    assert [sample.content for sample in samples] == [*[png(ord("a"))] * 3, b"", png(ord("b"))]
    assert "e.png in" in samples[3].error


@pytest.mark.parametrize(("mode", "target"), [("w", "nowhere.png"), ("w:gz", "x/a.png")])
@pytest.mark.parametrize("kind", [tarfile.LNKTYPE, tarfile.SYMTYPE])
def test_a_link_that_leads_to_no_picture_that_can_be_read_is_an_error(
    tmp_path: Path, mode: str, target: str, kind: bytes
) -> None:
    samples = write_links(tmp_path / "s.tar", mode, {"c.png": (kind, target)})
    assert [bool(sample.error) for sample in samples] == [False, True, False]
    assert samples[1].key == "c" and f"c.png in {tmp_path / 's.tar'} is a link to {target}, which" in samples[1].error


def test_a_link_to_what_is_cut_off_costs_no_other_picture(tmp_path: Path) -> None:
    write_links(tmp_path / "s.tar", "w", {"c.png": (tarfile.SYMTYPE, "b.png"), "d.png": (tarfile.LNKTYPE, "x/a.png")})
    content = (tmp_path / "s.tar").read_bytes()
    (tmp_path / "s.tar").write_bytes(content[: content.index(png(ord("b"))) + 40])
    samples = list(read_tar(str(tmp_path / "s.tar")))
    assert [sample.content for sample in samples] == [png(ord("a")), b"", png(ord("a")), b""]
    assert "link to b.png, which is no whole file" in samples[1].error and "cut off" in samples[3].error


def test_links_to_folders_and_texts_are_no_samples(tmp_path: Path) -> None:
    links = {"latest": (tarfile.SYMTYPE, "x"), "c.txt": (tarfile.SYMTYPE, "x/a.png")}
    assert [sample.key for sample in write_links(tmp_path / "s.tar", "w", links)] == ["x/a", "b"]


# Parquet ----------------------------------------------------------------------------------------


def as_stored(kind: str, folder: Path) -> tuple[str, Any]:
    """Name and values of a column with two pictures, and one that is missing."""
    for i in range(2):
        (folder / f"{i}.png").write_bytes(png(i))
    match kind:
        case "bytes":
            return "jpg", [png(0), png(1), None]
        case "paths":
            return "path", ["0.png", str(folder / "1.png"), None]
        case "categories":
            return "path", pa.array(["0.png", "1.png", None]).dictionary_encode()
    return "image", [{"bytes": png(0), "path": None}, {"bytes": None, "path": "1.png"}, {"bytes": None, "path": None}]


@pytest.mark.parametrize("kind", ["bytes", "paths", "categories", "Hugging Face"])
def test_a_column_of_bytes_or_paths_is_found_by_its_name(tmp_path: Path, kind: str) -> None:
    name, values = as_stored(kind, tmp_path)
    pq.write_table(pa.table({"id": [7, 8, 9], name: values}), tmp_path / "t.parquet")
    samples = read_file(tmp_path / "t.parquet")
    assert [(sample.key, sample.content) for sample in samples] == [("7", png(0)), ("8", png(1)), ("9", b"")]
    assert samples[2].error


def test_row_groups_are_shards_and_rows_without_a_key_are_numbered(tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": [png(i) for i in range(7)]}), tmp_path / "t.parquet", row_group_size=2)
    shards = plan([str(tmp_path)], tmp_path, size=3)
    assert [shard.groups for shard in shards] == [(0, 2), (2, 4)]  # 4 + 3 rows: a shard has at least three
    keys = [sample.key for shard in shards for sample in read_parquet(shard, Columns())]
    assert keys == [str(i) for i in range(7)]


def test_a_column_that_is_not_there_is_named(tmp_path: Path) -> None:
    pq.write_table(pa.table({"x": [b"1"], "n": [1]}), tmp_path / "t.parquet")
    with pytest.raises(ColumnError, match="has no column of pictures"):
        read_file(tmp_path / "t.parquet")
    with pytest.raises(ColumnError, match="no column 'y': `picture_column` is one of x, n"):
        read_file(tmp_path / "t.parquet", Columns("y"))
    with pytest.raises(ColumnError, match="neither bytes nor paths"):
        read_file(tmp_path / "t.parquet", Columns("n"))
    assert [sample.content for sample in read_file(tmp_path / "t.parquet", Columns("x", "n"))] == [b"1"]


@pytest.mark.parametrize("content", [b"", b"PAR1 and then nothing"])
def test_a_damaged_parquet_file_is_one_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "t.parquet").write_bytes(content)
    assert ["no whole Parquet file" in sample.error for sample in read_file(tmp_path / "t.parquet")] == [True]


def test_addresses_are_not_fetched(tmp_path: Path) -> None:
    pq.write_table(pa.table({"path": ["https://example.org/a.png"]}), tmp_path / "t.parquet")
    assert "is an address" in read_file(tmp_path / "t.parquet")[0].error


# Folders ----------------------------------------------------------------------------------------


def test_a_folder_is_read_whole_whatever_its_names(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    for name in ("b.png", "sub/ä ü.png", "sub/a\nb.PNG", os.fsdecode(b"sub/\xff.png")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(png(1))
    (folder / "notes.txt").write_text("no picture")
    (folder / "sub" / "loop").symlink_to(folder, target_is_directory=True)
    do([folder], tmp_path / "out", size=3)
    keys = [row["key"] for row in rows_of(tmp_path / "out")]
    assert sorted(map(str, keys)) == ["b.png", "sub/\\udcff.png", "sub/a\nb.PNG", "sub/ä ü.png"]


def test_a_picture_that_changes_while_it_is_read_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png(1))
    states = iter([(9, 1), (9, 2), *[(len(png(1)), 2)] * 2])
    monkeypatch.setattr(readers, "state_of", lambda _: next(states))
    assert read_picture("a", str(path)) == Sample("a", png(1))


def test_a_picture_that_never_stops_changing_is_left_to_another_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png(1))
    ticks = iter(range(100))
    monkeypatch.setattr(readers, "state_of", lambda _: (len(png(1)), next(ticks)))
    with pytest.raises(PassingError, match=r"a\.png changed since"):
        read_picture("a", str(path))
