"""Train picturebook's CLIP or its judge: `python scripts/train_picturebook.py clip --steps 2400`.

Scenes are drawn by seed and step, so a resumed run sees exactly the data that an unbroken one
would. Besides CLIP's contrastive loss, one linear reader shared by both towers names a latent's
attributes (objects in order, colours, layout, pattern, style); it makes the towers meet early and
is thrown away at the end. Runs on CUDA or on the CPU (bfloat16 autocast).
"""

from __future__ import annotations

import argparse
import json
import math
import random
import time
from pathlib import Path

import open_clip
import torch
import torch.nn.functional as F
from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from torch import Tensor, nn

from invert.picturebook import models
from invert.picturebook.augment import augment
from invert.picturebook.grammar import caption, fragment, spoken_caption
from invert.picturebook.render import render
from invert.picturebook.world import (
    COLOURS,
    CORNERS,
    LAYOUTS,
    PATTERNS,
    STYLES,
    Scene,
    change_one,
    draw_scenes,
    held_out,
    objects,
)  # fmt: skip

SEEDS = {"clip": 1, "judge": 2}
FRAGMENTS = 0.35  # share of captions that are only parts of one
NEAR_MISSES = 0.25  # share of a batch that is another scene of it with one attribute changed
IGNORED = -100  # cross_entropy's label for "not said"


class Reader(nn.Module):
    """Latent (B, E) → logits of every attribute, one linear layer, split by attribute."""

    def __init__(self, width: int) -> None:
        super().__init__()
        things, hues = len(objects()), len(COLOURS) + 1
        self.sizes = [things, things + 1, hues, hues, len(LAYOUTS) + len(CORNERS), len(PATTERNS), hues, hues, len(STYLES)]
        self.weights = [1.0, 1.0, 0.4, 0.4, 0.4, 0.3, 0.3, 0.3, 0.3]
        self.linear = nn.Linear(width, sum(self.sizes))

    def loss(self, latent: Tensor, labels: Tensor) -> Tensor:
        """labels: (B, 9) int64, IGNORED where the caption does not say."""
        parts = self.linear(latent).split(self.sizes, 1)
        losses = [
            weight * F.cross_entropy(part, labels[:, k], label_smoothing=0.02)
            for k, (part, weight) in enumerate(zip(parts, self.weights, strict=True))
        ]
        return torch.stack(losses).sum()


def attributes(scene: Scene) -> list[int]:
    hues = ["", *COLOURS]
    second = len(scene.objects) > 1
    layout = LAYOUTS.index(scene.layout) if not scene.corner else len(LAYOUTS) + CORNERS.index(scene.corner)
    return [
        scene.objects[0],
        scene.objects[1] if second else len(objects()),
        hues.index(scene.tints[0]),
        hues.index(scene.tints[1]) if second else 0,
        layout,
        PATTERNS.index(scene.pattern),
        hues.index(scene.colours[0]),
        hues.index(scene.colours[1]) if len(scene.colours) > 1 else 0,
        STYLES.index(scene.style),
    ]


class CompactTokenizer:
    """CLIP's BPE with ids renumbered to the rows that training keeps (order kept: EOT stays highest)."""

    def __init__(self) -> None:
        self.encode = open_clip.get_tokenizer("ViT-B-32").encode
        self.row = {token: row for row, token in enumerate(models.known_tokens())}

    def __call__(self, captions: list[str]) -> Tensor:
        """(B, longest) int64, zero-padded."""
        start, end = self.row[models.START_OF_TEXT], self.row[models.END_OF_TEXT]
        rows = [[start, *(self.row[t] for t in self.encode(text)), end][: models.CONTEXT] for text in captions]
        ids = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.long)
        for i, row in enumerate(rows):
            ids[i, : len(row)] = torch.tensor(row)
        return ids


def encode_text(model: nn.Module, ids: Tensor) -> Tensor:
    """The text tower on as many positions as the longest caption has; unnormalised (B, E)."""
    length = ids.shape[1]
    hidden = model.token_embedding(ids) + model.positional_embedding[:length]
    hidden = model.transformer(hidden, attn_mask=model.attn_mask[:length, :length])
    hidden = model.ln_final(hidden[torch.arange(len(ids)), ids.argmax(1)])
    return hidden @ model.text_projection


def normalise(images: Tensor) -> Tensor:
    mean = torch.tensor(OPENAI_DATASET_MEAN, device=images.device)[:, None, None]
    std = torch.tensor(OPENAI_DATASET_STD, device=images.device)[:, None, None]
    return (images - mean) / std


