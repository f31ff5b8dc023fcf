"""Latents, cosines and logits that are not finite are told at once: a search would take them for prompts that it never
reached, and decode a caption from them all the same.

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


def checked_logits(logits: Tensor, called: str, dtype: torch.dtype) -> Tensor:
    """What a language model or a captioner says of each next token, (…, V), as it is.

    called: what messages call the model, as in "the captioner 'hf:NAME'". dtype: of its weights.

    Raises:
        InputError: the best of them is no finite number; others may be −∞ on purpose.
    """
    if not logits.amax(-1).isfinite().all():
        raise _overflow_in(called, dtype)
    return logits


def overflow(clip: Clip) -> InputError:
    """The error for a model that gives numbers which are not finite."""
    return _overflow_in(f"the model {clip.name!r}", clip.dtype)


def _overflow_in(called: str, dtype: torch.dtype) -> InputError:
    if dtype == torch.float16:
        return InputError(f"float16 overflows in {called}: {WIDER}")
    kind = str(dtype).removeprefix("torch.")
    return InputError(f"{kind} overflows in {called}, so its weights are damaged: download it again")
