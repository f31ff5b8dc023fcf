"""Fit what says when picturebook does not know a picture, to the CLIP as it stands; minutes on one core:

    python scripts/calibrate_doubt.py training          # reads and writes invert/picturebook/weights/

Run it whenever the CLIP has changed, with what `make_drawings.py` collected below the folder; the
photographs of `photographs.py` are downloaded there. Out: `doubt.safetensors` beside the weights (see
`invert/picturebook/doubt.py`), and `experiments/results/doubt.json`, the shares of pictures that are flagged.

Networks with one hidden layer tell pictures with objects of the world (scenes by many hands, and their drawings alone on
photographs and colors) from those without (pieces of wallpapers that are grounds in training, half of the other photographs,
faces and pages), by what `doubt.described` says of them. Drawings lie on those photographs too, so that a ground decides
nothing. Its threshold is the lowest at which FLAGGED of every source without is flagged by networks that were fitted to
other photographs. Nothing that is reported on is seen before: held-out scenes of another seed, the foreign pictures, the
other half of the photographs, faces and pages.
"""

from __future__ import annotations

import argparse
import json
import random
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from drawing_sources import CLIP_ART, STAMPS
from photographs import download, faces, is_tuned_on, pages, photographs, pieces
from PIL import Image, ImageOps
from safetensors.torch import save_file
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import roc_auc_score
from sklearn.neural_network import MLPClassifier
from torch import Tensor
from training_artwork import ManyHands, unpack
from training_artwork import photographs as training_grounds

from experiments.harness.pictures import OUT_OF_DOMAIN_FOLDERS, out_of_domain_pictures
from experiments.harness.runner import RESULTS
from invert.picturebook import doubt, models
from invert.picturebook.augment import augment
from invert.picturebook.bundle import zero_shot_captions
from invert.picturebook.clip import load_model
from invert.picturebook.render import render
from invert.picturebook.world import COLORS, draw_scenes
from invert.zero_shot import ZeroShot
from kernels.once import OnceParser

ROOT = Path(__file__).parent.parent
HIDDEN, DECAY, EPOCHS, RATE, NETWORKS = 64, 1.0, 40, 5e-4, 5  # of each network, on columns with unit spread; how many
FOLDS = 3  # parts of which each is left out once
FLAGGED = 0.95  # least share of the pictures of each source without objects
SCENES, SCENES_SEED, TUNING_SEED = 3000, 4242, 100
ALONE = {CLIP_ART: 1200, STAMPS: 1200, "fonts": 1200}  # pictures of single drawings, by who drew them
SIZE = 128  # pixels of what is put together here; users' pictures are larger than the models look at
UNSEEN_FONT = "emojione-1"  # kept from training, and from the report: how an unknown hand looks
WALLPAPER_PIECES, PHOTOGRAPH_PIECES, FACE_PIECES = 50, 36, 6  # of each picture
DRAWN_ON = 16  # pictures that each source of drawings has of each of the photographs as its ground
PAPER = [line for name in ("architecture", "scale", "models") for line in (ROOT / "docs" / f"{name}.md").read_text().split("\n")]


@dataclass
class Pictures:
    """Pictures of one source: files, or pixels (N, 3, S, S) in 0..1, whether they show a known object, what each is made of."""

    images: Tensor | list[Image.Image]
    known: bool
    groups: list[str]  # pictures of one group are never on both sides of a fold


# Pictures with objects of the world ---------------------------------------------------------------


def scenes(hands: ManyHands) -> Pictures:
    """Training scenes by many hands, half of them on grounds without a name, most of them augmented."""
    rng, parts = random.Random(SCENES_SEED), []
    drawn = [
        replace(s, colors=(), pattern="plain", style="plain") if rng.random() < 0.5 else s
        for s in draw_scenes(SCENES, SCENES_SEED)
    ]
    for start in range(0, SCENES, 500):
        part = render(drawn[start : start + 500], models.IMAGE_SIZE, jitter=1.0, artwork=hands)
        parts.append(augment(part, torch.Generator().manual_seed(start)) if start % 1500 else part)
    return Pictures(torch.cat(parts), True, [f"scene {i}" for i in range(SCENES)])


