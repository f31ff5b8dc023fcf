"""`load_clip(name)` → a frozen `Clip`: images and prompts to unit latents, prompts also by embeddings.

Adapters turn open_clip models, transformers' CLIPModel and the bundled picturebook into the same
object; the text side is always our own `TextTower`. Names: "picturebook", "picturebook-judge",
open_clip's "ViT-L-14/openai" or "ViT-L-14/path/to/checkpoint.pt", "hf:openai/clip-vit-large-patch14"
or a local transformers folder.
"""

from __future__ import annotations

import difflib
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import open_clip
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from invert.errors import InputError
from invert.tower import Layer, TextTower, quick_gelu

NAMES = 'picturebook, an open_clip name such as "ViT-L-14/openai", "hf:NAME", or a local folder or checkpoint'
TEXT_BATCH = 256  # prompts in one forward


@dataclass(frozen=True)
class Tokenizer:
    """CLIP's byte-pair encoding without special tokens."""

    encode: Callable[[str], list[int]]
    decode: Callable[[list[int]], str]
    raw: Callable[[int], str]  # a token's own text, with "</w>" where a word ends


class Clip:
    """A frozen CLIP. All latents are unit vectors (…, E) on `device` in `dtype`."""

    def __init__(
        self,
        name: str,
        tower: TextTower,
        visual: Callable[[Tensor], Tensor],
        preprocess: Callable[[Image.Image], Tensor],
        normalise: Callable[[Tensor], Tensor],
        tokenizer: Tokenizer,
        image_size: int,
        logit_scale: float,
        known_tokens: tuple[int, ...] | None = None,
    ) -> None:
        """visual: normalised images (B, 3, S, S) → (B, E). normalise: pixels in 0..1 → the same, normalised."""
        self.name, self.tower, self.tokenizer = name, tower, tokenizer
        self.visual, self.preprocess, self.normalise = visual, preprocess, normalise
        self.image_size, self.logit_scale, self.known_tokens = image_size, logit_scale, known_tokens
        self.end_id = len(tower.table) - 1
        self.start_id = self.end_id - 1

    @property
    def token_embeddings(self) -> Tensor:
        """The token table (V, D)."""
        return self.tower.table

    @property
    def device(self) -> torch.device:
        return self.tower.table.device

    @property
    def dtype(self) -> torch.dtype:
        return self.tower.table.dtype

    @property
    def context_length(self) -> int:
        return len(self.tower.positions)

    def token_text(self, token: int) -> str:
        """The raw text of one token: "fox</w>"."""
        return self.tokenizer.raw(token)

    def embed(self, ids: Tensor) -> Tensor:
        """ids (…) int64 → token rows (…, D)."""
        return self.tower.embed(ids)

    def encode_embeddings(self, e: Tensor, eot: Tensor | None = None) -> Tensor:
        """Input embeddings (B, T, D), special rows included → unit latents (B, E), differentiable.

        eot: (B,) position of end-of-text; None: the last. Nothing after it is run.
        """
        return F.normalize(self.tower.encode(e, eot), dim=-1)

    def tokenize(self, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Prompts → ids (B, longest) int64 padded with end-of-text, and eot (B,); cut to the context."""
        rows = [[self.start_id, *self.tokenizer.encode(p)[: self.context_length - 2], self.end_id] for p in prompts]
        longest = max(map(len, rows))
        ids = torch.tensor([row + [self.end_id] * (longest - len(row)) for row in rows], device=self.device)
        return ids, torch.tensor([len(row) - 1 for row in rows], device=self.device)

    @torch.no_grad()
    def encode_text(self, prompts: Sequence[str]) -> Tensor:
        """Prompts → unit latents (B, E)."""
        if isinstance(prompts, str):
            prompts = [prompts]
        parts = []
        for i in range(0, len(prompts), TEXT_BATCH):
            ids, eot = self.tokenize(prompts[i : i + TEXT_BATCH])
            parts.append(self.encode_embeddings(self.embed(ids), eot))
        return torch.cat(parts)

    @torch.no_grad()
    def encode_image(self, images: Sequence[Image.Image] | Tensor) -> Tensor:
        """PIL images, or pixels (B, 3, S, S) in 0..1 of the model's own size → unit latents (B, E)."""
        if isinstance(images, Tensor):
            pixels = self.normalise(images.to(self.device, self.dtype))
        else:
            pixels = torch.stack([self.preprocess(image) for image in images]).to(self.device, self.dtype)
        return F.normalize(self.visual(pixels), dim=-1)


def pick_device(device: str | torch.device | None) -> torch.device:
    """The device asked for, else a GPU if there is one. InputError where it cannot be used."""
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"the device {str(device)!r} cannot be used here: try --device cpu") from error
    return torch.device(device)


