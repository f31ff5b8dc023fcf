"""Train picturebook's CLIP or its judge, in three phases: `python scripts/train_picturebook.py clip scenes`, then
`… clip pictures`, then `… clip families`; check the committed weights: `… clip evaluate`.

- scenes: both towers on random scenes, with hard negatives among them.
- pictures: the image tower alone learns to name what it sees, at three quarters of the cost of a step.
- families: both towers on batches of hard-negative groups, scenes that differ in one thing
  (`invert/picturebook/hard_negatives.py`).

Scenes are sampled by seed and step, so a resumed run sees exactly the data of an uninterrupted one.
Besides CLIP's contrastive loss, a linear probe shared by both towers predicts a latent's attributes
(objects in order, colors, layout, pattern, style); it aligns the towers early and is discarded at
the end. Runs on CUDA or on the CPU (bfloat16 autocast).
"""

from __future__ import annotations

import argparse
import json
import math
import random
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import open_clip
import torch
import torch.nn.functional as F
from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from torch import Tensor, nn

from invert.models.loading import load_clip
from invert.picturebook import models
from invert.picturebook.augment import augment
from invert.picturebook.grammar import caption, fragment, sample_training_caption
from invert.picturebook.hard_negatives import hard_negative_group, portraits, similar_objects
from invert.picturebook.linear_probe import LinearProbe, attributes, mask_unstated
from invert.picturebook.optimizers import build_optimizers
from invert.picturebook.render import render
from invert.picturebook.world import (
    Scene,
    change_one,
    draw_scenes,
    held_out,
    objects,
)  # fmt: skip

PHASES = ("scenes", "pictures", "families")  # each continues the one before it
SEEDS = {"clip": 1, "judge": 2}
FRAGMENTS = 0.35  # share of captions that are only parts of one
HARD_NEGATIVES = 0.25  # share of a batch that is another scene of it with one attribute changed
GROUP_SIZE = 8  # scenes of a hard-negative group, in the third phase
RANKED = 512  # captions that retrieval ranks
WARM_UP = 150  # steps until the learning rate's peak
LOG_EVERY = 100  # steps, also between checkpoints


class CompactTokenizer:
    """CLIP's BPE with ids renumbered to the rows that training keeps (order kept: EOT stays highest)."""

    def __init__(self) -> None:
        self.encode = open_clip.get_tokenizer("ViT-B-32").encode
        self.row = {token: row for row, token in enumerate(models.trained_token_ids())}

    def __call__(self, captions: list[str]) -> Tensor:
        """(B, longest) int64, zero-padded."""
        start, end = self.row[models.START_OF_TEXT], self.row[models.END_OF_TEXT]
        rows = [[start, *(self.row[t] for t in self.encode(text)), end][: models.CONTEXT] for text in captions]
        ids = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.long)
        for i, row in enumerate(rows):
            ids[i, : len(row)] = torch.tensor(row)
        return ids


def encode_text(model: nn.Module, ids: Tensor) -> Tensor:
    """The text tower on as many positions as the longest caption has; unnormalized (B, E)."""
    length = ids.shape[1]
    hidden = model.token_embedding(ids) + model.positional_embedding[:length]
    hidden = model.transformer(hidden, attn_mask=model.attn_mask[:length, :length])
    hidden = model.ln_final(hidden[torch.arange(len(ids)), ids.argmax(1)])
    return hidden @ model.text_projection


def normalize(images: Tensor) -> Tensor:
    mean = torch.tensor(OPENAI_DATASET_MEAN, device=images.device)[:, None, None]
    std = torch.tensor(OPENAI_DATASET_STD, device=images.device)[:, None, None]
    return (images - mean) / std


