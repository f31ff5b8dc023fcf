"""The files that a run reads, each with what it is: none of them may be written over."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from invert.batch.sources import walk
from invert.caption_files import SIDECAR, sidecar_names
from invert.cli.options import Options
from invert.images.formats import ENDINGS
from invert.phrase_file import phrase_files

MODELS = ("model", "generator", "language", "caption", "judge")  # options that may name a folder of weights
OUTPUTS_BESIDE = (".html", ".png")  # endings that no file of a model has: pages and curves may lie in its folder


class Input(NamedTuple):
    """A file that is there. what: it is, as in "would overwrite {what} {path}"."""

    path: str
    what: str

    def is_same(self, path: str) -> bool:
        """Whether the path, which is there, is this file, also by a link."""
        return os.path.exists(self.path) and os.path.samefile(self.path, path)


def inputs_of(options: Options, pictures: Sequence[str]) -> Iterator[Input]:
    """What the options name, and the pictures: files that are on this machine."""
    from invert.images import looks_like_image  # with it come decoders of pictures, a slow import

    for path in pictures:
        yield Input(path, "the picture")
        if options.caption == SIDECAR:
            yield from (Input(name, "the caption") for name in sidecar_names(path))
    if options.corpus is not None:
        yield Input(os.fspath(options.corpus), "the `corpus`")
    if options.phrases is not None:
        yield from (Input(name, "the `phrases`") for name in phrase_files(options.phrases))
    if options.negative is not None and looks_like_image(options.negative):
        yield Input(options.negative, "the `negative`")
    if options.gap_images is not None:
        yield from (Input(name, "one of the `gap_images`,") for name in files_in(options.gap_images, ENDINGS))
    for name in MODELS:
        for folder in folders_of(getattr(options, name)):
            found = files_in(folder)
            yield from (Input(path, f"a file of the `{name}`,") for path in found if not path.endswith(OUTPUTS_BESIDE))


def files_in(path: str, endings: Iterable[str] = ()) -> Iterator[str]:
    """The file itself, or those in the folder at any depth, of these endings where any are given."""
    if not os.path.isdir(path):
        yield path
        return
    for inside, names in walk(path):
        for name in names:
            if not endings or os.path.splitext(name)[1].lower() in endings:
                yield os.path.join(inside, name)


def folders_of(name: str | None) -> list[str]:
    """What a name of one model, or of several joined by +, stands for on this machine."""
    paths = [os.path.expanduser(path) for part in (name or "").split("+") for path in (part, part.partition("/")[2])]
    return [path for path in paths if path and os.path.exists(path)]