def load_clip(name: str = "picturebook", device: str | torch.device | None = None, dtype: torch.dtype = torch.float32) -> Clip:
    """Load a model by name or path; InputError that says how to get weights that cannot be reached."""
    chosen = pick_device(device)
    if name in ("picturebook", "picturebook-judge"):
        from invert.picturebook import models

        model = models.load("judge" if name.endswith("judge") else "clip").to(chosen, dtype)
        return from_open_clip(name, model, models.preprocess(), models.known_tokens())
    if name.startswith("hf:") or (Path(name) / "config.json").is_file():
        return _load_transformers(name, chosen, dtype)
    if "/" in name:
        return _load_open_clip(name, chosen, dtype)
    raise InputError(f"unknown model {name!r}{_similar(name)}: give {NAMES}")


def _similar(name: str) -> str:
    known = ["picturebook", *("/".join(pair) for pair in open_clip.list_pretrained())]
    close = difflib.get_close_matches(name, known, 2, 0.5)
    return f" (did you mean {' or '.join(close)}?)" if close else ""


# open_clip --------------------------------------------------------------------------------------


def _load_open_clip(name: str, device: torch.device, dtype: torch.dtype) -> Clip:
    architecture, tag = name.split("/", 1)
    is_file = Path(tag).is_file() or Path("/" + tag).is_file()
    source = (tag if Path(tag).is_file() else "/" + tag) if is_file else tag
    if architecture not in open_clip.list_models() or not (
        is_file or tag in open_clip.list_pretrained_tags_by_model(architecture)
    ):
        looks_like_file = tag.endswith((".pt", ".pth", ".bin", ".safetensors"))
        problem = "there is no such checkpoint file" if looks_like_file else f"unknown model{_similar(name)}"
        raise InputError(f"{name!r}: {problem}; give {NAMES}")
    quick = "openai" in tag.lower() and not is_file
    try:
        with _quiet():
            model, _, preprocess = open_clip.create_model_and_transforms(
                architecture, pretrained=source, force_quick_gelu=quick, load_weights_only=True
            )
            tokenizer = open_clip.get_tokenizer(architecture)
    except Exception as error:  # the libraries raise anything from OSError to KeyError here
        raise InputError(_unreachable(name, is_file)) from error
    return from_open_clip(name, model.to(device, dtype), preprocess, tokenizer=tokenizer)


def _unreachable(name: str, is_file: bool) -> str:
    if is_file:
        return f"the weights of {name!r} cannot be read: the file is damaged or of another architecture"
    return (
        f"the weights of {name!r} cannot be reached: download them on a connected machine and give the "
        "folder or checkpoint (ARCHITECTURE/path.pt), or use --model picturebook"
    )


class _quiet:
    """Silence the model libraries' warnings and long retries while loading."""

    def __enter__(self) -> None:
        self.level = logging.root.manager.disable
        logging.disable(logging.CRITICAL)
        os.environ.setdefault("HF_HUB_DOWNLOAD_TIMEOUT", "10")
        os.environ.setdefault("HF_HUB_ETAG_TIMEOUT", "5")

    def __exit__(self, *_: object) -> None:
        logging.disable(self.level)


def from_open_clip(
    name: str,
    model: nn.Module,
    preprocess: Any,
    known_tokens: tuple[int, ...] | None = None,
    tokenizer: Any = None,
) -> Clip:
    """Adapt an open_clip CLIP or CustomTextCLIP; InputError where its text tower is of another kind."""
    model.eval().requires_grad_(False)
    text: Any = getattr(model, "text", model)
    transformer = getattr(text, "transformer", None)
    causal = getattr(text, "attn_mask", None) is not None and getattr(text, "cls_emb", None) is None
    pool = getattr(text, "pool_type", getattr(model, "text_pool_type", "argmax"))
    if not (causal and hasattr(transformer, "resblocks") and pool == "argmax"):
        raise InputError(f"the text tower of {name!r} is not a causal CLIP transformer: choose another model")
    projection = _projection(text.text_projection)
    layers = [_open_clip_layer(block) for block in transformer.resblocks]
    tower = TextTower(text.token_embedding.weight, text.positional_embedding, layers, text.ln_final, projection)
    bpe = tokenizer if hasattr(tokenizer, "decoder") else open_clip.tokenizer.SimpleTokenizer()
    normalise = preprocess.transforms[-1]
    size = model.visual.image_size
    return Clip(
        name, tower, model.visual, preprocess, normalise,
        Tokenizer(bpe.encode, bpe.decode, lambda token: bpe.decoder[token]),
        size[0] if isinstance(size, tuple | list) else size,
        float(model.logit_scale.detach().exp()), known_tokens,
    )  # fmt: skip


