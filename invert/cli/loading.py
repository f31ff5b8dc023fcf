"""What the command loads before its work: the model, its judge, a generator, the negative."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import torch
from PIL import Image

from invert.cli.analysis import AnalysisJob
from invert.cli.batch import Job, Subject, read_subjects
from invert.cli.interrupts import Interrupts
from invert.cli.options import Options, SearchOptions, drawing_options, listed, weights_of
from invert.cli.outputs import Outputs
from invert.cli.polishing import polishing, with_soft_prompt
from invert.cli.sources import expanded
from invert.cli.terminal import bar, complain, progress
from invert.config import InvertConfig, MethodConfig
from invert.diffusion.options import DrawingOptions
from invert.diffusion.pseudo_tokens import check_models
from invert.encoding import reporting
from invert.errors import InputError
from invert.images import load_image, looks_like_image
from invert.inverter import Inverter
from invert.methods import get_method
from invert.methods.labels import labels_of
from invert.methods.settings import parse_settings
from invert.methods.soft_stage import check_soft_stage
from invert.models.clip import Clip
from invert.models.loading import load_clip
from invert.models.precision import multiplies_bfloat16
from invert.models.tokenizer import BytePairTokenizer
from invert.result import tokens_of

if TYPE_CHECKING:
    from invert.diffusion.roundtrip import RoundTrip

COMPARED = 4  # images of each prompt that `select` draws, where `generate` asks for no number


def prepare(
    options: Options,
    config: InvertConfig,
    outputs: Outputs,
    groups: list[list[str]],
    interrupts: Interrupts,
    phrases: Mapping[str, tuple[str, ...]],
) -> tuple[Job, Iterable[Subject]]:
    """The job with everything loaded, and the subjects that it will go through.

    phrases: category → the user's own, for an analysis.
    """
    negative = negative_of(options.negative)
    inverter = loaded(options)
    if outputs.embedding is not None:
        check_models(len(inverter.clip.table_widths))
    if options.analyze:
        analysis = AnalysisJob(config, (), inverter, outputs, interrupts, negative, phrases=phrases)
        return analysis, read_subjects(groups, analysis)
    others = listed(options.compare or "")
    polisher = polishing(options, inverter.bundle, outputs)
    config = with_soft_prompt(config, outputs, polisher)
    load_helpers(inverter, config, others)
    encode_ahead(inverter, config, (options.method, *others), options.encode_seconds)
    check_embedding(inverter.clip, outputs)
    judge = loaded_judge(inverter, options.judge) if others or outputs.draws or options.judge is not None else None
    wanted = drawing_options(options)
    drawing = round_trip(config, inverter, judge, options.generate or COMPARED, wanted) if outputs.draws and judge else None
    settings = parse_settings(options.settings or ())
    methods = (options.method, *others)
    note_steps(methods, config, settings)
    job = Job(config, methods, inverter, outputs, interrupts, negative, judge, drawing, settings, polisher)
    if options.text is not None:
        return job, [Subject("the text", [], options.text)]
    return job, read_subjects(groups, job)


def note_steps(methods: Sequence[str], config: InvertConfig, settings: Mapping[str, MethodConfig]) -> None:
    """Say which methods take as many steps as they were published with, where nothing limits them: that can be long."""
    if config.budget is not None or config.seconds is not None:
        return
    for name in methods:
        own = get_method(name).config_of(replace(config, method=name, method_config=settings.get(name)))
        if (steps := getattr(own, "steps", None)) is not None:
            complain(f"note: {name} takes all of its {steps:,} steps: `budget` or `seconds` ends it earlier")


def negative_of(negative: str | None) -> Image.Image | str | None:
    """The image that is named, read once; else the prompt."""
    return load_image(negative) if negative is not None and looks_like_image(negative) else negative


def loaded(options: SearchOptions) -> Inverter:
    """The model, with its modality gap measured where example images are given."""
    with progress(f"loading {options.model}"):
        inverter = Inverter.load(
            options.model, options.bundle, options.device, options.dtype, weights_of(options.model_weights), options.low_memory
        )
    if options.gap_images is None:
        return inverter
    examples = [load_image(path) for path in expanded([options.gap_images], raised)]
    return Inverter(inverter.bundle.with_(gap_images=examples))


def load_helpers(inverter: Inverter, config: InvertConfig, others: Sequence[str] = ()) -> None:
    """Load the captioner, the language model and the lists that are asked for: what is wrong is told before the first picture.

    others: methods that run beside the config's, which may follow what that one does not.
    """
    get_method(config.method).check_options(config)
    for name in (config.method, *others):
        if get_method(name).reads_labels:
            labels_of(inverter.bundle)
    if config.method == "invert" and not others:
        check_soft_stage(config, inverter.bundle)
    if config.language is not None:
        with progress(f"loading {config.language}"):
            inverter.languages.rescorer(config, inverter.bundle_for(config))
    if config.caption is not None:
        with progress(f"loading {config.caption}"):
            inverter.captioners.captioner(config)


def encode_ahead(inverter: Inverter, config: InvertConfig, methods: Sequence[str], seconds: float | None) -> None:
    """Encode the words and prompts that the methods look up, with a bar, and say what is missing where time is up.

    seconds: to spend on it; None for as long as it takes.
    """
    if not any("corpus" in get_method(method).options for method in methods):
        return
    timed = bool(config.corpus) and config.seconds is not None  # a user's corpus counts against the seconds of the search
    if timed and config.corpus_mode == "replace":
        return
    bundle = inverter.bundle if timed else inverter.bundle_for(config)
    with bar(f"encoding for {inverter.clip.name}") as show, reporting(show):
        done, total = bundle.encode(seconds, words="invert" in methods)
    if done < total:
        complain(
            f"note: {done:,} of the {total:,} words and prompts of this bundle are encoded for {inverter.clip.name!r}, and "
            "looked up. They are kept, and the next run goes on; `invert encode` with the same model and bundle encodes them all"
            + hint_of_bfloat16(inverter.clip)
        )


def hint_of_bfloat16(clip: Clip) -> str:
    """What would be faster where a processor multiplies bfloat16 and is given float32; "" elsewhere."""
    is_slow = str(clip.device) == "cpu" and clip.dtype == torch.float32 and multiplies_bfloat16()
    return ". On this processor `dtype=bfloat16` takes about half the time" if is_slow else ""


def check_embedding(clip: Clip, outputs: Outputs) -> None:
    """InputError where a soft prompt is to be saved that no text-to-image pipeline could read."""
    if outputs.embedding is not None and not isinstance(clip.tokenizer, BytePairTokenizer):
        raise InputError(
            f"no pipeline of diffusers reads the token embeddings of {clip.name!r} for `embedding`: leave it out, or invert "
            "on the CLIP that the pipeline was trained with"
        )


def raised(error: InputError) -> None:
    raise error


def loaded_judge(inverter: Inverter, name: str | None) -> Clip:
    """The model of that name, or the bundle's own judge; a note where it has none and the model judges itself."""
    if name is None and inverter.bundle.load_evaluator is None:
        complain(
            f"note: prompts are judged by {inverter.clip.name!r} itself, which they were optimized on: `judge` names another"
        )
    with progress("loading the judge"):
        return inverter.bundle.evaluator() if name is None else load_clip(name, inverter.clip.device, turns=inverter.clip.turns)


def round_trip(config: InvertConfig, inverter: Inverter, judge: Clip, images: int, options: DrawingOptions) -> RoundTrip:
    """The generator that is asked for, loaded, for that many images of a prompt; InputError where options do not suit it."""
    from invert.diffusion.roundtrip import RoundTrip
    from invert.methods.denoiser import load_generator, obstacle_to_soft_prompts

    with progress(f"loading {config.generator or inverter.bundle.generator or 'the generator'}"):
        drawing = load_generator(inverter.bundle, config.generator)
    drawing.check(options)
    obstacle = obstacle_to_soft_prompts(inverter.bundle, drawing)
    if obstacle and get_method(config.method).gives_soft_prompt:
        complain(f"note: {obstacle}")
    clip, seeds = inverter.clip, tuple(range(config.seed, config.seed + images))
    return RoundTrip(drawing, judge, seeds, partial(tokens_of, clip), obstacle, options)
