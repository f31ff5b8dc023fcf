"""Train picturebook's generator: `python scripts/train_generator.py vae`, then `unet`, then `export`.

A miniature Stable Diffusion in diffusers' own classes: AutoencoderTiny (64×64 pixels → 8×8×16
latents), UNet2DConditionModel on the hidden states of picturebook's text tower, v-prediction with a
zero terminal signal (Lin et al., arXiv 2305.08891). Scenes are drawn by seed and step, so a resumed
run sees exactly the data that an unbroken one would. Runs on CUDA or on the CPU (bfloat16 autocast);
under torchrun several workers train apart and average their weights now and then (local SGD, Stich,
arXiv 1805.09767), which on a busy machine wastes less than threads that wait for each other.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from diffusers import AutoencoderTiny, DDIMScheduler, UNet2DConditionModel
from torch import Tensor, nn

from invert.picturebook import models
from invert.picturebook.grammar import fragment, spoken_caption
from invert.picturebook.render import render
from invert.picturebook.text_encoder import text_encoder, tokenizer
from invert.picturebook.world import Scene, draw_scenes

LATENT_CHANNELS = 24
QUARTERS = ((0, 0), (0, 1), (1, 0), (1, 1))
SEEDS = {"vae": 3, "unet": 4}
EMPTY, FRAGMENTS = 0.06, 0.06  # shares of captions dropped for guidance, and cut to a part
LATENT_NOISE = 0.08  # standard deviation, of latents of unit variance
SYNC = 20  # steps between averages over the workers
FOLLOW = 10  # steps between moves of the moving average
TERMINAL = 0.25  # share of a batch at the last timestep, where the caption alone decides


@dataclass(frozen=True)
class Plan:
    """How one of the two networks is trained."""

    name: str  # "vae" or "unet"
    steps: int
    batch: int
    rate: float  # peak learning rate; constant, then linear to zero over the last `cooling`
    cooling: float  # share of the steps
    decay: float  # of the moving average of the weights, per step
    folder: Path
    device: torch.device
    worker: int = 0
    workers: int = 1

    def rate_at(self, step: int) -> float:
        warm = min(1.0, (step + 1) / 100)
        return self.rate * warm * min(1.0, (self.steps - step) / max(1, self.cooling * self.steps))


def build_vae() -> AutoencoderTiny:
    """The encoder in closed form, the decoder fresh; most of its work is done at 8 to 32 pixels."""
    vae = AutoencoderTiny(
        encoder_block_out_channels=(3 * 16,) * 4,
        decoder_block_out_channels=(48,) * 4,
        num_encoder_blocks=(0,) * 4,
        num_decoder_blocks=(3, 2, 1, 0),
        latent_channels=LATENT_CHANNELS,
        scaling_factor=3.0,  # the decoder squashes latents at ± 3: it is given them smaller than the U-Net
    )
    set_patch_projection(vae.encoder, *principal_patches())
    vae.encoder.requires_grad_(False)
    for module in vae.decoder.modules():  # the class's own initialisation fades out over the depth
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    return vae


@torch.no_grad()
def principal_patches() -> tuple[Tensor, Tensor]:
    """The linear map from an 8×8 patch (3·8·8 pixels in 0..1) to latents: (K, 192) and offset (K,).

    Principal components, each scaled by the root of its standard deviation: between plain pixels,
    where the U-Net would see coarse shapes only, and whitening, where noise would weigh as much.
    """
    images = render(draw_scenes(1536, SEEDS["vae"]), models.IMAGE_SIZE)
    patches = F.unfold(images, 8, stride=8).transpose(1, 2).flatten(0, 1)  # (N, 192)
    variances, directions = torch.linalg.eigh(patches.T.cov())
    variances, directions = variances.flip(0)[:LATENT_CHANNELS], directions.flip(1)[:, :LATENT_CHANNELS]
    scale = variances**-0.25
    scale = scale / (scale.square() * variances).mean().sqrt()  # unit mean variance
    weight = directions.T * scale[:, None]
    return weight, -weight @ patches.mean(0)


@torch.no_grad()
def set_patch_projection(encoder: nn.Module, weight: Tensor, offset: Tensor) -> None:
    """Make EncoderTiny without blocks compute weight @ patch + offset, a third of it, exactly.

    Its two first strided convolutions only gather 2×2 pixels into channels; the third projects.
    """
    convolutions = [layer for layer in encoder.layers.modules() if isinstance(layer, nn.Conv2d)]
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
        # y = 2·y1 + y0 within a quarter: channels are ordered colour, (y0, x0), (y1, x1).
        ordered = quarter.reshape(-1, 3, 2, 2, 2, 2).permute(0, 1, 3, 5, 2, 4).flatten(1)
        strided[2].weight[: len(weight), :, 1 + dy, 1 + dx] = ordered
    outputs = range(len(weight))
    last.weight[outputs, outputs, 1, 1] = 1 / 3
    last.bias.copy_(offset / 3)


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
        cross_attention_dim=models.CONFIGS["clip"]["text_cfg"]["width"],
        addition_embed_type="text",
        addition_embed_type_num_heads=8,
        resnet_time_scale_shift="scale_shift",
        time_embedding_dim=768,
        norm_num_groups=16,
    )


def build_scheduler() -> DDIMScheduler:
    return DDIMScheduler(
        beta_schedule="squaredcos_cap_v2",
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        clip_sample=False,
        set_alpha_to_one=True,
    )


def scenes_of(plan: Plan, step: int) -> tuple[list[Scene], random.Random, torch.Generator]:
    """What a worker sees at a step: scenes, luck for their captions, and the generator of all noise."""
    seed = SEEDS[plan.name] * 1_000_003 + step * plan.workers + plan.worker
    return draw_scenes(plan.batch, seed), random.Random(f"captions-{seed}"), torch.Generator(plan.device).manual_seed(seed)


def vae_loss(plan: Plan, vae: AutoencoderTiny) -> Callable[[int], Tensor]:
    """Pixels and their differences (edges), from latents with a little noise, as the U-Net's have."""

    def loss(step: int) -> Tensor:
        scenes, _, noise = scenes_of(plan, step)
        images = channels_last(render(scenes, models.IMAGE_SIZE, plan.device) * 2 - 1)
        latents = vae.encoder(images)
        jitter = torch.randn(latents.shape, generator=noise, device=plan.device)
        with torch.autocast(plan.device.type, torch.bfloat16):
            again = vae.decoder(latents + LATENT_NOISE / vae.config.scaling_factor * jitter)
        error = again.float() - images
        edges = error.diff(dim=2).abs().mean() + error.diff(dim=3).abs().mean()
        return error.abs().mean() + error.square().mean() + 0.5 * edges

    return loss


