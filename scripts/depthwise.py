"""Depthwise convolutions whose gradients take a CPU a fifth of the time.

In bfloat16, oneDNN has a quick kernel for the gradient of a 3 × 3 kernel at stride 1 alone: for 64 pictures on one core of an
AMD EPYC, 1152 channels at 4 × 4 pixels take 0.6 ms, with a kernel of 5 × 5 60 ms, and 672 channels at stride 2 120 ms. That
was half of a training step of the CLIP's image tower. Here the gradient of a 5 × 5 kernel is put together from four of
3 × 3, a stride is undone by zeros between the gradient's pixels, and the input's gradient is a convolution with the kernel
turned around: 8 and 12 ms.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers.padding import pad_same
from torch import Tensor, nn

SIDE = 3  # of the kernels whose gradient is quick


class DepthwiseConvolution(torch.autograd.Function):
    """`F.conv2d` with one square kernel of odd side (C, 1, K, K), 3 or more, per channel of x (B, C, H, W)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, kernel: Tensor, stride: int, padding: int) -> Tensor:
        ctx.save_for_backward(x, kernel)
        ctx.stride, ctx.padding = stride, padding
        return F.conv2d(x, kernel, stride=stride, padding=padding, groups=len(kernel))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None]:
        x, kernel = ctx.saved_tensors
        side, padding = kernel.shape[-1], ctx.padding
        padded = F.pad(x, (padding,) * 4)
        height, width = (length - side + 1 for length in padded.shape[2:])
        gradient = spread(gradients[0], ctx.stride, height, width)
        of_kernel = torch.empty_like(kernel)
        for i in range(0, side - 1, SIDE - 1):  # blocks of 3 × 3 that share a row or column with the next
            for j in range(0, side - 1, SIDE - 1):
                block = padded[:, :, i : i + height + SIDE - 1, j : j + width + SIDE - 1]
                of_kernel[:, :, i : i + SIDE, j : j + SIDE] = small_kernel_gradient(block, gradient)
        of_input = F.conv2d(gradient, kernel.flip(2, 3), padding=side - 1 - padding, groups=len(kernel))
        return of_input, of_kernel, None, None


def spread(gradient: Tensor, stride: int, height: int, width: int) -> Tensor:
    """The gradient (B, C, h, w) as that of the convolution at stride 1, (B, C, height, width), channels last."""
    if stride == 1:
        return gradient.contiguous(memory_format=torch.channels_last)
    wide = gradient.new_zeros(*gradient.shape[:2], height, width).contiguous(memory_format=torch.channels_last)
    wide[:, :, ::stride, ::stride] = gradient
    return wide


def small_kernel_gradient(x: Tensor, gradient: Tensor) -> Tensor:
    """The gradient (C, 1, 3, 3) of a kernel that made (B, C, h, w) of x (B, C, h + 2, w + 2).

    Zeros about the gradient make it that of a convolution with a padding of one, which oneDNN's kernel wants.
    """
    channels = x.shape[1]
    rim = F.pad(gradient, (1,) * 4)
    kernel = x.new_empty(channels, 1, SIDE, SIDE)
    x = x.contiguous(memory_format=torch.channels_last)
    ones, zeros = [1, 1], [0, 0]
    wanted = [False, True, False]
    return torch.ops.aten.convolution_backward(rim, x, kernel, None, ones, ones, ones, False, zeros, channels, wanted)[1]


def convolve(module: nn.Conv2d, x: Tensor) -> Tensor:
    """The module's output by `DepthwiseConvolution`, with the padding of timm's "same" convolutions where it is one."""
    padding = module.padding[0]
    if padding == 0:
        x = pad_same(x, module.kernel_size, module.stride)
    output: Tensor = DepthwiseConvolution.apply(x, module.weight.to(x.dtype), module.stride[0], padding)
    return output


def quicken(model: nn.Module) -> None:
    """Let the depthwise convolutions whose gradient is slow use `DepthwiseConvolution`; their weights stay where they are."""
    for module in model.modules():
        depthwise = isinstance(module, nn.Conv2d) and 1 < module.groups == module.in_channels == module.out_channels
        if depthwise and (module.kernel_size[0] > SIDE or module.stride[0] > 1):
            module.forward = partial(convolve, module)
