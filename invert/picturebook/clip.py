"""picturebook's CLIP from its stored weights, without open_clip: the command's own start waits for it.

Importing open_clip brings torchvision, transformers and torch's compiler, which takes longer than finding a
prompt. Latents, pixels and token ids equal those of open_clip's classes bit for bit.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from invert.models.clip import Clip
from invert.models.linear import FrozenLinear
from invert.models.tokenizer import BytePairTokenizer
from invert.models.tower import Layer, TextTower
from invert.picturebook import models
from invert.picturebook.image_tower import image_tower

NAME, JUDGE = "picturebook", "picturebook-judge"
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # OpenAI's


def load(name: str, device: torch.device, dtype: torch.dtype, folder: Path = models.WEIGHTS) -> Clip:
    """The trained "clip" in the folder as a frozen `Clip` of that name."""
    weights = {key: value.to(device, dtype) for key, value in models.full_state(folder / "clip.safetensors").items()}
    config, bpe = models.config("clip", folder), open_clips_tokenizer()
    size = config["vision_cfg"]["image_size"]
    return Clip(
        name, text_tower(weights, config["text_cfg"]), image_tower(weights), partial(preprocess, size=size), normalize,
        BytePairTokenizer(bpe.encode, bpe.decode, lambda token: bpe.decoder[token], models.START_OF_TEXT, models.END_OF_TEXT),
        size,
        float(weights["logit_scale"].float().exp()),
    )  # fmt: skip


def open_clips_tokenizer() -> Any:
    """open_clip's SimpleTokenizer, from its file alone: importing it from the package would import all of that."""
    package = importlib.util.find_spec("open_clip")
    assert package is not None and package.origin is not None
    spec = importlib.util.spec_from_file_location("invert.picturebook._tokenizer", Path(package.origin).with_name("tokenizer.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with unchanged_environment():  # it forbids other tokenizers their threads
        spec.loader.exec_module(module)
    return module.SimpleTokenizer()


@contextmanager
def unchanged_environment() -> Iterator[None]:
    """Put back what is changed of the environment's variables."""
    before = dict(os.environ)
    try:
        yield
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)


def preprocess(image: Image.Image, size: int) -> Tensor:
    """Normalized pixels (3, size, size) float32: the shortest side to that size, bicubic; the center; the RGB of it."""
    width, height = image.size
    short = min(width, height)
    scaled = (int(size * width / short), int(size * height / short))
    image = image if scaled == image.size else image.resize(scaled, Image.Resampling.BICUBIC)
    left, top = (round((side - size) / 2) for side in scaled)
    pixels = np.array(image.crop((left, top, left + size, top + size)).convert("RGB"))
    return normalize(torch.from_numpy(pixels).permute(2, 0, 1).contiguous().float().div(255))


def normalize(pixels: Tensor) -> Tensor:
    """Pixels (…, 3, S, S) in 0..1 → the same with the mean and spread that CLIP's pictures have."""
    mean, std = (torch.tensor(channel, device=pixels.device, dtype=pixels.dtype)[:, None, None] for channel in (MEAN, STD))
    return (pixels - mean) / std


class Linear(NamedTuple):
    """The weight (N, K) and bias (N,) of a linear layer."""

    weight: Tensor
    bias: Tensor


def text_tower(weights: dict[str, Tensor], config: dict[str, Any]) -> TextTower:
    """The text tower of open_clip's state dict."""

    def norm(name: str) -> nn.LayerNorm:
        made = nn.LayerNorm(config["width"])
        made.weight, made.bias = (nn.Parameter(weights[f"{name}.{kind}"], False) for kind in ("weight", "bias"))
        return made

    def linear(name: str) -> Linear:
        return Linear(weights[f"{name}.weight"], weights[f"{name}.bias"])

    def layer(name: str) -> Layer:
        fused = weights[f"{name}.attn.in_proj_weight"], weights[f"{name}.attn.in_proj_bias"]
        attention = (*fused, *linear(f"{name}.attn.out_proj"))
        mlp = linear(f"{name}.mlp.c_fc"), linear(f"{name}.mlp.c_proj")
        return Layer((norm(f"{name}.ln_1"), norm(f"{name}.ln_2")), attention, mlp, config["heads"], F.gelu)

    layers = [layer(f"transformer.resblocks.{i}") for i in range(config["layers"])]
    projection = FrozenLinear(weights["text_projection"].T.contiguous(), None)
    return TextTower(weights[models.TOKEN_TABLE], weights["positional_embedding"], layers, norm("ln_final"), projection)


def load_model(device: torch.device, dtype: torch.dtype = torch.float32, folder: Path = models.WEIGHTS) -> Clip:
    """The CLIP that prompts are found on, of the weights in the folder."""
    return load(NAME, device, dtype, folder)


def load_judge(device: torch.device, dtype: torch.dtype = torch.float32, folder: Path = models.WEIGHTS) -> Clip:
    """The CLIP of another architecture that no method optimizes, of the weights in the folder."""
    from invert.models.open_clip import from_open_clip  # a slow import, for those who ask for a judge

    return from_open_clip(JUDGE, models.load("judge", folder).to(device, dtype), models.preprocess("judge", folder))
