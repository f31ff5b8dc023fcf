"""A short hash of everything that a model's text latents depend on: latents that are kept on disk are found again by it.

In: a `Clip`. Out: 16 hex digits, the same for one model with any number of threads. Tables, shares and token ids are
hashed as they are. The tower is seen in the latents of a few texts, which are rounded, because another summing order
changes their last bits. Each number that is rounded may fall on the other side for it, so there are few: projections of
the latents, each of which all coordinates take part in.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from invert.models.clip import Clip

# Texts that tell towers apart: short, because the tower runs them.
TEXTS = ("a photo of a red fox", "two small boats at night", "an oil painting", "the")
# Texts that tell tokenizers apart: what one cleans, lowers or splits otherwise than the next.
WRITTEN = (
    *TEXTS, "Two Small BOATS at Night", "rock 'n' roll, a t-shirt (worn); 3d-printed!",
    "rubik's cube: 1,024 pixels @ 50% &amp; more...",
    "snake_case,comma  and   spaces\ttab\nline", "CAFÉ Ångström, naïve café: “quoted” — 東京 🦊 ｆｕｌｌ",
)  # fmt: skip
PROJECTIONS = 16  # numbers that are looked at of each latent
STEP = 1e-3  # that they are rounded to
ROWS = 4096  # of a table that are hashed at once, so that no copy of all of it is made


def of_model(clip: Clip) -> str:
    """The hash of one model."""
    digest = hashlib.sha256()
    reads = clip.frame, ids_of(clip.tokenizer.encode), clip.ids_with_special_tokens(long_text(clip))
    digest.update(repr((str(clip.dtype), clip.context_length, *reads)).encode())
    seen = (projected(clip.encode_text(TEXTS)) / STEP).round().int()
    for table in (clip.token_embeddings, clip.tower.positions, seen):
        for rows in table.detach().split(ROWS):
            digest.update(rows.cpu().contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]


def of_joined(parts: Sequence[Clip], roots: Sequence[float]) -> str:
    """The hash of several models as one; roots: of their shares."""
    told = [(part.fingerprint, f"{root:.9f}") for part, root in zip(parts, roots, strict=True)]
    return hashlib.sha256(repr(told).encode()).hexdigest()[:16]


def ids_of(encode: Callable[[str], Sequence[int]]) -> list[tuple[int, ...]]:
    """What a tokenizer makes of the texts that tell them apart."""
    return [tuple(encode(text)) for text in WRITTEN]


def long_text(clip: Clip) -> str:
    """The short texts as often as they fit into the context; libraries warn of more."""
    text = " ".join(TEXTS)
    return " ".join([text] * max(1, clip.max_prompt_tokens // max(1, len(clip.tokenizer.encode(text)))))


def projected(latents: Tensor) -> Tensor:
    """Latents (N, E) → (N, PROJECTIONS) float64 on the CPU: their products with fixed unit vectors."""
    width = latents.shape[1]
    # Signs from a hash: torch promises the same random numbers only within one version.
    noise = hashlib.shake_256(b"signs").digest(PROJECTIONS * width)
    signs = torch.tensor(list(noise), dtype=torch.float64).remainder(2).mul(2).sub(1).view(PROJECTIONS, width)
    return latents.cpu().double() @ (signs / width**0.5).T
