"""Second phase of picturebook's training: the captions learn what the pictures already tell apart.

After `train_picturebook.py` a picture's latent knows its object (same object, other scene: nearest of 1,052
in 89 %), but among captions that differ in the object alone the right one won in 44 %: random scenes differ in
everything, so contrast seldom had to look at objects. Here the image tower is frozen and its latents are kept
in a bank of families, scenes that differ from one another in one thing; the text tower and a linear map of the
image latents (folded into the weights at the end) are trained on whole families. That costs text passes only.

`python scripts/align_picturebook.py clip`, then `judge`; resumable; runs on CUDA or on the CPU (bfloat16).
"""

from __future__ import annotations

import argparse
import json
import math
import random
import time
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn
from train_picturebook import SEEDS, CompactTokenizer, encode_text, normalise

from invert.picturebook import models
from invert.picturebook.augment import augment
from invert.picturebook.grammar import caption, fragment, spoken_caption
from invert.picturebook.render import render
from invert.picturebook.world import Scene, change_one, draw_scene, draw_scenes, held_out, objects

FAMILY = 16  # scenes that differ from the first in one thing
CHUNK = 256  # families rendered and kept together
LIKENESS = 24  # objects that count as similar to one
FRAGMENTS = 0.12  # share of captions that are only parts of one
LOG_EVERY = 100


def look_alikes(model: nn.Module, device: torch.device) -> list[list[int]]:
    """For every object the LIKENESS objects whose pictures lie nearest in the frozen image tower."""
    scenes = [Scene((i,), ("",), "one", "", "plain", ("white",), "plain", i) for i in range(len(objects()))]
    latents = F.normalize(image_latents(model, scenes, device), dim=1)
    return (latents @ latents.T).fill_diagonal_(-1).topk(LIKENESS).indices.tolist()


@torch.no_grad()
def image_latents(model: nn.Module, scenes: list[Scene], device: torch.device, noise: torch.Generator | None = None) -> Tensor:
    """Scenes → unnormalised image latents (B, E) float32; with noise, as loosely drawn as in the first phase."""
    parts = []
    for part in (scenes[i : i + 128] for i in range(0, len(scenes), 128)):
        images = render(part, models.IMAGE_SIZE, device, wildness=0.0 if noise is None else 1.0)
        parts.append(model.visual(normalise(images if noise is None else augment(images, noise))).float())
    return torch.cat(parts)


def relative(scene: Scene, rng: random.Random, similar: list[list[int]]) -> Scene:
    """The scene with one thing changed: mostly an object, half the time for one that looks like it."""
    if rng.random() < 0.2:
        return change_one(scene, rng)
    place = rng.randrange(len(scene.objects))
    old = scene.objects[place]
    new = rng.choice(similar[old]) if rng.random() < 0.5 else rng.randrange(len(objects()))
    thing = objects()[new]
    if new in scene.objects or (scene.layout == "two" and not thing.plural):
        return scene
    chosen, tints = list(scene.objects), list(scene.tints)
    chosen[place], tints[place] = new, tints[place] if thing.tint else ""
    return replace(scene, objects=tuple(chosen), tints=tuple(tints), seed=rng.getrandbits(31))


def family(rng: random.Random, similar: list[list[int]]) -> list[Scene]:
    """FAMILY different scenes of the training split, all near the first."""
    first = draw_scene(rng)
    while held_out(first):
        first = draw_scene(rng)
    found = {caption(first): first}
    while len(found) < FAMILY:
        other = relative(first, rng, similar)
        if not held_out(other):
            found.setdefault(caption(other), other)
    return list(found.values())


