"""Which floating-point type a model's weights have, and which one is kept where half precision would lose something.

Weights and activations are in the model's own type. Latents, scores, token tables that are searched, soft prompts and
their optimizers are in float32: they are small, and what is compared or added up over many steps needs the digits.
"""

from __future__ import annotations

import torch
from torch import Tensor

from invert.errors import InputError
from invert.given import wrong
from invert.models.names import DTYPES


def parse_dtype(dtype: str | torch.dtype) -> torch.dtype:
    """The floating-point type of that name; a type of torch's own is taken as it is, float64 for checks too.

    Raises:
        InputError: it is none of DTYPES.
    """
    if isinstance(dtype, torch.dtype) and dtype.is_floating_point:
        return dtype
    if not isinstance(dtype, str | torch.dtype):
        raise wrong("dtype", dtype, f"one of {', '.join(DTYPES)}")
    name = str(dtype).removeprefix("torch.")
    if name not in DTYPES:
        raise InputError(f"unknown `dtype` {name!r}: choose one of {', '.join(DTYPES)}")
    found: torch.dtype = getattr(torch, name)
    return found


def at_least_float32(x: Tensor) -> Tensor:
    """x in float32, or as it is where it has more; differentiable."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def multiplies_bfloat16() -> bool:
    """Whether the processor has instructions for products of bfloat16; elsewhere they take longer than those of float32."""
    known = (getattr(torch.cpu, name, None) for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"))
    return any(supported() for supported in known if supported is not None)
