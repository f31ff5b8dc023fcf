"""What a run writes beside and into the pictures: captions and metadata, each exactly once however often it is killed.

Before a batch is written, the journal takes down what is there; a run that finds such a note without its confirmation
writes what is still as it was, and takes what is not for written.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from invert.batch import sidecars
from invert.batch.find import Identity, Picture, identity
from invert.batch.journal import Journal
from invert.batch.sidecars import Sidecars
from invert.errors import InputError
from invert.files import remove_all_leftovers, write_file
from invert.images.embedded import read_embedded
from invert.images.metadata import with_prompt

Row = dict[str, Any]


@dataclass(frozen=True)
class Wanted:
    """captions: how they are written, None where they are not. metadata: whether prompts go into pictures.

    replace: whether a picture that carries another prompt gets ours.
    """

    captions: Sidecars | None = None
    metadata: bool = False
    replace: bool = False

    @property
    def how(self) -> str:
        """All of this as a text that tells whether a picture has what is wanted now; "" where nothing is."""
        if self.captions is None and not self.metadata:
            return ""
        captions = None if self.captions is None else vars(self.captions)
        return json.dumps([captions, self.metadata and ("replace" if self.replace else "keep")])


class Delivery:
    """Writes rows' prompts to where they are wanted.

    Attributes:
        left: how many pictures kept a caption, or a prompt of theirs, that was there.
        refused: how many pictures' metadata could not be written, and the first one's reason.
    """

    def __init__(self, wanted: Wanted, journal: Journal, pictures: Sequence[Picture]) -> None:
        self.wanted, self.journal = wanted, journal
        self.refused: tuple[int, str] = 0, ""
        self.names = {} if wanted.captions is None else sidecars.names(pictures, journal.names)
        self.left = 0

    def sidecar(self, picture: Picture) -> str:
        """The path of a picture's caption."""
        return os.path.join(os.path.dirname(picture.path), self.names[picture.key])

    def is_delivered(self, picture: Picture) -> bool:
        """Whether what is wanted was written, and its caption is still there."""
        written = picture.key in self.journal.delivered
        return written and (self.wanted.captions is None or os.path.exists(self.sidecar(picture)))

    def is_skipped(self, picture: Picture) -> bool:
        """Whether its caption stays as it is."""
        captions = self.wanted.captions
        return captions is not None and captions.existing == "skip" and os.path.exists(self.sidecar(picture))

    def repair(self, pictures: Mapping[str, Picture]) -> None:
        """Finish what a killed run was about to write."""
        if not self.journal.pending:
            return
        pending = dict(self.journal.pending)
        for folder in {os.path.dirname(pictures[key].path) for key in pending if key in pictures}:
            remove_all_leftovers(folder or ".")
        left = {key for key in pending if key not in pictures}
        for row in self.journal.rows([key for key in pending if key in pictures]):
            picture = pictures[row["key"]]
            if not self._is_that_of(row, picture):  # replaced since: it will have a prompt of its own
                left.add(row["key"])
            elif self.wanted.captions is not None and sidecars.digest(self.sidecar(picture)) == pending[row["key"]][1]:
                self.wanted.captions.write(self.sidecar(picture), row["prompt"])
        self._confirm([pictures[key] for key in pending if key not in left], left)

    def _is_that_of(self, row: Row, picture: Picture) -> bool:
        """Whether the picture is the one that the row is of, as it was read or with our prompt in it."""
        try:
            if identity(picture.path) == (row["size"], row["mtime"]):
                return True
        except OSError:
            return False
        carried = read_embedded(picture.path) if self.wanted.metadata else None
        return carried is not None and carried.prompt == row["prompt"]

    def write(self, rows: Sequence[Row], pictures: Mapping[str, Picture]) -> None:
        """Write the prompts of a batch's rows; rows of errors are left out.

        Raises:
            InputError: a caption cannot be written.
        """
        good = [row for row in rows if "error" not in row]
        if not good or not self.wanted.how:
            return
        before = {}
        for row in good:
            captioned = self.wanted.captions is not None
            name = self.names[row["key"]] if captioned else ""
            before[row["key"]] = (name, sidecars.digest(self.sidecar(pictures[row["key"]])) if captioned else "")
        self.journal.intend(before)
        for row in good:
            self._caption(row, pictures[row["key"]], before[row["key"]][1])
        self._confirm([pictures[row["key"]] for row in good], set())

    def _caption(self, row: Row, picture: Picture, before: str) -> None:
        captions = self.wanted.captions
        if captions is None:
            return
        if captions.existing == "skip" and before != sidecars.NOTHING:
            self.left += 1
            return
        captions.write(self.sidecar(picture), row["prompt"])

    # Metadata ---------------------------------------------------------------------------------

    def _confirm(self, pictures: Sequence[Picture], left: set[str]) -> None:
        """Write the metadata of these pictures, and take them for delivered, but for what is left or could not be written."""
        self.journal.confirm(self._into_pictures(pictures, left), sorted(left))

    def _into_pictures(self, pictures: Sequence[Picture], left: set[str]) -> dict[str, Identity]:
        """Write the prompts of these pictures' rows into their metadata; the identities that they have now.

        left: takes the keys of those that may be written another time.
        """
        if not self.wanted.metadata:
            return {}
        rows = {row["key"]: row for row in self.journal.rows([picture.key for picture in pictures])}
        written = {}
        for picture in (picture for picture in pictures if picture.key in rows):
            try:
                found = self._into(picture, rows[picture.key])
            except (InputError, OSError) as error:
                reason = str(error) if isinstance(error, InputError) else f"cannot be rewritten: {error.strerror}"
                self.refused = self.refused[0] + 1, self.refused[1] or f"{picture.path} {reason}"
                if not isinstance(error, InputError):
                    left.add(picture.key)
                continue
            if found is not None:
                written[picture.key] = found
        return written

    def _into(self, picture: Picture, row: Row) -> Identity | None:
        """The identity of a picture that carries our prompt; None where it keeps its own, or has changed since it was read."""
        carried = read_embedded(picture.path)
        if carried is not None and carried.prompt == row["prompt"]:
            return identity(picture.path)  # a killed run wrote it
        if identity(picture.path) != (row["size"], row["mtime"]):
            return None
        if carried is not None and not self.wanted.replace:
            self.left += 1
            return None
        if os.stat(picture.path).st_nlink > 1:  # what has several names would be written in place, and under all of them
            raise InputError("has several names (hard links), and would change under all of them: copy it first")
        with open(picture.path, "rb") as file:
            content = file.read()
        write_file(picture.path, with_prompt(content, row["prompt"]), tidy=False)
        return identity(picture.path)
