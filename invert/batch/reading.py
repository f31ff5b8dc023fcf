"""Pictures read ahead: a thread decodes the next batch while the model works on this one."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from invert.batch.find import Identity, Picture, identity
from invert.errors import InputError
from invert.images import load_image
from invert.images.embedded import EmbeddedPrompt, read_embedded

ATTEMPTS = 3  # to read a picture that changes meanwhile


@dataclass(frozen=True)
class Read:
    """A picture that was read, or why it was not.

    Attributes:
        identity: the file's when it was read; zeros where there is none.
        prepared: what the mapper keeps of it.
        embedded: the prompt that it carries.
    """

    picture: Picture
    identity: Identity
    prepared: Any = None
    embedded: EmbeddedPrompt | None = None
    error: Exception | None = None


@dataclass(frozen=True)
class Reader:
    """How pictures are read.

    Attributes:
        prepare: of a decoded picture, what is kept until its batch's turn.
        looks_inside: whether carried prompts are read.
        uses_embedded: whether a picture that carries one is not decoded.
    """

    prepare: Callable[[Any], Any]
    looks_inside: bool = True
    uses_embedded: bool = False

    def __call__(self, picture: Picture) -> Read:
        """Read a picture as it is at one moment; one that changes all the time is an error."""
        before: Identity = (0, 0)
        try:
            for _ in range(ATTEMPTS):
                before = identity(picture.path)
                read = self._read(picture, before)
                if identity(picture.path) == before:
                    return read
        except OSError:
            return Read(picture, before, error=InputError(f"{picture.path} does not exist any more: it is left out"))
        except Exception as error:
            return Read(picture, before, error=error)
        return Read(picture, before, error=InputError(f"{picture.path} changes while it is read: start again when it is whole"))

    def _read(self, picture: Picture, found: Identity) -> Read:
        embedded = read_embedded(picture.path) if self.looks_inside else None
        if embedded is not None and self.uses_embedded:
            return Read(picture, found, embedded=embedded)
        try:
            return Read(picture, found, self.prepare(load_image(picture.path)), embedded)
        except Exception as error:
            return Read(picture, found, embedded=embedded, error=error)


def read_ahead(batches: Iterable[Sequence[Picture]], read: Callable[[Picture], Read]) -> Generator[list[Read], None, None]:
    """The batches read, one ahead of the one that is worked on."""
    stopped = threading.Event()

    def read_all(batch: Sequence[Picture]) -> list[Read]:
        return [read(picture) for picture in batch if not stopped.is_set()]

    waiting: Future[list[Read]] | None = None
    with ThreadPoolExecutor(1, "pictures") as pool:
        try:
            for batch in batches:
                ready, waiting = waiting, pool.submit(read_all, batch)
                if ready is not None:
                    yield ready.result()
            if waiting is not None:
                yield waiting.result()
        finally:
            stopped.set()
