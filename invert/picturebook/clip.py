"""picturebook's CLIP from its stored weights, without open_clip: the command's own start waits for it.

Importing open_clip brings torchvision, transformers and torch's compiler, which takes longer than finding a
prompt. The architecture here is open_clip's "RN" CLIP (Radford et al., 2021: a residual net with anti-aliased
strides and attention pooling); latents, pixels and token ids equal those of open_clip's classes bit for bit.
"""

from __future__ import annotations

import importlib.util
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

NAME, JUDGE = "picturebook", "picturebook-judge"
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # OpenAI's
HEAD_WIDTH = 64  # of the attention pooling
POOLED = 2  # pixels that an anti-aliased stride averages, in each direction


def load(name: str, device: torch.device, dtype: torch.dtype) -> Clip:
    """The trained "clip" as a frozen `Clip` of that name."""
    weights = {key: value.to(device, dtype) for key, value in models.full_state(models.WEIGHTS / "clip.safetensors").items()}
    bpe = open_clips_tokenizer()
    return Clip(
        name, text_tower(weights, models.CONFIGS["clip"]["text_cfg"]), ImageTower(weights), preprocess, normalize,
        BytePairTokenizer(bpe.encode, bpe.decode, lambda token: bpe.decoder[token], models.START_OF_TEXT, models.END_OF_TEXT),
        models.IMAGE_SIZE,
        float(weights["logit_scale"].float().exp()),
    )  # fmt: skip


def open_clips_tokenizer() -> Any:
    """open_clip's SimpleTokenizer, from its file alone: importing it from the package would import all of that."""
    package = importlib.util.find_spec("open_clip")
    assert package is not None and package.origin is not None
    spec = importlib.util.spec_from_file_location("invert.picturebook._tokenizer", Path(package.origin).with_name("tokenizer.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.SimpleTokenizer()


def preprocess(image: Image.Image) -> Tensor:
    """Normalized pixels (3, S, S) float32: the shortest side to S pixels, bicubic; the center; the RGB of it."""
    size = models.IMAGE_SIZE
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


class ImageTower:
    """The frozen residual net: normalized pixels (B, 3, S, S) → unnormalized latents (B, E), differentiable in the pixels."""

    def __init__(self, weights: dict[str, Tensor]) -> None:
        """weights: open_clip's state dict, of which those below "visual." are used."""
        self._of = {key.removeprefix("visual."): value for key, value in weights.items() if key.startswith("visual.")}
        self._blocks = tuple(dict.fromkeys(".".join(key.split(".")[:2]) for key in self._of if key.startswith("layer")))

    def __call__(self, x: Tensor) -> Tensor:
        x = self._convolved(x, "conv1", "bn1", stride=2, padding=1).relu()
        for i in (2, 3):
            x = self._convolved(x, f"conv{i}", f"bn{i}", padding=1).relu()
        x = F.avg_pool2d(x, POOLED)
        for name in self._blocks:
            x = self._block(x, name)
        return self._pooled(x)

    def _convolved(self, x: Tensor, conv: str, norm: str, stride: int = 1, padding: int = 0) -> Tensor:
        """Convolution, then batch normalization by the statistics of training."""
        x = F.conv2d(x, self._of[f"{conv}.weight"], None, stride, padding)
        mean, variance = self._of[f"{norm}.running_mean"], self._of[f"{norm}.running_var"]
        return F.batch_norm(x, mean, variance, self._of[f"{norm}.weight"], self._of[f"{norm}.bias"])

    def _block(self, x: Tensor, name: str) -> Tensor:
        """A bottleneck; the first of every layer but layer1's halves the sides."""
        halves = name.endswith(".0") and not name.startswith("layer1.")
        out = self._convolved(x, f"{name}.conv1", f"{name}.bn1").relu()
        out = self._convolved(out, f"{name}.conv2", f"{name}.bn2", padding=1).relu()
        out = F.avg_pool2d(out, POOLED) if halves else out
        out = self._convolved(out, f"{name}.conv3", f"{name}.bn3")
        if f"{name}.downsample.0.weight" in self._of:
            x = self._convolved(F.avg_pool2d(x, POOLED) if halves else x, f"{name}.downsample.0", f"{name}.downsample.1")
        return (out + x).relu()

    def _pooled(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → (B, E): attention of the mean position to all."""
        x = x.flatten(2).permute(2, 0, 1)
        x = torch.cat([x.mean(dim=0, keepdim=True), x]) + self._of["attnpool.positional_embedding"][:, None]
        weight, bias = ({part: self._of[f"attnpool.{part}_proj.{kind}"] for part in "qkvc"} for kind in ("weight", "bias"))
        pooled, _ = F.multi_head_attention_forward(
            x, x, x, x.shape[-1], x.shape[-1] // HEAD_WIDTH,
            None, torch.cat([bias["q"], bias["k"], bias["v"]]), None, None, False, 0.0, weight["c"], bias["c"],
            training=False, need_weights=False, use_separate_proj_weight=True,
            q_proj_weight=weight["q"], k_proj_weight=weight["k"], v_proj_weight=weight["v"],
        )  # fmt: skip
        return pooled[0]


def load_model(device: torch.device, dtype: torch.dtype = torch.float32) -> Clip:
    """The CLIP that prompts are found on."""
    return load(NAME, device, dtype)


def load_judge(device: torch.device, dtype: torch.dtype = torch.float32) -> Clip:
    """The CLIP of another architecture that no method optimizes."""
    from invert.models.open_clip import from_open_clip  # a slow import, for those who ask for a judge

    return from_open_clip(JUDGE, models.load("judge").to(device, dtype), models.preprocess())
