"""Soft prompts as files: token embeddings that diffusers takes up as pseudo-tokens of a prompt."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from safetensors.torch import save
from torch import Tensor

from invert.errors import InputError
from invert.files import write_output

SDXL_KEYS = ("clip_l", "clip_g")  # of a file for SDXL's two text encoders, the narrower one first


def save_pseudo_tokens(
    embeddings: Tensor, path: Path, placeholder: str = "<picture>", widths: Sequence[int] | None = None
) -> None:
    """Write token embeddings as safetensors for diffusers: `pipeline.load_textual_inversion(path)`.

    Those of two joined models are written under "clip_l" and "clip_g", the wider one's under the latter. SDXL takes
    them up one after the other:

        state = safetensors.torch.load_file(path)
        pipeline.load_textual_inversion(
            state["clip_l"], token="<picture>", text_encoder=pipeline.text_encoder, tokenizer=pipeline.tokenizer)
        pipeline.load_textual_inversion(
            state["clip_g"], token="<picture>", text_encoder=pipeline.text_encoder_2, tokenizer=pipeline.tokenizer_2)

    Args:
        embeddings: (L, D); written as float32.
        path: the file.
        placeholder: what prompts name them by; diffusers expands it to all L.
        widths: of each model's part of D, where models are joined.

    Raises:
        InputError: the file cannot be written, or more than two models are joined.
    """
    check_models(len(widths or (0,)))
    if widths is None or len(widths) == 1:
        parts = {placeholder: embeddings}
    else:
        pair = sorted(embeddings.split(list(widths), -1), key=lambda part: part.shape[-1])
        parts = dict(zip(SDXL_KEYS, pair, strict=True))
    write_output(path, save({name: part.detach().float().cpu().contiguous() for name, part in parts.items()}))


def check_models(n_models: int) -> None:
    """InputError where soft prompts of so many joined models have no file that diffusers reads."""
    if n_models > len(SDXL_KEYS):
        raise InputError(f"`embedding` holds the soft prompts of two joined models at most, and {n_models} are joined")