def _projection(projection: Any) -> nn.Module:
    """open_clip keeps a matrix, a Linear or nothing."""
    if projection is None:
        return nn.Identity()
    if isinstance(projection, nn.Module):
        return projection
    linear = nn.Linear(*projection.shape, bias=False)
    linear.weight = nn.Parameter(projection.detach().T.contiguous())
    return linear


def _open_clip_layer(block: Any) -> Layer:
    attention, mlp = block.attn, block.mlp
    weights = (attention.in_proj_weight, attention.in_proj_bias, attention.out_proj.weight, attention.out_proj.bias)
    norms, scales = (block.ln_1, block.ln_2), (block.ls_1, block.ls_2)
    return Layer(norms, weights, (mlp.c_fc, mlp.c_proj), attention.num_heads, mlp.gelu, scales)


# transformers -----------------------------------------------------------------------------------


def _load_transformers(name: str, device: torch.device, dtype: torch.dtype) -> Clip:
    from transformers import CLIPImageProcessor, CLIPModel, CLIPTokenizer

    source = name.removeprefix("hf:")
    try:
        with _quiet():
            model: Any = CLIPModel.from_pretrained(source)
            tokenizer: Any = CLIPTokenizer.from_pretrained(source)
            processor: Any = CLIPImageProcessor.from_pretrained(source)
    except Exception as error:
        problem = "damaged or not a CLIP model" if Path(source).is_dir() else "not to be reached"
        raise InputError(
            f"the weights of {name!r} are {problem}: download CLIP's model, tokenizer and image processor "
            "on a connected machine and give the folder, or use --model picturebook"
        ) from error
    return from_transformers(name, model.to(device, dtype), tokenizer, processor)


def from_transformers(name: str, model: Any, tokenizer: Any, processor: Any) -> Clip:
    """Adapt transformers' CLIPModel with its tokenizer and image processor."""
    model.eval().requires_grad_(False)
    text = model.text_model
    layers = [_transformers_layer(layer) for layer in text.encoder.layers]
    table, positions = text.embeddings.token_embedding.weight, text.embeddings.position_embedding.weight
    tower = TextTower(table, positions, layers, text.final_layer_norm, model.text_projection)
    mean, std = (torch.tensor(values)[:, None, None] for values in (processor.image_mean, processor.image_std))

    def visual(pixels: Tensor) -> Tensor:
        return model.visual_projection(model.vision_model(pixel_values=pixels).pooler_output)

    def encode(prompt: str) -> list[int]:
        return tokenizer(prompt, add_special_tokens=False)["input_ids"]

    clip = Clip(
        name, tower, visual,
        lambda image: processor(images=image, return_tensors="pt")["pixel_values"][0],
        lambda pixels: (pixels - mean.to(pixels)) / std.to(pixels),
        Tokenizer(encode, tokenizer.decode, tokenizer.convert_ids_to_tokens),
        model.config.vision_config.image_size, float(model.logit_scale.detach().exp()),
    )  # fmt: skip
    clip.start_id, clip.end_id = tokenizer.bos_token_id, tokenizer.eos_token_id
    return clip


def _transformers_layer(layer: Any) -> Layer:
    attention, mlp = layer.self_attn, layer.mlp
    parts = (attention.q_proj, attention.k_proj, attention.v_proj)
    weight, bias = torch.cat([p.weight for p in parts]), torch.cat([p.bias for p in parts])
    weights = (weight, bias, attention.out_proj.weight, attention.out_proj.bias)
    act = quick_gelu if "quick" in type(mlp.activation_fn).__name__.lower() else mlp.activation_fn
    norms = (layer.layer_norm1, layer.layer_norm2)
    return Layer(norms, weights, (mlp.fc1, mlp.fc2), attention.num_heads, act)
