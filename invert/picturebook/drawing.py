"""A scene → its picture, large enough for eyes; and the scenes of the README as pictures to try."""

from __future__ import annotations

from PIL import Image

from invert.picturebook.grammar import parse
from invert.picturebook.render import render
from invert.picturebook.world import Scene
from invert.torch_defaults import usual_torch

DRAWN_SIZE = 256  # pixels of a drawn scene: for eyes; the model scales it down
EXAMPLES = {
    "lobster": "a lobster to the left of a palm tree on a dotted teal and black background",
    "fox": "a fox above a red umbrella on a striped blue and white background",
    "clocks": "two alarm clocks on a yellow background",
}


@usual_torch()
def drawn(scene: Scene) -> Image.Image:
    """The scene as a picture."""
    from torchvision.transforms.functional import to_pil_image  # a slow import, for those who draw

    return to_pil_image(render([scene], DRAWN_SIZE)[0])


def examples() -> dict[str, Image.Image]:
    """Name → picture."""
    return {name: drawn(parse(scene)) for name, scene in EXAMPLES.items()}
