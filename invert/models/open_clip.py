"""Adapter: an open_clip model, by architecture and tag or checkpoint, by folder, or as an object → `Clip`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.model import QuickGELU
from open_clip.pretrained import download_pretrained_from_url
from torch import nn

from invert.errors import InputError
from invert.models.checks import SAMPLES, check_files, check_finite, check_tokenizer, read_config, unsupported
from invert.models.clip import Clip
from invert.models.hub import Repository, fetch_first, quiet, unreachable
from invert.models.linear import frozen_projection
from invert.models.names import NAMES, similar
from invert.models.tokenizer import BytePairTokenizer
from invert.models.tower import Layer, TextTower, quick_gelu

CHECKPOINT_ENDINGS = (".pt", ".pth", ".bin", ".ckpt", ".safetensors")
CONFIG = "open_clip_config.json"
WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")  # the first that is there
IN_FOLDER = tuple((pattern,) for pattern in ("*.safetensors", "*.bin", "*.pth", "*.pt"))  # what open_clip looks for
# open_clip's name for a setting of a tag → its factory's.
PREPROCESSING = {
    "mean": "image_mean", "std": "image_std", "interpolation": "image_interpolation", "resize_mode": "image_resize_mode",
}  # fmt: skip


def load_named(name: str, device: torch.device, dtype: torch.dtype) -> Clip:
    """ "ARCHITECTURE/tag" or "ARCHITECTURE/checkpoint", the latter relative, absolute or below the root.

    Raises:
        InputError: there is no such model, its text tower is of another kind, or its weights cannot be reached or read.
    """
    architecture, tag = name.split("/", 1)
    if architecture in open_clip.list_models():
        check_config(name, architecture, open_clip.get_model_config(architecture) or {})
        file = next((path for path in (Path(tag).expanduser(), Path("/" + tag)) if path.is_file()), None)
        if file is not None:
            return _create(name, architecture, device, dtype, pretrained=str(file))
        if tag in open_clip.list_pretrained_tags_by_model(architecture):
            return _load_tag(name, architecture, tag, device, dtype)
        if tag.endswith(CHECKPOINT_ENDINGS):
            raise InputError(f"there is no checkpoint file {tag!r} for the model {name!r}: check the path")
    elif name.startswith((".", "/", "~")):
        raise InputError(f"there is no model folder {name!r}: check the path, or give {NAMES}")
    raise InputError(f"unknown model {name!r}{similar(name)}: give {NAMES}")


def load_folder(name: str, folder: Path, device: torch.device, dtype: torch.dtype) -> Clip:
    """What open_clip saved for the hub: open_clip_config.json and weights beside it.

    Raises:
        InputError: the text tower is of another kind, or files are missing or damaged.
    """
    config = read_config(name, folder / CONFIG).get("model_cfg")
    if not isinstance(config, dict) or not isinstance(config.get("text_cfg"), dict):
        raise InputError(f"{CONFIG} of the model {name!r} describes no model (`model_cfg`): download it again")
    check_config(name, folder.name, config)
    check_files(name, folder, [("weights", IN_FOLDER)])
    return _create(name, f"local-dir:{folder}", device, dtype)


def _load_tag(name: str, architecture: str, tag: str, device: torch.device, dtype: torch.dtype) -> Clip:
    settings = open_clip.pretrained.get_pretrained_cfg(architecture, tag)
    options = {theirs: settings[key] for key, theirs in PREPROCESSING.items() if key in settings}
    options["force_quick_gelu"] = bool(settings.get("quick_gelu"))  # trained with OpenAI's approximate GELU
    return _create(name, architecture, device, dtype, pretrained=str(_checkpoint(name, settings)), **options)


def _checkpoint(name: str, settings: dict[str, Any]) -> Path:
    """The file with the weights of a tag, downloaded where it is not in the cache."""
    where = settings.get("hf_hub")
    if not where:
        try:
            with quiet():
                return Path(download_pretrained_from_url(settings["url"]))
        except Exception as error:  # anything from OSError to the checksum's RuntimeError
            raise unreachable(name) from error
    repository, file = os.path.split(where)
    files = [file, str(Path(file).with_suffix(".safetensors"))] if file else list(WEIGHTS)
    return fetch_first(Repository(name, repository), sorted(files, key=lambda f: not f.endswith(".safetensors")))


def _create(name: str, model_name: str, device: torch.device, dtype: torch.dtype, **options: Any) -> Clip:
    """Through open_clip's own factory, which unpickles nothing but tensors and refuses to go without weights."""
    try:
        with quiet():
            model, preprocess = open_clip.create_model_from_pretrained(model_name, **options)
            tokenizer = open_clip.get_tokenizer(model_name)
    except Exception as error:  # the libraries raise anything from OSError to KeyError here
        raise InputError(
            f"the weights of {name!r} cannot be read: the file is damaged or of another architecture "
            "(OpenAI's own weights want an architecture that ends in -quickgelu)"
        ) from error
    return from_open_clip(name, model.to(device, dtype), preprocess, tokenizer=tokenizer)


