"""A model of picturebook in training: its optimizers, losses, checkpoints and how it does on held-out scenes.

Besides CLIP's contrastive loss, a linear probe shared by both towers predicts a latent's attributes (objects in order,
colors, layout, pattern, style); it aligns the towers early and is discarded at the end.

In the phase "drawings" the CLIP's text tower stays as it is: the generator reads it, and what a word means does not
depend on who draws it. So the latents of all names are known, and each picture is contrasted with every one of them:
without that loss the probe named 45 % of an unseen font's drawings and the names' own latents 21 %. And the tower that
ships is a teacher: a scene in others' drawings is pulled onto what that tower sees in the same scene in the world's own,
so that the new tower keeps what the old one reads and carries it over to other hands.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from picturebook_batches import PHASES, SEEDS, TAUGHT, Batch, Batches, CompactTokenizer, normalize
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from invert.picturebook import models
from invert.picturebook.grammar import caption
from invert.picturebook.hard_negatives import portraits, similar_objects
from invert.picturebook.linear_probe import LinearProbe, attributes
from invert.picturebook.optimizers import build_optimizers
from invert.picturebook.render import render
from invert.picturebook.world import LAYOUTS, Scene, draw_scenes, objects

RANKED = 512  # captions that retrieval ranks
WARM_UP = 150  # steps until the learning rate's peak
WEIGHTS = {"contrast": 1.0, "naming": 2.0, "teaching": 20.0}  # of the losses; that of "reading" changes
NAMING_SCALE = 40.0  # of the cosines of pictures and names; about what the temperature has become


def encode_text(model: nn.Module, ids: Tensor) -> Tensor:
    """The text tower on as many positions as the longest caption has; unnormalized (B, E)."""
    length = ids.shape[1]
    hidden = model.token_embedding(ids) + model.positional_embedding[:length]
    hidden = model.transformer(hidden, attn_mask=model.attn_mask[:length, :length])
    hidden = model.ln_final(hidden[torch.arange(len(ids)), ids.argmax(1)])
    return hidden @ model.text_projection


def half(value: Tensor) -> Tensor:
    """Numbers in fp16; counts as they are."""
    return value.detach().half() if value.is_floating_point() else value


def of_part(state: dict[str, Tensor], part: str) -> dict[str, Tensor]:
    """The tensors of one part of what `save_start` wrote, by their own names."""
    return {name.removeprefix(f"{part}."): value for name, value in state.items() if name.startswith(f"{part}.")}


def freeze_text(model: nn.Module) -> None:
    """Leave the text tower out of training: everything but the image tower and the temperature."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith("visual.") or name == "logit_scale")


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


