"""From the words of the command line to an exit status: check everything that can be, then import and work."""

from __future__ import annotations

import hashlib
import math
import os
import traceback
from collections.abc import Sequence
from dataclasses import fields

from invert.cli.failures import BAD_INPUT, guarded
from invert.cli.inputs import inputs_of
from invert.cli.interrupts import Interrupts
from invert.cli.options import (
    Options,
    SearchOptions,
    check_dtype,
    check_embedded,
    drawing_options,
    listed,
    parser,
    weights_of,
)
from invert.cli.outputs import Outputs
from invert.cli.sources import URLS, check_stdin, expanded
from invert.cli.subcommands import summary
from invert.cli.terminal import check_stdout, complain
from invert.cli.unused import check_alone, check_followed, check_outputs, check_text, note_embedded
from invert.config import InvertConfig, PolishConfig
from invert.corpus_file import read_corpus
from invert.errors import InputError
from invert.extras import require
from invert.languages import check_language
from invert.methods import get_method, method_names, no_denoiser
from invert.methods.settings import parse_settings
from invert.phrase_file import read_phrases
from invert.registry import BUNDLES, resolve

SELECTIONS = ("score", "generator")
ANALYZED_WITH = frozenset(  # the seed too: an analysis is the same for each
    """
    images model model_weights bundle device dtype low_memory seed top target gap_images negative negative_weight together
    analyze phrases as_json report debug
    """.split()  # noqa: SIM905
)
CANDIDATES = 8  # prompts that the generator chooses among, at least
MAX_POLISH_STEPS = 100_000
MAX_GENERATED = 1000  # images of a prompt


def run_command(words: list[str]) -> int:
    """The exit status of `invert` with these words."""
    interrupts = Interrupts()
    app = parser(lambda options: run(options, interrupts), epilog=summary())
    return guarded(lambda: app(words, standalone_mode=False, prog_name="invert"), interrupts, "--debug" in words)


def run(options: Options, interrupts: Interrupts) -> int:
    """Check the options, then import what computes, and work."""
    check_alone(options)
    if options.list_objects:
        return int(resolve("invert.picturebook.commands:print_objects")())
    if options.scene is not None:
        return int(resolve("invert.picturebook.commands:draw_for")(options.scene, options.images or [], options.seed))
    outputs = Outputs.of(options)
    config = check(options, outputs)
    phrases = {} if options.phrases is None else read_phrases(options.phrases)
    failed: list[InputError] = []

    def tell(error: InputError) -> None:
        if options.debug:
            traceback.print_exception(error)
        complain(error)
        failed.append(error)

    paths = expanded(options.images or [], tell)
    check_stdin(paths)
    if options.text is None and (not paths or (failed and options.together)):
        return BAD_INPUT
    groups = [paths] if options.together else [[path] for path in paths]
    check_outputs(options, len(groups))
    outputs.check_paths(inputs_of(options, paths))
    check_stdout()
    note_embedded(options, options.embedded)

    from invert.cli.loading import prepare

    job, subjects = prepare(options, config, outputs, groups, interrupts, phrases)
    interrupts.importing = False
    return job.run(subjects, several=len(groups) > 1) or (BAD_INPUT if failed else 0)


def check(options: Options, outputs: Outputs) -> InvertConfig:
    """The config; InputError where options make no sense, alone or beside each other."""
    if options.text is None and not options.images:
        raise InputError("no image given: try `invert image.png`, or `invert --help`")
    if options.text is not None and options.images:
        raise InputError("`text` shortens a prompt and reads no image: give either of them, not both")
    check_embedded(options.embedded)
    if options.embedded == "use" and (options.together or options.text is not None):
        raise InputError("`embedded` use takes the prompt that one picture carries: leave it out with `together` and `text`")
    if options.text is not None and not options.text.strip():
        raise InputError("`text` is empty: give the prompt to shorten")
    if options.text is not None and options.caption is not None:
        raise InputError("`caption` says what a picture shows, and `text` has none: leave one of them out")
    if not 0 < options.encode_seconds < math.inf:
        raise InputError(f"`encode_seconds` is {options.encode_seconds}: give more than 0 (`invert encode` takes all the time)")
    check_analysis(options)
    check_text(options)
    methods = (options.method, *listed(options.compare or ""))
    check_search(options, methods)
    for name in ("judge", "phrases"):
        check_named(options, name)
    config = config_of(options, max(options.n_top, CANDIDATES) if options.select == "generator" else options.n_top)
    check_drawing(options, outputs)
    check_judge(options, outputs)
    if outputs.embedding is not None and not get_method(options.method).gives_soft_prompt:
        able = [name for name in method_names() if get_method(name).gives_soft_prompt]
        raise InputError(f"the method {options.method!r} gives no soft prompt for `embedding`: use {', '.join(able)}")
    check_polishing(options)
    polishes = bool(options.embedding and options.polish_steps and get_method(options.method).polishes)
    check_followed(options, methods, draws=outputs.draws or polishes)
    return config


def check_polishing(options: Options) -> None:
    """InputError where the steps are impossible, or asked for where nothing is polished."""
    if not 0 <= options.polish_steps <= MAX_POLISH_STEPS:
        raise InputError(f"`polish_steps` is {options.polish_steps}: give 0 (no polishing) to {MAX_POLISH_STEPS}")
    if options.polish_steps == PolishConfig.steps:
        return
    if options.embedding is None and not options.generate:
        raise InputError("`polish_steps` are spent on soft prompts that are saved or drawn: add `embedding` or `generate`")
    if options.polish_steps and not get_method(options.method).polishes:
        able = [name for name in method_names() if get_method(name).polishes]
        raise InputError(f"the method {options.method!r} gives nothing to polish by `polish_steps`: use {', '.join(able)}")