def held_out(n: int, seed: int) -> Pictures:
    """Held-out scenes as the renderer draws them."""
    return Pictures(render(draw_scenes(n, seed, "held-out"), models.IMAGE_SIZE), True, [f"{seed} {i}" for i in range(n)])


def alone(tiles: Tensor, grounds: Tensor, n: int, name: str, group: str = "") -> Pictures:
    """Drawings one by one, or two side by side, on pieces of photographs and on named colors; grouped by drawing, or as told.

    tiles: (N, 4, h, w) uint8, premultiplied. grounds: (M, 3, S, S) in 0..1.
    """
    rng, size, found, groups = random.Random(name), SIZE, [], []
    plain = torch.tensor(list(COLORS.values()))[:, :, None, None].expand(-1, -1, size, size) / 255
    for _ in range(n):
        picture = rng.choice(grounds if rng.random() < 0.6 else plain).clone()  # type: ignore[arg-type]
        two = rng.random() < 0.25
        for center in (0.27, 0.73) if two else (0.5,):
            which, side = rng.randrange(len(tiles)), round(size * (rng.uniform(0.34, 0.46) if two else rng.uniform(0.45, 0.85)))
            tile = F.interpolate(tiles[which][None].float() / 255, (side, side), mode="bilinear", antialias=True)[0]
            x, y = (round(size * c - side / 2 + rng.uniform(-4, 4)) for c in (center, 0.5))
            x, y = (min(max(place, 0), size - side) for place in (x, y))
            part = picture[:, y : y + side, x : x + side]
            picture[:, y : y + side, x : x + side] = part * (1 - tile[3:]) + tile[:3]
        found.append(picture)
        groups.append(group or f"{name} {which}")
    return Pictures(torch.stack(found), True, groups)


def known_pictures(folder: Path) -> dict[str, Pictures]:
    """What the classifier is to take for known, by source."""
    drawings = folder / "drawings"
    grounds = F.interpolate(training_grounds(drawings).float() / 255, (SIZE,) * 2, mode="area")
    found = {"scenes": scenes(ManyHands(drawings, torch.device("cpu"))), "held-out": held_out(400, TUNING_SEED)}
    fonts = [name for name in sorted(path.stem for path in drawings.glob("*.json")) if name not in ALONE]
    tiles = {name: atlas(drawings / name) for name in (CLIP_ART, STAMPS)}
    tiles["fonts"] = torch.cat([atlas(drawings / name)[:300] for name in fonts])
    tiles[UNSEEN_FONT] = atlas(folder / "kept" / UNSEEN_FONT)
    found |= {name: alone(t, grounds, ALONE.get(name, 1200), name) for name, t in tiles.items()}
    photos = tuned_photographs(folder)
    return found | {f"{name} on photographs": on_photographs(photos, t, name) for name, t in tiles.items()}


def on_photographs(photos: dict[str, Image.Image], tiles: Tensor, name: str) -> Pictures:
    """Drawings on the photographs that are unknown where nothing lies on them, each with the pictures that are made of it."""
    rng, parts = random.Random(name), []
    for ground, photo in photos.items():
        grounds = torch.stack([as_pixels(piece) for piece in crops(photo, DRAWN_ON, rng, 0.4)])
        parts.append(alone(tiles, grounds, DRAWN_ON, f"{name} {ground}", group=ground))
    images, groups = torch.cat([part.images for part in parts]), [group for part in parts for group in part.groups]
    return Pictures(images, True, groups)


def tuned_photographs(folder: Path) -> dict[str, Image.Image]:
    """The photographs that may be looked at, by name."""
    return {name: photo for name, photo in photographs(folder / "photographs").items() if is_tuned_on(name)}


