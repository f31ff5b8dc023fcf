"""`invert run`, `shards` and `serve`: folders, tars and options, good and odd, in this process on the bundled model.

Pictures are retrieved, not searched, so that a run takes moments; no server is ever started. Status 0 with all that was asked
for, or 2 with a sentence for what is wrong.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from unittest import mock

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from experiments.harness.fuzzing.arguments import ODD_NUMBERS
from experiments.harness.fuzzing.processes import Done
from experiments.harness.fuzzing.verdicts import Case, Part, watch
from invert.cli.subcommands import run_subcommand
from invert.inverter import Inverter
from invert.models.device import pick_device

SECONDS = 120.0  # that a run may take, the first with its imports
NO_UTF_8 = "\udce9.png"
NAMES = ["a.png", "[bold].png", "sp ace.png", "猫.png", "a\nb.png", NO_UTF_8, "a.b.png", "A.PNG", "-x.png", ".hidden.png"]


@dataclass
class Line:
    """Words behind `invert`; faults: for which it may not end well. rows: pictures with a prompt, where it does.

    unwritable: pictures whose names no table can hold, as they are no UTF-8; captions beside them can be written.
    """

    words: list[str]
    faults: int = 0
    rows: int = 0
    unwritable: int = 0
    formats: tuple[str, ...] = ()
    out: Path | None = None


Option = Callable[[np.random.Generator, Line, Path], None]


@dataclass(frozen=True)
class Choice:
    """An option with values that may be taken, and others that nobody may take."""

    name: str
    good: tuple[str, ...]
    bad: tuple[str, ...]

    def __call__(self, rng: np.random.Generator, line: Line, here: Path) -> None:
        if self.name in line.words:
            return
        wrong = not self.good or bool(self.bad and rng.integers(2))
        values = self.bad if wrong else self.good
        line.words += [self.name, values[rng.integers(len(values))]]
        line.faults += wrong


BAD_NUMBERS = ("0", "-1", "2.5", *ODD_NUMBERS)
NO_SHARES = ("-0.1", "1.1", *ODD_NUMBERS)
SHARED: tuple[Option, ...] = (
    Choice("--bundle", ("picturebook",), ("", "[red]", "nonsense")),
    Choice("--dtype", ("float32",), ("float", "", "[red]", "float64")),
    Choice("--device", ("cpu",), ("", "x" * 300, "cuda:99", "cpu:x")),
    Choice("--seed", ("0", "7"), ("2.5", str(2**64), "x")),
    Choice("--budget", ("1", "100000"), BAD_NUMBERS),
    Choice("--seconds", ("5",), ("0", "-1", *ODD_NUMBERS)),
    Choice("--ban", ("red", "red, blue"), ()),
    # What `retrieve` does not do, or nobody does, or only beside another option:
    Choice("--set", (), ("pez.lr=1", "retrieve.x=1", "x", "=", "nonsense.a=1", "[red].x=1")),
    Choice("--restarts", (), ("2", *BAD_NUMBERS)),
    Choice("--must-include", (), ("fox", "[/b]")),
    Choice("--negative-weight", (), ("0.2", *ODD_NUMBERS)),
    Choice("--gap-images", (), ("missing", "", "x" * 300)),
    Choice("--generator", (), ("picturebook", "http://[", "")),
    Choice("--model-weights", (), ("1,x", "x", "")),
    Choice("--search-below", (), ("0.2", *ODD_NUMBERS)),
    Choice("--search-share", (), ("0.5", *NO_SHARES)),
    Choice("--corpus", (), ("missing.txt", "", "x" * 300)),
)
RUN: tuple[Option, ...] = (
    Choice("--formats", ("jsonl", "csv,jsonl", "metadata", "parquet,csv"), ("xml", "", ",", "[red]")),
    Choice("--embedded", ("show", "ignore"), ("", "both", "[red]")),
    Choice("--top", ("1",), BAD_NUMBERS),
    Choice("--existing", (), ("keep", "", "[red]")),
    Choice("--include", ("*",), ("*.gif", "[", "nowhere/*")),
    Choice("--exclude", ("*.gif", "["), ("*",)),
    Choice("--prefix", ("a photo of ", "[red]"), ()),
)
SHARDS: tuple[Option, ...] = (
    Choice("--engine", ("local",), ("spark", "", "[red]")),
    Choice("--workers", (), ("2", *BAD_NUMBERS)),
    Choice("--gpus", (), ("1", *ODD_NUMBERS)),
    Choice("--shard", ("1/1",), ("0/1", "2/1", "x", "", "slurm", "1/0")),
    Choice("--shard-size", (), BAD_NUMBERS),
    Choice("--decoders", ("1", "4"), ("65", *BAD_NUMBERS)),
    Choice("--picture-column", (), ("image", "")),
    Choice("--key-column", (), ("id", "")),
    Choice("--embedded", (), ("use",)),
    Choice("--top", (), ("2",)),
)
SERVE: tuple[Option, ...] = (
    Choice("--port", (), ("0", "-1", "65536", *ODD_NUMBERS)),
    Choice("--queue", (), BAD_NUMBERS),
    Choice("--megabytes", (), BAD_NUMBERS),
    Choice("--files", (), BAD_NUMBERS),
    Choice("--seconds", (), ("0", "-1", "nan", "inf", "x")),
    Choice("--bundle", (), ("", "nonsense", "[red]")),
    Choice("--generator", (), ("http://[", "https://me:word@x", "")),
    Choice("--host", (), ("",)),
    Choice("--model", (), ("",)),
)


def run(count: int, seed: int) -> Part:
    """The verdict on that many command lines."""
    model = Inverter.load("picturebook", device="cpu")

    def loaded(_: str = "", __: str | None = None, device: str | None = None, *more: object) -> Inverter:
        pick_device(device)
        return model

    def no_server(*_: object, **__: object) -> None:
        raise AssertionError("a server was to be started")

    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch.object(Inverter, "load", loaded),
        mock.patch("invert.app.server.launch", no_server),
    ):
        return watch("subcommands", seed, cases(count, seed, Path(folder)), memory=1000, seconds=SECONDS)


def cases(count: int, seed: int, folder: Path) -> Iterator[Case]:
    kinds = (run_line, run_line, shards_line, serve_line)
    for i in range(count):
        rng, here = np.random.default_rng((seed, i)), folder / str(i)
        here.mkdir()
        line = kinds[i % len(kinds)](rng, here)
        yield Case(f"{seed}/{i} {line.words}", partial(done, line, here), (), partial(judged, line))


def options(rng: np.random.Generator, line: Line, here: Path, known: tuple[Option, ...]) -> Line:
    for _ in range(int(rng.choice([0, 0, 1, 2]))):
        known[rng.integers(len(known))](rng, line, here)
    return line


def pictures_in(rng: np.random.Generator, line: Line, folder: Path) -> None:
    """Pictures, files that are none but are called so, and a folder that is."""
    folder.mkdir(parents=True)
    for name in rng.choice(np.array(NAMES, object), int(rng.integers(1, 5)), replace=False):
        if rng.integers(5):
            Image.new("RGB", (9, 9), "teal").save(folder / name, "png")
            line.rows += not name.startswith(".") and name != NO_UTF_8
            line.unwritable += name == NO_UTF_8
        else:
            (folder / name).write_bytes([b"", b"text", b"%!PS-Adobe-3.0 EPSF-3.0\n"][rng.integers(3)])
    (folder / "folder.png").mkdir()


def run_line(rng: np.random.Generator, here: Path) -> Line:
    line = Line(["run", "--method", "retrieve"])
    pictures_in(rng, line, here / "pictures" / str(rng.choice(["a", "[red]", "b c"])))
    line.words.append([str(here / "pictures"), "pictures", "./pictures/"][rng.integers(3)])
    outs: list[tuple[str | None, bool]] = [("out", True), ("pictures", True), ("[out]", True), ("a/b", True), (None, True)]
    outs += [("/proc/none/x", False), ("x" * 300, False), ("/dev/null", False), ("file", False), ("", True)]
    name, good = outs[rng.choice([*range(5), rng.integers(len(outs))])]
    (here / "file").touch()
    if name is not None:
        line.words += ["--out", name]
        line.out, line.formats, line.faults = here / name, ("metadata",), line.faults + (not good)
    if name is None or rng.integers(2):
        line.words.append("--sidecar")
    line.faults += not (line.rows or (name is None and line.unwritable))
    options(rng, line, here, (*SHARED, *RUN))
    if "--formats" in line.words:
        line.formats = tuple(line.words[line.words.index("--formats") + 1].split(","))
        line.faults += line.out is None and line.formats != ("metadata",)
    line.faults += "--prefix" in line.words and "--sidecar" not in line.words
    return line


def shards_line(rng: np.random.Generator, here: Path) -> Line:
    line = Line(["shards", "--method", "retrieve", "--out", "out"], out=here / "out")
    pictures_in(rng, line, here / "pictures")
    if rng.integers(2):
        with tarfile.open(here / "00000.tar", "w") as tar:
            for i, path in enumerate(sorted(path for path in (here / "pictures").iterdir() if path.is_file())):
                info = tarfile.TarInfo(f"{i}.png")
                content = path.read_bytes()
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
        line.words.append("00000.tar")
    else:
        line.words.append("pictures")
    line.rows = -1  # what a shard takes for a sample is tested elsewhere: its rows are counted there
    if rng.integers(6) == 0:
        line.words.append(["missing.tar", "", "x" * 300, "s3://x/y.tar", "/dev/null"][rng.integers(5)])
        line.faults += 1
    return options(rng, line, here, (*SHARED, *SHARDS))


def serve_line(rng: np.random.Generator, here: Path) -> Line:
    """Always with a fault: a server would wait for ever."""
    line = Line(["serve"])
    SERVE[rng.integers(len(SERVE))](rng, line, here)
    return options(rng, line, here, SERVE)


def done(line: Line, here: Path) -> Done:
    """The run in its folder, with its own streams."""
    raws = io.BytesIO(), io.BytesIO()
    out, err = (io.TextIOWrapper(raw, "utf-8") for raw in raws)
    with contextlib.chdir(here), mock.patch.multiple(sys, stdout=out, stderr=err):
        status = run_subcommand(line.words)
        for stream in (out, err):
            stream.flush()
    return Done(status, *(raw.getvalue().decode() for raw in raws))


def judged(line: Line, result: Done) -> str | None:
    """Why what came is not what was to come."""
    said = result.err.splitlines()
    if result.status not in (0, 2) or "internal error" in result.err or "Traceback" in result.err:
        return f"status {result.status}: {result.err[-300:]}"
    if not said or any(not one.startswith("invert: ") or not one.isprintable() for one in said) or result.out:
        return f"stdout holds {result.out[:100]!r}, stderr {result.err[:300]!r}"
    if result.status == 2 and not line.faults and line.words[0] == "run":
        return f"refused for nothing: {result.err[:300]}"
    if result.status == 0 and line.faults:
        return f"{line.faults} faults were taken for good: {result.err[:300]}"
    return written(line) if result.status == 0 else None


def written(line: Line) -> str | None:
    """Whether the files hold a row, or a caption, for every picture."""
    if line.words[0] == "shards":
        files = list((line.out or Path()).glob("*.parquet"))
        return None if files and all(pq.read_table(file).num_rows for file in files) else f"{len(files)} Parquet files"
    counts = {name: counted(line.out / TABLES[name], name) for name in line.formats if line.out is not None}
    wrong = {name: count for name, count in counts.items() if count != line.rows}
    return f"rows {wrong} instead of {line.rows}" if wrong else None


TABLES = {"metadata": "metadata.jsonl", "jsonl": "prompts.jsonl", "csv": "prompts.csv", "parquet": "prompts.parquet"}


def counted(path: Path, name: str) -> int:
    if name == "parquet":
        return int(pq.read_table(path).num_rows)
    if name == "csv":
        with open(path, newline="", encoding="utf-8") as file:
            return len(list(csv.reader(file))) - 1
    return len([json.loads(row) for row in path.read_text(encoding="utf-8").splitlines()])
