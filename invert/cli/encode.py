"""`invert encode`: the words and prompts that searches look up, encoded once for a model, so that later runs start at once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from invert.cli.interrupts import Interrupts
from invert.cli.options import DEFAULT, CorpusMode, parser, weights_of
from invert.cli.terminal import complain
from invert.config import InvertConfig
from invert.corpus_file import read_corpus
from invert.errors import InputError
from invert.models.names import DTYPES
from invert.registry import BUNDLES

SUMMARY = "Encode the words and prompts of a bundle for a model, once. Start it again to go on."


@dataclass(frozen=True)
class EncodeOptions:
    """What the user wrote behind `invert encode`; names and meanings are those of `invert`."""

    model: Annotated[str, typer.Option(help="picturebook, ViT-L-14/openai, hf:NAME, a folder …")] = "picturebook"
    bundle: Annotated[str | None, typer.Option(help="Words and language for the model; by default its own.")] = None
    corpus: Annotated[Path | None, typer.Option(help="File of prompts, one a line, in place of the bundle's.")] = None
    corpus_mode: CorpusMode = DEFAULT.corpus_mode
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, mps; by default a GPU if there is one.")] = None
    dtype: Annotated[str, typer.Option(help=f"Of the model's weights: {', '.join(DTYPES)}.")] = DTYPES[0]
    model_weights: Annotated[str | None, typer.Option(help="Of the cosines of models joined by +, as in 2,1.")] = None
    low_memory: Annotated[
        bool, typer.Option("--low-memory", help="One tower in memory at a time, read again from disk at its turn.")
    ] = False
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False


def command(interrupts: Interrupts) -> typer.Typer:
    """The command line of `invert encode`."""
    return parser(lambda options: encode(options, interrupts), EncodeOptions, SUMMARY)


def encode(options: EncodeOptions, interrupts: Interrupts) -> int:
    """Check the options, then load the model and encode."""
    for name in ("model", "bundle", "device"):
        if getattr(options, name) == "":
            raise InputError(f"`{name}` is empty: give a name or a path, or leave it out")
    if options.dtype not in DTYPES:
        raise InputError(f"unknown `dtype` {options.dtype!r}: choose one of {', '.join(DTYPES)}")
    if options.bundle:
        BUNDLES.check(options.bundle)
    weights = weights_of(options.model_weights)
    corpus = () if options.corpus is None else read_corpus(options.corpus)
    config = InvertConfig(corpus=corpus, corpus_mode=options.corpus_mode)

    from invert.cli.loading import encode_ahead
    from invert.cli.terminal import progress
    from invert.inverter import Inverter

    interrupts.importing = False
    try:
        with progress(f"loading {options.model}"):
            inverter = Inverter.load(options.model, options.bundle, options.device, options.dtype, weights, options.low_memory)
        encode_ahead(inverter, config, (DEFAULT.method,), None)
    except KeyboardInterrupt:
        complain(f"{interrupts.word}: what is encoded by now is kept, start it again to go on")
        return interrupts.status
    complain(f"the words and prompts of {inverter.bundle.name!r} are encoded for {inverter.clip.name!r}")
    return 0
