"""One shard → one Parquet file: the pure function that every engine runs, and the lock and the log around it.

A picture that cannot be read or inverted is a row with its error. What is wrong with the machine (memory, a card, a full
disk) is no picture's fault: the shard then has no output, and is done again by the next run. Where pictures that a Parquet
file names by path were missing, it is done again once one of them can be read.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import socket
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from invert.batch import missing
from invert.batch.locks import Lock, acquire, publish
from invert.batch.parquet import ColumnError, rows_of, to_parquet
from invert.batch.readers import Columns, read_shard
from invert.batch.samples import Sample
from invert.batch.shards import LIST_ENDING, Shard, digest
from invert.batch.sources import LOCKS, LOGS, MISSING, RUN_FILE
from invert.batch.tiers import Found
from invert.errors import InputError

if TYPE_CHECKING:
    from PIL import Image

DONE, HELD, FAILED, STOPPED = "done", "held", "failed", "stopped"
TYPES = {
    "key": "string",
    "prompt": "string",
    "score": "float32",
    "tier": "int8",
    "token_passes": "int64",
    "error": "string",
    "source": "string",
    "doubt": "string",
}
ERROR, TIER = list(TYPES).index("error"), list(TYPES).index("tier")
SWEPT = 5  # times that the folder of locks may vanish under a run, as other runs end
DIGITS = 5  # of a score: further ones depend on the processor


class Solver(Protocol):
    """A loaded model with all that it needs; `invert.batch.tiers.Tiers` is one. batch: pictures that it takes at a time."""

    batch: int

    def prepare(self, image: Image.Image) -> Any:
        """What is kept of a picture until its batch's turn. Runs in several threads."""

    def __call__(self, prepared: Sequence[Any]) -> Sequence[Found | Exception]:
        """The prompt of each picture, or why there is none; depends on the pictures alone."""


@dataclass(frozen=True)
class Job:
    """What all shards of a run have in common. config: digest of all that changes a row."""

    out: str
    config: str
    decoders: int = 2  # threads that decode pictures meanwhile
    columns: Columns = field(default_factory=Columns)

    def output(self, shard: Shard) -> Path:
        return Path(self.out) / shard.output(self.config)

    def missing(self, shard: Shard) -> Path:
        """The list of pictures that its output lacks, where there are some."""
        return Path(self.out) / MISSING / f"{self.output(shard).stem}{LIST_ENDING}"

    def is_done(self, shard: Shard) -> bool:
        """Whether its output is there, and lacks no picture that can be read by now."""
        return self.output(shard).exists() and not (shard.kind == "parquet" and missing.has_come(self.missing(shard)))

    def check_owner(self) -> None:
        """InputError where a run of another configuration has taken the folder over: this one slept, or lost its lock."""
        try:
            owner = json.loads((Path(self.out) / RUN_FILE).read_text())
        except (FileNotFoundError, ValueError):  # nobody has claimed it
            return
        if digest(owner) != self.config:
            raise InputError(f"{self.out} was taken over by a run of another configuration meanwhile: give another `out`")


@dataclass(frozen=True)
class Report:
    """What became of a shard. seconds, host: of the run that did it; they are in no Parquet file."""

    shard: str
    status: str  # DONE; HELD by another process; FAILED; STOPPED, which no other shard would escape
    message: str = ""
    pictures: int = 0
    errors: int = 0
    tiers: dict[str, int] = field(default_factory=dict)
    token_passes: int = 0
    bytes_read: int = 0
    bytes_written: int = 0
    seconds: float = 0.0
    host: str = ""


def attempt(shard: Shard, solver: Solver, job: Job) -> Report:
    """`run_shard`, with everything that may go wrong as a report."""
    began = time.perf_counter()
    try:
        return run_shard(shard, solver, job)
    except InputError as error:
        return _timed(Report(shard.name, STOPPED, str(error)), began)
    except Exception as error:
        return _timed(Report(shard.name, FAILED, f"internal error in {shard.name}: {type(error).__name__}: {error}"), began)


