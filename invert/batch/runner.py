"""A folder of pictures through a mapper, stopped and started as often as it likes: read ahead, map, keep, deliver.

The tables are made of the journal alone, in the order of the pictures, so that they are the same bytes whether the run
was killed or not. Loading the model is left until a picture needs it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

from invert.batch.delivery import Delivery, Wanted
from invert.batch.find import Identity, Picture, batches, identity
from invert.batch.gallery import write_gallery
from invert.batch.journal import Journal
from invert.batch.outputs import ERRORS, table_row, write_errors, write_tables
from invert.batch.reading import Read, Reader, read_ahead
from invert.batch.tiers import Found, rounded
from invert.errors import InputError

STATE = ".invert"  # folder of a run's own files
GALLERY = "gallery"
DELIVERED = 64  # pictures whose prompts are written between two lines of the journal, where nothing is computed
Row = dict[str, Any]
real = lru_cache(maxsize=4096)(os.path.realpath)  # of folders: each holds many pictures


class Mapper(Protocol):
    """Pictures → prompts, a batch at a time; `invert.batch.tiers.Tiers` is one."""

    batch: int

    def prepare(self, image: Any) -> Any:
        """What is kept of a picture until its batch's turn; called in another thread."""

    def __call__(self, prepared: Sequence[Any]) -> list[Found | Exception]:
        """A prompt, or why there is none, for each."""


@dataclass(frozen=True)
class RunSettings:
    """What a run writes and where.

    Attributes:
        out: folder of the tables; None where only captions or metadata are written.
        state: folder of the journal.
        formats: names in `invert.batch.outputs.FORMATS`.
        report: whether a gallery is written.
        wanted: what is written beside and into pictures.
        embedded: what becomes of prompts that pictures carry: use, show or ignore.
    """

    out: Path | None
    state: Path
    formats: Sequence[str] = ("metadata",)
    report: bool = False
    wanted: Wanted = field(default_factory=Wanted)
    embedded: str = "show"

    @property
    def errors(self) -> Path:
        return (self.state if self.out is None else self.out) / ERRORS


class Observer:
    """Hears how a run goes; this one says nothing."""

    def begin(self, total: int, done: int) -> None:
        """total: pictures. done: by earlier runs."""

    def advance(self, done: int, failed: int) -> None:
        """Pictures since the last call."""

    def describe(self, error: Exception, picture: Picture) -> str:
        """An error as one sentence."""
        return str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"


@dataclass
class Summary:
    """What a run came to, in pictures.

    Attributes:
        done: with a prompt, those of earlier runs among them.
        earlier: found done.
        failed: bad ones.
        skipped: captioned before there was a run, and not computed.
        left: computed, with a caption or prompt of their own that stayed.
        refused: whose metadata could not be written, and the first one's reason.
        doubted: computed now, though the model may not know what they show.
        others: of earlier runs into the same tables, still there, and not among the pictures of this one.
    """

    total: int
    done: int = 0
    earlier: int = 0
    failed: int = 0
    skipped: int = 0
    left: int = 0
    refused: tuple[int, str] = (0, "")
    doubted: int = 0
    others: int = 0


