"""What the results in an output folder were made from, where that is none of the sources at hand.

The column `source` says so. It tells a source that an earlier run reached by another name, through a link, and results whose
input is no more. These are only told: who deletes pictures when they are captioned wants to keep their prompts.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Collection, Sequence
from pathlib import Path

from invert.batch.parquet import first_value
from invert.batch.sources import RESULT, shard_name, source_of


def results_in(out: Path) -> dict[str, list[Path]]:
    """What names of results begin with, the same for all of a source → these results."""
    found: defaultdict[str, list[Path]] = defaultdict(list)
    try:
        names = sorted(os.listdir(out))
    except OSError:  # there is none yet
        return found
    for name in names:
        if RESULT.search(name):
            found[source_of(shard_name(out / name))].append(out / name)
    return found


def sources_of(results: dict[str, list[Path]], but: Collection[str]) -> dict[str, list[Path]]:
    """Source → its results, but for those whose names begin like this.

    Results without rows, and of sources whose names are no UTF-8, tell no source and are left out.
    """
    told = {first_value(paths[0], "source"): paths for name, paths in results.items() if name not in but}
    return {source: paths for source, paths in told.items() if source and "\\udc" not in source}


def as_before(sources: Sequence[tuple[str, str]], out: Path) -> list[str]:
    """The sources, each under the name that its results in the folder were made under, where there are some.

    Args:
        sources: with what their results' names begin with.
        out: the folder.
    """
    results = results_in(out)
    if all(name in results for _, name in sources):
        return [source for source, _ in sources]
    known = {os.path.realpath(source): source for source in sources_of(results, {name for _, name in sources})}
    return [source if name in results else known.get(os.path.realpath(source), source) for source, name in sources]


def outlived(out: Path, names: Collection[str], inputs: Sequence[str]) -> dict[str, list[Path]]:
    """Source → results, of sources that have gone, or that lie in a folder that is given and are none of its sources any more.

    Args:
        out: the folder of the results.
        names: what the names of results of the sources at hand begin with.
        inputs: files and folders that were given.
    """
    folders = [os.path.realpath(given) for given in inputs if os.path.isdir(given)]
    others = sources_of(results_in(out), names)
    return {source: paths for source, paths in others.items() if not os.path.lexists(source) or _is_in(source, folders)}


def _is_in(source: str, folders: Sequence[str]) -> bool:
    real = Path(os.path.realpath(source))
    return any(real.is_relative_to(folder) for folder in folders)
