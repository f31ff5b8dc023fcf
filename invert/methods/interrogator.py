"""CLIP Interrogator itself: the published package (extra `compare`), run on our model and counted.

It gets our CLIP through its own Config, the bundle's label lists where there are some, the same target
latent as every other method in place of its image features (with `target="raw"` they are the same
vector), and a retrieved caption where its captioner BLIP is not wanted. Its text encoder runs as it really
does: all 77 positions of every phrase. Source: github.com/pharmapsychotic/clip-interrogator.
"""

from __future__ import annotations

import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from invert.budget import Budget
from invert.bundle import ModelBundle
from invert.cache import cache_folder
from invert.config import InvertConfig
from invert.errors import InputError, MissingExtraError
from invert.history import History
from invert.methods.configs import NoConfig
from invert.methods.labels import MISSING, LabelTables
from invert.methods.task import InversionOutput, InversionTask
from invert.models.clip import Clip
from invert.models.tokenizer import BytePairTokenizer
from invert.silence import no_warnings

POSITIONS = 77  # of the rows that the package tokenizes phrases into
CHUNK = 4096  # phrases ranked at once: above the length of picturebook's lists, so that none is truncated


class BudgetSpent(Exception):
    """Raised inside the package, which knows no budget, to leave it."""


class CountedClip:
    """What the package calls on an open_clip model, answered by one of ours and charged to a budget."""

    def __init__(self, clip: Clip) -> None:
        self.clip = clip
        self.budget, self.history = Budget(), History()  # building the tables is charged here, not to an image
        self.target: Tensor | None = None
        self.sign = 1.0  # −1 while the least similar phrases are wanted

    def to(self, _device: object) -> CountedClip:
        """The package moves the model about; ours stays where it is."""
        return self

    def begin(self, task: InversionTask, sign: float) -> None:
        self.target, self.budget, self.history, self.sign = task.target, task.budget, task.history, sign

    def encode_image(self, pixels: Tensor) -> Tensor:
        """The target latent (B, E), which `Inverter` made from this very image. A copy: it gets overwritten."""
        assert self.target is not None
        return self.target.repeat(len(pixels), 1)

    @torch.no_grad()
    def encode_text(self, tokens: Tensor) -> Tensor:
        """tokens (B, 77), padded with zeros → latents (B, E) by way of all 77 positions."""
        if self.budget.exhausted:
            raise BudgetSpent
        self.budget.spend(forward=tokens.numel())
        with self.clip.tower.held() as tower:
            hidden = tower.hidden(tower.embed(tokens), len(tower.layers))
            pooled = hidden[torch.arange(len(tokens), device=tokens.device), tokens.argmax(1)]
            latents = tower.projection(tower.final_norm(pooled))
        if self.target is not None:
            self._report(tokens, F.normalize(latents.float(), dim=1) @ self.target)
        return latents

    def _report(self, tokens: Tensor, similar: Tensor) -> None:
        """Report the best phrase of a batch, so that an interrupt or a spent budget keeps it."""
        best = int((self.sign * similar).argmax())
        score = float(similar[best])
        if self.sign * score > self.history.best_objective:
            ids = tokens[best].tolist()
            text = self.clip.tokenizer.decode(ids[1 : ids.index(self.clip.frame.after[0])]).replace(" ,", ",").strip()
            self.history.report_candidate(text, self.sign * score)
            self.history.record("interrogator", len(self.history.entries), score, text)


def best(task: InversionTask, config: NoConfig) -> InversionOutput:
    """Its default mode: a chain of phrases, against the fast and the classic prompt."""
    return interrogate(task, "interrogate")


def fast(task: InversionTask, config: NoConfig) -> InversionOutput:
    return interrogate(task, "interrogate_fast")


def classic(task: InversionTask, config: NoConfig) -> InversionOutput:
    return interrogate(task, "interrogate_classic")


def negative(task: InversionTask, config: NoConfig) -> InversionOutput:
    """The phrases least like the image, for a negative prompt."""
    return interrogate(task, "interrogate_negative")


