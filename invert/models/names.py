"""How models are named, and which name was perhaps meant."""

from __future__ import annotations

import difflib

DTYPES = ("float32", "float16", "bfloat16")

ALIASES = {"sdxl": "ViT-L-14/openai+ViT-bigG-14/laion2b_s39b_b160k"}  # SDXL's two text encoders, in its order

NAMES = (
    'picturebook, an open_clip name such as "ViT-L-14/openai", "hf:NAME", a folder that transformers or open_clip saved, '
    'or "ARCHITECTURE/checkpoint.pt"'
)


def similar(name: str) -> str:
    """A question to end a sentence with; "" where no name is close."""
    import open_clip

    known = ["picturebook", *("/".join(pair) for pair in open_clip.list_pretrained())]
    close = difflib.get_close_matches(name, known, 2, 0.5)
    return f" (did you mean {' or '.join(close)}?)" if close else ""
