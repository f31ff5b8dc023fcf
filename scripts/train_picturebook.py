"""Train picturebook's CLIP or its judge: `python scripts/train_picturebook.py clip --steps 2400`; check the
committed weights: `python scripts/train_picturebook.py clip --evaluate`.

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
from collections.abc import Callable
from pathlib import Path
from typing import Any

import open_clip
import torch
import torch.nn.functional as F
from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from torch import Tensor, nn

from invert.clip import load_clip
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
RANKED = 512  # captions that retrieval ranks
WARM_UP = 150  # steps until the learning rate's peak
LOG_EVERY = 100  # steps, also between checkpoints
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
    """A model with its reader, its optimiser and the step that it has reached."""

    def __init__(self, name: str, steps: int, batch: int, rate: float, device: torch.device) -> None:
        """steps: of the whole training; the rate falls along a cosine to the last of them."""
        torch.manual_seed(SEEDS[name])  # a script of its own: initialisation has no other seed to take
        self.name, self.steps, self.batch, self.rate, self.device = name, steps, batch, rate, device
        self.model = models.build(name, len(models.known_tokens())).to(device)
        if name == "clip":
            self.model.visual.to(memory_format=torch.channels_last)
        self.reader = Reader(models.CONFIGS[name]["embed_dim"]).to(device)
        parameters = [*self.model.parameters(), *self.reader.parameters()]
        decayed, plain = ([p for p in parameters if (p.ndim > 1) == wide] for wide in (True, False))
        groups = [{"params": decayed, "weight_decay": 0.05}, {"params": plain, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98))
        self.tokenize = CompactTokenizer()
        self.step = 0

    def parts(self) -> dict[str, Any]:
        return {"model": self.model, "reader": self.reader, "optimizer": self.optimizer}

    def save(self, path: Path) -> None:
        """Write a checkpoint; a training killed while writing leaves the one before."""
        state = {name: part.state_dict() for name, part in self.parts().items()}
        torch.save({**state, "step": self.step}, path.with_suffix(".tmp"))
        path.with_suffix(".tmp").replace(path)

    def load(self, path: Path) -> None:
        state = torch.load(path, map_location=self.device)
        for name, part in self.parts().items():
            part.load_state_dict(state[name])
        self.step = state["step"]

    def advance(self) -> dict[str, float]:
        """One step; returns its losses."""
        progress = self.step / self.steps
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate * min(1, (self.step + 1) / WARM_UP) * 0.5 * (1 + math.cos(math.pi * progress))
        scenes, captions = training_batch(self.step, SEEDS[self.name], self.batch)
        noise = torch.Generator(self.device).manual_seed(self.step)
        images = normalise(augment(render(scenes, models.IMAGE_SIZE, self.device, wildness=1.0), noise))
        ids = self.tokenize(captions).to(self.device)
        labels = torch.tensor([attributes(scene) for scene in scenes], device=self.device)
        with torch.autocast(self.device.type, torch.bfloat16):
            picture, text = self.model.visual(images), encode_text(self.model, ids)
        picture, text = picture.float(), text.float()
        contrast = contrastive_loss(picture, text, self.model.logit_scale)
        reading = self.reader.loss(picture, labels) + self.reader.loss(text, said(labels, scenes, captions))
        loss = contrast + (0.5 - 0.4 * progress) * reading
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.step += 1
        return {"loss": loss.item(), "contrast": contrast.item(), "reading": reading.item()}

    def held_out(self, n: int, seed: int) -> float:
        """`retrieval` of the model as it stands."""
        self.model.eval()
        share = retrieval(
            lambda pixels: self.model.visual(normalise(pixels.to(self.device))),
            lambda captions: encode_text(self.model, self.tokenize(captions).to(self.device)),
            n,
            seed,
        )
        self.model.train()
        return share


def contrastive_loss(picture: Tensor, text: Tensor, logit_scale: Tensor) -> Tensor:
    """CLIP's loss (Radford et al., arXiv 2103.00020) over latents (B, E) whose i-th rows belong together."""
    logits = logit_scale.exp().clamp(max=100) * F.normalize(picture, dim=1) @ F.normalize(text, dim=1).T
    own = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2


def train(training: Training, folder: Path, weights: Path) -> None:
    """Run to the end from where the folder's checkpoint stands; write the weights in fp16."""
    checkpoint, log = folder / f"{training.name}.ckpt", folder / f"{training.name}.jsonl"
    if checkpoint.exists():
        training.load(checkpoint)
    began = time.monotonic()
    while training.step < training.steps:
        losses = training.advance()
        last = training.step == training.steps
        if training.step % LOG_EVERY == 0 or last:
            row = {"step": training.step, **losses, "seconds": time.monotonic() - began}
            if training.step % (2 * LOG_EVERY) == 0 or last:
                row["held_out_top1"] = training.held_out(RANKED, 7)
            with log.open("a") as lines:
                lines.write(json.dumps(row) + "\n")
            print(row, flush=True)
            training.save(checkpoint)
    weights.mkdir(parents=True, exist_ok=True)
    models.save_weights(training.model, weights / f"{training.name}.safetensors")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", choices=sorted(models.CONFIGS))
    parser.add_argument("--steps", type=int, default=2400)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--rate", type=float, default=1e-3, help="peak learning rate")
    parser.add_argument("--folder", type=Path, default=Path("training"), help="checkpoints and logs")
    parser.add_argument("--weights", type=Path, default=models.WEIGHTS, help="where the trained weights go")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument(
        "--new-vocabulary", action="store_true", help="first list the tokens of the grammar anew; train both models after that"
    )
    parser.add_argument("--evaluate", action="store_true", help="train nothing: how well the committed weights retrieve")
    parser.add_argument("--scenes", type=int, default=1000, help=f"held-out scenes for --evaluate, {RANKED} or more")
    options = parser.parse_args()
    device = torch.device(options.device)
    if options.evaluate:
        if options.scenes < RANKED:
            parser.error(f"--scenes {options.scenes}: a caption is ranked among {RANKED}, so give {RANKED} or more")
        share = evaluate(options.model, options.scenes, device)
        print(f"{options.model}: {share:.1%} of {options.scenes} held-out scenes rank first among {RANKED}")
        return
    if options.new_vocabulary:
        models.renew_tokens()
    options.folder.mkdir(parents=True, exist_ok=True)
    train(Training(options.model, options.steps, options.batch, options.rate, device), options.folder, options.weights)


if __name__ == "__main__":
    main()
