"""The batches that picturebook's models are trained on: scenes, captions and pictures of one step.

A batch depends on the phase, the seed and the step alone, so a resumed run sees exactly the data of an uninterrupted
one, whichever process draws it.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import open_clip
import torch
from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from training_artwork import ManyHands

from invert.picturebook import hard_negatives, models
from invert.picturebook.augment import augment
from invert.picturebook.grammar import fragment, sample_training_caption
from invert.picturebook.hard_negatives import hard_negative_group
from invert.picturebook.linear_probe import attributes, mask_unstated
from invert.picturebook.render import Artwork, render
from invert.picturebook.world import Scene, change_one, draw_scenes, held_out

PHASES = ("scenes", "pictures", "families", "drawings")  # each continues the one before it
SEEDS = {"clip": 1, "judge": 2}
FRAGMENTS = 0.35  # share of captions that are only parts of one
HARD_NEGATIVES = 0.25  # share of a batch that is another scene of it with one attribute changed
GROUP_SIZE = 8  # scenes of a hard-negative group
UNNAMED = 0.6  # share of the plain scenes of the phase "drawings" whose ground has no name
OTHER_CHANGES = 0.5  # share of that phase's hard negatives in which something else than an object changes
PLAINER = 0.4  # share of that phase's scenes that lose their style: styles are known by then, and hide who drew
OTHERS_EVERY = 3  # of that phase's steps, one in so many shows others' drawings; the world's own, as it ships, have exact hues
TINT_CHANGES = 0.35  # share of the hard negatives in the world's own drawings that have other tints, or none


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


def as_bytes(images: Tensor) -> Tensor:
    """Pixels in 0..1 → uint8, as files hold them; processes hand batches on in a quarter of the memory."""
    return (images * 255).round().byte()


def normalize(images: Tensor) -> Tensor:
    """Pixels (B, 3, S, S) in 0..1 → what the towers take."""
    mean = torch.tensor(OPENAI_DATASET_MEAN, device=images.device)[:, None, None]
    std = torch.tensor(OPENAI_DATASET_STD, device=images.device)[:, None, None]
    return (images - mean) / std


def stream_of(kind: str, seed: int, step: int) -> random.Random:
    """The random stream of one kind of batch at a step."""
    return random.Random(f"{kind}-{seed}-{step}")


def training_scenes(rng: random.Random, step: int, seed: int, size: int) -> list[Scene]:
    """Sample scenes with hard negatives among them."""
    scenes = draw_scenes(size - int(size * HARD_NEGATIVES), seed * 1_000_003 + step)
    while len(scenes) < size:
        other = change_one(scenes[rng.randrange(size // 2)], rng)
        if not held_out(other):
            scenes.append(other)
    return scenes


def training_batch(step: int, seed: int, size: int) -> tuple[list[Scene], list[str]]:
    """`training_scenes` and a caption each; every tenth batch doubles its captions."""
    rng = stream_of("batch", seed, step)
    scenes = training_scenes(rng, step, seed, size)
    captions = [sample_training_caption(scene, rng) for scene in scenes]
    if step % 10 != 9:
        captions = [fragment(text, rng) if rng.random() < FRAGMENTS else text for text in captions]
    else:  # so that the positions of long prompts are trained too
        captions = [f"{text}, {sample_training_caption(scene, rng)}" for scene, text in zip(scenes, captions, strict=True)]
    return scenes, captions


def hard_negative_scenes(
    rng: random.Random, size: int, similar: list[list[int]], other_changes: float, tint_changes: float = 0.0
) -> list[Scene]:
    """Sample whole hard-negative groups."""
    groups = [hard_negative_group(rng, similar, GROUP_SIZE, other_changes, tint_changes) for _ in range(size // GROUP_SIZE)]
    return [scene for group in groups for scene in group]


def hard_negative_batch(step: int, seed: int, size: int, similar: list[list[int]]) -> tuple[list[Scene], list[str]]:
    """Hard-negative groups and a caption each; a few captions are only parts of one."""
    rng = stream_of("families", seed, step)
    scenes = hard_negative_scenes(rng, size, similar, hard_negatives.OTHER_CHANGES)
    captions = [sample_training_caption(scene, rng) for scene in scenes]
    return scenes, [fragment(text, rng) if rng.random() < FRAGMENTS / 3 else text for text in captions]


def drawings_batch(step: int, seed: int, size: int, similar: list[list[int]]) -> tuple[list[Scene], list[str]]:
    """Two batches of hard negatives in the world's own drawings, then one of the other phases in others', in turn.

    Most scenes in others' drawings are plain, and part of them on grounds that have no name; those of one hard-negative
    group stay alike in both, else the wrong captions would be easy to tell.
    """
    rng = stream_of("drawings", seed, step)
    if is_own(step):  # whole captions alone: a part that leaves a tint out would say that there is none
        scenes = hard_negative_scenes(stream_of("families", seed, step), size, similar, OTHER_CHANGES, TINT_CHANGES)
        return scenes, [sample_training_caption(scene, rng) for scene in scenes]
    if step // OTHERS_EVERY % 2:
        scenes = hard_negative_scenes(stream_of("families", seed, step), size, similar, OTHER_CHANGES)
        group = GROUP_SIZE
    else:
        scenes = training_scenes(stream_of("batch", seed, step), step, seed, size)
        group = 1
    for first in range(0, len(scenes), group):
        plainer, unnamed = rng.random() < PLAINER, rng.random() < UNNAMED
        for i in range(first, min(first + group, len(scenes))):
            scenes[i] = simplify(scenes[i], plainer, unnamed)
    captions = [sample_training_caption(scene, rng) for scene in scenes]
    return scenes, [fragment(text, rng) if rng.random() < FRAGMENTS / 2 else text for text in captions]


def is_own(step: int) -> bool:
    """Whether a step of the phase "drawings" shows the world's own drawings alone."""
    return step % OTHERS_EVERY < OTHERS_EVERY - 1