def run_shard(shard: Shard, solver: Solver, job: Job) -> Report:
    """Do a shard that nobody has done or is doing.

    Raises:
        InputError: the output folder takes nothing more, or a column is not there: no other shard can be done either.
    """
    with _writing(job):
        lock = locked(Path(job.out) / LOCKS / f"{job.output(shard).name}.lock")
    if lock is None:
        return Report(shard.name, HELD)
    with lock:
        report = Report(shard.name, DONE) if job.is_done(shard) else _solved(shard, solver, job, lock)
        if report.status == DONE:
            tidy(shard, job)
        return report


def locked(path: Path) -> Lock | None:
    """The lock, its folder made anew where a run that has just ended removed it."""
    for _ in range(SWEPT):
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            return acquire(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    return acquire(path)


@contextlib.contextmanager
def _writing(job: Job) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"cannot write into {job.out}: {reason}; what is done stays: mend it and start again") from error


def solve_shard(
    shard: Shard, solver: Solver, job: Job, earlier: Sequence[tuple[Any, ...]] = ()
) -> tuple[bytes, Report, list[str]]:
    """The shard's Parquet file, what it took, and the paths of pictures that it names and that cannot be read.

    A pure function of its input, the model and the configuration.

    Args:
        earlier: rows of an earlier output, of which those stay whose pictures have gone since.
    """
    began = time.perf_counter()
    rows: list[tuple[Any, ...]] = []
    size = tokens = 0
    lacking: list[str] = []
    for sample, found in answered(read_shard(shard, job.columns), solver, job.decoders):
        size += len(sample.content)
        tokens += 0 if isinstance(found, str) else found.token_passes
        known = earlier[len(rows)] if sample.missing and earlier else None
        if known is None or known[ERROR] is not None:
            lacking += [sample.missing] if sample.missing else []
            known = _row(sample.key, found, shard)
        rows.append(known)
    tiers = Counter(str(row[TIER]) for row in rows if row[ERROR] is None)
    columns = dict(zip(TYPES, zip(*rows, strict=True), strict=True)) if rows else dict.fromkeys(TYPES, ())
    content = to_parquet(columns, TYPES, {"invert": job.config})
    report = Report(shard.name, DONE, "", len(rows), len(rows) - tiers.total(), dict(tiers), tokens, size, len(content))
    return content, _timed(report, began), lacking


def _row(key: str, found: Found | str, shard: Shard) -> tuple[Any, ...]:
    """The values of TYPES, of a prompt or of what is wrong."""
    if isinstance(found, str):
        return valid(key), "", None, 0, 0, valid(found), valid(shard.source), None
    numbers = round(found.score, DIGITS), found.tier, found.token_passes
    return valid(key), valid(found.prompt), *numbers, None, valid(shard.source), found.doubt or None


def answered(samples: Iterable[Sample], solver: Solver, decoders: int) -> Iterator[tuple[Sample, Found | str]]:
    """Every sample with its prompt, or with what is wrong, in their order. While a batch is inverted, the next is decoded."""
    answers = Answers(solver)
    with ThreadPoolExecutor(decoders) as pool:
        ahead: list[tuple[Sample, Future[Any]]] = []
        for batch in _batched(samples, solver.batch):
            decoding = [(sample, pool.submit(_prepared, sample, solver)) for sample in batch]
            yield from answers.of(ahead)
            ahead = decoding
        yield from answers.of(ahead)


def _prepared(sample: Sample, solver: Solver) -> Any:
    """The picture of a sample as the solver takes it, or a sentence on what is wrong with it."""
    if sample.error:
        return sample.error
    from invert.images import load_image  # with it come decoders, a slow import that `invert shards --help` can do without

    try:
        return solver.prepare(load_image(sample.content, name=sample.key))
    except InputError as error:
        return str(error)


