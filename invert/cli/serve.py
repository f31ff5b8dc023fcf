"""`invert serve`: the app over one model, on this machine alone unless asked otherwise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Annotated

import typer

from invert.app.limits import Limits
from invert.app.listening import check_address
from invert.cli.flags import RENAMED
from invert.cli.interrupts import Interrupts
from invert.cli.options import ENCODE_SECONDS, CorpusMode, Options, check_dtype, parser, weights_of
from invert.cli.terminal import check_stdout, progress, say
from invert.config import InvertConfig
from invert.corpus_file import read_corpus
from invert.diffusion.images_api import ImagesApi
from invert.diffusion.options import DrawingOptions
from invert.errors import InputError
from invert.extras import require
from invert.images.addresses import is_address
from invert.models.names import DTYPES
from invert.registry import BUNDLES

if TYPE_CHECKING:
    from invert.bundle import ModelBundle
    from invert.diffusion.drawing import TextToImage

DEFAULT = Limits()
TRIAL_STEPS = 2  # of the drawing that shows whether the generator draws as it is asked to
SUMMARY = "Open a page that gives the prompt of a picture, with an HTTP API. Extra: app."
SEARCHES = frozenset("method tokens max_tokens seed init_prompt must_include ban top generate compare analyze".split())  # noqa: SIM905


@dataclass(frozen=True)
class ServeOptions:
    """What the user wrote, with the types checked and nothing else."""

    model: Annotated[str, typer.Option(help="picturebook, ViT-L-14/openai, hf:NAME, a folder, several joined by +, sdxl …")] = (
        "picturebook"
    )
    model_weights: Annotated[
        str | None, typer.Option(help="Of the cosines of models joined by +, as in 2,1; by default all the same.")
    ] = None
    bundle: Annotated[
        str | None,
        typer.Option(help="Words and language for the model: picturebook, english, generic; by default its own."),
    ] = None
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, mps; by default a GPU if there is one.")] = None
    dtype: Annotated[
        str | None,
        typer.Option(
            help=f"Of the weights of model and generator: {', '.join(DTYPES)}; by default float32, a generator its own."
        ),
    ] = None
    low_memory: Annotated[
        bool, typer.Option("--low-memory", help="One tower in memory at a time, read again from disk at its turn.")
    ] = False
    corpus: Annotated[Path | None, typer.Option(help="File of prompts, one a line: where starts and language come from.")] = None
    corpus_mode: CorpusMode = InvertConfig.corpus_mode
    generator: Annotated[
        str | None,
        typer.Option(help="What draws prompts: a pipeline's name or folder, or an image endpoint; by default the model's own."),
    ] = None
    generator_model: Annotated[str | None, typer.Option(help="Which model of an image endpoint draws.")] = None
    size: Annotated[str | None, typer.Option(help="Size of drawn images: WIDTHxHEIGHT; by default the generator's own.")] = None
    steps: Annotated[int | None, typer.Option(help="Steps of the generator for each image; by default its own.")] = None
    guidance: Annotated[
        float | None, typer.Option(help="How strongly drawn images follow the prompt; by default as the generator has it.")
    ] = None
    host: Annotated[str, typer.Option(help="Interface to listen on; 0.0.0.0 for the whole network.")] = "127.0.0.1"
    port: Annotated[int | None, typer.Option(help="By default the first free one from 7860.")] = None
    share: Annotated[bool, typer.Option("--share", help="Through a public link of gradio.live as well.")] = False
    queue: Annotated[int, typer.Option(help="Requests that wait at most.")] = DEFAULT.queue
    megabytes: Annotated[int, typer.Option(help="Size of an uploaded file at most.")] = DEFAULT.megabytes
    seconds: Annotated[float, typer.Option(help="Seconds that one search may take.")] = DEFAULT.seconds
    files: Annotated[int, typer.Option(help="Pictures of one batch at most.")] = DEFAULT.files
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False


def command(interrupts: Interrupts) -> Callable[..., object]:
    """The command line of `invert serve`."""
    app = parser(lambda options: serve(options, interrupts), ServeOptions, SUMMARY)

    def run(words: Sequence[str], **how: object) -> object:
        refuse_others(words)
        return app(words, **how)

    return run


def refuse_others(words: Sequence[str]) -> None:
    """InputError where an option is one of `invert` that means nothing here."""
    known = {field.name for field in fields(ServeOptions)}
    names = {field.name for field in fields(Options)} - known - {"images"}
    others = {RENAMED.get(name, f"--{name.replace('_', '-')}"): name for name in names}
    for word in words:
        option = word.partition("=")[0]
        if others.get(option) in SEARCHES:
            raise InputError(f"{option} is chosen on the page or in a call of its API, for each picture: leave it out")
        if option in others:
            raise InputError(f"{option} does nothing for `invert serve`: leave it out, or give it to `invert` without serve")


def serve(options: ServeOptions, interrupts: Interrupts) -> int:
    """Check the options, then load the model, and serve until somebody ends it."""
    limits = Limits(options.queue, options.megabytes, options.seconds, options.files)
    check(options)
    corpus = () if options.corpus is None else read_corpus(options.corpus)
    config = InvertConfig(corpus=corpus, corpus_mode=options.corpus_mode)
    drawing = DrawingOptions(options.steps, options.guidance, options.size, options.generator_model)
    check_stdout()
    from invert.app.server import build, launch
    from invert.cli.loading import encode_ahead
    from invert.inverter import Inverter

    with progress(f"loading {options.model}"):
        weights = weights_of(options.model_weights)
        inverter = Inverter.load(options.model, options.bundle, options.device, options.dtype, weights, options.low_memory)
        if drawing.given() and options.generator is None and inverter.bundle.generator is None:
            raise InputError(f"`{drawing.given()[0]}` is of drawn images, and {options.model!r} draws none: add `generator`")
        inverter = Inverter(inverter.bundle_for(config))  # every method of the page starts from these prompts
        check_drawing(inverter.bundle, options.generator, drawing)
        blocks = build(inverter, limits, options.generator, drawing)
    interrupts.importing = False
    try:
        encode_ahead(inverter, InvertConfig(), (InvertConfig.method,), ENCODE_SECONDS)
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
    if options.generator_model is not None and not (options.generator and is_address(options.generator)):
        raise InputError("`generator_model` is of an image endpoint: give its address as `generator`, or leave it out")
    check_dtype(options.dtype)
    weights_of(options.model_weights)
    if options.port is not None and not 0 < options.port < 65536:
        raise InputError(f"`port` is {options.port}: give 1 to 65535")
    if options.bundle:
        BUNDLES.check(options.bundle)
    for name in ("model", "bundle", "generator", "generator_model", "device", "host"):
        if getattr(options, name) == "":
            raise InputError(f"`{name}` is empty: give a name, or leave it out")
    check_address(options.host, options.port)


def check_drawing(bundle: ModelBundle, name: str | None, drawing: DrawingOptions) -> None:
    """InputError where the generator cannot be had or does not draw like this: every visitor's drawing would fail.

    Args:
        bundle: of the model.
        name: of the generator; None for the bundle's own.
        drawing: what is asked of it. Which sizes a pipeline draws is known once it has drawn.
    """
    if name is None and not drawing.given():
        return
    from invert.methods.denoiser import load_generator

    generator = load_generator(bundle, name)
    generator.check(drawing)
    if drawing.size is not None and not is_address(name or ""):  # an endpoint's images cost money
        list(generator.draw(["a picture"], [0], quick(generator, drawing)))


def quick(generator: TextToImage, drawing: DrawingOptions) -> DrawingOptions:
    """The same drawing in a few steps, where the generator takes a number of them."""
    fewer = replace(drawing, steps=min(drawing.steps or TRIAL_STEPS, TRIAL_STEPS))
    try:
        generator.check(fewer)
    except InputError:
        return drawing
    return fewer