def captions_of(scenes: list[Scene], rng: random.Random) -> list[str]:
    """Captions as training hears them: some cut to a part, some dropped altogether."""
    spoken = []
    for scene in scenes:
        text, luck = spoken_caption(scene, rng), rng.random()
        spoken.append("" if luck < EMPTY else fragment(text, rng) if luck < EMPTY + FRAGMENTS else text)
    return spoken


def timesteps(size: int, steps: int, noise: torch.Generator) -> Tensor:
    """(size,) int64: denser towards the noisy end, where the caption decides most."""
    drawn = (steps * torch.rand(size, generator=noise, device=noise.device).sqrt()).long()
    drawn[: int(TERMINAL * size)] = steps - 1
    return drawn


def unet_loss(plan: Plan, unet: UNet2DConditionModel, vae: AutoencoderTiny) -> Callable[[int], Tensor]:
    """Mean squared error of the predicted velocity."""
    text, tokenize, scheduler = text_encoder().to(plan.device), tokenizer(), build_scheduler()
    vae.to(plan.device, memory_format=torch.channels_last).eval().requires_grad_(False)

    def loss(step: int) -> Tensor:
        scenes, rng, noise = scenes_of(plan, step)
        ids = tokenize(captions_of(scenes, rng), padding="max_length", truncation=True, return_tensors="pt").input_ids
        images = channels_last(render(scenes, models.IMAGE_SIZE, plan.device) * 2 - 1)
        with torch.no_grad():
            latents = vae.encoder(images).contiguous() * vae.config.scaling_factor
            with torch.autocast(plan.device.type, torch.bfloat16):
                hidden = text(ids.to(plan.device)).last_hidden_state
        at = timesteps(plan.batch, scheduler.config.num_train_timesteps, noise)
        disturbance = torch.randn(latents.shape, generator=noise, device=plan.device)
        noisy = scheduler.add_noise(latents, disturbance, at)
        with torch.autocast(plan.device.type, torch.bfloat16):
            velocity = unet(noisy, at, encoder_hidden_states=hidden).sample
        return F.mse_loss(velocity.float(), scheduler.get_velocity(latents, disturbance, at))

    return loss


def channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


class Run:
    """A network, its moving average and its optimiser, kept in one checkpoint."""

    def __init__(self, plan: Plan, model: nn.Module) -> None:
        self.plan = plan
        self.model = model.to(plan.device)
        learnt = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(learnt, lr=plan.rate, betas=(0.9, 0.98), weight_decay=0.01, fused=True)
        self.average = {name: value.detach().clone() for name, value in model.state_dict().items()}
        self.step = 0
        self.path = plan.folder / f"generator-{plan.name}.ckpt"
        if self.path.exists():
            state = torch.load(self.path, map_location=plan.device)
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.average, self.step = state["average"], state["step"]

    def save(self) -> None:
        """Write under another name, then rename: an interrupt never leaves half a checkpoint."""
        state = {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}
        partial = self.path.with_suffix(".tmp")
        torch.save({**state, "average": self.average, "step": self.step}, partial)
        partial.replace(self.path)

    def go(self, loss_at: Callable[[int], Tensor], every: int) -> Iterator[dict[str, Any]]:
        """Train to the plan's end; a row of the log every `every` steps, after a checkpoint."""
        began = time.monotonic()
        losses: list[float] = []
        while self.step < self.plan.steps:
            for group in self.optimizer.param_groups:
                group["lr"] = self.plan.rate_at(self.step)
            loss = loss_at(self.step)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self.optimizer.step()
            self.step += 1
            losses.append(loss.item())
            if self.plan.workers > 1 and self.step % SYNC == 0:
                self.meet()
            if self.plan.worker > 0:
                continue
            if self.step % FOLLOW == 0:
                self.follow()
            if self.step % every == 0 or self.step == self.plan.steps:
                self.save()
                yield {"step": self.step, "loss": sum(losses) / len(losses), "seconds": round(time.monotonic() - began, 1)}
                losses.clear()

    @torch.no_grad()
    def meet(self) -> None:
        """Average the weights over the workers."""
        weights = list(self.model.parameters())
        flat = nn.utils.parameters_to_vector(weights) / self.plan.workers
        dist.all_reduce(flat)
        nn.utils.vector_to_parameters(flat, weights)

    @torch.no_grad()
    def follow(self) -> None:
        """Move the average; early on it follows faster, so that it is never mostly initialisation."""
        weight = 1 - min(self.plan.decay, (1 + self.step) / (10 + self.step)) ** FOLLOW
        ours = [value for value in self.average.values() if value.is_floating_point()]
        theirs = [value for value in self.model.state_dict().values() if value.is_floating_point()]
        torch._foreach_lerp_(ours, theirs, weight)


def trained_vae(folder: Path) -> AutoencoderTiny:
    vae = build_vae()
    vae.load_state_dict(torch.load(folder / "generator-vae.ckpt", map_location="cpu")["average"])
    return vae


def train(plan: Plan, every: int) -> None:
    torch.manual_seed(SEEDS[plan.name])  # a script of its own: initialisation has no other seed to take
    model: Any
    match plan.name:
        case "vae":
            model = build_vae().to(memory_format=torch.channels_last)
            loss = vae_loss(plan, model)
        case _:
            model = build_unet()
            loss = unet_loss(plan, model, build_vae())
    run = Run(plan, model)
    with (plan.folder / f"generator-{plan.name}.jsonl").open("a") as log:
        for row in run.go(loss, every):
            log.write(json.dumps(row) + "\n")
            log.flush()
            print(row, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=("vae", "unet"))
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rate", type=float, default=1e-3, help="peak learning rate")
    parser.add_argument("--cooling", type=float, default=0.3, help="share of the steps in which the rate falls to zero")
    parser.add_argument("--decay", type=float, default=0.995, help="of the moving average of the weights")
    parser.add_argument("--every", type=int, default=100, help="steps between checkpoints")
    parser.add_argument("--folder", type=Path, default=Path("training"), help="checkpoints and logs")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    o = parser.parse_args()
    o.folder.mkdir(parents=True, exist_ok=True)
    worker, workers = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    if workers > 1:
        dist.init_process_group("gloo", timeout=timedelta(days=2))  # a stopped worker may be continued much later
    device = torch.device(o.device)
    train(Plan(o.part, o.steps, o.batch, o.rate, o.cooling, o.decay, o.folder, device, worker, workers), o.every)


if __name__ == "__main__":
    main()
