"""What is computed once per model and kept on disk: where it lies, and how it is written whole."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path


def cache_folder() -> Path:
    """Where tables are kept: $INVERT_CACHE, else the user's cache folder."""
    home = os.environ.get("INVERT_CACHE") or Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "invert"
    return Path(home)


def write_whole(path: Path, write: Callable[[str], object]) -> None:
    """Write under another name, then rename: whoever reads meanwhile never gets half a file.

    A folder that may not be written to costs time at the next start, not the result: nothing is raised.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, partial = tempfile.mkstemp(dir=path.parent, prefix=path.stem, suffix=path.suffix)
    except OSError:
        return
    os.close(handle)
    try:
        write(partial)
        os.replace(partial, path)
    except (OSError, RuntimeError):
        pass
    finally:
        Path(partial).unlink(missing_ok=True)
