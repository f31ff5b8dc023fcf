"""What a run is cut into: tars, row groups of Parquet files, and runs of pictures in folders.

A `Shard` names what is read and what it is written to. The output's name hashes the input (path, size, time of its last
change) and the configuration, so that a shard is done when its output is there. Nothing here opens a picture; the pictures
of a folder are listed in a file for each shard, so that the plan of ten million stays small.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from invert.batch.earlier import as_before
from invert.batch.parquet import row_groups
from invert.batch.sources import PLAN_FOLDER, found_in, kind_of, pictures_in
from invert.batch.states import State, change_of, readable_state
from invert.errors import InputError
from invert.files import write_file

SHARD_SIZE = 1000  # pictures of a folder, or rows of a Parquet file, that make a shard
ENDING, LIST_ENDING = ".parquet", ".jsonl"  # of results, and of lists


@dataclass(frozen=True)
class Shard:
    """A part of the input.

    Attributes:
        source: the tar, the Parquet file or the folder, as an absolute path.
        kind: "tar", "parquet" or "folder".
        name: of the output, without what hashes its content and the configuration.
        identity: hash of what is read, as far as the file system tells without reading it.
        groups: of a Parquet file, the row groups first to last, the last not included.
        listing: of a folder, the file that lists the shard's pictures.
    """

    source: str
    kind: str
    name: str
    identity: str
    groups: tuple[int, int] = (0, 0)
    listing: str = ""

    def output(self, config: str) -> str:
        """The name of its output under a configuration's digest."""
        return f"{self.name}-{digest(self.identity, config)[:16]}{ENDING}"

    def listed(self) -> Iterator[tuple[str, State]]:
        """Of a folder, the shard's pictures by their paths in it, each with its state as it was planned.

        Raises:
            InputError: the list has gone.
        """
        try:
            lines = Path(self.listing).read_text().splitlines()
        except OSError as error:
            raise InputError(f"the list {self.listing} has gone: start the run again") from error
        for path, size, changed in map(json.loads, lines):
            yield path, (size, changed)

    def change(self) -> str:
        """A sentence on the first file that is not as it was planned; "" where there is none."""
        if self.kind != "folder":
            is_current = self.identity == _identity(self.source, self.kind, self.groups)
            return "" if is_current else change_of(self.source)
        pictures = ((os.path.join(self.source, path), planned) for path, planned in self.listed())
        return next((change_of(path) for path, planned in pictures if readable_state(path) != planned), "")


def digest(*parts: object) -> str:
    """Hex SHA-256 of values that JSON can tell apart."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


Draft = tuple[Shard, str]  # and what its list of pictures holds, "" where it has none


def plan(
    inputs: Iterable[str],
    out: Path,
    size: int = SHARD_SIZE,
    part: tuple[int, int] = (0, 1),
    done: Callable[[Shard], bool] = lambda shard: False,
    every: list[Shard] | None = None,
) -> list[Shard]:
    """The shards of the inputs, each once, in an order that depends on the inputs alone.

    A source that has results in `out` under another name, by links, keeps that name.

    Args:
        inputs: tars, Parquet files, or folders of tars, of Parquet files or of pictures.
        out: the output folder, where the lists of folders are kept.
        size: pictures or rows of a shard; a tar is one as it is.
        part: (i, n): of every n shards the one at i, counted from 0.
        done: whether nothing is left to do for a shard; it then needs no list.
        every: takes the shards of all parts.

    Raises:
        InputError: an input is not there or holds nothing, or a list cannot be written.
    """
    index, count = part
    drafts = (draft for source, kind in _named_as_before(_sources(inputs), out) for draft in _drafts(source, kind, out, size))
    chosen: list[Shard] = []
    position = -1
    for position, (shard, listed) in enumerate(drafts):
        if every is not None:
            every.append(shard)
        if position % count != index:
            continue
        if listed and not done(shard):
            _keep(Path(shard.listing), listed)
        chosen.append(shard)
    if position < 0:
        raise InputError("there is nothing to do: give tars, Parquet files, or folders that hold pictures")
    return chosen


def _sources(inputs: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Files and folders with their kinds, each once, under the first of the names that lead to it."""
    seen: set[str] = set()
    for given in inputs:
        found = found_in(os.path.abspath(given)) if os.path.isdir(given) else [(os.path.abspath(given), kind_of(given))]
        for source, kind in found:
            real = os.path.realpath(source)
            if real not in seen:
                seen.add(real)
                yield source, kind


