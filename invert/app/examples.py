"""Pictures to try, drawn when the app starts."""

from __future__ import annotations

import tempfile
from pathlib import Path

from gradio.utils import get_upload_folder

from invert.registry import resolve

SCENES = {
    "lobster": "a lobster to the left of a palm tree on a dotted teal and black background",
    "fox": "a fox above a red umbrella on a striped blue and white background",
    "clocks": "two alarm clocks on a yellow background",
}


def example_paths() -> list[str]:
    """The files, in a folder that the page serves from."""
    Path(get_upload_folder()).mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="examples-", dir=get_upload_folder()))
    draw = resolve("invert.picturebook.commands:drawn")
    for name, scene in SCENES.items():
        picture, _ = draw(scene)
        picture.save(folder / f"{name}.png")
    return [str(folder / f"{name}.png") for name in SCENES]
