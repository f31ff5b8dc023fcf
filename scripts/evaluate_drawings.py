"""How often picturebook's models name a drawing, by who drew it: `python scripts/evaluate_drawings.py [FOLDER]`.

Each drawing stands alone, in turn on a plain ground and on a photograph; it is named where the caption "a fox" of its
own object beats those of all other objects. In: the atlases that `make_drawings.py` wrote below FOLDER. Out: a table, the
sources of training and those kept for testing.
"""

from __future__ import annotations

import json
import random
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from training_artwork import photographs, unpack

from invert.models.clip import Clip
from invert.picturebook import models
from invert.picturebook.clip import load_judge, load_model
from invert.picturebook.grammar import caption_alone
from invert.picturebook.render import sprites
from invert.picturebook.world import COLORS, objects
from kernels.once import OnceParser

MOST = 400  # drawings of one source that are looked at
SIDE = 0.8  # of a drawing, as a share of the picture's


def pictures(tiles: Tensor, photographs: Tensor) -> Tensor:
    """Tiles (N, 4, 72, 72) uint8 as pictures (N, 3, S, S) in 0..1: in turn on a named color and on a photograph."""
    size, rng = models.IMAGE_SIZE, random.Random(0)
    side = round(size * SIDE) // 2 * 2
    small = F.interpolate(tiles.float() / 255, (side, side), mode="area")
    drawn = F.pad(small, ((size - side) // 2,) * 4)
    grounds = F.interpolate(photographs.float() / 255, (size, size), mode="area")
    plain = torch.tensor(list(COLORS.values()))[:, :, None, None].expand(-1, -1, size, size) / 255
    ground = torch.stack([rng.choice(grounds if i % 2 else plain) for i in range(len(tiles))])
    return ground * (1 - drawn[:, 3:]) + drawn[:, :3]


def named(clip: Clip, images: Tensor, things: Tensor) -> Tensor:
    """Which pictures (N, 3, S, S) of objects (N,) are named before any other object, (N,) bool."""
    texts = clip.encode_text([caption_alone(i) for i in range(len(objects()))])
    latents = torch.cat([clip.encode_image(part) for part in images.split(128)])
    return (latents @ texts.T).argmax(1) == things


def main() -> None:
    parser = OnceParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=Path("training"), help="what make_drawings.py filled")
    parser.add_argument("--weights", type=Path, default=models.WEIGHTS, help="folder of both models")
    options = parser.parse_args()
    folder, device = options.folder, torch.device("cpu")
    clips = {name: load(device, folder=options.weights) for name, load in (("clip", load_model), ("judge", load_judge))}
    grounds = photographs(folder / "drawings")
    index = {thing.name: i for i, thing in enumerate(objects())}
    rows: dict[str, tuple[Tensor, list[int]]] = {"own sprites": (sprites(torch.device("cpu"), 0), list(range(len(index))))}
    for path in [*sorted((folder / "drawings").glob("*.json")), *sorted((folder / "kept").glob("*.json"))]:
        things = [index[name] for name, _ in json.loads(path.read_text(encoding="utf8"))]
        kept = " (kept for testing)" if path.parent.name == "kept" else ""
        rows[path.stem + kept] = (unpack(path.with_suffix(".webp"))[: len(things)], things)
    print(f"{'drawn by':45} drawings   clip  judge")
    for source, (tiles, things) in rows.items():
        chosen = random.Random(0).sample(range(len(things)), min(MOST, len(things)))
        images = pictures(tiles[chosen], grounds)
        shares = [named(clip, images, torch.tensor(things)[chosen]).float().mean().item() for clip in clips.values()]
        print(f"{source:45} {len(chosen):8} " + " ".join(f"{share:6.1%}" for share in shares), flush=True)


if __name__ == "__main__":
    main()
