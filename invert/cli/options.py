"""Every option of the command, read into one `Options`: the command line is made from its fields.

Nothing here imports torch: `--help` and usage errors come before anything heavy.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from invert.cli.flags import declare
from invert.cli.interrupts import Interrupted
from invert.cli.repeated import as_lists, default_of, joined
from invert.config import ANALYSIS_TOP, CORPUS_MODES, InvertConfig, PolishConfig, SoftConfig
from invert.diffusion.options import DrawingOptions
from invert.errors import InputError
from invert.methods import method_names
from invert.models.names import DTYPES
from kernels.once import OnceEach

DEFAULT = InvertConfig()
SUMMARY = "Give an image, get the prompt that makes a text-to-image model draw it again."
ENCODE_SECONDS = 40.0  # so that a first prompt comes in less than two minutes, on two cores and a ViT-L-14
BY_MODEL = "as picturebook wants it, with the bundle english by how far the model's own cosines spread"
EMBEDDED = ("use", "show", "ignore")  # what becomes of a prompt that a picture carries
# What n pictures show stays in their mean, about 0.88/√n long with picturebook, whose gap is 0.60: of 8 it is half as long.
LEAST_GAP_IMAGES = 8
CorpusMode = Annotated[str, typer.Option(help=f"What it does to the bundle's own prompts: {', '.join(CORPUS_MODES)}.")]


def show_version(wanted: bool) -> bool:
    """Print the version and end, where that is wanted."""
    if wanted:
        from invert import __version__

        typer.echo(f"invert {__version__}")
        raise typer.Exit
    return wanted


@dataclass(frozen=True)
class SearchOptions:
    """What every command that searches for prompts takes: the model, the method and its limits."""

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
    method: Annotated[str, typer.Option(help=f"How to invert: {', '.join(method_names())}.")] = DEFAULT.method
    seed: Annotated[int, typer.Option(help="The same seed gives the same prompt.")] = DEFAULT.seed
    target: Annotated[str, typer.Option(help="raw, empty or gap: modality-gap correction of the image.")] = DEFAULT.target
    gap_images: Annotated[
        str | None, typer.Option(help=f"Folder of example images that measure the modality gap, {LEAST_GAP_IMAGES} or more.")
    ] = None
    negative: Annotated[str | None, typer.Option(help="An image or a prompt to move away from.")] = None
    negative_weight: Annotated[float, typer.Option(help="How strongly to move away from it.")] = DEFAULT.negative_weight
    init_prompt: Annotated[str, typer.Option(help="A prompt to start the search from.")] = ""
    caption: Annotated[
        str | None,
        typer.Option(
            help="Captioner to start from: an image-to-text model (hf:NAME or a folder), the http(s) address "
            "of a chat endpoint (key in INVERT_CAPTION_KEY), or sidecar, the .txt beside it."
        ),
    ] = None
    caption_model: Annotated[str | None, typer.Option(help="Which model of a caption endpoint.")] = None
    must_include: Annotated[str, typer.Option(help="Words the prompt has to hold, separated by commas.")] = ""
    ban: Annotated[str, typer.Option(help="Words it may not hold, separated by commas.")] = ""
    corpus: Annotated[Path | None, typer.Option(help="File of prompts, one a line: where starts and language come from.")] = None
    corpus_mode: CorpusMode = DEFAULT.corpus_mode
    language_weight: Annotated[
        float | None,
        typer.Option(
            help=f"How much likely wording counts: the cosine that one nat of the prompt's log p is worth; by default {BY_MODEL}."
        ),
    ] = DEFAULT.language_weight
    language: Annotated[
        str | None, typer.Option(help="Causal language model beside the bundle's language: hf:NAME or a folder, as of GPT-2.")
    ] = None
    language_share: Annotated[float, typer.Option(help="Of that model in what language counts: 0 to 1, 1 for it alone.")] = (
        DEFAULT.language_share
    )
    max_tokens: Annotated[int, typer.Option(help="Longest prompt, in tokens.")] = DEFAULT.max_tokens
    token_penalty: Annotated[
        float | None, typer.Option(help=f"Cosine that one more token must earn; by default {BY_MODEL} as well.")
    ] = DEFAULT.token_penalty
    tokens: Annotated[int, typer.Option(help="Soft tokens per restart.")] = DEFAULT.tokens
    restarts: Annotated[int, typer.Option(help="Soft prompts optimized at once.")] = DEFAULT.restarts
    soft_steps: Annotated[
        int | None, typer.Option(help=f"Gradient steps on them; by default {SoftConfig.steps}, with the bundle english none.")
    ] = DEFAULT.soft_steps
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="A setting of one method, as in pez.lr=0.2; may be given more than once.")
    ] = None
    budget: Annotated[
        int | None, typer.Option(help="Text-encoder token passes after which the search ends, to within a batch of them.")
    ] = None
    seconds: Annotated[float | None, typer.Option(help="Seconds to spend on an image at most.")] = None
    generator: Annotated[
        str | None,
        typer.Option(
            help="picturebook, a text-to-image pipeline of diffusers (name or folder), or the http(s) address of an image "
            "endpoint (OpenAI's images API; key in INVERT_GENERATOR_KEY); by default the model's own."
        ),
    ] = DEFAULT.generator
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False


@dataclass(frozen=True)
class Options(SearchOptions):
    """What the user wrote, with the types checked and nothing else."""

    images: Annotated[list[str] | None, typer.Argument(help="Image files, folders of images, URLs, or - for stdin.")] = None
    embedded: Annotated[str, typer.Option(help=f"With prompts that pictures carry: {', '.join(EMBEDDED)}.")] = EMBEDDED[1]
    top: Annotated[
        int | None, typer.Option(help="How many distinct prompts to print (1), or phrases of each category (5), the best first.")
    ] = None
    together: Annotated[bool, typer.Option("--together", help="One prompt for all the images: what they share.")] = False
    text: Annotated[str | None, typer.Option(help="Shorten this prompt instead of reading an image.")] = None
    generate: Annotated[
        int, typer.Option(help="Draw the prompt again this many times, for --report or --json. Extra: diffusion.")
    ] = 0
    select: Annotated[
        str, typer.Option(help="What chooses the final prompt: score, or generator, by what prompts draw (extra: diffusion).")
    ] = "score"
    generator_model: Annotated[str | None, typer.Option(help="Which model of an image endpoint draws.")] = None
    size: Annotated[str | None, typer.Option(help="Size of drawn images: WIDTHxHEIGHT; by default the generator's own.")] = None
    steps: Annotated[int | None, typer.Option(help="Steps of the generator for each image; by default its own.")] = None
    guidance: Annotated[
        float | None, typer.Option(help="How strongly drawn images follow the prompt; by default as the generator has it.")
    ] = None
    judge: Annotated[
        str | None, typer.Option(help="CLIP or SigLIP that prompts, and what they draw, are judged by; picturebook has its own.")
    ] = None
    compare: Annotated[str | None, typer.Option(help="Other methods to run beside, separated by commas; a table.")] = None
    analyze: Annotated[
        bool, typer.Option("--analyze", help="Print the best phrases of each category with their cosines; no search.")
    ] = False
    phrases: Annotated[
        str | None, typer.Option(help="More phrases for --analyze: a file a category, one a line, or a folder of such files.")
    ] = None
    encode_seconds: Annotated[
        float,
        typer.Option(help="Seconds to spend at most, before the first picture, on encoding words and prompts once a model."),
    ] = ENCODE_SECONDS
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False
    trace: Annotated[Path | None, typer.Option(help="Draw the curves and which prompts won when into this PNG.")] = None
    report: Annotated[Path | None, typer.Option(help="Write a self-contained HTML page.")] = None
    embedding: Annotated[
        Path | None, typer.Option(help="Save the soft prompt as pseudo-tokens that diffusers loads, into this .safetensors.")
    ] = None
    polish_steps: Annotated[
        int,
        typer.Option(help="Steps through the generator's denoiser that make a soft prompt draw the picture; 0: none."),
    ] = PolishConfig.steps
    scene: Annotated[
        str | None, typer.Option(help="Draw this into the given file, as python -m invert.picturebook draw does.")
    ] = None
    list_objects: Annotated[bool, typer.Option("--list-objects", help="Print the names of picturebook's objects.")] = False
    version: Annotated[bool, typer.Option("--version", help="Print the version.", callback=show_version, is_eager=True)] = False

    @property
    def n_top(self) -> int:
        """How many prompts, or phrases of each category, to print."""
        return (ANALYSIS_TOP if self.analyze else DEFAULT.top) if self.top is None else self.top


def parser(run: Callable[[Any], int], options_type: type = Options, summary: str = SUMMARY, epilog: str = "") -> typer.Typer:
    """The command line of a dataclass of options, which hands what it reads to `run` and takes the exit status from it.

    Args:
        run: takes an instance of options_type.
        options_type: its fields are the options; errors name them as flags from now on.
        summary: the first line of the help.
        epilog: its last paragraph.
    """
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="rich")
    declare(field.name for field in fields(options_type))

    def command(**values: object) -> None:
        try:
            status = run(options_type(**joined(values, defaults)))
        except KeyboardInterrupt as error:
            raise Interrupted from error
        raise typer.Exit(status)

    command.__doc__ = summary
    hints = as_lists(get_type_hints(options_type, include_extras=True))
    defaults = {field.name: field.default for field in fields(options_type)}
    command.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default_of(name, default), annotation=hints[name])
            for name, default in defaults.items()
        ]
    )
    command.__annotations__ = hints
    app.command(cls=OnceEach, context_settings={"help_option_names": ["-h", "--help"]}, epilog=epilog)(command)
    return app


def drawing_options(options: Options) -> DrawingOptions:
    """How images are to be drawn."""
    return DrawingOptions(options.steps, options.guidance, options.size, options.generator_model)


def listed(text: str) -> tuple[str, ...]:
    """ "a, b" → ("a", "b")."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def weights_of(text: str | None) -> tuple[float, ...] | None:
    """The numbers of `model_weights`; InputError where it holds others."""
    if text is None:
        return None
    try:
        return tuple(float(number) for number in text.split(","))
    except ValueError as error:
        raise InputError(f"`model_weights` is {text!r}: give a number for each model, separated by commas") from error


def check_embedded(choice: str) -> None:
    """InputError where there is no such choice."""
    if choice not in EMBEDDED:
        raise InputError(f"unknown `embedded` {choice!r}: choose one of {', '.join(EMBEDDED)}")


def check_dtype(dtype: str | None) -> None:
    """InputError where there is no such precision."""
    if dtype is not None and dtype not in DTYPES:
        raise InputError(f"unknown `dtype` {dtype!r}: choose one of {', '.join(DTYPES)}")