def _named_as_before(sources: Iterable[tuple[str, str]], out: Path) -> Iterator[tuple[str, str]]:
    """The same under the names that earlier runs knew them by."""
    found = list(sources)
    names = as_before([(source, _name(source)) for source, _ in found], out)
    return zip(names, (kind for _, kind in found), strict=True)


def _drafts(source: str, kind: str, out: Path, size: int) -> Iterator[Draft]:
    if kind == "folder":
        yield from _of_folder(source, out, size)
        return
    if kind == "tar":
        yield Shard(source, kind, _name(source), _identity(source, kind)), ""
        return
    for groups in row_groups(source, size):
        yield Shard(source, kind, _name(source, groups[0]), _identity(source, kind, groups), groups), ""


def _of_folder(folder: str, out: Path, size: int) -> Iterator[Draft]:
    """Runs of `size` pictures. A picture that comes or goes shifts those after it, which are then done anew."""
    pictures = pictures_in(folder)
    number = 0
    while chunk := list(itertools.islice(pictures, size)):
        listed = "".join(json.dumps([path, *readable_state(os.path.join(folder, path))]) + "\n" for path in chunk)
        name, identity = _name(folder, number), digest(folder, listed)
        listing = out / PLAN_FOLDER / f"{name}-{identity[:16]}{LIST_ENDING}"
        yield Shard(folder, "folder", name, identity, listing=str(listing)), listed
        number += 1


def _identity(source: str, kind: str, groups: tuple[int, int] = (0, 0)) -> str:
    return digest(source, *readable_state(source), *(groups if kind == "parquet" else ()))


def _name(source: str, number: int | None = None) -> str:
    """Readable, and distinct for each path: "00017-5f0c2a1b" or "photos-9d1e44c0-00003"."""
    base = os.path.basename(source)
    if not os.path.isdir(source):
        base = base.split(".")[0]
    readable = re.sub(r"[^A-Za-z0-9._-]+", "_", base).strip("._")[:60] or "shard"
    return f"{readable}-{digest(source)[:8]}{'' if number is None else f'-{number:05d}'}"


def _keep(file: Path, listed: str) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        if not file.exists():
            try:
                write_file(file, listed.encode())
            except FileNotFoundError:  # a run that has just ended removed the folder, which was empty
                file.parent.mkdir(parents=True, exist_ok=True)
                write_file(file, listed.encode())
    except OSError as error:
        raise InputError(f"cannot write {file}: {error.strerror}; choose another `out`") from error


def parse_part(text: str, environment: Mapping[str, str] = os.environ) -> tuple[int, int]:
    """ "2/8" → (1, 8), the second of eight parts; "slurm": what a SLURM array says of this task.

    Raises:
        InputError: it is neither.
    """
    if text.strip().lower() == "slurm":
        return _slurm_part(environment)
    match = re.fullmatch(r"\s*(\d{1,9})\s*/\s*(\d{1,9})\s*", text)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise InputError(f"`shard` is {text!r}: give i/N from 1/N to N/N, such as 3/8, or slurm")
    return int(match[1]) - 1, int(match[2])


def _slurm_part(environment: Mapping[str, str]) -> tuple[int, int]:
    """An array may begin anywhere and take steps: --array=10-40:10 has 4 tasks."""
    prefix = "SLURM_ARRAY_TASK_"
    try:
        task, least, count = (int(environment[prefix + key]) for key in ("ID", "MIN", "COUNT"))
        step = int(environment.get(prefix + "STEP", "1"))
        index = (task - least) // step
    except (KeyError, ValueError, ZeroDivisionError) as error:
        raise InputError(
            "`shard=slurm` reads SLURM_ARRAY_TASK_ID, _MIN and _COUNT: submit with sbatch --array, or give i/N"
        ) from error
    if (task - least) % step or not 0 <= index < count:
        raise InputError(
            f"`shard=slurm`: task {task} is not one of {count} from {least} in steps of {step}: an array with gaps needs i/N"
        )
    return index, count
