"""Soft prompts as files: token rows that diffusers takes up as pseudo-tokens of a prompt."""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import save
from torch import Tensor

from invert.files import write_output


def save_pseudo_tokens(rows: Tensor, path: Path, placeholder: str = "<picture>") -> None:
    """Write rows (L, D) as safetensors for diffusers: `pipeline.load_textual_inversion(path)`.

    A prompt then names them by the placeholder, which diffusers expands to all L rows. InputError
    where the file cannot be written.
    """
    write_output(path, save({placeholder: rows.detach().float().cpu().contiguous()}))
