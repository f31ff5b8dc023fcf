"""The generator's networks before training: a miniature Stable Diffusion in diffusers' own classes.

AutoencoderTiny takes 64×64 pixels to 8×8×24 latents; its encoder is a linear map in closed form, so
that latents are settled before anything is trained. The U-Net reads the hidden states of
picturebook's text tower.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import AutoencoderTiny, DDIMScheduler, UNet2DConditionModel
from torch import Tensor, nn

from invert.picturebook import models
from invert.picturebook.render import render
from invert.picturebook.world import draw_scenes

LATENT_CHANNELS = 24
PATCH_SEED = 3  # of the scenes whose patches give the encoder
QUARTERS = ((0, 0), (0, 1), (1, 0), (1, 1))


def build_vae() -> Any:
    """An `AutoencoderTiny`: the encoder in closed form and frozen, the decoder fresh; it works mostly at 8 to 32 pixels."""
    vae: Any = AutoencoderTiny(
        encoder_block_out_channels=(3 * 16,) * 4,
        decoder_block_out_channels=(48,) * 4,
        num_encoder_blocks=(0,) * 4,
        num_decoder_blocks=(3, 2, 1, 0),
        latent_channels=LATENT_CHANNELS,
        scaling_factor=3.0,  # the decoder squashes latents at ± 3: it is given them smaller than the U-Net
    )
    set_patch_projection(vae.encoder, *principal_patches())
    vae.encoder.requires_grad_(False)
    for module in vae.decoder.modules():  # the class's own initialization fades out over the depth
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    return vae


@cache  # of 1536 rendered pictures
@torch.no_grad()
def principal_patches() -> tuple[Tensor, Tensor]:
    """The linear map from an 8×8 patch (3·8·8 pixels in 0..1) to latents: (K, 192) and offset (K,).

    Principal components, each scaled by the root of its standard deviation: between plain pixels,
    where the U-Net would see coarse shapes only, and whitening, where noise would weigh as much.
    """
    images = render(draw_scenes(1536, PATCH_SEED), models.IMAGE_SIZE)
    patches = F.unfold(images, 8, stride=8).transpose(1, 2).flatten(0, 1)  # (N, 192)
    variances, directions = torch.linalg.eigh(patches.T.cov())
    variances, directions = variances.flip(0)[:LATENT_CHANNELS], directions.flip(1)[:, :LATENT_CHANNELS]
    scale = variances**-0.25
    scale = scale / (scale.square() * variances).mean().sqrt()  # unit mean variance
    weight = directions.T * scale[:, None]
    return weight, -weight @ patches.mean(0)


@torch.no_grad()
def set_patch_projection(encoder: Any, weight: Tensor, offset: Tensor) -> None:
    """Make EncoderTiny without blocks compute weight @ patch + offset, a third of it, exactly.

    Its two first strided convolutions only gather 2×2 pixels into channels; the third projects.
    """
    convolutions: list[Any] = [layer for layer in encoder.layers.modules() if isinstance(layer, nn.Conv2d)]
    for layer in convolutions:
        layer.weight.zero_()
        if layer.bias is not None:
            layer.bias.zero_()
    first, *strided, last = convolutions
    first.weight[range(3), range(3), 1, 1] = 1
    for layer, inputs in zip(strided[:2], (3, 12), strict=True):
        for channel in range(inputs):
            for dy, dx in QUARTERS:
                layer.weight[4 * channel + 2 * dy + dx, channel, 1 + dy, 1 + dx] = 1
    patch = weight.view(-1, 3, 8, 8)
    for dy, dx in QUARTERS:  # the four 4×4 quarters of the patch, 48 channels each
        quarter = patch[:, :, 4 * dy : 4 * dy + 4, 4 * dx : 4 * dx + 4]
        # y = 2·y1 + y0 within a quarter: channels are ordered color, (y0, x0), (y1, x1).
        ordered = quarter.reshape(-1, 3, 2, 2, 2, 2).permute(0, 1, 3, 5, 2, 4).flatten(1)
        strided[2].weight[: len(weight), :, 1 + dy, 1 + dx] = ordered
    outputs = range(len(weight))
    last.weight[outputs, outputs, 1, 1] = 1 / 3
    last.bias.copy_(offset / 3)


@torch.no_grad()
def as_one_convolution(encoder: Any) -> tuple[Tensor, Tensor]:
    """The encoder's linear map as a kernel (K, 3, 8, 8) of stride 8 and a bias (K,), for pixels in 0..1.

    Found by encoding every pixel of a patch alone; a fiftieth of the encoder's own work.
    """
    device = encoder.layers[0].weight.device
    bias = encoder(torch.full((1, 3, 8, 8), -1.0, device=device)).flatten()
    pixels = torch.eye(3 * 64, device=device).view(-1, 3, 8, 8)
    return (encoder(pixels * 2 - 1).flatten(1) - bias).T.reshape(-1, 3, 8, 8), bias


def build_unet() -> UNet2DConditionModel:
    """8×8 convolutions around a 4×4 core with attention; the pooled caption joins the timestep."""
    return UNet2DConditionModel(
        sample_size=models.IMAGE_SIZE // 8,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        block_out_channels=(64, 160),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=(2, 4),  # diffusers' name for the number of heads
        cross_attention_dim=models.TEXT["clip"]["width"],
        addition_embed_type="text",
        addition_embed_type_num_heads=8,
        resnet_time_scale_shift="scale_shift",
        time_embedding_dim=768,
        norm_num_groups=16,
    )


def build_scheduler() -> DDIMScheduler:
    """Velocity prediction from a terminal step that holds no signal (Lin et al., arXiv 2305.08891)."""
    return DDIMScheduler(
        beta_schedule="squaredcos_cap_v2",
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        clip_sample=False,
        set_alpha_to_one=True,
        steps_offset=1,  # has no effect on trailing steps; diffusers asks for it
    )
