"""Which of open_clip's text towers are computed, told by a configuration before anything is built or downloaded.

A text tower is causal and read at end-of-text (CLIP, MetaCLIP 2, PE-Core), or bidirectional and read at its last, its
first or the prompt's last position (SigLIP, CLIPA, MobileCLIP). Other libraries' towers, captioners and changed blocks
are refused.
"""

from __future__ import annotations

from typing import Any

from torch import nn

AT_END = ("argmax", "eos")  # open_clip's names for reading a latent at the prompt's last token
FIXED = ("last", "first")  # and at a fixed place of the row
CHANGED_BLOCKS = ("block_type", "qk_norm", "scaled_cosine_attn", "scale_heads", "scale_attn_inner", "scale_attn", "scale_fc")


def unsupported_kind(config: dict[str, Any]) -> str | None:
    """What keeps the text tower of an open_clip configuration from being computed; None where nothing does."""
    text = config.get("text_cfg", {})
    if "multimodal_cfg" in config or text.get("embed_cls"):
        return "a CoCa"
    if text.get("hf_model_name"):
        return f"a CLIP with the text tower {text['hf_model_name']}"
    if any(text.get(key) for key in CHANGED_BLOCKS):
        return "a CLIP with changed transformer blocks"
    pool = text.get("pool_type", "argmax")
    subwords = bool(text.get("hf_tokenizer_name"))
    return _unsupported_reading(not text.get("no_causal_mask"), pool, bool(text.get("use_pad_mask")), subwords)


def unsupported_tower(text: Any, pool: str, causal: bool, subwords: bool) -> str | None:
    """The same of a text tower that is built. subwords: its tokenizer is none of CLIP's byte pairs."""
    blocks = getattr(getattr(text, "transformer", None), "resblocks", ())
    if not len(blocks) or not all(isinstance(getattr(block, "attn", None), nn.MultiheadAttention) for block in blocks):
        return f"a CLIP with a text tower of another library ({type(text).__name__})"
    if getattr(text, "cls_emb", None) is not None:
        return "a CoCa"
    return _unsupported_reading(causal, pool, bool(getattr(text, "use_pad_mask", False)), subwords)


def _unsupported_reading(causal: bool, pool: str, masks_padding: bool, subwords: bool) -> str | None:
    if masks_padding:
        return "a CLIP whose text tower masks its padding"
    if pool == "argmax" and subwords:  # the highest id ends a prompt in CLIP's vocabulary alone
        return "a CLIP whose text tower is pooled at the highest id of a foreign vocabulary"
    if pool in AT_END or (pool in FIXED and not causal):
        return None
    return f"a CLIP whose {'causal ' if causal else ''}text tower is pooled by {pool!r}"
