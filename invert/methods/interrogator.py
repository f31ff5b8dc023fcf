"""CLIP Interrogator itself: the published package (extra `compare`), run on our model and counted.

It gets our CLIP through its own Config, label lists that cover picturebook's world, the same target
latent as every other method in place of its image features (with `target=raw` they are the same
vector), and a retrieved caption where its captioner BLIP cannot come along. Its text encoder runs as
it really does: all 77 positions of every phrase. Source: github.com/pharmapsychotic/clip-interrogator.
"""

from __future__ import annotations

import tempfile
import warnings
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from invert.cache import cache_folder
from invert.corpus import encoded_corpus
from invert.errors import InputError
from invert.meter import Meter
from invert.methods import Problem, Solution
from invert.methods.labels import MISSING, Labels, picturebook_labels
from invert.methods.tokens import score_text
from invert.models.clip import Clip

CHUNK = 4096  # phrases ranked at once: above the length of picturebook's lists, so that none is cut


class BudgetSpent(Exception):
    """Raised inside the package, which knows no budget, to leave it."""


class CountedClip:
    """What the package calls on an open_clip model, answered by one of ours and charged to a meter."""

    def __init__(self, clip: Clip) -> None:
        self.clip = clip
        self.meter = Meter()  # building the tables is charged here, not to an image
        self.target: Tensor | None = None
        self.sign = 1.0  # −1 while the least similar phrases are wanted

    def to(self, _device: object) -> CountedClip:
        """The package moves the model about; ours stays where it is."""
        return self

    def begin(self, problem: Problem, sign: float) -> None:
        self.target, self.meter, self.sign = problem.target, problem.meter, sign

    def encode_image(self, pixels: Tensor) -> Tensor:
        """The target latent (B, E), which `Inverter` made from this very image. A copy: it gets overwritten."""
        assert self.target is not None
        return self.target.repeat(len(pixels), 1)

    @torch.no_grad()
    def encode_text(self, tokens: Tensor) -> Tensor:
        """tokens (B, 77), padded with zeros → latents (B, E) by way of all 77 positions."""
        if self.meter.exhausted:
            raise BudgetSpent
        self.meter.spend(forward=tokens.numel())
        tower = self.clip.tower
        hidden = tower.hidden(tower.embed(tokens), len(tower.layers))
        pooled = hidden[torch.arange(len(tokens), device=tokens.device), tokens.argmax(1)]
        latents = tower.projection(tower.final_norm(pooled))
        if self.target is not None:
            self._offer(tokens, F.normalize(latents.float(), dim=1) @ self.target)
        return latents

    def _offer(self, tokens: Tensor, similar: Tensor) -> None:
        """Tell the meter the best phrase of a batch, so that an interrupt or a spent budget keeps it."""
        best = int((self.sign * similar).argmax())
        score = float(similar[best])
        if self.sign * score > self.meter.best_value:
            row = tokens[best].tolist()
            text = self.clip.tokenizer.decode(row[1 : row.index(self.clip.end_id)]).replace(" ,", ",").strip()
            self.meter.offer(text, self.sign * score)
            self.meter.record("interrogator", len(self.meter.trace), score, text)


def best(problem: Problem) -> Solution:
    """Its default mode: a chain of phrases, against the fast and the classic prompt."""
    return interrogate(problem, "interrogate")


def fast(problem: Problem) -> Solution:
    return interrogate(problem, "interrogate_fast")


def classic(problem: Problem) -> Solution:
    return interrogate(problem, "interrogate_classic")


def negative(problem: Problem) -> Solution:
    """The phrases least like the image, for a negative prompt."""
    return interrogate(problem, "interrogate_negative")


def interrogate(problem: Problem, mode: str) -> Solution:
    """Run one mode of the package on the problem's image; raises InputError without an image."""
    if not problem.images:
        raise InputError("CLIP Interrogator reads images only: give an image, or use another --method with --text")
    package, model = interrogator(problem.clip)
    sign = -1.0 if mode == "interrogate_negative" else 1.0
    model.begin(problem, sign)
    options = {}
    if problem.clip.known_tokens is not None and sign > 0:
        options["caption"] = encoded_corpus(problem.clip).nearest(problem.target, 1)[0][0]
    try:
        with quietly():
            prompt = getattr(package, mode)(problem.images[0], **options)
    except BudgetSpent:
        prompt = problem.meter.best_prompt
    return Solution([(prompt, score_text(problem, prompt))])


class quietly(warnings.catch_warnings):
    """Silence the package's deprecation warnings, one for every call into torch.cuda.amp."""

    def __enter__(self) -> Any:
        entered = super().__enter__()
        warnings.simplefilter("ignore")
        return entered


@lru_cache(maxsize=2)
def interrogator(clip: Clip) -> tuple[Any, CountedClip]:
    """The package's Interrogator over a model, its tables encoded once, and the model as it sees it.

    Raises InputError where the package is missing, or where BLIP is needed and cannot be loaded.
    """
    try:
        with quietly():
            import clip_interrogator
    except ImportError as error:
        raise InputError(MISSING) from error
    model = CountedClip(clip)
    config = clip_interrogator.Config(
        download_cache=False, chunk_size=CHUNK, device=clip.device.type, quiet=True, cache_path=None
    )
    config.clip_model, config.clip_preprocess = model, clip.preprocess
    with tempfile.TemporaryDirectory() as folder, quietly():
        if clip.known_tokens is None:
            return own_lists(clip_interrogator, config, clip), model
        labels = picturebook_labels()
        config.caption_model_name, config.data_path = None, write_lists(labels, Path(folder))
        package = clip_interrogator.Interrogator(config)
        # Two of its lists can only be replaced afterwards: it puts "by" before every artist, and the sites
        # of "trending on …" stand in its code.
        package.artists = clip_interrogator.LabelTable(list(labels.artists), "artists", package)
        package.trendings = clip_interrogator.LabelTable(list(labels.trendings), "trendings", package)
    return package, model


def own_lists(module: Any, config: Any, clip: Clip) -> Any:
    """The package as its users know it: its own lists, their latents cached on disk, captions by BLIP."""
    config.clip_model_name = clip.name if "/" in clip.name else "ViT-L-14/openai"
    config.cache_path = str(cache_folder() / "interrogator" / clip.name.replace("/", "_").replace(":", "_"))
    try:
        return module.Interrogator(config)
    except OSError as error:
        raise InputError(
            "CLIP Interrogator's captioner BLIP cannot be reached: download Salesforce/blip-image-captioning-large "
            "on a connected machine into the Hugging Face cache, or use --method interrogator-lite"
        ) from error


def write_lists(labels: Labels, folder: Path) -> str:
    """The files that the package reads its lists from."""
    for name, phrases in asdict(labels).items():
        (folder / f"{name}.txt").write_text("\n".join(phrases), encoding="utf-8")
    return str(folder)
