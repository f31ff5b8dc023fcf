"""On-disk cache of arrays that are computed once per model: location, checksums, atomic writes.

A file is a NumPy archive (npz), whose zip format carries a CRC of every array: what is damaged, cut off or
zeroed is made again. A folder that cannot be written, or a full disk, costs time at the next start and not
the result: it is noted once in the log.
"""

from __future__ import annotations

import io
import logging
import os
import tempfile
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from invert.files import write_file

if TYPE_CHECKING:
    import numpy as np

log = logging.getLogger(__name__)


def cache_folder() -> Path:
    """Where tables are kept: $INVERT_CACHE, else $XDG_CACHE_HOME/invert, else ~/.cache/invert.

    A user without a home has a folder of his own among the temporary files.
    """
    if chosen := os.environ.get("INVERT_CACHE"):
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(base):  # the specification has relative ones ignored
        return Path(base) / "invert"
    home = os.path.expanduser("~")
    if os.path.isabs(home):
        return Path(home) / ".cache" / "invert"
    return Path(tempfile.gettempdir()) / f"invert-{os.getuid() if hasattr(os, 'getuid') else 'user'}"


def cached_arrays(
    name: str, names: Iterable[str], make: Callable[[], dict[str, np.ndarray]], valid: Callable[[dict[str, np.ndarray]], bool]
) -> dict[str, np.ndarray]:
    """The arrays of those names from the cache file `name`.npz; made, and kept there, where it has none that are valid.

    Args:
        name: says of what they are computed, by a hash.
        names: of the arrays.
        make: computes them.
        valid: whether arrays that were read have the right shapes.
    """
    file = cache_folder() / f"{name}.npz"
    found = read_arrays(file)
    if found is not None and set(found) == set(names) and valid(found):
        return found
    made = make()
    keep_arrays(file, made)
    return made


def read_arrays(file: Path) -> dict[str, np.ndarray] | None:
    """The arrays in the file; None where it is not there, or not as it was written."""
    import numpy as np

    try:
        with np.load(file, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except Exception:  # a damaged header may lead to anything, from BadZipFile to NotImplementedError
        return None


def keep_arrays(file: Path, arrays: dict[str, np.ndarray]) -> bool:
    """Write the arrays for the next start, and say whether they are there; a note in the log where that cannot be."""
    import numpy as np

    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_file(file, buffer.getvalue())
    except OSError as error:
        note_unwritable(str(file.parent), error.strerror or str(error))
        return False
    return True


@cache
def note_unwritable(folder: str, reason: str) -> None:
    """Once a process and folder."""
    log.warning(
        "the cache in %s cannot be written (%s): its tables are made again at every start; "
        "set INVERT_CACHE to a folder that can be written",
        folder,
        reason,
    )
