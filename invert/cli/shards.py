"""`invert shards`: millions of pictures in tars, Parquet files or folders to Parquet files, on any number of machines."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from invert import __version__
from invert.batch.earlier import outlived
from invert.batch.engines import ENGINES, Workers
from invert.batch.runs import claim
from invert.batch.shards import SHARD_SIZE, Shard, digest, parse_part, plan
from invert.batch.sources import source_of
from invert.batch.sweeping import sweep, written_in
from invert.batch.tiers import TierPlan
from invert.batch.work import Columns, Job
from invert.cli.command import check_search, config_of, corpus_key
from invert.cli.failures import BAD_INPUT
from invert.cli.file_states import states_of
from invert.cli.interrupts import Interrupts
from invert.cli.options import SearchOptions, parser
from invert.cli.shard_progress import ShardProgress
from invert.cli.terminal import complain
from invert.cli.unused import check_followed
from invert.config import InvertConfig
from invert.errors import InputError
from invert.extras import require
from invert.methods import get_method
from invert.registry import resolve

if TYPE_CHECKING:
    from invert.batch.tiers import Tiers

SUMMARY = (
    "Write the prompts of millions of pictures, in tars, Parquet files or folders, to Parquet files. Start it again to go on."
)
# Options that no row follows from; the corpus by its content.
NOT_KEPT = frozenset({"device", "debug", "corpus", "corpus_mode", "generator"})
MAX_DECODERS = 64
MOST_OUTLIVED = 10  # inputs that are gone, and named


@dataclass(frozen=True)
class ShardOptions(SearchOptions):
    """What the user wrote behind `invert shards`."""

    inputs: Annotated[
        list[str] | None, typer.Argument(help="webdataset tars, Parquet files, or folders of them or of pictures.")
    ] = None
    out: Annotated[Path | None, typer.Option(help="Folder for the Parquet files, one a shard.")] = None
    engine: Annotated[
        str, typer.Option(help="local: this process; processes: one a card or core; ray: a cluster (extra: ray).")
    ] = ENGINES[0]
    workers: Annotated[
        int | None, typer.Option(help="Models of --engine processes or ray; by default one a card, or one a core without cards.")
    ] = None
    gpus: Annotated[
        float | None, typer.Option(help="Cards of a worker, as Ray shares them out: 0.5 puts two on a card; 0: processors.")
    ] = None
    shard: Annotated[
        str | None, typer.Option(help="i/N: the i-th of N parts of the shards, from 1/N to N/N; slurm: what the job array says.")
    ] = None
    shard_size: Annotated[int, typer.Option(help="Pictures of a folder, or Parquet rows, that make a shard.")] = SHARD_SIZE
    search_below: Annotated[
        float | None, typer.Option(help="Retrieve first, and search by --method where the cosine is below this.")
    ] = None
    search_share: Annotated[
        float | None, typer.Option(help="Retrieve first, and search this share of the pictures, the worst ones; 0 to 1.")
    ] = None
    picture_column: Annotated[str | None, typer.Option(help="Parquet column of bytes, paths, or both.")] = None
    key_column: Annotated[str | None, typer.Option(help="Parquet column of keys; by default one named so, or row numbers.")] = (
        None
    )
    decoders: Annotated[int, typer.Option(help="Threads of a worker that decode pictures.")] = Job.decoders


@dataclass(frozen=True)
class LoadTiers:
    """Loads the model in whatever process it is called."""

    options: ShardOptions
    config: InvertConfig
    plan: TierPlan
    threads: int  # of a worker, on processors; 0: as many as torch takes

    def __call__(self, device: str) -> Tiers:
        import torch

        from invert.batch.tiers import Tiers
        from invert.cli.loading import loaded, negative_of

        if self.threads:
            torch.set_num_threads(self.threads)
        options = replace(self.options, device=self.options.device or device or None)
        return Tiers(loaded(options), self.config, self.plan, negative_of(options.negative))


def shards_command(interrupts: Interrupts) -> typer.Typer:
    """The command line of `invert shards`."""
    return parser(lambda options: run(options, interrupts), ShardOptions, SUMMARY)


def run(options: ShardOptions, interrupts: Interrupts) -> int:
    """Check the options, plan, and do what is left to do; torch is imported where something is."""
    config, tiers, part = check(options)
    out, configuration = Path(os.path.abspath(options.out or "")), kept(options, config)  # Ray works in folders of its own
    job = Job(str(out), digest(configuration), options.decoders, Columns(options.picture_column, options.key_column))
    before, every = written_in(out), list[Shard]()
    shards = plan(options.inputs or [], out, options.shard_size, part, job.is_done, every)
    check_sources(options, shards, part)
    with claim(out, configuration):
        interrupts.importing = False
        engine = resolve(f"invert.batch.engines.{options.engine}:run")
        with ShardProgress(len(shards), job.is_done, shards) as progress:
            try:
                if progress.earlier < len(shards):
                    engine(shards, workers_of(options, config, tiers), job, progress)
            except KeyboardInterrupt:
                progress.stop()
                complain(f"{interrupts.word} after {progress.done:,} of {len(shards):,} shards: start it again to go on")
                return interrupts.status
        sweep(shards, job, every, before)
    if part[0] == 0:  # of an array, one task says it
        note_outlived(outlived(out, {source_of(shard.name) for shard in every}, options.inputs or []), out)
    return tell(progress, shards, job)


def check(options: ShardOptions) -> tuple[InvertConfig, TierPlan, tuple[int, int]]:
    """The config, the tiers and the part of the shards; InputError where options make no sense, alone or beside each other."""
    if not options.inputs:
        raise InputError("no shards given: try `invert shards pictures/*.tar --out prompts`, or `invert shards --help`")
    if options.out is None:
        raise InputError("nothing would be written: add `out` FOLDER")
    if os.path.realpath(options.out) in map(os.path.realpath, options.inputs):
        raise InputError(f"`out` {options.out} is an input too: give it a folder of its own, which may lie in that one")
    check_engine(options)
    require("pyarrow", "`invert shards`")
    if options.engine == "ray":
        require("ray", "`engine=ray`")
    check_search(options, (options.method,))
    check_followed(options, (options.method,))
    if options.caption == "sidecar":
        raise InputError("`caption` sidecar reads the text beside a picture's file, and shards hold none: give another `caption`")
    config, tiers = config_of(options, 1), TierPlan(options.search_below, options.search_share)
    tiers.check(config)
    return config, tiers, (0, 1) if options.shard is None else parse_part(options.shard)


def check_sources(options: ShardOptions, shards: list[Shard], part: tuple[int, int]) -> None:
    """InputError where an option is about sources that the inputs are not; of a part of them nobody can tell."""
    if part[1] > 1:
        return
    kinds = {shard.kind for shard in shards}
    for name in ("picture_column", "key_column"):
        if getattr(options, name) is not None and "parquet" not in kinds:
            raise InputError(f"`{name}` is of Parquet files, and the inputs are none: leave it out")
    if options.shard_size != SHARD_SIZE and kinds == {"tar"}:
        raise InputError("`shard_size` cuts folders and Parquet files, and a tar is one shard as it is: leave it out")


def check_engine(options: ShardOptions) -> None:
    """InputError where the engine is unknown, or numbers make no sense for it."""
    if options.engine not in ENGINES:
        raise InputError(f"unknown `engine` {options.engine!r}: choose one of {', '.join(ENGINES)}")
    if options.engine == "local" and options.workers is not None:
        raise InputError("`workers` are other processes: add `engine=processes` or `engine=ray`, or leave it out")
    if options.engine != "ray" and options.gpus is not None:
        raise InputError("`gpus` are shared out by Ray: add `engine=ray`, or leave it out")
    if options.workers is not None and options.workers < 1:
        raise InputError(f"`workers` is {options.workers}: give 1 or more")
    if options.gpus is not None and not 0 <= options.gpus < 1024:
        raise InputError(f"`gpus` is {options.gpus}: give 0 or more")
    if options.shard_size < 1:
        raise InputError(f"`shard_size` is {options.shard_size}: give 1 or more")
    if not 1 <= options.decoders <= MAX_DECODERS:
        raise InputError(f"`decoders` is {options.decoders}: give 1 to {MAX_DECODERS}")


def kept(options: ShardOptions, config: InvertConfig) -> dict[str, Any]:
    """What the rows depend on, by the names of the options."""
    names = {field.name for field in fields(SearchOptions)} - NOT_KEPT
    names |= {"search_below", "search_share", "shard_size", "picture_column", "key_column"}
    return {
        **{name: getattr(options, name) for name in sorted(names)},
        "corpus": corpus_key(config),
        "generator": options.generator,
        "files": states_of(options),
        "version": f"{__version__}, {options.method} {get_method(options.method).revision}",
    }


def workers_of(options: ShardOptions, config: InvertConfig, tiers: TierPlan) -> Workers:
    """One a card where there are cards, else one a core, which it then has for itself."""
    if options.engine == "local":
        return Workers(LoadTiers(options, config, tiers, 0))
    if options.engine == "ray":
        devices = ("",) * (options.workers or 0)
        return Workers(LoadTiers(options, config, tiers, 1 if options.gpus == 0 else 0), devices, options.gpus)
    cards = 0 if options.device else count_cards()
    count = options.workers or cards or os.cpu_count() or 1
    devices = tuple(f"cuda:{i % cards}" if cards else "" for i in range(count))
    threads = 0 if cards else max(1, (os.cpu_count() or 1) // count)
    return Workers(LoadTiers(options, config, tiers, threads), devices)


def count_cards() -> int:
    import torch

    return torch.cuda.device_count()


def note_outlived(results: dict[str, list[Path]], out: Path) -> None:
    """Which results have no input any more; they are the user's to delete."""
    if not results:
        return
    count = sum(map(len, results.values()))
    told = [f"{', '.join(path.name for path in paths)} (of {source})" for source, paths in results.items()]
    more = f"; and of {len(told) - MOST_OUTLIVED:,} more" if len(told) > MOST_OUTLIVED else ""
    complain(
        f"note: {out} keeps {count:,} result{'' if count == 1 else 's'} of inputs that have gone or are no longer among these, "
        f"delete what you do not want: {'; '.join(told[:MOST_OUTLIVED])}{more}"
    )


def tell(progress: ShardProgress, shards: list[Shard], job: Job) -> int:
    """What the run came to, on stderr; the exit status."""
    for message in progress.failures:
        complain(message)
    left = sum(not job.is_done(shard) for shard in shards)
    parts = [f"{len(shards) - left:,} of {len(shards):,} shards are done"]
    if progress.earlier:
        parts.append(f"{progress.earlier:,} from before")
    if progress.pictures:
        parts.append(f"{progress.pictures:,} pictures now")
    if progress.errors:
        parts.append(f"{progress.errors:,} of them without a prompt: see the column error")
    complain("; ".join(parts))
    return BAD_INPUT if left or (progress.pictures and progress.errors == progress.pictures) else 0
