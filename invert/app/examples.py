"""Pictures to try, those that the bundle brings."""

from __future__ import annotations

import tempfile
from pathlib import Path

from gradio.utils import get_upload_folder

from invert.bundle import ModelBundle


def example_paths(bundle: ModelBundle) -> list[str]:
    """Their files, in the folder that the page serves from; none where the bundle brings none."""
    if bundle.examples is None:
        return []
    Path(get_upload_folder()).mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="examples-", dir=get_upload_folder()))
    paths = []
    for name, picture in bundle.examples().items():
        paths.append(str(folder / f"{name}.png"))
        picture.save(paths[-1])
    return paths
