"""Soft prompts as files: token embeddings that diffusers takes up as pseudo-tokens of a prompt."""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import save
from torch import Tensor

from invert.files import write_output


def save_pseudo_tokens(embeddings: Tensor, path: Path, placeholder: str = "<picture>") -> None:
    """Write token embeddings as safetensors for diffusers: `pipeline.load_textual_inversion(path)`.

    Args:
        embeddings: (L, D); written as float32.
        path: the file.
        placeholder: what prompts name them by; diffusers expands it to all L.

    Raises:
        InputError: the file cannot be written.
    """
    write_output(path, save({placeholder: embeddings.detach().float().cpu().contiguous()}))
