"""What a run removes at its end: results of an earlier state of its input, and what killed runs left behind.

Only what was there before the run looked at its input is of an earlier state: what comes later may be by another run, which
has seen a newer one. A result goes when what takes its place is there: that of the same number, or, where the source has
shrunk and there is none, those of all its shards.
"""

from __future__ import annotations

import contextlib
import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from invert.batch.locks import acquire
from invert.batch.shards import ENDING, LIST_ENDING, Shard
from invert.batch.sources import LOCKS, MISSING, PLAN_FOLDER, shard_name, source_of
from invert.batch.work import Job, tidy


def written_in(out: Path) -> list[Path]:
    """The results and the lists of pictures in a folder."""
    return [*_files(out, ENDING), *_files(out / PLAN_FOLDER, LIST_ENDING), *_files(out / MISSING, LIST_ENDING)]


def sweep(shards: Sequence[Shard], job: Job, every: Sequence[Shard] | None = None, before: Iterable[Path] | None = None) -> None:
    """Remove what is left of done shards; the folders of locks and lists go where nothing is in them.

    Args:
        shards: of this run.
        job: what they have in common.
        every: those of all parts of the run, where it was one of several.
        before: what was `written_in` the folder before the shards were planned; None for what is there now, where nobody else
            is at work.

    Raises:
        InputError: the folder belongs to another configuration by now; nothing is removed.
    """
    out = Path(job.out)
    with contextlib.suppress(OSError):
        job.check_owner()
        _remove_outdated(shards if every is None else every, job, written_in(out) if before is None else before)
        _remove_locks(shards, job)
    remove_empty(out)


def remove_empty(out: Path) -> None:
    """Remove the folders of locks and of lists, unless something is in them."""
    for name in (LOCKS, PLAN_FOLDER, MISSING):
        with contextlib.suppress(OSError):
            (out / name).rmdir()


def _remove_outdated(every: Iterable[Shard], job: Job, before: Iterable[Path]) -> None:
    """Results and lists of sources that were planned, in whose place others are."""
    of_sources: defaultdict[str, list[Shard]] = defaultdict(list)
    for shard in every:
        of_sources[source_of(shard.name)].append(shard)
    found: defaultdict[str, list[Path]] = defaultdict(list)
    for path in before:
        found[source_of(shard_name(path))].append(path)
    for source in of_sources.keys() & found.keys():
        for path in _replaced(found[source], of_sources[source], job):
            path.unlink(missing_ok=True)


def _replaced(paths: Iterable[Path], shards: Sequence[Shard], job: Job) -> list[Path]:
    """Those of the paths that are not of these shards, which are all of a source, and that these make up for."""
    own = {job.output(shard) for shard in shards} | {job.missing(shard) for shard in shards}
    own |= {Path(shard.listing) for shard in shards if shard.listing}
    others = [path for path in paths if path not in own]
    if not others:
        return []
    done = {shard.name: job.is_done(shard) for shard in shards}
    all_done = all(done.values())
    return [path for path in others if done.get(shard_name(path), all_done)]


def _files(folder: Path, ending: str) -> list[Path]:
    try:
        return [folder / name for name in os.listdir(folder) if name.endswith(ending)]
    except OSError:  # there is none yet, or it cannot be listed, which `claim` will say
        return []


def _remove_locks(shards: Iterable[Shard], job: Job) -> None:
    """Of those who were killed right after they had published."""
    there = set(os.listdir(Path(job.out) / LOCKS))
    for shard in shards:
        name = f"{job.output(shard).name}.lock"
        if name not in there or not job.is_done(shard):
            continue
        lock = acquire(Path(job.out) / LOCKS / name)
        if lock is not None:
            with lock:
                tidy(shard, job)
