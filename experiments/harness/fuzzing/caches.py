"""States of the cache: whatever lies there, the arrays are those that would be computed, and nothing is raised."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import numpy as np

from experiments.harness.fuzzing.verdicts import Case, Part, watch
from invert import cache
from invert.errors import InputError

Arrays = dict[str, np.ndarray]
NAME = "table"


def run(count: int, seed: int) -> Part:
    """The verdict on that many states."""
    with tempfile.TemporaryDirectory() as folder:
        return watch("caches", seed, cases(count, seed, Path(folder)), seconds=10)


def cases(count: int, seed: int, folder: Path) -> Iterator[Case]:
    for i in range(count):
        rng = np.random.default_rng((seed, i))
        yield state(rng, f"{seed}/{i}", folder / str(i))


def state(rng: np.random.Generator, name: str, folder: Path) -> Case:
    """A folder in some state, read twice: both times the right arrays."""
    right: Arrays = {"rows": rng.standard_normal((20, 8)).astype(np.float32), "order": rng.permutation(20)}
    kind = KINDS[rng.integers(len(KINDS))]
    environment = prepared(kind, rng, folder, right)

    def read() -> list[Arrays]:
        with mock.patch.dict(os.environ, environment), mock.patch.object(cache, "note_unwritable"):
            return [cache.cached_arrays(NAME, right, lambda: dict(right), lambda found: fits(found, right)) for _ in range(2)]

    return Case(
        f"{name} {kind}", read, (InputError,), lambda got: next((why for one in got if (why := differs(one, right))), None)
    )


def fits(found: Arrays, right: Arrays) -> bool:
    """The check that the users of the cache make: shapes and types."""
    return all(found[key].shape == right[key].shape and found[key].dtype == right[key].dtype for key in right)


def differs(found: Arrays, right: Arrays) -> str | None:
    if found.keys() != right.keys():
        return f"arrays {sorted(found)}"
    return next((f"{key} is another" for key in right if not np.array_equal(found[key], right[key])), None)


KINDS = (
    "nothing", "whole", "cut", "zeroed tail", "zeroed head", "zeroed middle", "flipped", "noise", "empty", "other arrays",
    "other shapes", "pickled", "a folder", "a dangling link", "a link in a loop", "a link to a file", "a leftover",
    "a file for the folder", "a folder that cannot be", "no home", "read-only",
)  # fmt: skip


def prepared(kind: str, rng: np.random.Generator, folder: Path, right: Arrays) -> dict[str, str]:
    """Bring the folder into the state; returns the environment to read it in."""
    folder.mkdir(parents=True)
    file = folder / f"{NAME}.npz"
    environment = {"INVERT_CACHE": str(folder)}
    content = bytearray(packed(right))
    first, last = (int(x) for x in np.sort(rng.integers(0, len(content) + 1, 2)))
    if kind in ("whole", "read-only"):
        file.write_bytes(content)
        if kind == "read-only":
            file.chmod(0o400)
            folder.chmod(0o500)
    elif kind == "cut":
        file.write_bytes(content[:first])
    elif kind == "zeroed tail":
        file.write_bytes(content[:first] + bytes(len(content) - first))
    elif kind == "zeroed head":
        file.write_bytes(bytes(first) + content[first:])
    elif kind == "zeroed middle":
        content[first:last] = bytes(last - first)
        file.write_bytes(content)
    elif kind == "flipped":
        content[min(first, len(content) - 1)] ^= 1 << int(rng.integers(8))
        file.write_bytes(content)
    elif kind == "noise":
        file.write_bytes(rng.bytes(int(rng.integers(1, 3000))))
    elif kind == "empty":
        file.touch()
    elif kind == "other arrays":
        file.write_bytes(packed({"rows": right["rows"], "else": right["order"]}))
    elif kind == "other shapes":
        file.write_bytes(packed({"rows": right["rows"][:5], "order": right["order"]}))
    elif kind == "pickled":
        file.write_bytes(packed({"rows": np.array([{"a": 1}, None], object), "order": right["order"]}))
    elif kind == "a folder":
        file.mkdir()
        (file / "inside").touch()
    elif kind == "a dangling link":
        file.symlink_to(folder / "nowhere")
    elif kind == "a link in a loop":
        file.symlink_to(file)
    elif kind == "a link to a file":
        (folder / "target").write_bytes(content[:first])
        file.symlink_to(folder / "target")
    elif kind == "a leftover":
        (folder / f"{NAME}.npz.tmp").write_bytes(content[:first])
    elif kind == "a file for the folder":
        (folder / "file").touch()
        environment = {"INVERT_CACHE": str(folder / "file")}
    elif kind == "a folder that cannot be":
        impossible = ["/proc/none", "/dev/null/x", str(folder / ("x" * 300)), "relative\nfolder", str(folder / "ü [x]")]
        environment = {"INVERT_CACHE": str(impossible[rng.integers(len(impossible))])}
        environment["INVERT_CACHE"] = environment["INVERT_CACHE"].replace("relative", str(folder / "relative"))
    elif kind == "no home":
        environment = {"INVERT_CACHE": "", "XDG_CACHE_HOME": str(rng.choice(["", "relative", str(folder)])), "HOME": "/proc/none"}
    return environment


def packed(arrays: Arrays) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=True, **arrays)
    return buffer.getvalue()