def check_config(name: str, architecture: str, config: dict[str, Any]) -> None:
    """Whether `TextTower` computes the text tower of an open_clip configuration; asked before anything is downloaded.

    Raises:
        InputError: says of which kind it is.
    """
    text = config.get("text_cfg", {})
    tokenizer = text.get("hf_tokenizer_name")
    if "siglip" in architecture.lower() or "siglip" in str(tokenizer).lower():
        raise unsupported(name, "a SigLIP")
    if "multimodal_cfg" in config or text.get("embed_cls"):
        raise unsupported(name, "a CoCa")
    if text.get("hf_model_name"):
        raise unsupported(name, f"a CLIP with the text tower {text['hf_model_name']}")
    if text.get("no_causal_mask"):
        raise unsupported(name, "a CLIP whose text tower is not causal")
    if text.get("pool_type", "argmax") != "argmax":
        raise unsupported(name, f"a CLIP whose text tower is pooled by {text['pool_type']!r}")
    if tokenizer:
        raise unsupported(name, f"a CLIP with the tokenizer {tokenizer}")


def from_open_clip(
    name: str,
    model: Any,
    preprocess: Any,
    tokenizer: Any = None,
) -> Clip:
    """Adapt an open_clip CLIP or CustomTextCLIP.

    Args:
        name: what the model is called in results and errors.
        model: on its device already; its weights are frozen.
        preprocess: open_clip's evaluation transform.
        tokenizer: open_clip's SimpleTokenizer; None for the usual one.

    Raises:
        InputError: the text tower or the tokenizer is of another kind, or the weights are not finite.
    """
    model.eval().requires_grad_(False)
    text = getattr(model, "text", model)
    kind = _other_kind(text)
    if kind is not None:
        raise unsupported(name, kind)
    bpe = open_clip.tokenizer.SimpleTokenizer() if tokenizer is None else tokenizer
    if not hasattr(bpe, "decoder"):
        raise unsupported(name, f"a CLIP with the tokenizer {type(bpe).__name__}")
    check_finite(name, model)
    layers = [_layer(block) for block in text.transformer.resblocks]
    projection, table = frozen_projection(text.text_projection), text.token_embedding.weight
    tower = TextTower(table, text.positional_embedding, layers, text.ln_final, projection)
    start_id, end_id = bpe.sot_token_id, bpe.eot_token_id
    check_tokenizer(name, [bpe.encode(sample) for sample in SAMPLES], len(bpe.decoder), len(table), start_id, end_id)
    size = model.visual.image_size
    return Clip(
        name, tower, model.visual, preprocess, preprocess.transforms[-1],
        BytePairTokenizer(bpe.encode, bpe.decode, lambda token: bpe.decoder[token], start_id, end_id),
        size[0] if isinstance(size, tuple | list) else size,
        float(model.logit_scale.detach().exp()),
    )  # fmt: skip


def _other_kind(text: Any) -> str | None:
    """What keeps `TextTower` from computing what this open_clip text tower computes; None where it does."""
    blocks = getattr(getattr(text, "transformer", None), "resblocks", ())
    if not len(blocks) or not all(isinstance(getattr(block, "attn", None), nn.MultiheadAttention) for block in blocks):
        return f"a CLIP with a text tower of another library ({type(text).__name__})"
    if getattr(text, "cls_emb", None) is not None:
        return "a CoCa"
    if getattr(text, "attn_mask", None) is None:
        return "a CLIP whose text tower is not causal"
    pool = getattr(text, "pool_type", None) or getattr(text, "text_pool_type", "argmax")
    return None if pool == "argmax" else f"a CLIP whose text tower is pooled by {pool!r}"


def _layer(block: Any) -> Layer:
    attention, mlp = block.attn, block.mlp
    weights = (attention.in_proj_weight, attention.in_proj_bias, attention.out_proj.weight, attention.out_proj.bias)
    norms, scales = (block.ln_1, block.ln_2), (block.ls_1, block.ls_2)
    activation = quick_gelu if isinstance(mlp.gelu, QuickGELU) else mlp.gelu
    return Layer(norms, weights, (mlp.c_fc, mlp.c_proj), attention.num_heads, activation, scales)