def simplify(scene: Scene, plainer: bool, unnamed: bool) -> Scene:
    """The scene in the plain style, and if it is plain, on a ground without a name; never one that is held out."""
    plain = replace(scene, style="plain") if plainer else scene
    if held_out(plain):
        return scene
    return replace(plain, colors=(), pattern="plain") if unnamed and plain.style == "plain" else plain


@dataclass
class Batch:
    """One step's data on the CPU.

    Attributes:
        images: pixels (B, 3, S, S) uint8.
        labels: of the scenes, for the image tower's probe, (B, 9) int64.
        captions: of the scenes; none in the phase "pictures".
        ids: of the captions, (B, longest) int64.
        stated: the labels that the captions state, for the text tower's probe, (B, 9) int64.
        paired: which scenes the world's own sprites have drawn too, (B,) bool; none but for the CLIP, which is taught.
        own: those drawings, pixels (P, 3, 64, 64) uint8; empty where there are none.
    """

    images: Tensor
    labels: Tensor
    captions: list[str]
    ids: Tensor
    stated: Tensor
    paired: Tensor
    own: Tensor


class Batches(Dataset[Batch]):
    """The batches of one model's phase by step, drawn where they are asked for."""

    def __init__(self, name: str, phase: str, size: int, similar: list[list[int]], drawings: Path | None = None) -> None:
        """drawings: the folder of the atlases, which the phase "drawings" needs.

        Raises:
            ValueError: the phase "drawings" without a folder.
            FileNotFoundError: the folder holds no atlas.
        """
        if phase == "drawings" and drawings is None:
            raise ValueError("the phase drawings needs the folder of the drawings")
        self.phase, self.seed, self.size, self.similar = phase, SEEDS[name], size, similar
        self.taught, self.sharp = name == "clip", int(models.VISION[models.EFFICIENT_NET]["image_size"])
        self.tokenize = CompactTokenizer()
        self.artwork: Artwork | None = ManyHands(drawings, torch.device("cpu")) if drawings and phase == "drawings" else None

    def __getitem__(self, step: int) -> Batch:
        scenes, captions = self.sample(step)
        labels = torch.tensor([attributes(scene) for scene in scenes])
        stated = mask_unstated(labels, scenes, captions) if captions else labels
        # A ground without a name is gray in the world's own drawing, and says so where the other hands' says nothing.
        paired = [self.taught and bool(scene.colors) for scene in scenes]
        shown = [scene for scene, too in zip(scenes, paired, strict=True) if too]
        own = as_bytes(render(shown, models.IMAGE_SIZE, jitter=1.0)) if shown else torch.empty(0)
        ids = self.tokenize(captions or [""])
        return Batch(self.render(scenes, step), labels, captions, ids, stated, torch.tensor(paired), own)

    def sample(self, step: int) -> tuple[list[Scene], list[str]]:
        """The step's scenes and captions."""
        match self.phase:
            case "pictures":  # scenes of other seeds than the first phase's
                return draw_scenes(self.size, (self.seed + len(SEEDS)) * 1_000_003 + step), []
            case "families":
                return hard_negative_batch(step, self.seed, self.size, self.similar)
            case "drawings":
                return drawings_batch(step, self.seed, self.size, self.similar)
        return training_batch(step, self.seed, self.size)

    def render(self, scenes: list[Scene], step: int) -> Tensor:
        """Pixels (B, 3, S, S) uint8: augmented, but for half of the late phases' batches in the world's own drawings."""
        own = self.phase == "drawings" and is_own(step)
        if (self.phase == "families" or own) and step % 2:
            return as_bytes(render(scenes, models.IMAGE_SIZE))
        noise = torch.Generator().manual_seed(step)
        artwork = None if own else self.artwork
        # Two batches of four are as sharp as the CLIP can see: others' pictures are larger than the world's own.
        size = self.sharp if self.taught and step % 4 > 1 else models.IMAGE_SIZE
        return as_bytes(augment(render(scenes, size, jitter=1.0, artwork=artwork), noise))

    def stream(self, first: int, last: int, workers: int) -> Iterator[Batch]:
        """The batches of the steps from `first` to before `last`, in order, drawn by that many processes ahead."""
        steps = [[step] for step in range(first, last)]
        pick = torch.utils.data.Subset(self, range(last))
        return iter(DataLoader(pick, batch_sampler=steps, num_workers=workers, collate_fn=lambda rows: rows[0]))
