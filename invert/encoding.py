"""Many prompts → their unit latents, in chunks that are kept on disk each, within a limit of time.

A corpus may have a million prompts. What was encoded before a run's time was up is used for it, and what is
whole on disk is not encoded again at the next one. Progress goes to the log.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch

from invert.cache import cache_folder, keep_arrays, read_arrays

if TYPE_CHECKING:
    from torch import Tensor

    from invert.models.clip import Clip

log = logging.getLogger(__name__)
CHUNK = 16_384  # prompts of one file
BATCH = 256  # prompts between two looks at the clock: as many as `Clip.encode_text` runs at once
GOLDEN_RATIO = 0.6180339887498949  # the fractions of its multiples spread evenly


def encode_prompts(clip: Clip, prompts: Sequence[str], exhausted: Callable[[], bool] = lambda: False) -> tuple[list[int], Tensor]:
    """Indices (n) of the prompts that were encoded, ascending, and their unit latents (n, E) float32 on the model's device.

    All of them, unless time is up: then those that were reached, one batch at least.
    """
    indices: list[int] = []
    parts: list[Tensor] = []
    for start in range(0, len(prompts), CHUNK):
        chunk = prompts[start : start + CHUNK]
        found, latents = _encoded_chunk(clip, chunk, exhausted)
        indices += [start + i for i in found]
        parts.append(latents)
        if len(prompts) > CHUNK:
            log.info("encoded %s of %s prompts of the corpus", f"{len(indices):,}", f"{len(prompts):,}")
        if exhausted() or len(found) < len(chunk):
            break
    if len(indices) < len(prompts):
        log.warning(
            "time was up when %s of %s prompts of the corpus were encoded: the rest is left out", len(indices), len(prompts)
        )
    return indices, torch.cat(parts)


def _encoded_chunk(clip: Clip, prompts: Sequence[str], exhausted: Callable[[], bool]) -> tuple[list[int], Tensor]:
    """The same for one chunk, from its file where that is there."""
    file = cache_folder() / f"{_digest(clip, prompts)}.corpus.npz"
    arrays = read_arrays(file)
    if arrays is not None and set(arrays) == {"latents"} and len(arrays["latents"]) == len(prompts):
        return list(range(len(prompts))), torch.from_numpy(arrays["latents"]).to(clip.device)
    found, latents = _encode(clip, prompts, exhausted)
    if len(found) == len(prompts):
        keep_arrays(file, {"latents": latents.cpu().numpy()})
    return found, latents


def _encode(clip: Clip, prompts: Sequence[str], exhausted: Callable[[], bool]) -> tuple[list[int], Tensor]:
    """Prompts of like length together, and short and long batches in turn: what is left out is of no one kind."""
    lengths = [min(len(clip.tokenizer.encode(prompt)), clip.max_prompt_tokens) for prompt in prompts]
    order = sorted(range(len(prompts)), key=lambda i: lengths[i])
    batches = [order[i : i + BATCH] for i in range(0, len(order), BATCH)]
    found: list[int] = []
    parts: list[Tensor] = []
    for number in sorted(range(len(batches)), key=lambda i: i * GOLDEN_RATIO % 1):
        found += batches[number]
        parts.append(clip.encode_text([prompts[i] for i in batches[number]]).float())
        if exhausted():
            break
    ascending = torch.tensor(found, device=parts[0].device).argsort()
    return sorted(found), torch.cat(parts)[ascending]


def _digest(clip: Clip, prompts: Sequence[str]) -> str:
    """Of what the latents depend on: the prompts, and the model and its precision, as seen in a few of their latents."""
    probe = clip.encode_text(prompts[:4]).float().cpu()
    seen = (probe * 1e4).round().int().numpy().tobytes()
    precision = b"" if clip.dtype == torch.float32 else str(clip.dtype).encode()
    return hashlib.sha256("\n".join(prompts).encode() + seen + precision).hexdigest()[:16]
