"""`invert run`: folders of pictures to captions and tables, checked before anything heavy is imported."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from invert import __version__
from invert.batch.outputs import FORMATS, check_formats
from invert.batch.sidecars import EXISTING, Sidecars
from invert.batch.tiers import TierPlan
from invert.caption_files import sidecar_names
from invert.cli.command import check_search, config_of, corpus_key
from invert.cli.failures import BAD_INPUT
from invert.cli.file_states import states_of
from invert.cli.interrupts import Interrupts
from invert.cli.options import DEFAULT, EMBEDDED, SearchOptions, check_embedded, listed, parser
from invert.cli.terminal import complain
from invert.cli.unused import check_followed, note_embedded
from invert.config import InvertConfig
from invert.errors import InputError
from invert.extras import require
from invert.methods import get_method

if TYPE_CHECKING:
    from invert.batch.find import Picture
    from invert.batch.runner import RunSettings, Summary
    from invert.batch.tiers import Tiers

SUMMARY = "Write the prompts of all pictures in folders: captions beside them, tables, a gallery. Start it again to go on."
# Options that other rows do not follow from; the corpus by its content.
NOT_KEPT = frozenset({"device", "debug", "corpus", "corpus_mode"})


@dataclass(frozen=True)
class RunOptions(SearchOptions):
    """What the user wrote behind `invert run`."""

    folders: Annotated[list[str] | None, typer.Argument(help="Folders of images, searched at any depth, or images.")] = None
    out: Annotated[Path | None, typer.Option(help="Folder for the tables; it may be the pictures' own.")] = None
    formats: Annotated[
        str, typer.Option(help=f"Tables to write there, separated by commas: {', '.join(FORMATS)} (parquet: extra shards).")
    ] = "metadata"
    report: Annotated[bool, typer.Option("--report", help="Write a gallery there: pages of a hundred pictures.")] = False
    sidecar: Annotated[bool, typer.Option("--sidecar", help="Write a caption, NAME.txt, beside each picture.")] = False
    prefix: Annotated[str, typer.Option(help="Text before each caption.")] = ""
    suffix: Annotated[str, typer.Option(help="Text behind it.")] = ""
    existing: Annotated[str, typer.Option(help=f"With captions that are there: {', '.join(EXISTING)}.")] = EXISTING[0]
    write_metadata: Annotated[
        bool, typer.Option("--write-metadata", help="Write the prompt into the pictures' metadata; pixels stay as they are.")
    ] = False
    include: Annotated[list[str] | None, typer.Option(help="Only pictures like this, as in '*.png' or 'a/*'; repeatable.")] = None
    exclude: Annotated[list[str] | None, typer.Option(help="No pictures and folders like this; repeatable.")] = None
    embedded: Annotated[str, typer.Option(help=f"With prompts that pictures carry: {', '.join(EMBEDDED)}.")] = EMBEDDED[1]
    top: Annotated[int, typer.Option(help="How many distinct prompts the tables list; metadata has one.")] = DEFAULT.top
    search_below: Annotated[
        float | None, typer.Option(help="Retrieve first, and search by --method where the cosine is below this.")
    ] = None
    search_share: Annotated[
        float | None, typer.Option(help="Retrieve first, and search this share of the pictures, the worst ones; 0 to 1.")
    ] = None
    restart: Annotated[bool, typer.Option("--restart", help="Forget what an earlier run has done.")] = False


def run_command(interrupts: Interrupts) -> typer.Typer:
    """The command line of `invert run`."""
    return parser(lambda options: run(options, interrupts), RunOptions, SUMMARY)


def run(options: RunOptions, interrupts: Interrupts) -> int:
    """Check the options, find the pictures, and do what is left to do."""
    config, plan = check(options)
    from invert.batch.find import Patterns, find_pictures
    from invert.batch.journal import Journal
    from invert.batch.runner import Run
    from invert.cli.run_progress import Progress

    settings = settings_of(options)
    patterns = Patterns(tuple(options.include or ()), tuple(options.exclude or ()))
    pictures = find_pictures(options.folders or [], patterns, complain, settings.state.parent)
    check_corpus(options, pictures)
    interrupts.importing = False
    outputs = outputs_of(settings)
    made(settings.state)
    path, how = settings.state / "journal.jsonl", settings.wanted.how
    with Journal(path, kept(options, config), how, options.restart, partial(check_outputs, settings.out, outputs)) as journal:
        journal.claim(outputs)
        with Progress() as progress:
            job = Run(pictures, journal, settings, lambda: load(options, config, plan, interrupts), progress)
            try:
                summary = job.run()
            except KeyboardInterrupt:
                progress.stop()
                complain(f"{interrupts.word} after {job.summary.done:,} of {len(pictures):,} pictures: start it again to go on")
                return interrupts.status
    tell(summary, settings, pictures)
    return BAD_INPUT if summary.failed == summary.total else 0


def check(options: RunOptions) -> tuple[InvertConfig, TierPlan]:
    """The config and the tiers; InputError where options make no sense, alone or beside each other."""
    if not options.folders:
        raise InputError("no folder given: try `invert run pictures --sidecar`, or `invert run --help`")
    if options.out is None and not options.sidecar and not options.write_metadata:
        raise InputError("nothing would be written: add `out` FOLDER for tables, `sidecar` for captions, or `write_metadata`")
    for name in ("prefix", "suffix", "existing"):
        if not options.sidecar and getattr(options, name) != getattr(RunOptions, name):
            raise InputError(f"`{name}` is about captions: add `sidecar`, or leave it out")
    for name in ("report", "formats", "top"):
        if options.out is None and getattr(options, name) != getattr(RunOptions, name):
            raise InputError(f"`{name}` needs a folder to write to: add `out` FOLDER, or leave it out")
    formats = listed(options.formats)
    check_formats(formats)
    if options.out is not None and not (formats or options.report):
        raise InputError(
            f"nothing would be written into `out`: give `formats` ({', '.join(FORMATS)}), add `report`, or leave it out"
        )
    if options.top != RunOptions.top and not set(formats) - {"metadata"}:
        raise InputError(
            "`top` prompts of a picture are in other tables than metadata: add `formats=jsonl`, csv or parquet, or leave it out"
        )
    check_embedded(options.embedded)
    if "parquet" in formats:
        require("pyarrow", "`formats` parquet")
    Sidecars(existing=options.existing)
    if options.caption == "sidecar" and options.sidecar and options.existing != "skip":
        raise InputError("`sidecar` would change the texts that `caption` sidecar reads: use `existing` skip, or leave one out")
    check_search(options, (options.method,))
    check_followed(options, (options.method,))
    config, plan = config_of(options, options.top), TierPlan(options.search_below, options.search_share)
    plan.check(config)
    note_embedded(options, options.embedded)
    return config, plan


def settings_of(options: RunOptions) -> RunSettings:
    """What is written, and where."""
    from invert.batch.delivery import Wanted
    from invert.batch.find import home_of
    from invert.batch.runner import STATE, RunSettings

    captions = Sidecars(options.prefix, options.suffix, options.existing) if options.sidecar else None
    return RunSettings(
        out=options.out,
        state=(Path(home_of(options.folders or [])) if options.out is None else options.out) / STATE,
        formats=listed(options.formats),
        report=options.report,
        wanted=Wanted(captions, options.write_metadata, replace=options.embedded == "ignore"),
        embedded=options.embedded,
    )


def made(folder: Path) -> None:
    """Make the folder; InputError where that cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make the folder {folder}: {error.strerror}; choose a writable `out`") from error