def as_pixels(image: Image.Image) -> Tensor:
    """An RGB picture as (3, h, w) in 0..1."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255


def atlas(path: Path) -> Tensor:
    """The sprites of an atlas (N, 4, 72, 72) uint8."""
    return unpack(path.with_suffix(".webp"))[: len(json.loads(path.with_suffix(".json").read_text(encoding="utf8")))]


# Pictures without ---------------------------------------------------------------------------------


def crops(picture: Image.Image, n: int, rng: random.Random, least: float) -> Iterator[Image.Image]:
    """Square pieces, at least that share of the shorter side; some of them mirrored, some gray."""
    for _ in range(n):
        side = max(20, round(min(picture.size) * rng.uniform(least, 1)))
        x, y = rng.randrange(picture.width - side + 1), rng.randrange(picture.height - side + 1)
        piece = picture.crop((x, y, x + side, y + side)).resize((SIZE,) * 2, Image.Resampling.BICUBIC)
        piece = ImageOps.mirror(piece) if rng.random() < 0.5 else piece
        yield ImageOps.grayscale(piece).convert("RGB") if rng.random() < 0.15 else piece


def read(named: Iterable[tuple[str, Image.Image]], known: bool = False) -> Pictures:
    """Pictures with what they were made of."""
    rows = list(named)
    return Pictures([image for _, image in rows], known, [name for name, _ in rows])


def unknown_pictures(folder: Path) -> dict[str, Pictures]:
    """What the classifier is to take for unknown, by source: none of it is reported on."""
    rng = random.Random(9)
    files = sorted(p for p in (folder / "debian/usr/share/backgrounds").rglob("*") if p.suffix in (".jpg", ".png"))
    walls = {path.stem: ImageOps.contain(Image.open(path).convert("RGB"), (900, 900)) for path in files}
    photos = tuned_photographs(folder)
    portraits = {name: face for name, face in faces(folder / "photographs").items() if is_tuned_on(name)}
    return {
        "wallpapers": read((name, piece) for name, wall in walls.items() for piece in crops(wall, WALLPAPER_PIECES, rng, 0.15)),
        "photographs": read(
            (name, piece)
            for name, photo in photos.items()
            for piece in (*[photo] * 4, *crops(photo, PHOTOGRAPH_PIECES, rng, 0.4))  # users give whole ones
        ),
        "faces": read((name, piece) for name, face in portraits.items() for piece in (face, *crops(face, FACE_PIECES, rng, 0.7))),
        "pages": read((name, page) for name, page in pages(PAPER, 500).items() if is_tuned_on(name)),
    }


def reported_pictures(folder: Path) -> dict[str, Pictures]:
    """What is reported on and was never looked at."""
    photos = {name: photo for name, photo in photographs(folder / "photographs").items() if not is_tuned_on(name)}
    foreign = {kind: out_of_domain_pictures(100, kind) for kind in OUT_OF_DOMAIN_FOLDERS}
    return {
        "held-out": held_out(200, 0),
        **{kind: read(((p.name, p.image) for p in found), known=True) for kind, found in foreign.items()},
        "photographs": read(photos.items()),
        "pieces of photographs": read((name, piece) for name, photo in photos.items() for piece in pieces(photo, name)),
        "faces": read((name, face) for name, face in faces(folder / "photographs").items() if not is_tuned_on(name)),
        "pages of text": read((name, page) for name, page in pages(PAPER, 160).items() if not is_tuned_on(name)),
    }


# The classifier -----------------------------------------------------------------------------------


def fit(rows: Tensor, known: Tensor) -> dict[str, Tensor]:
    """The mean of NETWORKS networks on described pictures (N, F), by whether they are known (N,) bool, as one network.

    Its threshold is at even odds. Two networks that differ in their seed alone disagree on one known picture of fifty.
    """
    mean, spread = rows.mean(0), rows.std(0)
    columns = ((rows - mean) / spread).numpy()
    parts = [network(columns, known.numpy(), seed) for seed in range(NETWORKS)]
    first, before, last, after = (torch.from_numpy(np.concatenate(same).astype(np.float32)) for same in zip(*parts, strict=True))
    hidden = (first / spread).contiguous()  # (H, F): of columns as they are
    return {"hidden.weight": hidden, "hidden.bias": before - hidden @ mean, "weight": last / NETWORKS, "bias": after.mean()}


def network(columns: np.ndarray, known: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """One network: weights (H, F) and biases (H,) of its hidden layer, weights (H,) and bias (1,) of its logit."""
    found = MLPClassifier((HIDDEN,), alpha=DECAY, max_iter=EPOCHS, learning_rate_init=RATE, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # it is stopped early on purpose
        found.fit(columns, known)
    (first, last), (before, after) = found.coefs_, found.intercepts_
    return first.T, before, last[:, 0], after


def left_out_scores(rows: Tensor, known: Tensor, groups: Sequence[str]) -> Tensor:
    """Scores (N,) of pictures by networks that were fitted to none of their group."""
    order = list(dict.fromkeys(groups))
    random.Random(0).shuffle(order)
    fold_of = {group: i % FOLDS for i, group in enumerate(order)}
    folds = torch.tensor([fold_of[group] for group in groups])
    scores = torch.empty(len(rows))
    for fold in range(FOLDS):
        scores[folds == fold] = doubt.familiarity(rows[folds == fold], fit(rows[folds != fold], known[folds != fold]))
    return scores


def describe(names: ZeroShot, images: Tensor | list[Image.Image]) -> Tensor:
    """What the network reads of pictures, (N, F)."""
    parts = [images[i : i + 100] for i in range(0, len(images), 100)]
    return torch.cat([doubt.described(names.clip.encode_image(part), names) for part in parts])


def calibrate(names: ZeroShot, sources: dict[str, Pictures]) -> tuple[dict[str, Tensor], float]:
    """The network with its threshold, and the area under its curve on what it was not fitted to."""
    rows = torch.cat([describe(names, source.images) for source in sources.values()])
    known = torch.cat([torch.full((len(source.groups),), source.known) for source in sources.values()])
    scores = left_out_scores(rows, known, [group for source in sources.values() for group in source.groups])
    by_source = dict(zip(sources, scores.split([len(source.groups) for source in sources.values()]), strict=True))
    at = max(float(found.quantile(FLAGGED)) for name, found in by_source.items() if not sources[name].known)
    for name, found in by_source.items():
        print(f"fitted to others, {name:40} {len(found):5} {(found <= at).float().mean():6.1%} flagged", flush=True)
    classifier = fit(rows, known)
    return classifier | {"bias": classifier["bias"] - at}, float(roc_auc_score(known.numpy(), scores.numpy()))


def main() -> None:
    parser = OnceParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=Path("training"), help="what make_drawings.py filled")
    parser.add_argument("--weights", type=Path, default=models.WEIGHTS, help="folder of clip.safetensors, and of what is written")
    parser.add_argument("--results", type=Path, default=RESULTS / "doubt.json", help="where the shares go")
    options = parser.parse_args()
    download(options.folder / "photographs")
    names = ZeroShot(load_model(torch.device("cpu"), folder=options.weights), zero_shot_captions())
    sources = {**known_pictures(options.folder), **unknown_pictures(options.folder)}
    classifier, area = calibrate(names, sources)
    rows = {}
    for name, source in reported_pictures(options.folder).items():
        flagged = (doubt.familiarity(describe(names, source.images), classifier) <= 0).float().mean().item()
        rows[name] = {"pictures": len(source.groups), "known": source.known, "flagged": flagged}
        print(f"reported: {name:24} {len(source.groups):5} {flagged:6.1%} flagged", flush=True)
    state = models.compact_state(options.weights / "clip.safetensors")
    stored = {name: value.half() if value.ndim == 2 else value for name, value in classifier.items()}
    save_file(stored, options.weights / doubt.FILE.name, {"clip": doubt.fingerprint(state)})
    tuned = {"area_under_curve_when_left_out": area, "fitted_to": sum(len(source.groups) for source in sources.values())}
    options.results.write_text(json.dumps({**tuned, "reported": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
