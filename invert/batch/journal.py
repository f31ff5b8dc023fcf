"""What a run has finished, kept line by line so that a killed run goes on where it was.

A line is a JSON object, appended and flushed to the disk whole: the run's options, the rows of one batch, what is about
to be written beside its pictures, and that this was written. A line that was cut off counts as not there. In memory
stays only where each picture's row begins.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from invert.batch.find import Identity
from invert.errors import InputError

try:
    import fcntl
except ImportError:  # not on Windows, where nothing keeps two runs apart
    fcntl = None  # type: ignore[assignment]

FORMAT = 2  # of the lines; another one is refused
ALL = "*"  # claimed: every output


@dataclass(slots=True)
class Entry:
    """Where a picture's row is, the identity that the picture then had, and whether the row is an error."""

    offset: int
    identity: Identity
    failed: bool


class Journal:
    """The lines of one run, open for more; a context manager.

    Attributes:
        entries: key → its newest row.
        delivered: key → name of the file beside it, of what was written as it is asked for now.
        pending: key → (name, digest before), of what a killed run was about to write.
        claimed: outputs beside the journal that are the run's own.
        names: key → name of the caption that the picture has had; neither is forgotten by a restart.
    """

    def __init__(
        self,
        path: Path,
        options: Mapping[str, Any],
        how: str = "",
        restart: bool = False,
        check: Callable[[Collection[str]], object] = lambda claimed: None,
    ) -> None:
        """Open or begin a journal.

        Args:
            path: the file; its folder exists.
            options: what the rows depend on, as plain JSON types.
            how: what is written beside pictures, and how; "" where nothing is.
            restart: forget what is there.
            check: is given what an earlier run has claimed, before anything is written or forgotten; it may raise.

        Raises:
            InputError: it was begun with other options, another run holds it, or it cannot be written.
        """
        self.path, self.how = path, how
        self.entries: dict[str, Entry] = {}
        self.delivered: dict[str, str] = {}
        self.pending: dict[str, tuple[str, str]] = {}
        self.claimed: set[str] = set()
        self.names: dict[str, str] = {}
        self._is_told = False  # which options it belongs to
        try:
            self._file: BinaryIO = open(path, "a+b")  # noqa: SIM115
        except OSError as error:
            raise InputError(f"cannot write {path}: {error.strerror}; choose a writable `out`") from error
        try:
            self._lock()
            plain = json.loads(json.dumps(options))
            kept = kept_of(path) if restart else {}
            self._end = 0 if restart else self._load(plain)
            check(set(kept.get("claimed", ())) if restart else self.claimed)
            if self._end == 0:
                self._begin({"invert": FORMAT, "options": plain, **kept})
        except BaseException:
            if os.fstat(self._file.fileno()).st_size == 0:  # of a run that did not begin
                path.unlink(missing_ok=True)
            self._file.close()
            raise

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def _lock(self) -> None:
        if fcntl is None:
            return
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(f"another run works with {self.path}: wait for it, or give another `out`") from error
        except OSError:  # a file system without locks
            pass

    # Reading ----------------------------------------------------------------------------------

    def _begin(self, first: dict[str, Any]) -> None:
        """Write the first line of a new journal, in the place of all that was there."""
        self._file.truncate(0)
        self._end = self._append(first, 0)
        self._take(first, 0, first["options"])

    def _load(self, options: Mapping[str, Any]) -> int:
        """Take in what is there; the offset behind the last whole line."""
        self._file.seek(0)
        end = 0
        for line in self._file:
            if not line.endswith(b"\n"):
                break
            try:
                self._take(json.loads(line), end, options)
            except InputError:
                raise
            except (ValueError, KeyError, TypeError, AttributeError):  # a damaged line: its pictures are computed again
                pass
            end += len(line)
        if end and not self._is_told:
            raise InputError(
                f"{self.path} is damaged, and tells no options that it was made with: add `restart`, or give another `out`"
            )
        self._file.truncate(end)
        return end

    def _take(self, line: dict[str, Any], offset: int, options: Mapping[str, Any]) -> None:
        if "options" in line:
            self._compare(line, options)
            self._is_told = True
        self.claimed.update(line.get("claimed", ()))
        for row in line.get("rows", ()):
            self._index(row, offset)
        self.names.update(names_in(line))
        if line.get("how") == self.how:
            self.pending = {key: (name, before) for key, (name, before) in line["before"].items()}
        elif "how" in line:
            self.pending = {}
            for key in line["before"]:  # from now on it is there otherwise than as it is asked for now
                self.delivered.pop(key, None)
        if "written" in line:
            self._confirm(line["written"], line.get("left", ()))

    def _compare(self, line: dict[str, Any], options: Mapping[str, Any]) -> None:
        if line["invert"] != FORMAT:
            age = "a newer" if line["invert"] > FORMAT else "an older"
            raise InputError(f"{self.path} was written by {age} version of this program: add `restart`, or give another `out`")
        old = line["options"]
        changed = [
            f"`{name}` was {shortened(old.get(name))} and is {shortened(options.get(name))}"
            for name in {**old, **options}
            if old.get(name) != options.get(name)
        ]
        if changed:
            raise InputError(
                f"{self.path} belongs to a run with other options ({'; '.join(changed)}): "
                "repeat them, add `restart` to begin again, or give another `out`"
            )

    def _index(self, row: dict[str, Any], offset: int) -> None:
        key = row["key"]
        self.entries[key] = Entry(offset, (row["size"], row["mtime"]), "error" in row)
        self.delivered.pop(key, None)

    def _confirm(self, changed: Mapping[str, Sequence[int]], left: Collection[str]) -> None:
        """What was pending is written but for what is left; changed: key → identity of pictures that were rewritten."""
        self.delivered.update({key: name for key, (name, _) in self.pending.items() if key not in left})
        self.pending = {}
        for key, (size, mtime) in changed.items():
            self.entries[key].identity = (size, mtime)

    def rows(self, keys: Sequence[str]) -> Iterator[dict[str, Any]]:
        """The newest rows of those of the keys that have one; keys of one batch together are read once."""
        offset, batch = -1, {}
        for key in keys:
            if (entry := self.entries.get(key)) is None:
                continue
            if entry.offset != offset:
                offset, batch = entry.offset, self._batch(entry.offset)
            yield batch[key]

    def _batch(self, offset: int) -> dict[str, dict[str, Any]]:
        self._file.seek(offset)
        return {row["key"]: row for row in json.loads(self._file.readline())["rows"]}

    # Writing ----------------------------------------------------------------------------------

    def add(self, rows: Sequence[dict[str, Any]]) -> None:
        """Keep the rows of a batch, each with "key", "size", "mtime"."""
        offset = self._end
        self._end = self._append({"rows": list(rows)}, offset)
        for row in rows:
            self._index(row, offset)

    def claim(self, names: Sequence[str]) -> None:
        """Take outputs beside the journal for the run's own from now on."""
        new = [name for name in names if name not in self.claimed]
        if new:
            self._end = self._append({"claimed": new}, self._end)
            self.claimed.update(new)

    def intend(self, before: Mapping[str, tuple[str, str]]) -> None:
        """Before files are written beside pictures: key → their names and the digests of what is there now."""
        line = {"how": self.how, "before": before}
        self._end = self._append(line, self._end)
        self.names.update(names_in(line))
        self.pending = dict(before)

    def confirm(self, changed: Mapping[str, Identity], left: Collection[str] = ()) -> None:
        """They are written. changed: identities of pictures that were rewritten with their metadata. left: to be tried again."""
        self._end = self._append({"written": changed, **({"left": list(left)} if left else {})}, self._end)
        self._confirm(changed, left)

    def _append(self, line: Mapping[str, Any], end: int) -> int:
        """Write one line behind `end`, where a line that was cut off may lie; the offset behind it."""
        content = json.dumps(line).encode() + b"\n"  # ASCII: file names that are no UTF-8 stay what they are
        try:
            self._file.truncate(end)
            self._file.write(content)
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            with contextlib.suppress(OSError):
                self._file.truncate(end)
            raise InputError(f"cannot write {self.path}: {error.strerror}; what was done before is kept") from error
        return end + len(content)


def names_in(line: Mapping[str, Any]) -> dict[str, str]:
    """Key → name of the caption, as a line has them."""
    before = {key: name for key, (name, _) in line.get("before", {}).items() if name}
    return {**line.get("names", {}), **before}


def kept_of(path: Path) -> dict[str, Any]:
    """What a journal says of the outputs that are its run's own and of captions' names, whatever else it says.

    One of an older format names none: there all are its own.
    """
    claimed: list[str] = []
    names: dict[str, str] = {}
    with contextlib.suppress(OSError), open(path, "rb") as file:
        for text in file:
            with contextlib.suppress(ValueError, AttributeError, TypeError):
                line = json.loads(text)
                claimed += [ALL] if line.get("invert", FORMAT) < FORMAT else line.get("claimed", [])
                names |= names_in(line)
    return {"claimed": sorted(set(claimed)), "names": names} if claimed or names else {}


def shortened(value: object, most: int = 60) -> str:
    """A value for a sentence."""
    text = repr(value)
    return text if len(text) <= most else f"{text[:most]}…"
