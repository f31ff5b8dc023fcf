"""Test pictures of known truth: scenes of picturebook's splits, and pictures that its renderer did not make.

In: how many; out: `Picture`s, always the same ones in the same order.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any

from PIL import Image
from torchvision.transforms.functional import to_pil_image

from experiments.harness.runner import FOLDER
from invert.picturebook import models
from invert.picturebook.grammar import caption
from invert.picturebook.render import render
from invert.picturebook.world import Scene, draw_scenes, objects

OUT_OF_DOMAIN_FOLDERS = {  # kind → where the pictures and their truths lie
    "foreign": FOLDER / "foreign",
    "stamps": FOLDER / "foreign" / "stamps",
    "clip-art": FOLDER / "foreign" / "clip-art",
}
DRAWING_REVISION = 1  # raised when the renderer draws the same scene otherwise
RECORDED_NAMES = {"colors": "colours"}  # fields of `Scene` that published records spell otherwise


@dataclass(frozen=True)
class Picture:
    """A test picture.

    Attributes:
        name: unique among pictures of its kind.
        kind: its split, or one of OUT_OF_DOMAIN_FOLDERS.
        image: RGB.
        scene: its truth.
        digest: hash of what it was made from. Not of its pixels: the renderer rounds some of them up on one
            processor and down on another.
    """

    name: str
    kind: str
    image: Image.Image
    scene: Scene
    digest: str

    @property
    def truth(self) -> str:
        """The true caption; it is silent about a background that has no name."""
        return caption(self.scene)


def scene_pictures(n: int, seed: int, split: str = "held-out") -> list[Picture]:
    """n scenes of a split, drawn by picturebook's renderer."""
    scenes = draw_scenes(n, seed, split)
    images = [to_pil_image(render([scene], models.IMAGE_SIZE)[0]) for scene in scenes]
    return [
        Picture(f"scene-{i:03}", split, image, scene, digest(json.dumps(scene_record(scene)).encode()))
        for i, (image, scene) in enumerate(zip(images, scenes, strict=True))
    ]


def out_of_domain_pictures(n: int, kind: str = "foreign") -> list[Picture]:
    """The first n pictures of a kind that picturebook's renderer did not make (`scripts/make_foreign.py` did).

    kind: one of OUT_OF_DOMAIN_FOLDERS: "foreign" for Twemoji's pictographs, "stamps" or "clip-art".
    """
    folder = OUT_OF_DOMAIN_FOLDERS[kind]
    index = {thing.name: i for i, thing in enumerate(objects())}
    found = []
    for truth in json.loads((folder / "truths.json").read_text())[:n]:
        file, _ = truth.pop("file"), truth.pop("ground")
        truth["objects"] = [index[name] for name in truth["objects"]]
        scene = scene_of_record(truth)
        path = folder / file
        found.append(Picture(path.stem, kind, Image.open(path).convert("RGB"), scene, digest(path.read_bytes())))
    return found


def scene_record(scene: Scene) -> dict[str, Any]:
    """Return the scene's fields under the names that published records use."""
    return {RECORDED_NAMES.get(name, name): value for name, value in asdict(scene).items()}


def scene_of_record(record: dict[str, Any]) -> Scene:
    """Return the scene that `scene_record`, or JSON made of it, describes."""
    names = {recorded: name for name, recorded in RECORDED_NAMES.items()}
    fields: dict[str, Any] = {
        names.get(name, name): tuple(value) if isinstance(value, list) else value for name, value in record.items()
    }
    return Scene(**fields)


def digest(source: bytes) -> str:
    """Short hash of a scene or file, and of the drawing's revision."""
    return hashlib.sha256(source + str(DRAWING_REVISION).encode()).hexdigest()[:12]