def training_batch(step: int, seed: int, size: int) -> tuple[list[Scene], list[str]]:
    """Scenes with near misses among them, and a caption each; every tenth batch says things twice."""
    rng = random.Random(f"batch-{seed}-{step}")
    scenes = draw_scenes(size - int(size * NEAR_MISSES), seed * 1_000_003 + step)
    while len(scenes) < size:
        other = change_one(scenes[rng.randrange(size // 2)], rng)
        if not held_out(other):
            scenes.append(other)
    captions = [spoken_caption(scene, rng) for scene in scenes]
    if step % 10 != 9:
        captions = [fragment(text, rng) if rng.random() < FRAGMENTS else text for text in captions]
    else:  # long prompts must not meet untrained positions
        captions = [f"{text}, {spoken_caption(scene, rng)}" for scene, text in zip(scenes, captions, strict=True)]
    return scenes, captions


def said(labels: Tensor, scenes: list[Scene], captions: list[str]) -> Tensor:
    """Labels for the text tower: what a caption leaves out is not asked for."""
    labels = labels.clone()
    for i, (scene, text) in enumerate(zip(scenes, captions, strict=True)):
        words = set(text.split())
        for k, index in enumerate(scene.objects):
            thing = objects()[index]
            if not (words.issuperset(thing.name.split()) or words.issuperset(thing.plural.split() or ["?"])):
                labels[i, k] = IGNORED
        whole = "on" in words and text.rstrip(",").endswith(("background", *STYLES))
        if not whole:
            labels[i, 2:5] = labels[i, 6:8] = IGNORED
        if scene.pattern not in words and not whole:
            labels[i, 5] = IGNORED
        if not words.issuperset(scene.style.split()) and not whole:
            labels[i, 8] = IGNORED
    return labels


@torch.no_grad()
def retrieval(model: nn.Module, n: int, seed: int, device: torch.device) -> float:
    """Share of n held-out pictures whose own caption ranks first among 512."""
    model.eval()
    tokenize = CompactTokenizer()
    scenes = draw_scenes(n, seed, "held-out")
    pictures, texts = [], []
    for part in (scenes[i : i + 256] for i in range(0, n, 256)):
        pictures.append(model.visual(normalise(render(part, models.IMAGE_SIZE, device))))
        texts.append(encode_text(model, tokenize([caption(s) for s in part]).to(device)))
    model.train()
    scores = F.normalize(torch.cat(pictures).float(), dim=1) @ F.normalize(torch.cat(texts).float(), dim=1).T
    hits = 0
    for i in range(n):  # each picture against its own caption and 511 of the others
        others = torch.arange(i, i + 512, device=device) % n
        hits += int(scores[i, others].argmax() == 0)
    return hits / n


def train(name: str, steps: int, batch: int, rate: float, folder: Path, device: torch.device) -> None:
    torch.manual_seed(SEEDS[name])  # a script of its own: initialisation has no other seed to take
    model = models.build(name, len(models.known_tokens())).to(device)
    if name == "clip":
        model.visual.to(memory_format=torch.channels_last)
    reader = Reader(models.CONFIGS[name]["embed_dim"]).to(device)
    decayed = [p for p in [*model.parameters(), *reader.parameters()] if p.ndim > 1]
    plain = [p for p in [*model.parameters(), *reader.parameters()] if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": 0.05}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98))
    checkpoint, log = folder / f"{name}.ckpt", folder / f"{name}.jsonl"
    first = 0
    if checkpoint.exists():
        state = torch.load(checkpoint, map_location=device)
        model.load_state_dict(state["model"])
        reader.load_state_dict(state["reader"])
        optimizer.load_state_dict(state["optimizer"])
        first = state["step"]
    tokenize = CompactTokenizer()
    began = time.monotonic()
    for step in range(first, steps):
        progress = step / steps
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1, (step + 1) / 150) * 0.5 * (1 + math.cos(math.pi * progress))
        scenes, captions = training_batch(step, SEEDS[name], batch)
        noise = torch.Generator(device).manual_seed(step)
        images = normalise(augment(render(scenes, models.IMAGE_SIZE, device, wildness=1.0), noise))
        ids = tokenize(captions).to(device)
        labels = torch.tensor([attributes(scene) for scene in scenes], device=device)
        with torch.autocast(device.type, torch.bfloat16):
            picture, text = model.visual(images), encode_text(model, ids)
        picture, text = picture.float(), text.float()
        logits = model.logit_scale.exp().clamp(max=100) * F.normalize(picture, dim=1) @ F.normalize(text, dim=1).T
        own = torch.arange(len(logits), device=device)
        contrast = (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2
        reading = reader.loss(picture, labels) + reader.loss(text, said(labels, scenes, captions))
        loss = contrast + (0.5 - 0.4 * progress) * reading
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if (step + 1) % 100 == 0 or step + 1 == steps:
            row = {"step": step + 1, "loss": loss.item(), "contrast": contrast.item(), "reading": reading.item()}
            row["seconds"] = time.monotonic() - began
            if (step + 1) % 200 == 0 or step + 1 == steps:
                row["held_out_top1"] = retrieval(model, 512, 7, device)
            with log.open("a") as lines:
                lines.write(json.dumps(row) + "\n")
            print(row, flush=True)
            state = {"model": model.state_dict(), "reader": reader.state_dict(), "optimizer": optimizer.state_dict()}
            torch.save({**state, "step": step + 1}, checkpoint.with_suffix(".tmp"))
            checkpoint.with_suffix(".tmp").replace(checkpoint)
    models.WEIGHTS.mkdir(exist_ok=True)
    models.save_weights(model, models.WEIGHTS / f"{name}.safetensors")
    print({"held_out_top1_of_512_on_1000": retrieval(model, 1000, 0, device)})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", choices=sorted(models.CONFIGS))
    parser.add_argument("--steps", type=int, default=2400)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--rate", type=float, default=1e-3, help="peak learning rate")
    parser.add_argument("--folder", type=Path, default=Path("training"), help="checkpoints and logs")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    train(options.model, options.steps, options.batch, options.rate, options.folder, torch.device(options.device))


if __name__ == "__main__":
    main()
