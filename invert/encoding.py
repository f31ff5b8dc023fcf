"""Many prompts → their unit latents, a few hundred at a time, each few hundred kept on disk in half precision.

A corpus may have a million prompts, and a large tower takes a minute for a few thousand. So whatever was encoded stays: a
run that is stopped, or whose time is up, has lost nothing, the next one goes on, and a list that grew is encoded where it
is new. What begins alike is run once. Whoever shows progress asks for it by `reporting`.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from invert.cache import cache_folder, keep_arrays, read_arrays
from invert.given import sound
from invert.latents import LatentTable, Part
from invert.models.overflow import checked
from invert.together import latents_of_rows

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from invert.models.clip import Clip

log = logging.getLogger(__name__)
CHUNK = 256  # prompts of one file, between two looks at the clock
MOST_IN_MEMORY = 131_072  # prompts of a list whose latents are held in memory; of longer ones they stay in the files
LOGGED = 16_384  # prompts between two lines of the log
UNIT = 0.02  # by which the length of a latent in half precision may differ from 1
GOLDEN_RATIO = 0.6180339887498949  # the fractions of its multiples spread evenly

Exhausted = Callable[[], bool]
Report = Callable[[int, int], None]  # prompts of a list that are encoded, and all
_report: ContextVar[Report | None] = ContextVar("report", default=None)


def never() -> bool:
    """Time is never up."""
    return False


def until(moment: float) -> Exhausted:
    """Time is up at that moment of `time.perf_counter`."""
    return lambda: time.perf_counter() >= moment


@contextmanager
def reporting(report: Report) -> Iterator[None]:
    """Within the context `report` is told how far each list is encoded, unless all of it lies on disk."""
    token = _report.set(report)
    try:
        yield
    finally:
        _report.reset(token)


@dataclass(frozen=True)
class Chunk:
    """Consecutive prompts of a list, the index of the first, and the file that their latents are kept in."""

    clip: Clip
    begin: int
    prompts: Sequence[str]
    file: Path

    def on_disk(self) -> Tensor | None:
        """Latents (n, E) float16 on the CPU; None where no whole file of them is there."""
        arrays = read_arrays(self.file)
        if arrays is None or set(arrays) != {"latents"}:
            return None
        return unit_latents(arrays["latents"], len(self.prompts))

    def encoded(self) -> tuple[Tensor, bool]:
        """The latents computed, and whether they are kept on disk now."""
        latents = encode(self.clip, self.prompts).half().cpu()
        return latents, keep_arrays(self.file, {"latents": latents.numpy()})

    def read(self) -> Tensor:
        """The latents from the file, or computed where it is gone."""
        found = self.on_disk()
        return self.encoded()[0] if found is None else found


def unit_latents(array: np.ndarray, n: int) -> Tensor | None:
    """An array of n unit latents (n, E) float16 as a tensor; None where it is none."""
    if array.dtype != "float16" or array.ndim != 2 or len(array) != n:
        return None
    latents = torch.from_numpy(array)
    lengths = latents.float().norm(dim=1)
    return latents if bool(((lengths - 1).abs() < UNIT).all()) else None  # nor where one is not finite


def encode_prompts(
    clip: Clip, prompts: Sequence[str], exhausted: Exhausted = never, in_order: bool = False
) -> tuple[list[int], LatentTable]:
    """Indices (n) of the prompts that were encoded, ascending, and their unit latents (n, E).

    All of them, unless time is up: then those that lie on disk and those that were reached, one chunk at least.

    Args:
        clip: the model.
        prompts: at least one.
        exhausted: whether time is up.
        in_order: begin with the first prompts; otherwise chunks come spread over the list, so that no kind is left out.
    """
    chunks = list(chunks_of(clip, prompts))
    parts: dict[int, Part] = {}
    for i, chunk in enumerate(chunks):
        if len(prompts) > MOST_IN_MEMORY:
            if chunk.file.exists():
                parts[i] = chunk.read
        elif (latents := chunk.on_disk()) is not None:
            parts[i] = latents
    missing = [i for i in range(len(chunks)) if i not in parts]
    missing.sort(key=lambda i: i if in_order else i * GOLDEN_RATIO % 1)
    done = sum(len(chunks[i].prompts) for i in parts)
    report = _report.get()
    for i in missing:
        if parts and exhausted():
            break
        if report is not None:
            report(done, len(prompts))
        latents, kept = chunks[i].encoded()
        parts[i] = chunks[i].read if kept and len(prompts) > MOST_IN_MEMORY else latents
        done += len(chunks[i].prompts)
        if done // LOGGED > (done - CHUNK) // LOGGED:
            log.info("encoded %s of %s prompts", f"{done:,}", f"{len(prompts):,}")
    if report is not None and missing:
        report(done, len(prompts))
    order = sorted(parts)
    indices = [chunks[i].begin + k for i in order for k in range(len(chunks[i].prompts))]
    return indices, LatentTable([parts[i] for i in order], [len(chunks[i].prompts) for i in order], clip.device)


def chunks_of(clip: Clip, prompts: Sequence[str]) -> Iterator[Chunk]:
    """The prompts in chunks, each with its file. InputError where one holds lone surrogates."""
    folder = cache_folder() / "latents" / clip.fingerprint
    for begin in range(0, len(prompts), CHUNK):
        part = sound("prompts", prompts[begin : begin + CHUNK])
        several_lines = any("\n" in prompt for prompt in part)
        text = json.dumps(part) if several_lines else "\n".join(part)  # so that no two lists are one
        name = hashlib.sha256(text.encode()).hexdigest()[:16]
        yield Chunk(clip, begin, part, folder / f"{name}.npz")


@torch.no_grad()
def encode(clip: Clip, prompts: Sequence[str]) -> Tensor:
    """Unit latents (n, E) float32 of prompts; what they have in common at their beginning is run once.

    Raises:
        InputError: a number overflows in the model's type.
    """
    if not clip.tower.shares_prefixes:
        return clip.encode_text(prompts).float()
    ids, eot = clip.tokenize(prompts)
    return checked(latents_of_rows(clip, ids.cpu(), eot.cpu()), clip)