class Answers:
    """What a solver says, batch by batch; tells a picture that fails from a machine that does."""

    def __init__(self, solver: Solver) -> None:
        self.solver = solver
        self.witness: Any = None  # a picture that went well

    def of(self, batch: Sequence[tuple[Sample, Future[Any]]]) -> Iterator[tuple[Sample, Found | str]]:
        found = [future.result() for _, future in batch]
        sound = [i for i, one in enumerate(found) if not isinstance(one, str)]
        prepared = [found[i] for i in sound]
        solved = self.solver(prepared) if prepared else []
        self.witness = next((p for p, one in zip(prepared, solved, strict=True) if isinstance(one, Found)), self.witness)
        unexpected = next((one for one in solved if isinstance(one, Exception) and not isinstance(one, InputError)), None)
        if unexpected is not None and not self.is_well():
            raise unexpected
        for i, one in zip(sound, solved, strict=True):
            found[i] = _sentence(batch[i][0].key, one) if isinstance(one, Exception) else one
        for (sample, _), one in zip(batch, found, strict=True):
            yield sample, one

    def is_well(self) -> bool:
        """Whether a picture that went well still does."""
        return self.witness is not None and isinstance(self.solver([self.witness])[0], Found)


def _sentence(key: str, error: Exception) -> str:
    return str(error) if isinstance(error, InputError) else f"{key} cannot be inverted: {type(error).__name__}: {error}"


def _solved(shard: Shard, solver: Solver, job: Job, lock: Lock) -> Report:
    """Compute and publish a shard under its lock."""
    began = time.perf_counter()
    try:
        change = shard.change()
        if not change:
            content, report, lacking = solve_shard(shard, solver, job, rows_of(job.output(shard), TYPES))
            change = "" if shard.kind == "folder" else shard.change()  # of a folder each picture was compared as it was read
    except ColumnError:
        raise
    except InputError as error:
        change = str(error)
    if change:
        return _timed(Report(shard.name, FAILED, change), began)
    with _writing(job):
        job.check_owner()
        if not lock.held or not _publish(shard, job, content, lacking, lock):
            return _timed(Report(shard.name, HELD), began)
        _log(report, shard, job)
    return report


def _publish(shard: Shard, job: Job, content: bytes, lacking: Sequence[str], lock: Lock) -> bool:
    """Write the output and the list of what it lacks; False where another writer did.

    Whoever is killed between the two leaves the longer list: pictures are looked at once more, and none is forgotten.
    """
    if job.output(shard).exists():  # of the pictures that it lacked, some have come
        _write(job.output(shard), content, lock, again=True)
        missing.keep(job.missing(shard), lacking)
        return True
    if lacking:
        missing.keep(job.missing(shard), lacking)
    return _write(job.output(shard), content, lock)


def _write(final: Path, content: bytes, lock: Lock, again: bool = False) -> bool:
    """Write whole or not at all: under another name, flushed to the disk, then renamed; False where it was there.

    again: in the place of what is there.
    """
    partial = lock.path.with_suffix(f".{lock.owner.token}.partial")
    try:
        with open(partial, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if again:
            os.replace(partial, final)
        written = again or publish(partial, final)
        _flush_folder(final.parent)
        return written
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


def _flush_folder(folder: Path) -> None:
    """So that the new name, too, outlives a loss of power; not every system allows it."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def tidy(shard: Shard, job: Job) -> None:
    """Remove what a done shard no longer needs: its list of pictures, and partial files of those who died over it."""
    partials = (Path(job.out) / LOCKS).glob(f"{job.output(shard).name}.*.partial")
    for path in (*partials, *([Path(shard.listing)] if shard.listing else [])):
        with contextlib.suppress(OSError):
            path.unlink()


def _log(report: Report, shard: Shard, job: Job) -> None:
    """A line of what a shard took, in a file of this process's own; nothing reads it back."""
    folder = Path(job.out) / LOGS
    folder.mkdir(exist_ok=True)
    with open(folder / f"{socket.gethostname()}-{os.getpid()}.jsonl", "a") as file:
        file.write(json.dumps({"output": shard.output(job.config), **asdict(report)}) + "\n")


def _timed(report: Report, began: float) -> Report:
    values = asdict(report) | {"seconds": round(time.perf_counter() - began, 3), "host": socket.gethostname()}
    return Report(**values)


def valid(value: object) -> object:
    """Text that UTF-8 can hold: file names need not be text."""
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value


def _batched(samples: Iterable[Sample], n: int) -> Iterator[tuple[Sample, ...]]:
    iterator = iter(samples)
    while batch := tuple(itertools.islice(iterator, n)):
        yield batch