def bank(name: str, model: nn.Module, chunks: int, folder: Path, device: torch.device) -> tuple[list[list[Scene]], Tensor]:
    """Families and their image latents (families, FAMILY, E); chunks already in the folder are read back."""
    similar = look_alikes(model, device)
    families, latents = [], []
    for chunk in range(chunks):
        rng = random.Random(f"families-{name}-{chunk}")
        mine = [family(rng, similar) for _ in range(CHUNK)]
        file = folder / f"{name}-bank-{chunk}.pt"
        if not file.exists():
            scenes = [scene for members in mine for scene in members]
            noise = torch.Generator(device).manual_seed(chunk) if chunk % 2 else None  # half as users' pictures, half damaged
            torch.save(image_latents(model, scenes, device, noise).half().cpu(), file.with_suffix(".tmp"))
            file.with_suffix(".tmp").replace(file)
            print({"bank": chunk + 1, "of": chunks}, flush=True)
        families += mine
        latents.append(torch.load(file).view(CHUNK, FAMILY, -1))
    return families, torch.cat(latents)


class Alignment:
    """The text tower, the map of the image latents, their optimiser and the step reached."""

    def __init__(self, name: str, model: nn.Module, steps: int, batch: int, rate: float, device: torch.device) -> None:
        """batch: families in one. steps: of the whole training; the rate falls along a cosine to the last of them."""
        self.name, self.model, self.steps, self.batch, self.rate, self.device = name, model, steps, batch, rate, device
        width = models.CONFIGS[name]["embed_dim"]
        self.map = nn.Linear(width, width, bias=False, device=device)
        nn.init.eye_(self.map.weight)
        text = [p for n, p in model.named_parameters() if not n.startswith("visual.")]
        groups = [{"params": text, "share": 1.0}, {"params": self.map.parameters(), "share": 0.3}]
        self.optimizer = torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98), weight_decay=0.01)
        self.tokenize = CompactTokenizer()
        self.step = 0

    def save(self, path: Path) -> None:
        """Write a checkpoint; a training killed while writing leaves the one before."""
        parts = {"model": self.model, "map": self.map, "optimizer": self.optimizer}
        torch.save({**{name: part.state_dict() for name, part in parts.items()}, "step": self.step}, path.with_suffix(".tmp"))
        path.with_suffix(".tmp").replace(path)

    def load(self, path: Path) -> None:
        state = torch.load(path, map_location=self.device)
        self.model.load_state_dict(state["model"])
        self.map.load_state_dict(state["map"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step = state["step"]

    def advance(self, families: list[list[Scene]], latents: Tensor) -> float:
        """One step on families drawn by the step's own seed; returns its loss."""
        for group in self.optimizer.param_groups:
            warm = min(1, (self.step + 1) / 100)
            group["lr"] = self.rate * group["share"] * warm * 0.5 * (1 + math.cos(math.pi * self.step / self.steps))
        rng = random.Random(f"align-{self.name}-{self.step}")
        chosen = rng.sample(range(len(families)), self.batch)
        captions = [spoken_caption(scene, rng) for k in chosen for scene in families[k]]
        captions = [fragment(text, rng) if rng.random() < FRAGMENTS else text for text in captions]
        pictures = latents[chosen].flatten(0, 1).to(self.device).float()
        with torch.autocast(self.device.type, torch.bfloat16):
            text = encode_text(self.model, self.tokenize(captions).to(self.device))
        loss = self.contrast(self.map(pictures), text.float(), captions)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_([p for group in self.optimizer.param_groups for p in group["params"]], 1.0)
        self.optimizer.step()
        self.step += 1
        return loss.item()

    def contrast(self, picture: Tensor, text: Tensor, captions: list[str]) -> Tensor:
        """CLIP's loss, in which a caption said twice is not its own rival."""
        logits = self.model.logit_scale.exp().clamp(max=100) * F.normalize(picture, dim=1) @ F.normalize(text, dim=1).T
        places: dict[str, int] = {}
        said = torch.tensor([places.setdefault(text, i) for i, text in enumerate(captions)], device=logits.device)
        own = torch.arange(len(captions), device=logits.device)
        twins = (said[:, None] == said) & (own[:, None] != own)
        logits = logits.masked_fill(twins, -torch.inf)
        return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2

    def fold(self) -> None:
        """Put the map into the image tower's last linear layer."""
        visual: nn.Module = self.model.visual
        with torch.no_grad():
            if hasattr(visual, "attnpool"):  # a ResNet ends in a Linear
                visual.attnpool.c_proj.weight.copy_(self.map.weight @ visual.attnpool.c_proj.weight)
                visual.attnpool.c_proj.bias.copy_(self.map.weight @ visual.attnpool.c_proj.bias)
            else:  # a transformer in a matrix (width, E)
                visual.proj.copy_(visual.proj @ self.map.weight.T)
            nn.init.eye_(self.map.weight)

    @torch.no_grad()
    def held_out(self, n: int) -> dict[str, float]:
        """Of n held-out scenes: how often each object's own caption beats those with any other object in its place."""
        hits, places = 0, 0
        scenes = draw_scenes(n, 7, "held-out")
        pictures = F.normalize(self.map(image_latents(self.model, scenes, self.device)), dim=1)
        for scene, picture in zip(scenes, pictures, strict=True):
            for place, own in enumerate(scene.objects):
                rivals = [i for i, thing in enumerate(objects()) if scene.layout != "two" or thing.plural]
                put = [replace(scene, objects=(*scene.objects[:place], i, *scene.objects[place + 1 :])) for i in rivals]
                texts = encode_text(self.model, self.tokenize([caption(s) for s in put]).to(self.device))
                hits += int(rivals[int((F.normalize(texts.float(), dim=1) @ picture).argmax())] == own)
                places += 1
        return {"object_top1_of_all": hits / places}


def compact_model(name: str, device: torch.device) -> nn.Module:
    """The committed weights on the compact vocabulary, in float32."""
    model = models.build(name, len(models.known_tokens()))
    state = load_file(models.WEIGHTS / f"{name}.safetensors")
    model.load_state_dict({key: value.float() if value.is_floating_point() else value for key, value in state.items()})
    model.eval().visual.requires_grad_(False)
    return model.to(device)


def train(alignment: Alignment, families: list[list[Scene]], latents: Tensor, folder: Path, weights: Path) -> None:
    """Run to the end from where the folder's checkpoint stands; write the weights in fp16."""
    checkpoint, log = folder / f"{alignment.name}-align.ckpt", folder / f"{alignment.name}-align.jsonl"
    if checkpoint.exists():
        alignment.load(checkpoint)
    began = time.monotonic()
    while alignment.step < alignment.steps:
        loss = alignment.advance(families, latents)
        last = alignment.step == alignment.steps
        if alignment.step % LOG_EVERY == 0 or last:
            row: dict[str, float] = {"step": alignment.step, "loss": loss, "seconds": time.monotonic() - began}
            if alignment.step % (5 * LOG_EVERY) == 0 or last:
                row |= alignment.held_out(24)
            with log.open("a") as lines:
                lines.write(json.dumps(row) + "\n")
            print(row, flush=True)
            alignment.save(checkpoint)
    alignment.fold()
    weights.mkdir(parents=True, exist_ok=True)
    models.save_weights(alignment.model, weights / f"{alignment.name}.safetensors")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", choices=sorted(models.CONFIGS))
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--batch", type=int, default=32, help=f"families of {FAMILY} scenes")
    parser.add_argument("--rate", type=float, default=6e-4, help="peak learning rate")
    parser.add_argument("--chunks", type=int, default=24, help=f"of {CHUNK} families in the bank")
    parser.add_argument("--folder", type=Path, default=Path("training"), help="bank, checkpoints and logs")
    parser.add_argument("--weights", type=Path, default=models.WEIGHTS, help="where the weights go")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    device = torch.device(options.device)
    torch.manual_seed(SEEDS[options.model])
    model = compact_model(options.model, device)
    families, latents = bank(options.model, model, options.chunks, options.folder, device)
    alignment = Alignment(options.model, model, options.steps, options.batch, options.rate, device)
    train(alignment, families, latents, options.folder, options.weights)


if __name__ == "__main__":
    main()