class Training:
    """A model with its probe, its optimizers and the step of its phase that it has reached."""

    def __init__(
        self,
        name: str,
        phase: str,
        steps: int,
        batch: int,
        rate: float,
        device: torch.device,
        drawings: Path | None = None,
        compiled: bool = False,
    ) -> None:
        """steps: of the whole phase; the rate falls along a cosine to the last of them. drawings: see `Batches`.

        compiled: `torch.compile` the image tower.
        """
        torch.manual_seed(SEEDS[name])  # a script of its own: initialization has no other seed to take
        self.name, self.phase, self.steps, self.batch, self.rate, self.device = name, phase, steps, batch, rate, device
        self.model = models.build(name, len(models.trained_token_ids())).to(device)
        self.probe = LinearProbe(models.CONFIGS[name]["embed_dim"]).to(device)
        self.text_is_frozen = (name, phase) == TAUGHT
        if self.text_is_frozen:
            freeze_text(self.model)
        self.optimizers = build_optimizers(self.model, self.probe, rate)
        self.visual = torch.compile(self.model.visual) if compiled else self.model.visual
        self.drawings = drawings
        self.attention = [SDPBackend.MATH] if device.type == "cpu" else [SDPBackend.FLASH_ATTENTION, SDPBackend.MATH]
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

    def save_start(self, path: Path) -> None:
        """Write what another run of this phase may begin from: the trained parts and the probe, in fp16."""
        frozen = {name for name, parameter in self.model.named_parameters() if not parameter.requires_grad}
        kept = {f"model.{name}": value for name, value in self.model.state_dict().items() if name not in frozen}
        kept |= {f"reader.{name}": value for name, value in self.probe.state_dict().items()}
        save_file({name: half(value).contiguous() for name, value in kept.items()}, path)

    def load(self, path: Path) -> None:
        """Resume from a checkpoint of this phase."""
        state = torch.load(path, map_location=self.device)
        for name, part in self.parts().items():
            part.load_state_dict(state[name])
        self.similar, self.step = state["similar"], state["step"]

    def start_from(self, path: Path) -> None:
        """Initialize this phase from the previous one's checkpoint, `save_start`'s file, or the committed weights."""
        committed = models.WEIGHTS / f"{self.name}.safetensors"
        if path.suffix == ".safetensors":
            state = models.compact_state(path)
            self.model.load_state_dict(models.compact_state(committed) | of_part(state, "model"))
            self.probe.load_state_dict(of_part(state, "reader"))
        elif path.exists():
            state = torch.load(path, map_location=self.device)
            self.model.load_state_dict(state["model"])
            self.probe.load_state_dict(state["reader"])
        else:
            self.model.load_state_dict(models.compact_state(committed))
            nn.init.zeros_(self.probe.linear.weight)  # else its first gradients would be noise to trained towers
        if PHASES.index(self.phase) >= PHASES.index("families"):
            self.model.eval()
            self.similar = similar_objects(self.encode_images(render(portraits(), models.IMAGE_SIZE)))

    def batches(self) -> Batches:
        """The phase's data, by step."""
        return Batches(self.name, self.phase, self.batch, self.similar, self.drawings)

    def advance(self, batch: Batch) -> dict[str, float]:
        """One step on its batch; returns the losses."""
        progress = self.step / self.steps
        for group in (group for optimizer in self.optimizers for group in optimizer.param_groups):
            group["lr"] = self.rate * min(1, (self.step + 1) / WARM_UP) * 0.5 * (1 + math.cos(math.pi * progress))
        # A hard-negative group's statistics are not the world's, so batch norms stay fixed in that phase.
        self.model.train(self.phase != "families")
        losses = self.pair_losses(batch) if batch.captions else self.picture_losses(batch)
        weights = WEIGHTS | {"reading": 1.0 if self.phase == "pictures" else 0.5 - 0.4 * progress}
        loss = torch.stack([weights[name] * value for name, value in losses.items()]).sum()
        self.model.zero_grad(set_to_none=True)
        self.probe.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
        self.step += 1
        return {"loss": loss.item(), **{name: value.item() for name, value in losses.items()}}

    def see(self, images: Tensor, tower: nn.Module | None = None) -> Tensor:
        """Latents (B, E) float32 of normalized images (B, 3, S, S) on the CPU, in bfloat16 inside; by the tower in training."""
        # On a CPU, channels last more than halves the convolutions' time, and the fused attention's backward is slow.
        images = images.to(self.device, memory_format=torch.channels_last)
        with torch.autocast(self.device.type, torch.bfloat16), sdpa_kernel(self.attention):
            return (tower or self.visual)(images).float()

    def picture_losses(self, batch: Batch) -> dict[str, Tensor]:
        """Probe loss of the image tower alone."""
        return {"reading": self.probe.loss(self.see(batch.images), batch.labels.to(self.device))}

    def pair_losses(self, batch: Batch) -> dict[str, Tensor]:
        """CLIP's loss, and the probe loss of both towers."""
        picture = self.see(batch.images)
        with torch.autocast(self.device.type, torch.bfloat16), sdpa_kernel(self.attention):
            text = encode_text(self.model, batch.ids.to(self.device)).float()
        contrast = contrastive_loss(picture, text, self.model.logit_scale, duplicate_mask(batch.captions).to(self.device))
        probe = self.probe.loss(picture, batch.labels.to(self.device)) + self.probe.loss(text, batch.stated.to(self.device))
        losses = {"contrast": contrast, "reading": probe}
        if self.text_is_frozen:
            losses["naming"] = naming_loss(picture, self.names, batch.labels.to(self.device))
            if len(batch.own):
                alike = F.cosine_similarity(picture[batch.paired.to(self.device)], self.teach(batch.own))
                losses["teaching"] = 1 - alike.mean()
        return losses

    @cached_property
    def teacher(self) -> nn.Module:
        """The image tower that ships."""
        model = models.build(self.name, len(models.trained_token_ids()))
        model.load_state_dict(models.compact_state(models.WEIGHTS / f"{self.name}.safetensors"))
        return model.visual.to(self.device).eval()

    @torch.no_grad()
    def teach(self, images: Tensor) -> Tensor:
        """Latents (P, E) float32 that the tower that ships has of normalized images (P, 3, S, S)."""
        return self.see(images, self.teacher)

    @cached_property
    @torch.no_grad()
    def names(self) -> Tensor:
        """Unit latents of every object's caption alone ("a fox") and of a pair of it ("two foxes"), (2, N, E)."""
        tables = []
        for layout in ("one", "two"):
            scenes = [
                Scene((i,), ("",), layout if o.plural else "one", "", "plain", (), "plain") for i, o in enumerate(objects())
            ]
            captions = [caption(scene) for scene in scenes]
            tables.append(torch.cat([self.encode_texts(captions[i : i + 256]) for i in range(0, len(captions), 256)]))
        return F.normalize(torch.stack(tables), dim=2)

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
        labels = torch.tensor([attributes(scene) for scene in scenes], device=self.device)
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


def naming_loss(picture: Tensor, names: Tensor, labels: Tensor) -> Tensor:
    """Contrast pictures (B, E) with the names of all objects.

    names: unit latents (2, N, E) of one thing and of two alike. labels: (B, 9) int64 of `attributes`; where a picture
    shows two different things, each of them counts half.
    """
    count = names.shape[1]
    pair = labels[:, 4] == LAYOUTS.index("two")
    cosines = torch.einsum("be,kne->bkn", F.normalize(picture, dim=1), names)
    logits = NAMING_SCALE * torch.where(pair[:, None], cosines[:, 1], cosines[:, 0])
    shown = F.one_hot(labels[:, :2], count + 1).sum(1)[:, :count].float()
    return F.cross_entropy(logits, shown / shown.sum(1, keepdim=True))
