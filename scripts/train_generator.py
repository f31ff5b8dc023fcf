"""Train picturebook's generator: `python scripts/train_generator.py vae`, then `unet`, then `export`.

When the CLIP has learned more, `unet --start OLD` goes on with the U-Net that ships: the folder OLD holds the clip.safetensors
that it has read until now, and its keys and values are first fitted to what the text tower says today.

The networks are those of `invert.picturebook.networks`. The encoder never changes, so `unet` can run
beside `vae` from its first checkpoint on; `export` writes the averaged weights, the U-Net's rounded
(`round_weights.py`). Scenes are sampled by
seed and step, so a resumed run sees exactly the data of an uninterrupted one. Runs on CUDA or on
the CPU (bfloat16 autocast); under `torchrun --nproc-per-node 6 -- scripts/train_generator.py …` (without the `--`
torchrun takes --start for its own) several workers train apart and average their weights at intervals
(local SGD, Stich, arXiv 1805.09767): on a busy machine they wait less than threads do.
"""

from __future__ import annotations

import json
import math
import os
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from diffusers import AutoencoderTiny, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from round_weights import round_file
from torch import Tensor, nn

from invert.picturebook import models, pipeline
from invert.picturebook.grammar import fragment, sample_training_caption
from invert.picturebook.networks import as_one_convolution, build_scheduler, build_unet, build_vae
from invert.picturebook.render import render
from invert.picturebook.text_encoder import fingerprint, text_encoder, tokenizer
from invert.picturebook.world import Scene, draw_scenes, held_out
from kernels.once import OnceParser

SEEDS = {"vae": 3, "unet": 4}
EMPTY_SHARE, FRAGMENT_SHARE = 0.06, 0.06  # shares of captions dropped for guidance, and cut to a part
SIMPLIFIED = 0.5  # share of patterned backgrounds made plain: no caption says where stripes are
LATENT_NOISE = 0.08  # standard deviation, of latents of unit variance
SYNC_EVERY = 20  # steps between averages over the workers
EMA_EVERY = 10  # steps between updates of the moving average
TERMINAL_SHARE = 0.25  # share of a batch at the last timestep, where only the caption decides


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
    seconds: float = math.inf  # the training ends by then, its rate with it

    def rate_at(self, step: int, spent: float = 0.0) -> float:
        """spent: share of the seconds."""
        warm = min(1.0, (step + 1) / 100)
        left = min((self.steps - step) / self.steps, 1 - spent)
        return self.rate * warm * min(1.0, max(left, 0.0) / max(self.cooling, 1 / self.steps))


def sample_scenes(plan: Plan, step: int) -> tuple[list[Scene], random.Random, torch.Generator]:
    """Sample a worker's data of a step: scenes, the random stream of their captions, and the generator of all noise."""
    seed = SEEDS[plan.name] * 1_000_003 + step * plan.workers + plan.worker
    return draw_scenes(plan.batch, seed), random.Random(f"captions-{seed}"), torch.Generator(plan.device).manual_seed(seed)


def vae_loss(plan: Plan, vae: AutoencoderTiny) -> Callable[[int], Tensor]:
    """Return the loss of pixels and their differences (edges), from latents with a little noise, as the U-Net's have."""

    def loss(step: int) -> Tensor:
        scenes, _, generator = sample_scenes(plan, step)
        images = channels_last(render(scenes, models.IMAGE_SIZE, plan.device) * 2 - 1)
        latents = vae.encoder(images)
        noise = torch.randn(latents.shape, generator=generator, device=plan.device)
        with torch.autocast(plan.device.type, torch.bfloat16):
            decoded = vae.decoder(latents + LATENT_NOISE / vae.config.scaling_factor * noise)
        error = decoded.float() - images
        edges = error.diff(dim=2).abs().mean() + error.diff(dim=3).abs().mean()
        return error.abs().mean() + error.square().mean() + 0.5 * edges

    return loss


def simplified(scenes: list[Scene], rng: random.Random) -> list[Scene]:
    """Make some patterned backgrounds plain, in their first color, so that the loss weighs the objects more."""
    easy = [replace(scene, pattern="plain", colors=scene.colors[:1]) for scene in scenes]
    return [e if rng.random() < SIMPLIFIED and not held_out(e) else scene for e, scene in zip(easy, scenes, strict=True)]


def sample_captions(scenes: list[Scene], rng: random.Random) -> list[str]:
    """Sample training captions: some cut to a part, some empty for classifier-free guidance."""
    captions = []
    for scene in scenes:
        text, u = sample_training_caption(scene, rng), rng.random()
        captions.append("" if u < EMPTY_SHARE else fragment(text, rng) if u < EMPTY_SHARE + FRAGMENT_SHARE else text)
    return captions


