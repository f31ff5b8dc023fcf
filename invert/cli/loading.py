"""What the command loads before its work: the model, its judge, a generator, the negative."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING

from PIL import Image

from invert.cli.batch import Job, Subject, read_subjects
from invert.cli.interrupts import Interrupts
from invert.cli.options import Options, listed
from invert.cli.outputs import Outputs
from invert.cli.sources import expanded
from invert.cli.terminal import progress
from invert.config import InvertConfig
from invert.errors import InputError
from invert.images import load_image, looks_like_image
from invert.inverter import Inverter
from invert.models.clip import Clip
from invert.models.loading import load_clip
from invert.result import tokens_of

if TYPE_CHECKING:
    from invert.diffusion.roundtrip import RoundTrip

COMPARED = 4  # images of each prompt that `select` draws, where `generate` asks for no number


def prepare(
    options: Options, config: InvertConfig, outputs: Outputs, groups: list[list[str]], interrupts: Interrupts
) -> tuple[Job, Iterable[Subject]]:
    """The job with everything loaded, and the subjects that it will go through."""
    negative = negative_of(options.negative)
    inverter = loaded(options.model, options.device, options.gap_images)
    others = listed(options.compare or "")
    judge = loaded_judge(inverter.clip, options.judge) if others or outputs.draws else None
    drawing = round_trip(config, inverter, judge, options.generate or COMPARED) if outputs.draws and judge else None
    job = Job(config, (options.method, *others), inverter, outputs, interrupts, negative, judge, drawing)
    if options.text is not None:
        return job, [Subject("the text", [], options.text)]
    return job, read_subjects(groups, job)


def negative_of(negative: str | None) -> Image.Image | str | None:
    """The image that is named, read once; else the prompt."""
    return load_image(negative) if negative is not None and looks_like_image(negative) else negative


def loaded(model: str, device: str | None, gap_images: str | None) -> Inverter:
    """The model, with its modality gap measured where example images are given."""
    with progress(f"loading {model}"):
        inverter = Inverter.load(model, device)
    if gap_images is not None:
        inverter.measure_gap(expanded([gap_images], raised))
    return inverter


def raised(error: InputError) -> None:
    raise error


def loaded_judge(clip: Clip, name: str | None) -> Clip:
    """The model of that name; else picturebook's own judge for picturebook, while any other model has to judge itself."""
    if name is None and clip.name != "picturebook":
        return clip
    with progress("loading the judge"):
        return load_clip(name or "picturebook-judge", clip.device)


def round_trip(config: InvertConfig, inverter: Inverter, judge: Clip, images: int) -> RoundTrip:
    """The generator that is asked for, loaded, for that many images of a prompt."""
    from invert.diffusion.generator import Generator  # with it comes diffusers, a slow import
    from invert.diffusion.roundtrip import RoundTrip

    with progress(f"loading {config.generator}"):
        drawing = Generator.load(config.generator, inverter.clip.device)
    clip, seeds = inverter.clip, tuple(range(config.seed, config.seed + images))
    reads_soft_prompts = drawing.shares_token_embeddings(clip, inverter.vocabulary().token_ids)
    return RoundTrip(drawing, judge, seeds, partial(tokens_of, clip), reads_soft_prompts)