def training_batch(step: int, seed: int, size: int) -> tuple[list[Scene], list[str]]:
    """Sample scenes with hard negatives among them, and a caption each; every tenth batch doubles its captions."""
    rng = random.Random(f"batch-{seed}-{step}")
    scenes = draw_scenes(size - int(size * HARD_NEGATIVES), seed * 1_000_003 + step)
    while len(scenes) < size:
        other = change_one(scenes[rng.randrange(size // 2)], rng)
        if not held_out(other):
            scenes.append(other)
    captions = [sample_training_caption(scene, rng) for scene in scenes]
    if step % 10 != 9:
        captions = [fragment(text, rng) if rng.random() < FRAGMENTS else text for text in captions]
    else:  # so that the positions of long prompts are trained too
        captions = [f"{text}, {sample_training_caption(scene, rng)}" for scene, text in zip(scenes, captions, strict=True)]
    return scenes, captions


def hard_negative_batch(step: int, seed: int, size: int, similar: list[list[int]]) -> tuple[list[Scene], list[str]]:
    """Sample whole hard-negative groups and a caption each; a few captions are only parts of one."""
    rng = random.Random(f"families-{seed}-{step}")
    scenes = [scene for _ in range(size // GROUP_SIZE) for scene in hard_negative_group(rng, similar, GROUP_SIZE)]
    captions = [sample_training_caption(scene, rng) for scene in scenes]
    return scenes, [fragment(text, rng) if rng.random() < FRAGMENTS / 3 else text for text in captions]


@torch.no_grad()
def retrieval(pictures: Callable[[Tensor], Tensor], texts: Callable[[list[str]], Tensor], n: int, seed: int) -> float:
    """Share of n held-out pictures (512 at least) whose own caption ranks first among 512.

    pictures: pixels (B, 3, S, S) in 0..1 → latents (B, E). texts: captions → latents (B, E).
    """
    scenes = draw_scenes(n, seed, "held-out")
    parts = [scenes[i : i + 256] for i in range(0, n, 256)]
    images = torch.cat([pictures(render(part, models.IMAGE_SIZE)) for part in parts]).float()
    captions = torch.cat([texts([caption(scene) for scene in part]) for part in parts]).float()
    scores = F.normalize(images, dim=1) @ F.normalize(captions, dim=1).T
    hits = 0
    for i in range(n):  # each picture against its own caption and 511 of the others
        others = torch.arange(i, i + RANKED, device=scores.device) % n
        hits += int(scores[i, others].argmax() == 0)
    return hits / n


def evaluate(name: str, n: int, device: torch.device) -> float:
    """`retrieval` of the committed weights, seed 0, loaded as users load them."""
    clip = load_clip("picturebook" if name == "clip" else "picturebook-judge", device)
    return retrieval(clip.encode_image, clip.encode_text, n, 0)


class Training:
    """A model with its probe, its optimizers and the step of its phase that it has reached."""

    def __init__(self, name: str, phase: str, steps: int, batch: int, rate: float, device: torch.device) -> None:
        """steps: of the whole phase; the rate falls along a cosine to the last of them."""
        torch.manual_seed(SEEDS[name])  # a script of its own: initialization has no other seed to take
        self.name, self.phase, self.steps, self.batch, self.rate, self.device = name, phase, steps, batch, rate, device
        self.model = models.build(name, len(models.trained_token_ids())).to(device)
        self.probe = LinearProbe(models.CONFIGS[name]["embed_dim"]).to(device)
        self.optimizers = build_optimizers(self.model, self.probe, rate)
        self.tokenize = CompactTokenizer()
        self.similar: list[list[int]] = []
        self.step = 0

    def parts(self) -> dict[str, Any]:
        """What a checkpoint stores; it has always called the probe "reader"."""
        muon, adamw = self.optimizers
        return {"model": self.model, "reader": self.probe, "muon": muon, "adamw": adamw}

    def save(self, path: Path) -> None:
        """Write a checkpoint; a training killed while writing leaves the one before."""
        state = {name: part.state_dict() for name, part in self.parts().items()}
        torch.save({**state, "similar": self.similar, "step": self.step}, path.with_suffix(".tmp"))
        path.with_suffix(".tmp").replace(path)

    def load(self, path: Path) -> None:
        """Resume from a checkpoint of this phase."""
        state = torch.load(path, map_location=self.device)
        for name, part in self.parts().items():
            part.load_state_dict(state[name])
        self.similar, self.step = state["similar"], state["step"]

    def start_from(self, path: Path) -> None:
        """Initialize this phase from the previous one's checkpoint, or from the committed weights."""
        if path.exists():
            state = torch.load(path, map_location=self.device)
            self.model.load_state_dict(state["model"])
            self.probe.load_state_dict(state["reader"])
        else:
            self.model.load_state_dict(models.compact_state(models.WEIGHTS / f"{self.name}.safetensors"))
            nn.init.zeros_(self.probe.linear.weight)  # else its first gradients would be noise to trained towers
        if self.phase == "families":
            self.model.eval()
            self.similar = similar_objects(self.encode_images(render(portraits(), models.IMAGE_SIZE)))

    def advance(self) -> dict[str, float]:
        """One step; returns its losses."""
        progress = self.step / self.steps
        for group in (group for optimizer in self.optimizers for group in optimizer.param_groups):
            group["lr"] = self.rate * min(1, (self.step + 1) / WARM_UP) * 0.5 * (1 + math.cos(math.pi * progress))
        # A hard-negative group's statistics are not the world's, so batch norms stay fixed in that phase.
        self.model.train(self.phase != "families")
        losses = self.picture_losses() if self.phase == "pictures" else self.pair_losses()
        weights = {"contrast": 1.0, "reading": 1.0 if self.phase == "pictures" else 0.5 - 0.4 * progress}
        loss = torch.stack([weights[name] * value for name, value in losses.items()]).sum()
        self.model.zero_grad(set_to_none=True)
        self.probe.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
        self.step += 1
        return {"loss": loss.item(), **{name: value.item() for name, value in losses.items()}}

    def render_batch(self, scenes: list[Scene]) -> Tensor:
        """Render scenes, normalized (B, 3, S, S): augmented, except every second batch of the phase families."""
        if self.phase == "families" and self.step % 2:
            return normalize(render(scenes, models.IMAGE_SIZE, self.device))
        noise = torch.Generator(self.device).manual_seed(self.step)
        return normalize(augment(render(scenes, models.IMAGE_SIZE, self.device, jitter=1.0), noise))

    def labels(self, scenes: list[Scene]) -> Tensor:
        return torch.tensor([attributes(scene) for scene in scenes], device=self.device)

    def picture_losses(self) -> dict[str, Tensor]:
        """Probe loss of the image tower, on scenes of other seeds than the first phase's."""
        scenes = draw_scenes(self.batch, (SEEDS[self.name] + len(SEEDS)) * 1_000_003 + self.step)
        images = self.render_batch(scenes)
        with torch.autocast(self.device.type, torch.bfloat16):
            picture = self.model.visual(images)
        return {"reading": self.probe.loss(picture.float(), self.labels(scenes))}

    def pair_losses(self) -> dict[str, Tensor]:
        """CLIP's loss, and the probe loss of both towers."""
        if self.phase == "families":
            scenes, captions = hard_negative_batch(self.step, SEEDS[self.name], self.batch, self.similar)
        else:
            scenes, captions = training_batch(self.step, SEEDS[self.name], self.batch)
        ids = self.tokenize(captions).to(self.device)
        images, labels = self.render_batch(scenes), self.labels(scenes)
        with torch.autocast(self.device.type, torch.bfloat16):
            picture, text = self.model.visual(images), encode_text(self.model, ids)
        picture, text = picture.float(), text.float()
        contrast = contrastive_loss(picture, text, self.model.logit_scale, duplicate_mask(captions).to(self.device))
        probe = self.probe.loss(picture, labels) + self.probe.loss(text, mask_unstated(labels, scenes, captions))
        return {"contrast": contrast, "reading": probe}

    @torch.no_grad()
    def encode_images(self, pixels: Tensor) -> Tensor:
        """Pixels (B, 3, S, S) in 0..1 → latents (B, E), as the model stands."""
        parts = pixels.to(self.device).split(128)
        return torch.cat([self.model.visual(normalize(part)) for part in parts])

    def encode_texts(self, captions: list[str]) -> Tensor:
        """Captions → latents (B, E), as the model stands."""
        return encode_text(self.model, self.tokenize(captions).to(self.device))

    @torch.no_grad()
    def held_out(self, n: int, seed: int) -> dict[str, float]:
        """On n held-out scenes: `retrieval` of the model as it stands, and the share of objects that the probe names."""
        self.model.eval()
        scenes = draw_scenes(n, seed, "held-out")
        logits = self.probe.linear(self.encode_images(render(scenes, models.IMAGE_SIZE))).split(self.probe.sizes, 1)
        labels = self.labels(scenes)
        right = torch.stack([logits[k].argmax(1) == labels[:, k] for k in (0, 1)], 1)[labels[:, :2] < len(objects())]
        return {"top1": retrieval(self.encode_images, self.encode_texts, n, seed), "objects_read": right.float().mean().item()}


def duplicate_mask(captions: list[str]) -> Tensor:
    """Return (B, B) bool: true where two different pictures share a caption, so that neither is a negative."""
    first: dict[str, int] = {}
    index = torch.tensor([first.setdefault(text, i) for i, text in enumerate(captions)])
    return (index[:, None] == index) & ~torch.eye(len(captions), dtype=torch.bool)


def contrastive_loss(picture: Tensor, text: Tensor, logit_scale: Tensor, ignored: Tensor) -> Tensor:
    """CLIP's loss (Radford et al., arXiv 2103.00020) over latents (B, E) whose i-th rows belong together.

    ignored: (B, B) bool, pairs that are not contrasted.
    """
    logits = logit_scale.exp().clamp(max=100) * F.normalize(picture, dim=1) @ F.normalize(text, dim=1).T
    logits = logits.masked_fill(ignored, -torch.inf)
    own = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2


@torch.no_grad()
def objects_found(name: str, n: int, device: torch.device) -> float:
    """Share of the objects of n held-out scenes whose caption beats those with any other object in its place."""
    clip = load_clip("picturebook" if name == "clip" else "picturebook-judge", device)
    scenes = draw_scenes(n, 0, "held-out")
    latents = clip.encode_image(render(scenes, models.IMAGE_SIZE))
    hits = []
    for scene, latent in zip(scenes, latents, strict=True):
        for place, own in enumerate(scene.objects):
            rivals = [i for i, thing in enumerate(objects()) if scene.layout != "two" or thing.plural]
            changed = [replace(scene, objects=(*scene.objects[:place], i, *scene.objects[place + 1 :])) for i in rivals]
            scores = clip.encode_text([caption(other) for other in changed]) @ latent
            hits.append(rivals[int(scores.argmax())] == own)
    return sum(hits) / len(hits)


def train(training: Training, folder: Path, weights: Path) -> None:
    """Run to the phase's end from where the folder's checkpoint stands; write the weights in fp16."""
    checkpoint, log = (folder / f"{training.name}-{training.phase}.{kind}" for kind in ("ckpt", "jsonl"))
    if checkpoint.exists():
        training.load(checkpoint)
    elif training.phase != PHASES[0]:
        before = PHASES[PHASES.index(training.phase) - 1]
        training.start_from(folder / f"{training.name}-{before}.ckpt")
    began = time.monotonic()
    while training.step < training.steps:
        losses = training.advance()
        last = training.step == training.steps
        if training.step % LOG_EVERY == 0 or last:
            row: dict[str, float] = {"step": training.step, **losses, "seconds": time.monotonic() - began}
            if training.step % (2 * LOG_EVERY) == 0 or last:
                row |= training.held_out(RANKED, 7)
            with log.open("a") as lines:
                lines.write(json.dumps(row) + "\n")
            print(row, flush=True)
            training.save(checkpoint)
    weights.mkdir(parents=True, exist_ok=True)
    models.save_weights(training.model, weights / f"{training.name}.safetensors")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", choices=sorted(models.CONFIGS))
    parser.add_argument("phase", choices=[*PHASES, "evaluate"], help="evaluate: train nothing, measure the committed weights")
    parser.add_argument("--steps", type=int, default=2400)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--rate", type=float, default=1e-3, help="peak learning rate")
    parser.add_argument("--folder", type=Path, default=Path("training"), help="checkpoints and logs")
    parser.add_argument("--weights", type=Path, default=models.WEIGHTS, help="where the trained weights go")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument(
        "--new-vocabulary", action="store_true", help="first rewrite the list of the grammar's tokens; then train both models"
    )
    parser.add_argument("--scenes", type=int, default=1000, help=f"held-out scenes that evaluate takes, {RANKED} or more")
    options = parser.parse_args()
    device = torch.device(options.device)
    if options.phase == "evaluate":
        if options.scenes < RANKED:
            parser.error(f"--scenes {options.scenes}: a caption is ranked among {RANKED}, so give {RANKED} or more")
        share = evaluate(options.model, options.scenes, device)
        print(f"{options.model}: {share:.1%} of {options.scenes} held-out scenes rank first among {RANKED}")
        found = objects_found(options.model, options.scenes // 10, device)
        print(f"{options.model}: {found:.1%} of the objects of {options.scenes // 10} of them among all that could stand there")
        return
    if options.new_vocabulary:
        models.rewrite_token_list()
    options.folder.mkdir(parents=True, exist_ok=True)
    training = Training(options.model, options.phase, options.steps, options.batch, options.rate, device)
    train(training, options.folder, options.weights)


if __name__ == "__main__":
    main()