def outputs_of(settings: RunSettings) -> list[str]:
    """What the run writes into `out` beside its journal."""
    from invert.batch.outputs import ERRORS
    from invert.batch.runner import GALLERY

    if settings.out is None:
        return []
    return [*(FORMATS[name][0] for name in settings.formats), ERRORS, *([GALLERY] if settings.report else [])]


def check_corpus(options: RunOptions, pictures: list[Picture]) -> None:
    """InputError where a caption that is to be changed is the corpus."""
    if options.corpus is None or not options.sidecar or options.existing == "skip":
        return
    real = os.path.realpath(options.corpus)
    for picture in pictures:
        for name in sidecar_names(picture.path):
            if os.path.basename(name) == os.path.basename(real) and os.path.realpath(name) == real:
                raise InputError(f"`sidecar` would change the `corpus` {options.corpus}: use `existing` skip, or leave one out")


def check_outputs(out: Path | None, names: list[str], own: Collection[str]) -> None:
    """InputError where one of the outputs is there and not one of the run's own."""
    from invert.batch.journal import ALL

    for path in (out / name for name in names if out is not None):
        is_there = any(path.iterdir()) if path.is_dir() else path.exists()
        if is_there and path.name not in own and ALL not in own:
            raise InputError(f"{path} is there already and not from a run: move it away, or give another `out`")


