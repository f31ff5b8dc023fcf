"""A full disk and a folder that may not be written: the run says so and ends, and goes on when that is mended."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from experiments.harness.faults.verdicts import Verdict, finish, judge, outputs, rows, write_tars

TARS, PICTURES = 12, 40
DISK_KIB = 48  # room for some of the outputs


def full_disk(folder: Path) -> Verdict:
    """A small file system fills up in the middle of a run; then it is made larger."""
    with _disk(folder / "disk") as mounted:
        if not mounted:
            return Verdict(note="not run: only root may mount a small file system")
        verdict, keys = Verdict(runs=2), write_tars(folder / "in", TARS, PICTURES)
        finish(folder / "undisturbed", folder / "in")
        out = folder / "disk" / "out"
        status, said = finish(out, folder / "in")
        verdict.wrong += status != 2 or "No space left on device" not in said or len(said.splitlines()) != 1
        done = len(outputs(out))
        verdict.wrong += not 0 < done < TARS  # the disk filled in the middle
        rows(out, verdict)
        _mount("-o", f"remount,size={100 * DISK_KIB}k", str(folder / "disk"))
        verdict.wrong += finish(out, folder / "in")[0] != 0
        judge(out, keys, outputs(folder / "undisturbed"), verdict)
        verdict.note = f"full after {done} of {TARS} shards"
        return verdict


def read_only(folder: Path) -> Verdict:
    """The output folder becomes read-only after some shards."""
    with _disk(folder / "disk", 100 * DISK_KIB) as mounted:
        if not mounted and os.geteuid() == 0:
            return Verdict(note="not run: root may not mount here, and rights do not bind it")
        verdict, keys = Verdict(runs=2), write_tars(folder / "in", TARS, PICTURES)
        finish(folder / "undisturbed", folder / "in")
        out = folder / "disk" / "out"
        tars = sorted((folder / "in").iterdir())
        finish(out, *tars[:5])
        before = outputs(out)
        _lock(folder / "disk", out, mounted)
        status, said = finish(out, folder / "in")
        verdict.wrong += status != 2 or "cannot write" not in said or len(said.splitlines()) != 1
        verdict.wrong += outputs(out) != before
        _unlock(folder / "disk", out, mounted)
        verdict.wrong += finish(out, folder / "in")[0] != 0
        judge(out, keys, outputs(folder / "undisturbed"), verdict)
        return verdict


@contextlib.contextmanager
def _disk(folder: Path, kib: int = DISK_KIB) -> Iterator[bool]:
    """A file system of that size at the folder; whether it could be had."""
    folder.mkdir(parents=True)
    mounted = _mount("-t", "tmpfs", "-o", f"size={kib}k", "tmpfs", str(folder))
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", str(folder)], check=True)


def _mount(*words: str) -> bool:
    return subprocess.run(["mount", *words], capture_output=True, check=False).returncode == 0


def _lock(disk: Path, out: Path, mounted: bool) -> None:
    if mounted:
        _mount("-o", "remount,ro", str(disk))
    else:
        for path in (out, *(path for path in out.iterdir() if path.is_dir())):
            path.chmod(0o555)


def _unlock(disk: Path, out: Path, mounted: bool) -> None:
    if mounted:
        _mount("-o", "remount,rw", str(disk))
    else:
        for path in (out, *(path for path in out.iterdir() if path.is_dir())):
            path.chmod(0o755)
