"""What is wanted of the results besides the prompts: which files, checked before the work and written after it."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from invert.errors import InputError
from invert.files import check_writable, write_output
from invert.images.formats import ENDINGS

if TYPE_CHECKING:
    from invert.cli.inputs import Input
    from invert.cli.options import Options
    from invert.report import Entry

log = logging.getLogger(__name__)
# Output → what it is, and the ending that it should have.
KINDS = {"trace": ("a PNG", ".png"), "report": ("a page", ".html"), "embedding": ("a file of tensors", ".safetensors")}


@dataclass(frozen=True)
class Outputs:
    """Files to write, and what the results are to hold for them."""

    as_json: bool
    trace: Path | None
    report: Path | None
    embedding: Path | None
    top: int  # prompts to print
    generate: int  # images to draw
    select: bool  # by what they draw
    embedded: str  # what becomes of prompts that pictures carry: use, show or ignore
    debug: bool

    @classmethod
    def of(cls, options: Options) -> Outputs:
        return cls(
            as_json=options.as_json,
            trace=options.trace,
            report=options.report,
            embedding=options.embedding,
            top=options.n_top,
            generate=options.generate,
            select=options.select == "generator",
            embedded=options.embedded,
            debug=options.debug,
        )

    @property
    def draws(self) -> bool:
        return bool(self.generate or self.select)

    @property
    def shows_drawings(self) -> bool:
        return self.as_json or self.report is not None

    def files(self) -> dict[str, Path]:
        """Parameter → the file that is to be written for it."""
        named = {"trace": self.trace, "report": self.report, "embedding": self.embedding}
        return {name: path for name, path in named.items() if path is not None}

    def check_paths(self, inputs: Iterable[Input]) -> None:
        """InputError where a file cannot be written, or would overwrite what is read or another output."""
        taken: dict[str, str] = {}
        known = list(inputs) if any(path.is_file() for path in self.files().values()) else []  # models may be many files
        for name, path in self.files().items():
            if path.suffix.lower() in ENDINGS - ({".png"} if name == "trace" else set()):
                kind, ending = KINDS[name]
                raise InputError(f"`{name}` is {kind}, and {path} has another ending: give one that ends in {ending}")
            check_writable(path, name)
            real = os.path.realpath(path)
            if (lost := what_is_lost(name, real, known)) is not None:
                raise InputError(f"`{name}` would overwrite {lost} {path}: give another path")
            is_file = os.path.isfile(real) or not os.path.exists(real)
            if real in taken and is_file:  # a device takes both
                raise InputError(f"`{name}` and `{taken[real]}` are one file, {path}: give each its own path")
            taken[real] = name

    def writers(self, entries: list[Entry]) -> Iterator[Callable[[], None]]:
        """One function for each file; trace and embedding are the first result's."""
        if self.embedding is not None and entries[0].results[0].embedding is not None:
            yield lambda: self.write_embedding(entries)
        if self.trace is not None:
            yield lambda: self.write_trace(entries)
        if self.report is not None:
            yield lambda: self.write_report(entries)

    def write_embedding(self, entries: list[Entry]) -> None:
        from invert.diffusion.pseudo_tokens import save_pseudo_tokens

        result = entries[0].results[0]
        assert result.embedding is not None and self.embedding is not None
        save_pseudo_tokens(result.embedding, self.embedding, widths=result.soft_widths or None)

    def write_trace(self, entries: list[Entry]) -> None:
        from invert.report import trace_png  # with it comes matplotlib, a slow import

        assert self.trace is not None
        result = entries[0].results[0]
        if not result.history:
            log.warning("`trace` shows no steps, as the method %r took none", result.method)
        write_output(self.trace, trace_png(result))

    def write_report(self, entries: list[Entry]) -> None:
        from invert.report import report_page

        assert self.report is not None
        write_output(self.report, report_page(entries).encode())


def what_is_lost(name: str, path: str, inputs: Iterable[Input]) -> str | None:
    """What stands at the path of the output `name` and has to stay; None where nothing does."""
    if not os.path.isfile(path):
        return None
    for known in inputs:
        if known.is_same(path):
            return known.what
    if name != "trace" or not is_somebody_elses(path):
        return None
    return "the picture" if os.path.splitext(path)[1].lower() in ENDINGS else "a file that is no curve,"


def is_somebody_elses(path: str) -> bool:
    """Whether there is a file that is no curve of ours: what draws them leaves its name in the first bytes."""
    if not os.path.getsize(path):
        return False
    with open(path, "rb") as file:
        return b"Matplotlib" not in file.read(512)