def timesteps(size: int, steps: int, generator: torch.Generator) -> Tensor:
    """Sample timesteps (size,) int64, denser towards the noisy end, where the caption decides most."""
    sampled = (steps * torch.rand(size, generator=generator, device=generator.device).sqrt()).long()
    sampled[: int(TERMINAL_SHARE * size)] = steps - 1
    return sampled


def unet_loss(plan: Plan, unet: UNet2DConditionModel, vae: AutoencoderTiny) -> Callable[[int], Tensor]:
    """Return the loss: mean squared error of the predicted velocity."""
    text, tokenize, scheduler = text_encoder().to(plan.device), tokenizer(), build_scheduler()
    kernel, bias = (part.to(plan.device) * vae.config.scaling_factor for part in as_one_convolution(vae.encoder))

    def loss(step: int) -> Tensor:
        scenes, rng, generator = sample_scenes(plan, step)
        scenes = simplified(scenes, rng)
        ids = tokenize(sample_captions(scenes, rng), padding="max_length", truncation=True, return_tensors="pt").input_ids
        latents = F.conv2d(render(scenes, models.IMAGE_SIZE, plan.device), kernel, bias, stride=8)
        with torch.no_grad(), torch.autocast(plan.device.type, torch.bfloat16):
            hidden = text(ids.to(plan.device)).last_hidden_state
        t = timesteps(plan.batch, scheduler.config.num_train_timesteps, generator)
        noise = torch.randn(latents.shape, generator=generator, device=plan.device)
        noisy = scheduler.add_noise(latents, noise, t)
        with torch.autocast(plan.device.type, torch.bfloat16):
            velocity = unet(noisy, t, encoder_hidden_states=hidden).sample
        return F.mse_loss(velocity.float(), scheduler.get_velocity(latents, noise, t))

    return loss


def channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


class Run:
    """A network, its moving average and its optimizer, kept in one checkpoint."""

    def __init__(self, plan: Plan, model: nn.Module) -> None:
        self.plan = plan
        self.model = model.to(plan.device)
        trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(trainable, lr=plan.rate, betas=(0.9, 0.98), weight_decay=0.01, fused=True)
        self.ema = {name: value.detach().clone() for name, value in model.state_dict().items()}
        self.step = 0
        self.path = plan.folder / f"generator-{plan.name}.ckpt"
        if self.path.exists():
            state = torch.load(self.path, map_location=plan.device)
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.ema, self.step = state["average"], state["step"]

    def save(self) -> None:
        """Write to a temporary file, then rename it, so that an interrupt never leaves half a checkpoint."""
        state = {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}
        partial = self.path.with_suffix(".tmp")
        torch.save({**state, "average": self.ema, "step": self.step}, partial)
        partial.replace(self.path)

    def train(self, loss_at: Callable[[int], Tensor], every: int) -> Iterator[dict[str, Any]]:
        """Train to the plan's last step; yields a log record every `every` steps, after a checkpoint."""
        began = time.monotonic()
        losses: list[float] = []
        spent = 0.0
        while self.step < self.plan.steps and spent < 1:
            spent = (time.monotonic() - began) / self.plan.seconds
            for group in self.optimizer.param_groups:
                group["lr"] = self.plan.rate_at(self.step, spent)
            loss = loss_at(self.step)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self.optimizer.step()
            self.step += 1
            losses.append(loss.item())
            if self.plan.workers > 1 and self.step % SYNC_EVERY == 0:
                self.sync_weights()
            if self.plan.worker > 0:
                continue
            if self.step % EMA_EVERY == 0:
                self.update_ema()
            if self.step % every == 0 or self.step == self.plan.steps or spent >= 1:
                self.save()
                yield {"step": self.step, "loss": sum(losses) / len(losses), "seconds": round(time.monotonic() - began, 1)}
                losses.clear()

    @torch.no_grad()
    def sync_weights(self) -> None:
        """Average the weights over the workers."""
        weights = [weight for weight in self.model.parameters() if weight.requires_grad]
        flat = torch.cat([weight.flatten() for weight in weights]) / self.plan.workers
        dist.all_reduce(flat)
        for weight, part in zip(weights, flat.split([weight.numel() for weight in weights]), strict=True):
            weight.copy_(part.view(weight.shape))

    @torch.no_grad()
    def update_ema(self) -> None:
        """Update the moving average; early on with a smaller decay, so that it is never mostly initialization."""
        weight = 1 - min(self.plan.decay, (1 + self.step) / (10 + self.step)) ** EMA_EVERY
        averages = [value for value in self.ema.values() if value.is_floating_point()]
        weights = [value for value in self.model.state_dict().values() if value.is_floating_point()]
        torch._foreach_lerp_(averages, weights, weight)


def load_ema(model: Any, checkpoint: Path) -> Any:
    """Load the moving average of a checkpoint's weights into the model."""
    model.load_state_dict(torch.load(checkpoint, map_location="cpu")["average"])
    return model


