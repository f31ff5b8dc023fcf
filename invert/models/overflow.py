"""Latents and cosines that are not finite are told at once: a search would take them for prompts that it never reached.

Weights are finite, as `checks` makes sure of. So a number is infinite where activations leave what the type of the
weights holds: 65504 in float16. Values are looked at where they are about to be copied from the device anyhow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from invert.errors import InputError

if TYPE_CHECKING:
    from invert.models.clip import Clip

WIDER = 'take `dtype="bfloat16"`'


def checked(values: Tensor, clip: Clip) -> Tensor:
    """Latents or cosines of a model, as they are.

    Raises:
        InputError: one of them is not finite; says what to do.
    """
    if not values.isfinite().all():
        raise overflow(clip)
    return values


def overflow(clip: Clip) -> InputError:
    """The error for a model that gives numbers which are not finite."""
    if clip.dtype == torch.float16:
        return InputError(f"float16 overflows in the model {clip.name!r}: {WIDER}")
    kind = str(clip.dtype).removeprefix("torch.")
    return InputError(f"{kind} overflows in the model {clip.name!r}, so its weights are damaged: download it again")