class Run:
    """One run over the pictures of some folders."""

    def __init__(
        self,
        pictures: Sequence[Picture],
        journal: Journal,
        settings: RunSettings,
        load: Callable[[], Mapper],
        observer: Observer | None = None,
    ) -> None:
        """pictures: in order. journal: open. load: gives the mapper, called at most once. observer: hears of it."""
        self.pictures, self.journal, self.settings, self.load = pictures, journal, settings, load
        self.observer = observer or Observer()
        self.by_key = {picture.key: picture for picture in pictures}
        self.delivery = Delivery(settings.wanted, journal, pictures)
        self.summary = Summary(len(pictures))
        self.tables_wanted = settings.out is not None

    def run(self) -> Summary:
        """Do what is left to do and write the tables, also where it is interrupted meanwhile.

        Raises:
            InputError: an output cannot be written.
            KeyboardInterrupt: as it came, after the tables of what is done.
        """
        try:
            self.delivery.repair(self.by_key)
            todo = self.todo()
            self.observer.begin(len(self.pictures), len(self.pictures) - len(todo))
            self.deliver_old(set(todo))
            if todo:
                self.work(todo)
        except KeyboardInterrupt:
            self.write()
            raise
        self.write()
        return self.summary

    def todo(self) -> list[int]:
        """Indices of pictures without a row of what they are now, bad ones that may be better now among them."""
        left = []
        only_captions = not self.tables_wanted and not self.settings.wanted.metadata
        for index, picture in enumerate(self.pictures):
            entry = self.journal.entries.get(picture.key)
            if entry is not None and self.same(picture, entry.identity) and not (entry.failed and self.may_be_mended(picture)):
                self.summary.earlier += not entry.failed
            elif only_captions and self.delivery.is_skipped(picture):
                self.summary.skipped += 1
            else:
                left.append(index)
        return left

    def may_be_mended(self, picture: Picture) -> bool:
        """Whether a bad picture's file, unchanged, fails otherwise than before or not at all; found without the model."""
        read = Reader(lambda image: None, looks_inside=False)(picture)
        known = next(self.journal.rows([picture.key]))["error"]
        return read.error is None or self.observer.describe(read.error, picture) != known

    def same(self, picture: Picture, known: Identity) -> bool:
        try:
            return identity(picture.path) == known
        except OSError:
            return False

    def deliver_old(self, todo: set[int]) -> None:
        """Write what is wanted now of rows that an earlier run computed for something else."""
        if not self.settings.wanted.how:
            return
        old = [
            index
            for index, picture in enumerate(self.pictures)
            if index not in todo and picture.key in self.journal.entries and not self.delivery.is_delivered(picture)
        ]
        for batch in batches(self.pictures, old, DELIVERED):
            self.delivery.write(list(self.journal.rows([picture.key for picture in batch])), self.by_key)

    def work(self, todo: Sequence[int]) -> None:
        mapper = self.load()
        reader = Reader(mapper.prepare, self.settings.embedded != "ignore", self.settings.embedded == "use")
        with closing(read_ahead(batches(self.pictures, todo, mapper.batch), reader)) as ready:
            for batch in ready:
                rows = self.rows_of([self.checked(read) for read in batch], mapper)
                new = [row for row in rows if not self.is_known_error(row)]
                if new:
                    self.journal.add(new)
                self.delivery.write(new, self.by_key)
                self.observer.advance(len(rows), sum("error" in row for row in rows))

    def checked(self, read: Read) -> Read:
        """The same, as an error where no table could name the picture."""
        if not self.tables_wanted or read.picture.can_be_told:
            return read
        return replace(read, error=InputError(f"the name of {read.picture.path} is no UTF-8, which no table can hold: rename it"))

    def rows_of(self, batch: Sequence[Read], mapper: Mapper) -> list[Row]:
        """A row for each picture, from the mapper or from what it carries."""
        mapped = [read for read in batch if read.error is None and not self.is_used(read)]
        found = iter(mapper([read.prepared for read in mapped]) if mapped else [])
        return [self.row(read, read.error or (carried(read) if self.is_used(read) else next(found))) for read in batch]

    def is_used(self, read: Read) -> bool:
        """Whether a picture's own prompt stands in the place of ours."""
        return self.settings.embedded == "use" and read.embedded is not None

    def row(self, read: Read, found: Found | Exception) -> Row:
        size, mtime = read.identity
        known: Row = {"key": read.picture.key, "size": size, "mtime": mtime}
        if isinstance(found, Exception):
            return {**known, "error": self.observer.describe(found, read.picture)}
        one = rounded(found)
        self.summary.doubted += bool(one.doubt)
        return {
            **known,
            "prompt": one.prompt,
            "score": one.score if one.tier else None,
            "method": one.method,
            "tier": one.tier,
            "token_passes": one.token_passes,
            "alternatives": [{"prompt": prompt, "score": score} for prompt, score in one.alternatives],
            "embedded": read.embedded.to_json() if read.embedded is not None else None,
            "doubt": one.doubt or None,
        }

    def is_known_error(self, row: Row) -> bool:
        """Whether the journal says the same already, so that bad pictures do not make it longer at every start."""
        entry = self.journal.entries.get(row["key"])
        return "error" in row and entry is not None and entry.failed and next(self.journal.rows([row["key"]])) == row

    # Output -----------------------------------------------------------------------------------

    def write(self) -> None:
        """The tables, the errors and the gallery of what is done."""
        self.summary.failed = write_errors(self.settings.errors, self.error_rows())
        self.summary.left, self.summary.refused = self.delivery.left, self.delivery.refused
        self.summary.done = sum(1 for _ in self.good_entries())
        out = self.settings.out
        if out is None:
            return
        self.summary.others = sum(1 for _ in self.others())
        write_tables(out, self.settings.formats, self.table_rows)
        if self.settings.report:
            write_gallery(out / GALLERY, self.gallery_rows())

    def rows(self) -> Iterator[Row]:
        return self.journal.rows([picture.key for picture in self.pictures])

    def good_entries(self) -> Iterator[str]:
        entries = self.journal.entries
        return (p.key for p in self.pictures if p.key in entries and not entries[p.key].failed)

    def others(self) -> Iterator[str]:
        """Keys of pictures that earlier runs did, that are still there, and that this run's folders or patterns leave out."""
        home = self.settings.state.parent
        return (key for key in self.journal.entries if key not in self.by_key and os.path.exists(home / key))

    def file_name(self, key: str) -> str:
        """How the tables call a picture: its path from their folder, with slashes."""
        path = self.by_key[key].path
        if self.settings.out is None:
            return path
        folder, name = os.path.split(path)  # links among the folders would lead elsewhere from the tables
        return os.path.relpath(os.path.join(real(folder or "."), name), real(str(self.settings.out))).replace(os.sep, "/")

    def table_rows(self) -> Iterator[Row]:
        return (table_row(row, self.file_name(row["key"])) for row in self.rows() if "error" not in row)

    def error_rows(self) -> Iterator[Row]:
        """Name and sentence; what is no UTF-8 in them as backslash escapes, since every program is to read them."""
        for row in (row for row in self.rows() if "error" in row):
            texts = {"file_name": self.file_name(row["key"]), "error": row["error"]}
            yield {name: text.encode("utf-8", "backslashreplace").decode() for name, text in texts.items()}

    def gallery_rows(self) -> Iterator[Row]:
        for row in self.rows():
            yield {**row, "file_name": self.file_name(row["key"]), "path": self.by_key[row["key"]].path}


def carried(read: Read) -> Found:
    """A picture's own prompt, which nobody scored."""
    assert read.embedded is not None
    prompt = read.embedded.prompt
    return Found(prompt, 0.0, tier=0, method="embedded", token_passes=0, alternatives=((prompt, 0.0),))