@torch.no_grad()
def fit_to_text(unet: Any, old: Any, new: Any, size: int = 1024) -> None:
    """Let the cross-attention's keys and values say of the new text encoder's hidden states what they said of the old one's.

    The least-squares map from the new states to the old ones, over captions of training scenes, is multiplied into them.
    """
    tokenize, rng = tokenizer(), random.Random(0)
    texts = sample_captions(draw_scenes(size, SEEDS["unet"]), rng)
    ids = tokenize(texts, padding="max_length", truncation=True, return_tensors="pt").input_ids
    theirs, ours = (
        torch.cat([model(part).last_hidden_state.flatten(0, 1) for part in ids.split(256)]).double() for model in (old, new)
    )
    back = torch.linalg.solve(ours.T @ ours, ours.T @ theirs).T.float()  # theirs ≈ ours @ back.T
    for name, module in unet.named_modules():
        if name.endswith(("attn2.to_k", "attn2.to_v")):
            module.weight.copy_(module.weight @ back)


def shipped(part: str) -> Any:
    """The "unet" or the "vae" that ships, in float32 and without the path of its file in the configuration."""
    model = {"unet": build_unet, "vae": build_vae}[part]()
    kind = UNet2DConditionModel if part == "unet" else AutoencoderTiny
    model.load_state_dict(kind.from_pretrained(pipeline.FOLDER / part).float().state_dict())
    return model


def export(folder: Path, out: Path) -> None:
    """Write what `invert.picturebook.pipeline` loads: both networks in fp16, the scheduler, and the text tower's hash."""
    trained = folder / "generator-vae.ckpt"
    vae = load_ema(build_vae(), trained) if trained.exists() else shipped("vae")
    unet = load_ema(build_unet(), folder / "generator-unet.ckpt")
    for name, part in (("vae", vae.half()), ("unet", unet.half()), ("scheduler", build_scheduler())):
        part.save_pretrained(out / name)
    round_file(out / "unet" / "diffusion_pytorch_model.safetensors")
    remove_key(out / "vae" / "config.json", "block_out_channels")  # AutoencoderTiny adds it, and warns of it when it loads
    (out / pipeline.TRAINED_WITH).write_text(fingerprint())


def remove_key(path: Path, key: str) -> None:
    """Remove one key from a JSON file."""
    config = json.loads(path.read_text())
    del config[key]
    path.write_text(json.dumps(config, indent=2) + "\n")


def train(plan: Plan, every: int, start: Path | None = None) -> None:
    torch.manual_seed(SEEDS[plan.name])  # a script of its own: initialization has no other seed to take
    model: Any
    if plan.name == "vae":
        model = build_vae().to(memory_format=torch.channels_last)
        loss = vae_loss(plan, model)
    else:
        model = shipped("unet") if start else build_unet()
        if start:
            fit_to_text(model, text_encoder(start), text_encoder())
        model.set_attn_processor(AttnProcessor())  # over 16 positions the fused kernel's backward is slower
        vae = shipped("vae") if start else load_ema(build_vae(), plan.folder / "generator-vae.ckpt")
        loss = unet_loss(plan, model, vae)
    run = Run(plan, model)
    with (plan.folder / f"generator-{plan.name}.jsonl").open("a") as log:
        for row in run.train(loss, every):
            log.write(json.dumps(row) + "\n")
            log.flush()
            print(row, flush=True)


def main() -> None:
    parser = OnceParser(description=__doc__)
    parser.add_argument("part", choices=("vae", "unet", "export"))
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rate", type=float, default=1e-3, help="peak learning rate")
    parser.add_argument("--cooling", type=float, default=0.3, help="share of the steps in which the rate falls to zero")
    parser.add_argument("--decay", type=float, default=0.995, help="of the moving average of the weights")
    parser.add_argument("--every", type=int, default=100, help="steps between checkpoints")
    parser.add_argument(
        "--start", type=Path, help="of unet: go on with the one that ships, which has read the CLIP in this folder"
    )
    parser.add_argument("--seconds", type=float, default=math.inf, help="end by then, the learning rate with it")
    parser.add_argument("--folder", type=Path, default=Path("training"), help="checkpoints and logs")
    parser.add_argument("--out", type=Path, default=pipeline.FOLDER, help="where export writes")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    o = parser.parse_args()
    if o.part == "export":
        return export(o.folder, o.out)
    o.folder.mkdir(parents=True, exist_ok=True)
    worker, workers = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    if workers > 1:
        dist.init_process_group("gloo", timeout=timedelta(days=2))  # a stopped worker may be continued much later
    device = torch.device(o.device)
    plan = Plan(o.part, o.steps, o.batch, o.rate, o.cooling, o.decay, o.folder, device, worker, workers, o.seconds)
    train(plan, o.every, o.start)


if __name__ == "__main__":
    main()
