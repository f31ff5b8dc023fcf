"""A description in words → its picture, large enough for eyes; and the scenes of the README as pictures to try."""

from __future__ import annotations

from PIL import Image

from invert.picturebook.grammar import caption, parse
from invert.picturebook.render import render
from invert.torch_defaults import usual_torch

DRAWN_SIZE = 256  # pixels of a drawn scene: for eyes; the model scales it down
EXAMPLES = {
    "lobster": "a lobster to the left of a palm tree on a dotted teal and black background",
    "fox": "a fox above a red umbrella on a striped blue and white background",
    "clocks": "two alarm clocks on a yellow background",
}


@usual_torch()
def drawn(description: str, seed: int = 0) -> tuple[Image.Image, str]:
    """The described scene as a picture, and how the description was understood."""
    from torchvision.transforms.functional import to_pil_image  # a slow import, for those who draw

    scene = parse(description, seed)
    return to_pil_image(render([scene], DRAWN_SIZE)[0]), caption(scene)


def examples() -> dict[str, Image.Image]:
    """Name → picture."""
    return {name: drawn(scene)[0] for name, scene in EXAMPLES.items()}
