"""`invert serve`: the app over one model, on this machine alone unless asked otherwise."""

from __future__ import annotations

from dataclasses import dataclass
from threading import Event
from typing import Annotated

import typer

from invert.app.limits import Limits
from invert.cli.interrupts import Interrupts
from invert.cli.options import parser
from invert.cli.terminal import check_stdout, progress, say
from invert.diffusion.images_api import ImagesApi
from invert.errors import InputError
from invert.extras import require
from invert.images.addresses import is_address
from invert.registry import BUNDLES

DEFAULT = Limits()
SUMMARY = "Open a page that gives the prompt of a picture, with an HTTP API. Extra: app."


@dataclass(frozen=True)
class ServeOptions:
    """What the user wrote, with the types checked and nothing else."""

    model: Annotated[str, typer.Option(help="picturebook, ViT-L-14/openai, hf:NAME, a folder …")] = "picturebook"
    bundle: Annotated[
        str | None,
        typer.Option(help="Words and language for the model: picturebook, english, generic; by default its own."),
    ] = None
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1; by default a GPU if there is one.")] = None
    generator: Annotated[
        str | None,
        typer.Option(help="What draws prompts: a pipeline's name or folder, or an image endpoint; by default the model's own."),
    ] = None
    host: Annotated[str, typer.Option(help="Interface to listen on; 0.0.0.0 for the whole network.")] = "127.0.0.1"
    port: Annotated[int | None, typer.Option(help="By default the first free one from 7860.")] = None
    share: Annotated[bool, typer.Option("--share", help="Through a public link of gradio.live as well.")] = False
    queue: Annotated[int, typer.Option(help="Requests that wait at most.")] = DEFAULT.queue
    megabytes: Annotated[int, typer.Option(help="Size of an uploaded file at most.")] = DEFAULT.megabytes
    seconds: Annotated[float, typer.Option(help="Seconds that one search may take.")] = DEFAULT.seconds
    files: Annotated[int, typer.Option(help="Pictures of one batch at most.")] = DEFAULT.files
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False


def command(interrupts: Interrupts) -> typer.Typer:
    """The command line of `invert serve`."""
    return parser(lambda options: serve(options, interrupts), ServeOptions, SUMMARY)


def serve(options: ServeOptions, interrupts: Interrupts) -> int:
    """Check the options, then load the model, and serve until somebody ends it."""
    limits = Limits(options.queue, options.megabytes, options.seconds, options.files)
    check(options)
    check_stdout()
    from invert.app.server import build, launch
    from invert.inverter import Inverter

    with progress(f"loading {options.model}"):
        inverter = Inverter.load(options.model, options.bundle, options.device)
        blocks = build(inverter, limits, options.generator)
    interrupts.importing = False
    try:
        for address in launch(blocks, limits, host=options.host, port=options.port, share=options.share):
            say(address)
        Event().wait()  # the server has threads of its own
    except KeyboardInterrupt:  # as a server is meant to end
        return 0
    finally:
        blocks.close(verbose=False)
    return 0


def check(options: ServeOptions) -> None:
    """InputError where an option makes no sense, or the extra is not installed."""
    require("gradio", "`invert serve`")
    if options.generator and is_address(options.generator):
        ImagesApi(options.generator)  # checks the address
    elif options.generator:
        require("diffusers", "`generator`")
    if options.port is not None and not 0 < options.port < 65536:
        raise InputError(f"`port` is {options.port}: give 1 to 65535")
    if options.bundle:
        BUNDLES.check(options.bundle)
    for name in ("model", "bundle", "generator", "device", "host"):
        if getattr(options, name) == "":
            raise InputError(f"`{name}` is empty: give a name, or leave it out")
