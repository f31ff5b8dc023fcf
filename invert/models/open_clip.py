"""Adapter: an open_clip model, by architecture and tag or checkpoint, by folder, or as an object → `Clip`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import open_clip
import torch
from torch import nn

from invert.errors import InputError
from invert.models.clip import Clip, Tokenizer
from invert.models.hub import quiet
from invert.models.linear import frozen_projection
from invert.models.names import NAMES, similar
from invert.models.tower import Layer, TextTower

CHECKPOINT_ENDINGS = (".pt", ".pth", ".bin", ".ckpt", ".safetensors")


def load_pretrained(name: str, device: torch.device, dtype: torch.dtype) -> Clip:
    """ "ARCHITECTURE/tag" or "ARCHITECTURE/checkpoint", the latter relative, absolute or below the root."""
    architecture, tag = name.split("/", 1)
    if architecture in open_clip.list_models():
        file = next((path for path in (Path(tag).expanduser(), Path("/" + tag)) if path.is_file()), None)
        if file is not None:
            return load_open_clip(name, architecture, str(file), False, device, dtype)
        if tag in open_clip.list_pretrained_tags_by_model(architecture):
            quick = bool(open_clip.pretrained.get_pretrained_cfg(architecture, tag).get("quick_gelu"))
            return load_open_clip(name, architecture, tag, quick, device, dtype)
        if tag.endswith(CHECKPOINT_ENDINGS):
            raise InputError(f"there is no checkpoint file {tag!r} for {architecture}: check the path")
    elif name.startswith((".", "/", "~")):
        raise InputError(f"there is no model folder {name!r}: check the path, or give {NAMES}")
    raise InputError(f"unknown model {name!r}{similar(name)}: give {NAMES}")


def load_open_clip(
    name: str, model_name: str, pretrained: str | None, quick: bool, device: torch.device, dtype: torch.dtype
) -> Clip:
    """Through open_clip's own factory, which unpickles nothing but tensors.

    quick: the weights were trained with OpenAI's approximate GELU.
    """
    local = pretrained is None or Path(pretrained).is_file()
    try:
        with quiet(local):
            model, _, preprocess = open_clip.create_model_and_transforms(
                model_name, pretrained=pretrained, force_quick_gelu=quick
            )
            tokenizer = open_clip.get_tokenizer(model_name)
    except Exception as error:  # the libraries raise anything from OSError to KeyError here
        raise InputError(_unusable(name, local)) from error
    return from_open_clip(name, model.to(device, dtype), preprocess, tokenizer=tokenizer)


def _unusable(name: str, local: bool) -> str:
    if local:
        return (
            f"the weights of {name!r} cannot be read: the file is damaged or of another architecture "
            "(OpenAI's own weights want an architecture that ends in -quickgelu)"
        )
    return (
        f"the weights of {name!r} cannot be reached: download them on a connected machine and give the "
        "folder or checkpoint (ARCHITECTURE/path.pt), or use --model picturebook"
    )


def from_open_clip(
    name: str,
    model: Any,
    preprocess: Any,
    known_tokens: tuple[int, ...] | None = None,
    tokenizer: Any = None,
) -> Clip:
    """Adapt an open_clip CLIP or CustomTextCLIP; InputError where its text tower is of another kind."""
    model.eval().requires_grad_(False)
    text = getattr(model, "text", model)
    if not _is_causal_clip(text):
        raise InputError(f"the text tower of {name!r} is not a causal CLIP transformer: choose another model")
    layers = [_layer(block) for block in text.transformer.resblocks]
    projection = frozen_projection(text.text_projection)
    tower = TextTower(text.token_embedding.weight, text.positional_embedding, layers, text.ln_final, projection)
    bpe = tokenizer if hasattr(tokenizer, "decoder") else open_clip.tokenizer.SimpleTokenizer()
    size = model.visual.image_size
    return Clip(
        name, tower, model.visual, preprocess, preprocess.transforms[-1],
        Tokenizer(bpe.encode, bpe.decode, lambda token: bpe.decoder[token], bpe.sot_token_id, bpe.eot_token_id),
        size[0] if isinstance(size, tuple | list) else size,
        float(model.logit_scale.detach().exp()), known_tokens,
    )  # fmt: skip


def _is_causal_clip(text: Any) -> bool:
    """Whether `TextTower` computes what this open_clip text tower computes."""
    blocks = getattr(getattr(text, "transformer", None), "resblocks", ())
    causal = getattr(text, "attn_mask", None) is not None and getattr(text, "cls_emb", None) is None
    pool = getattr(text, "pool_type", None) or getattr(text, "text_pool_type", "argmax")
    return len(blocks) > 0 and causal and pool == "argmax" and all(isinstance(b.attn, nn.MultiheadAttention) for b in blocks)


def _layer(block: Any) -> Layer:
    attention, mlp = block.attn, block.mlp
    weights = (attention.in_proj_weight, attention.in_proj_bias, attention.out_proj.weight, attention.out_proj.bias)
    norms, scales = (block.ln_1, block.ln_2), (block.ls_1, block.ls_2)
    return Layer(norms, weights, (mlp.c_fc, mlp.c_proj), attention.num_heads, mlp.gelu, scales)
