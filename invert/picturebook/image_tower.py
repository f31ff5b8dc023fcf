"""The image towers of picturebook: the EfficientNet-Lite0 of the CLIP, and the residual net of the judge.

Their latents equal those of open_clip's classes with the same weights bit for bit. They stand here because importing
open_clip and timm takes longer than finding a prompt.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from invert.picturebook import models

HEAD_WIDTH = 64  # of the attention pooling
POOLED = 2  # pixels that an anti-aliased stride of the residual net averages, in each direction
EPSILON = 1e-3  # of the EfficientNet's batch norms, TensorFlow's
CELLS = 7  # along a side of the grid that its positions were initialized for
STRIDED = ("blocks.1.0", "blocks.2.0", "blocks.3.0", "blocks.5.0")  # its blocks that halve the sides


def image_tower(weights: dict[str, Tensor]) -> Callable[[Tensor], Tensor]:
    """The image tower of open_clip's state dict."""
    return EfficientNet(weights) if models.EFFICIENT_NET in weights else ResidualNet(weights)


class ResidualNet:
    """A frozen residual net: normalized pixels (B, 3, S, S) → unnormalized latents (B, E), differentiable in the pixels."""

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


class EfficientNet:
    """A frozen EfficientNet-Lite0: normalized pixels (B, 3, S, S) → unnormalized latents (B, E), differentiable in the pixels."""

    def __init__(self, weights: dict[str, Tensor]) -> None:
        """weights: open_clip's state dict, of which those below "visual." are used."""
        self._of = {key.removeprefix("visual."): value for key, value in weights.items() if key.startswith("visual.")}
        names = (key.removeprefix("trunk.").split(".") for key in self._of if key.startswith("trunk.blocks."))
        self._blocks = tuple(dict.fromkeys(".".join(parts[:3]) for parts in names))

    def __call__(self, x: Tensor) -> Tensor:
        x = F.relu6(self._normed(self._convolved(x, "conv_stem", stride=2), "bn1"))
        for name in self._blocks:
            x = self._block(x, name)
        return self._pooled(F.relu6(self._normed(self._convolved(x, "conv_head"), "bn2")))

    def _convolved(self, x: Tensor, name: str, stride: int = 1) -> Tensor:
        """Convolution of the trunk; padded as TensorFlow does, which puts the odd pixel behind. Thin kernels are depthwise."""
        kernel = self._of[f"trunk.{name}.weight"]
        side, groups = kernel.shape[-1], x.shape[1] // kernel.shape[1]
        if stride == 1:
            return F.conv2d(x, kernel, None, 1, side // 2, groups=groups)
        missing = max((-(-x.shape[-1] // stride) - 1) * stride + side - x.shape[-1], 0)
        before, behind = missing // 2, missing - missing // 2
        return F.conv2d(F.pad(x, (before, behind, before, behind)), kernel, None, stride, groups=groups)

    def _normed(self, x: Tensor, name: str) -> Tensor:
        """Batch normalization by the statistics of training."""
        mean, variance, weight, bias = (
            self._of[f"trunk.{name}.{kind}"] for kind in ("running_mean", "running_var", "weight", "bias")
        )
        return F.batch_norm(x, mean, variance, weight, bias, eps=EPSILON)

    def _block(self, x: Tensor, name: str) -> Tensor:
        """An inverted bottleneck; the first one has no expansion."""
        *before, last = ("pw", "dw", "pwl") if f"trunk.{name}.conv_pwl.weight" in self._of else ("dw", "pw")
        out = x
        for i, kind in enumerate(before, 1):
            stride = 2 if kind == "dw" and name in STRIDED else 1
            out = F.relu6(self._normed(self._convolved(out, f"{name}.conv_{kind}", stride), f"{name}.bn{i}"))
        out = self._normed(self._convolved(out, f"{name}.conv_{last}"), f"{name}.bn{len(before) + 1}")
        return out + x if out.shape == x.shape else out

    def _pooled(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → (B, E): attention of the mean position to all."""
        batch, width, *grid = x.shape
        x = x.flatten(2).transpose(1, 2)
        x = torch.cat([x.mean(1, keepdim=True), x], dim=1) + self._positions(grid)
        qkv = F.linear(x, self._of["head.pool.qkv.weight"], self._of["head.pool.qkv.bias"])
        q, k, v = qkv.reshape(batch, -1, 3, width // HEAD_WIDTH, HEAD_WIDTH).permute(2, 0, 3, 1, 4).unbind(0)
        x = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, -1, width)
        return F.linear(x, self._of["head.pool.proj.weight"], self._of["head.pool.proj.bias"])[:, 0]

    def _positions(self, grid: list[int]) -> Tensor:
        """Embeddings (1, 1 + H W, C) of the mean and of the cells, resampled from those of training's grid."""
        table = self._of["head.pool.pos_embed"]
        cells = table[1:].float().reshape(1, CELLS, CELLS, -1).permute(0, 3, 1, 2)
        cells = F.interpolate(cells, grid, mode="bicubic", antialias=True).flatten(2).transpose(1, 2)
        return torch.cat([table[None, :1], cells.to(table.dtype)], dim=1)