def kept(options: RunOptions, config: InvertConfig) -> dict[str, Any]:
    """What the rows depend on, by the names of the options."""
    names = {field.name for field in fields(SearchOptions)} - NOT_KEPT | {"top", "search_below", "search_share"}
    plain = {name: getattr(options, name) for name in sorted(names)}
    return {
        **plain,
        "corpus": corpus_key(config),
        "files": states_of(options),
        "embedded": "use" if options.embedded == "use" else "show or ignore",
        "version": f"{__version__}, {options.method} {get_method(options.method).revision}",
    }


def load(options: RunOptions, config: InvertConfig, plan: TierPlan, interrupts: Interrupts) -> Tiers:
    """The model, when a picture needs it."""
    with interrupts.while_importing():
        from invert.batch.tiers import Tiers
        from invert.cli.loading import encode_ahead, load_helpers, loaded, negative_of

    negative = negative_of(options.negative)
    inverter = loaded(options)
    load_helpers(inverter, config)
    encode_ahead(inverter, config, (options.method,), None)
    return Tiers(inverter, config, plan, negative)


def tell(summary: Summary, settings: RunSettings, pictures: list[Picture]) -> None:
    """What the run came to, on stderr."""
    parts = [f"{summary.done:,} of {counted(summary.total)} {'has' if summary.total == 1 else 'have'} a prompt"]
    if summary.earlier:
        parts.append(f"{summary.earlier:,} from before")
    if summary.skipped:
        parts.append(f"{summary.skipped:,} had a caption already")
    if summary.failed:
        parts.append(f"{summary.failed:,} could not be done, see {settings.errors}")
    complain("; ".join(parts))
    if summary.left:
        complain(
            f"note: {counted(summary.left)} kept a caption or a prompt of their own: `existing` and `embedded` say otherwise"
        )
    if summary.doubted:
        told = f"{counted(summary.doubted)} may show what the model does not know"
        complain(f"note: {told}: see the column doubt of `formats` jsonl, csv or parquet")
    if summary.others:
        kept = "its row is" if summary.others == 1 else "their rows are"
        complain(
            f"note: {counted(summary.others)} of earlier runs {'is' if summary.others == 1 else 'are'} not among these: {kept} "
            f"kept, but not in what was written now; name all folders together to have them"
        )
    if summary.refused[0]:
        complain(f"note: {counted(summary.refused[0])} took no metadata; the first: {summary.refused[1]}")
    if settings.out is not None and "metadata" in settings.formats and not all(is_below(p, settings.out) for p in pictures):
        complain("note: `imagefolder` datasets want metadata.jsonl in or above the pictures' folder: give that as `out`")
    if settings.wanted.captions is not None:
        shared = doubled(pictures)
        if shared:
            complain(f"note: pictures of one name share a folder, such as {shared}: all but the first have NAME.ENDING.txt")


def counted(n: int) -> str:
    return f"{n:,} picture{'' if n == 1 else 's'}"


def is_below(picture: Picture, folder: Path) -> bool:
    """Whether the tables in a folder can name a picture by a path below them, through whatever links they are given."""
    from invert.batch.runner import real

    return Path(real(os.path.dirname(picture.path) or ".")).is_relative_to(real(str(folder)))


def doubled(pictures: list[Picture]) -> str:
    """The first picture whose name without its ending another one has, upper or lower case; "" where there is none."""
    seen: set[tuple[str, str]] = set()
    for picture in pictures:
        folder, name = os.path.split(picture.key)
        stem = folder, os.path.splitext(name)[0].casefold()
        if stem in seen:
            return picture.path
        seen.add(stem)
    return ""
