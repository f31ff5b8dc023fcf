"""Folders → the pictures in them, at any depth, in an order that stays.

Names that begin with a dot are left out (`.git`, `.thumbnails`, macOS's `._a.jpg`). Links to folders are followed, each
folder is entered once whatever leads to it, and its own place comes before links to it. A pattern without a slash is
compared with names, one with a slash with the path below the given folder, in which `*` stands for slashes too.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from invert.errors import InputError
from invert.images import ENDINGS

Identity = tuple[int, int]  # of a file: size, and modification time in nanoseconds


@dataclass(frozen=True, slots=True)
class Picture:
    """key: its path from the folder where the run keeps its state, with slashes. path: where it is opened."""

    key: str
    path: str

    @property
    def can_be_told(self) -> bool:
        """Whether its name is text: a file system's bytes may be no UTF-8, and then JSON has no word for them."""
        return not any("\udc80" <= character <= "\udcff" for character in self.key)


@dataclass(frozen=True)
class Patterns:
    """Which pictures are wanted; none in `include` means all."""

    include: Sequence[str] = ()
    exclude: Sequence[str] = ()

    def wants(self, relative: str) -> bool:
        """Whether a picture at this path below its folder is."""
        return not self.excludes(relative) and (not self.include or any(matches(relative, p) for p in self.include))

    def excludes(self, relative: str) -> bool:
        """Whether a folder or picture is left out with all that is in it."""
        return any(matches(relative, pattern) for pattern in self.exclude)


def matches(relative: str, pattern: str) -> bool:
    """Whether the name, or the path where the pattern has a slash, is one of the pattern's."""
    pattern = pattern.strip("/") if pattern.endswith("/") else pattern
    return fnmatchcase(relative if "/" in pattern else relative.rpartition("/")[2], pattern.removeprefix("./"))


def find_pictures(
    roots: Sequence[str], patterns: Patterns, tell: Callable[[InputError], object], home: str | Path | None = None
) -> list[Picture]:
    """The pictures in the folders, sorted by path.

    In a folder every name counts, that of a link too: it may want a caption of its own. A picture that is given by its
    name counts once, under the name that it has in a folder that is given too, else under the first one given.

    Args:
        roots: folders, or single pictures.
        patterns: which of them are wanted; single pictures are compared by name.
        tell: takes what is wrong with a folder below a root; the others are still searched.
        home: the folder that keys are relative to, so that they stay when other roots are added; None for `home_of` the roots.

    Raises:
        InputError: a root does not exist, or nothing is found.
    """
    for root in roots:
        if not root or not os.path.exists(root):
            raise InputError(f"{root or 'the empty path'} does not exist: give folders of images")
    home = os.path.realpath(home_of(roots) if home is None else home)
    found: dict[str, str] = {}
    entered: set[tuple[int, int]] = set()
    for root in filter(os.path.isdir, roots):
        for path in in_folder(root, patterns, entered, tell):
            found.setdefault(_key(path, root, home), path)
    given = [root for root in roots if not os.path.isdir(root) and patterns.wants(os.path.basename(root))]
    there = {os.path.realpath(path) for path in found.values()} if given else set()
    for path in given:
        real = os.path.realpath(path)
        if real not in there:
            there.add(real)
            found[_key(path, home_of([path]), home)] = path
    if not found:
        wanted = " that the patterns want" if patterns.include or patterns.exclude else ""
        raise InputError(f"there are no images{wanted} in {', '.join(roots)}: give a folder that holds some")
    return [Picture(key, found[key]) for key in sorted(found, key=lambda key: os.path.normpath(os.path.join(home, key)))]


def _key(path: str, folder: str, home: str) -> str:
    """A path from `home`; links above its folder are followed, so that other ways to it give the same."""
    return os.path.relpath(os.path.join(os.path.realpath(folder), os.path.relpath(path, folder)), home).replace(os.sep, "/")


def home_of(roots: Sequence[str]) -> str:
    """Where a run keeps its state without an `out`: the first folder, or that of the first picture."""
    first = roots[0] if roots else "."
    return first if os.path.isdir(first) else os.path.dirname(first) or "."


def in_folder(
    root: str, patterns: Patterns, entered: set[tuple[int, int]], tell: Callable[[InputError], object]
) -> Iterator[str]:
    """Paths of the pictures below a root; `entered` holds device and inode of folders that were searched already."""
    waiting, links = [root], list[str]()
    while waiting or links:
        folder = waiting.pop() if waiting else links.pop(0)  # links last: a folder's own place comes first
        try:
            status = os.stat(folder)
            if (status.st_dev, status.st_ino) in entered:
                continue
            entered.add((status.st_dev, status.st_ino))
            with os.scandir(folder) as entries:
                inside = sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda entry: entry.name)
        except OSError as error:
            tell(InputError(f"{folder} cannot be listed: {error.strerror}; its images are left out"))
            continue
        for entry in inside:
            relative = os.path.relpath(entry.path, root).replace(os.sep, "/")
            if is_folder(entry):
                if not patterns.excludes(relative):
                    (links if entry.is_symlink() else waiting).append(entry.path)
            elif os.path.splitext(entry.name)[1].lower() in ENDINGS and patterns.wants(relative) and is_regular(entry):
                yield entry.path


def is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a loop of links
        return False


def is_regular(entry: os.DirEntry[str]) -> bool:
    """Whether it is a file, or a link that leads nowhere, which is told; a pipe would be waited for."""
    try:
        return stat.S_ISREG(entry.stat().st_mode)
    except OSError:
        return True


def identity(path: str) -> Identity:
    """Size and modification time in nanoseconds: what tells whether a picture is still the one that was read."""
    status = os.stat(path)
    return status.st_size, status.st_mtime_ns


def batches(pictures: Sequence[Picture], wanted: Iterable[int], size: int) -> Iterator[list[Picture]]:
    """The wanted pictures by index, those of each `size` places of the whole sequence together.

    A run that was stopped puts the same pictures together again, so that no rounding differs.
    """
    batch: list[int] = []
    for index in wanted:
        if batch and index // size != batch[0] // size:
            yield [pictures[i] for i in batch]
            batch = []
        batch.append(index)
    if batch:
        yield [pictures[i] for i in batch]