def interrogate(task: InversionTask, mode: str) -> InversionOutput:
    """Run one mode of the package on the task's image; InputError without an image."""
    if len(task.clip.table_widths) > 1:
        raise InputError('CLIP Interrogator reads one CLIP and not several joined: use `method` "interrogator-lite"')
    if not task.images:
        raise InputError("CLIP Interrogator reads images only: give an image, or use another `method` for a text")
    # The package captions by itself unless the bundle or the user brings captions.
    captioned = task.bundle.labels is not None or bool(task.config.corpus) or bool(task.captions)
    package, model = interrogator(task.bundle, captioned)
    sign = -1.0 if mode == "interrogate_negative" else 1.0
    model.begin(task, sign)
    options = {}
    if captioned and sign > 0:
        given = task.captions[:1] or [task.encoded_corpus().nearest(task.target, 1)[0][0]]
        options["caption"] = given[0]
    try:
        with no_warnings():  # the package has one for every call into torch.cuda.amp
            prompt = getattr(package, mode)(task.images[0], **options)
    except BudgetSpent:
        prompt = task.history.best_prompt or options.get("caption", "")
    return InversionOutput([(prompt, task.scorer().score_text(prompt))])


def prepare(bundle: ModelBundle, config: InvertConfig) -> None:
    """Encode the tables and, where the bundle brings captions, those."""
    interrogator(bundle, captioned=bundle.labels is not None or bool(config.corpus) or config.caption is not None)
    if bundle.labels is not None:
        _ = bundle.encoded_corpus


def interrogator(bundle: ModelBundle, captioned: bool) -> tuple[Any, CountedClip]:
    """The package's Interrogator over a model, its tables encoded once, and the model as it sees it.

    captioned: whether it is given a caption with each image, and does without BLIP.

    Raises:
        MissingExtraError: the package is not installed.
        InputError: the model reads other tokens than the package writes.
        InputError: BLIP is needed and cannot be loaded.
    """
    clip = bundle.clip
    if not isinstance(clip.tokenizer, BytePairTokenizer) or clip.frame.length is not None or clip.context_length < POSITIONS:
        raise InputError(
            f"CLIP Interrogator writes rows of {POSITIONS} of CLIP's tokens, which {clip.name!r} does not read: "
            'use `method="interrogator-lite"`'
        )
    return bundle.once(f"interrogator, captioned: {captioned}", lambda: _build(bundle, captioned))


def _build(bundle: ModelBundle, captioned: bool) -> tuple[Any, CountedClip]:
    try:
        with no_warnings():
            import clip_interrogator
    except ImportError as error:
        raise MissingExtraError(MISSING) from error
    clip, labels = bundle.clip, bundle.labels
    model = CountedClip(clip)
    config = clip_interrogator.Config(
        download_cache=False, chunk_size=CHUNK, device=clip.device.type, quiet=True, cache_path=None
    )
    config.clip_model, config.clip_preprocess = model, clip.preprocess
    if captioned:
        config.caption_model_name = None
    with tempfile.TemporaryDirectory() as folder, no_warnings():
        if labels is None:
            return own_lists(clip_interrogator, config, clip), model
        config.data_path = write_lists(labels, Path(folder))
        package = clip_interrogator.Interrogator(config)
        # Two of its lists can only be replaced afterwards: it puts "by" before every artist, and the sites
        # of "trending on …" stand in its code.
        package.artists = clip_interrogator.LabelTable(list(labels.artists), "artists", package)
        package.trendings = clip_interrogator.LabelTable(list(labels.trendings), "trendings", package)
    return package, model


def own_lists(module: Any, config: Any, clip: Clip) -> Any:
    """The package as its users know it: its own lists, their latents cached on disk."""
    config.clip_model_name = clip.name if "/" in clip.name else "ViT-L-14/openai"
    config.cache_path = str(cache_folder() / "interrogator" / tables_name(clip))
    try:
        return module.Interrogator(config)
    except OSError as error:
        raise InputError(
            "CLIP Interrogator's captioner BLIP cannot be reached: download Salesforce/blip-image-captioning-large "
            "on a connected machine into the Hugging Face cache, give captions as `corpus`, or use "
            '`method="interrogator-lite"`'
        ) from error


def tables_name(clip: Clip) -> str:
    """What the package's tables of a model are kept under: latents of another precision are others."""
    precision = "" if clip.dtype == torch.float32 else f"_{str(clip.dtype).removeprefix('torch.')}"
    return clip.name.replace("/", "_").replace(":", "_") + precision


def write_lists(labels: LabelTables, folder: Path) -> str:
    """The files that the package reads its lists from."""
    for name, phrases in asdict(labels).items():
        (folder / f"{name}.txt").write_text("\n".join(phrases), encoding="utf-8")
    return str(folder)
