"""Shards with known pictures, runs of them on the stub model, and what is wrong with a run's output."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tarfile
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from experiments.harness.runner import FOLDER
from invert.batch.work import LOCKS, LOGS


@dataclass
class Verdict:
    """Counts over all runs of one kind of fault.

    Attributes:
        runs: processes that were started, and disturbed where the fault is to disturb them.
        lost: pictures without a row in the end.
        twice: rows of a picture beyond the first, and shards that were written more than once.
        half_written: files under an output's name that are no whole Parquet file, at any time that was looked at.
        wrong: rows that differ from an undisturbed run's, messages that are missing, files that were left behind.
    """

    runs: int = 0
    lost: int = 0
    twice: int = 0
    half_written: int = 0
    wrong: int = 0
    note: str = ""

    @property
    def failed(self) -> bool:
        return bool(self.lost or self.twice or self.half_written or self.wrong)

    def to_json(self) -> dict[str, object]:
        return asdict(self)


def picture(seed: int, side: int = 8, kind: str = "PNG") -> bytes:
    """An encoded picture that no other seed gives."""
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind)
    return stream.getvalue()


def write_tar(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def write_tars(folder: Path, count: int, pictures: int) -> set[str]:
    """That many tars; the keys in them."""
    folder.mkdir(parents=True, exist_ok=True)
    keys = [[f"{i:04d}{j:04d}" for j in range(pictures)] for i in range(count)]
    for i, inside in enumerate(keys):
        write_tar(folder / f"{i:05d}.tar", {f"{key}.png": picture(int(key)) for key in inside})
    return {key for inside in keys for key in inside}


def start(out: Path, *inputs: Path, **options: object) -> subprocess.Popen[str]:
    """A run of its own process."""
    flags = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    command = [sys.executable, "-m", "experiments.harness.stub_run", *flags, str(out), *map(str, inputs)]
    return subprocess.Popen(command, cwd=FOLDER.parent, stderr=subprocess.PIPE, text=True)


def finish(out: Path, *inputs: Path, **options: object) -> tuple[int, str]:
    """Run to the end: exit status and standard error."""
    process = start(out, *inputs, **options)
    _, said = process.communicate()
    return process.returncode, said


def outputs(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(out.glob("*.parquet"))}


def rows(out: Path, verdict: Verdict) -> list[dict[str, object]]:
    """All rows; what cannot be read is counted."""
    found: list[dict[str, object]] = []
    for content in outputs(out).values():
        try:
            found += pq.read_table(io.BytesIO(content)).to_pylist()
        except (pa.ArrowException, OSError):
            verdict.half_written += 1
    return found


def judge(out: Path, keys: set[str], undisturbed: dict[str, bytes], verdict: Verdict) -> None:
    """Count what is wrong with a run that has ended."""
    seen = Counter(str(row["key"]) for row in rows(out, verdict))
    verdict.lost += len(keys - seen.keys())
    verdict.twice += sum(n - 1 for n in seen.values()) + written_again(out)
    verdict.wrong += outputs(out) != undisturbed
    verdict.wrong += len(list((out / LOCKS).iterdir())) if (out / LOCKS).exists() else 0


def written_again(out: Path) -> int:
    """How often an output was published beyond the first time, by the logs of all processes."""
    lines = [json.loads(line) for file in (out / LOGS).glob("*.jsonl") for line in file.read_text().splitlines()]
    return sum(n - 1 for n in Counter(line["output"] for line in lines).values())
