"""Options that would do nothing beside the others: one sentence names them, before anything is loaded.

An option counts as given where it has another value than its default.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import fields

from invert.cli.options import LEAST_GAP_IMAGES, Options, SearchOptions
from invert.cli.sources import images_in
from invert.cli.terminal import complain
from invert.errors import InputError
from invert.methods import TUNING_OPTIONS, get_method, method_names

DRAWN_WITH = frozenset({"images", "seed", "scene", "debug"})
LISTED_WITH = frozenset({"list_objects", "debug"})


def given(options: SearchOptions) -> set[str]:
    """The names of the options that have another value than their default."""
    return {field.name for field in fields(options) if getattr(options, field.name) not in (field.default, None, [])}


def check_followed(options: SearchOptions, methods: Sequence[str], draws: bool = False) -> None:
    """InputError where an option is for methods that do not run, or says more about one that is not given.

    Args:
        options: of any command that searches.
        methods: that run.
        draws: whether a generator draws the prompts that they find, or polishes them.
    """
    named = given(options)
    if "negative_weight" in named and options.negative is None:
        raise InputError("`negative_weight` weighs `negative`, which is not given: add it, or leave its weight out")
    if "gap_images" in named and options.target != "gap":
        raise InputError('`gap_images` measure the modality gap for `target="gap"`: add that, or leave them out')
    if options.gap_images is not None:
        check_examples(options.gap_images)
    for name in TUNING_OPTIONS:
        if name not in named or (name == "generator" and draws):
            continue
        if not any(name in get_method(method).follows for method in methods):
            able = [method for method in method_names() if name in get_method(method).follows]
            whose = f"the method {methods[0]!r} does" if len(set(methods)) == 1 else f"the methods {', '.join(methods)} do"
            drawing = " or draw by `generate`," if name == "generator" and isinstance(options, Options) else ""
            raise InputError(f"{whose} nothing with `{name}`: use {' or '.join(able)},{drawing} or leave it out")


def check_examples(path: str) -> None:
    """InputError where the example images are too few to measure a gap on; a folder of none is told where it is read."""
    count = len(images_in(path)[0]) if os.path.isdir(path) else 1
    if 0 < count < LEAST_GAP_IMAGES:
        pictures = "one picture" if count == 1 else f"{count} pictures"
        raise InputError(
            f"`gap_images` {path} is {pictures}, whose own content would count for more than the gap: give a folder of "
            f"{LEAST_GAP_IMAGES} or more, of different things"
        )


def check_alone(options: Options) -> None:
    """InputError where something stands beside `scene` or `list_objects`, which invert nothing."""
    for name, company in (("list_objects", LISTED_WITH), ("scene", DRAWN_WITH)):
        if getattr(options, name):
            for other in sorted(given(options) - company):
                what = "an image" if other == "images" else f"`{other}`"
                raise InputError(f"{what} does not go with `{name}`, which inverts nothing: leave one of them out")
            return


def check_text(options: Options) -> None:
    """InputError where an option is about pictures and a text is shortened."""
    if options.text is None:
        return
    if options.target != "raw" and options.negative is None:  # a negative picture is corrected, too
        raise InputError("`target` corrects the latents of images: leave it out with `text`")
    for name in ("together", "embedded", "polish_steps"):
        if name in given(options):
            raise InputError(f"`{name}` is about images: leave it out with `text`, which reads none")


def note_embedded(options: SearchOptions, embedded: str) -> None:
    """Say which wishes a prompt that a picture carries need not meet."""
    named = [f"`{name}`" for name in ("must_include", "ban", "max_tokens") if name in given(options)]
    if embedded == "use" and named:
        wishes = f"{', '.join(named[:-1])} and {named[-1]} count" if named[1:] else f"{named[0]} counts"
        complain(f"note: prompts that pictures carry are used as they are: {wishes} only for pictures that carry none")


def check_outputs(options: Options, subjects: int) -> None:
    """InputError where an output would hold nothing of what is asked for. subjects: that get a prompt each."""
    for name, what in (("trace", "draws one search"), ("embedding", "saves one soft prompt")):
        if getattr(options, name) is not None and options.text is None and subjects > 1:
            raise InputError(f"`{name}` {what}: give one image, or --together")
    if options.embedding is not None and options.embedded == "use":
        raise InputError("`embedded` use finds no soft prompt for `embedding`: leave one of them out")
    if options.compare and "top" in given(options) and not options.as_json and options.report is None:
        raise InputError("`compare` shows the best prompt of each method: add `as_json` or `report` for more, or leave out `top`")