def check_analysis(options: Options) -> None:
    """InputError where `analyze` stands beside an option that it would ignore."""
    if options.phrases is not None and not options.analyze:
        raise InputError("`phrases` are ranked by `analyze`: add it, or leave them out")
    if not options.analyze:
        return
    for field in fields(Options):
        if field.name not in ANALYZED_WITH and getattr(options, field.name) not in (field.default, None, []):
            raise InputError(f"`{field.name}` does not go with `analyze`, which searches for no prompt: leave one of them out")


def check_search(options: SearchOptions, methods: Sequence[str]) -> None:
    """The methods, their settings, the target and the bundle are known, and the packages that they need are installed."""
    for name in methods:
        get_method(name).check_extra()
    check_dtype(options.dtype)
    weights_of(options.model_weights)
    for name in parse_settings(options.settings or ()):
        if name not in methods:
            raise InputError(f"`settings` names the method {name!r}, which does not run: choose it with `method` or `compare`")
    if options.bundle:
        BUNDLES.check(options.bundle)
    for name in ("model", "bundle", "generator", "device", "gap_images"):
        check_named(options, name)
    check_generator(options.generator, methods)
    check_language_options(options)
    if options.caption is not None or options.caption_model is not None:
        from invert.captions import check_caption  # with it come decoders of pictures, a slow import

        check_caption(options.caption, options.caption_model)
    if options.negative is not None and not options.negative.strip():
        raise InputError("`negative` is empty: give an image or a prompt, or leave it out")
    if options.gap_images is not None and not os.path.exists(options.gap_images):
        raise InputError(f"`gap_images`: {options.gap_images} does not exist: give a folder of example images")


def check_language_options(options: SearchOptions) -> None:
    """InputError where no such language model can be had, or its share is given without it."""
    check_language(options.language)
    if options.language is None and options.language_share != SearchOptions.language_share:
        raise InputError("`language_share` is of a language model: give one as `language`, or leave it out")


def check_named(options: SearchOptions, name: str) -> None:
    """InputError where an option that is to name something is empty."""
    if getattr(options, name) == "":
        raise InputError(f"`{name}` is empty: give a name or a path, or leave it out")


def check_drawing(options: Options, outputs: Outputs) -> None:
    """InputError where images are asked for that nobody would see, or that there is no picture to compare with."""
    if options.select not in SELECTIONS:
        raise InputError(f"unknown `select` {options.select!r}: choose one of {', '.join(SELECTIONS)}")
    if not 0 <= options.generate <= MAX_GENERATED:
        raise InputError(f"`generate` is {options.generate}: give 1 to {MAX_GENERATED}, or leave it out")
    if options.generate and not outputs.shows_drawings:
        raise InputError("`generate` draws images but nothing shows them: add `report` page.html, or `as_json` for their figures")
    drawing = drawing_options(options)
    endpoint = is_endpoint(options.generator)
    if not outputs.draws:
        if drawing.given():
            raise InputError(
                f'`{drawing.given()[0]}` is of drawn images: add `generate` or `select="generator"`, or leave it out'
            )
        return
    if options.text is not None or options.together:
        raise InputError("`generate` and `select` compare with one picture: leave them out with `text` and `together`")
    if not endpoint:
        require("diffusers", "`generate`" if options.generate else '`select="generator"`')


def check_generator(generator: str | None, methods: Sequence[str]) -> None:
    """InputError where the address of an endpoint is none, or a method could not learn through it."""
    if generator is None or not is_endpoint(generator):
        return
    from invert.diffusion.images_api import ImagesApi  # with it comes HTTP, a slow import
    from invert.images.addresses import shown

    ImagesApi(generator)
    for name in methods:
        if get_method(name).learns_through_generator:
            raise InputError(no_denoiser(name, shown(generator)))


def is_endpoint(generator: str | None) -> bool:
    return generator is not None and generator.lower().startswith(URLS)


def check_judge(options: Options, outputs: Outputs) -> None:
    """InputError where a judge is named whose judgment nobody would see."""
    if options.judge is not None and not (options.compare or outputs.draws or outputs.shows_drawings):
        raise InputError("`judge` compares prompts but nothing shows it: add `as_json`, `report` page.html or `compare`")


def config_of(options: SearchOptions, top: int) -> InvertConfig:
    """The library's own config, which checks its fields. top: how many prompts are wanted."""
    return InvertConfig(
        method=options.method,
        method_config=parse_settings(options.settings or ()).get(options.method),
        target=options.target,
        tokens=options.tokens,
        restarts=options.restarts,
        soft_steps=options.soft_steps,
        max_tokens=options.max_tokens,
        token_penalty=options.token_penalty,
        language_weight=options.language_weight,
        language=options.language,
        language_share=options.language_share,
        corpus=() if options.corpus is None else read_corpus(options.corpus),
        corpus_mode=options.corpus_mode,
        budget=options.budget,
        seconds=options.seconds,
        seed=options.seed,
        top=top,
        generator=options.generator,
        init_prompt=options.init_prompt,
        caption=options.caption,
        caption_model=options.caption_model,
        must_include=listed(options.must_include),
        ban=listed(options.ban),
        negative_weight=options.negative_weight,
    )


def corpus_key(config: InvertConfig) -> str | None:
    """The user's corpus by its content, and what it does to the bundle's: rows of a run depend on both."""
    if not config.corpus:
        return None
    content = hashlib.sha256("\n".join(config.corpus).encode()).hexdigest()[:12]
    return content if config.corpus_mode == "replace" else f"{content}, {config.corpus_mode}"
