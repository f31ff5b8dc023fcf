"""The state of the files that options name: a run that goes on with others would mix their prompts."""

from __future__ import annotations

import os

from invert.batch.states import state_of
from invert.cli.inputs import files_in
from invert.cli.options import SearchOptions


def states_of(options: SearchOptions) -> dict[str, list[list[int]]]:
    """Path → size and time of each file that it stands for, of what a search reads besides pictures and prompts."""
    files = [options.model, options.model.partition("/")[2], options.negative, options.gap_images]
    return {path: states(path) for path in files if path and os.path.exists(path)}


def states(path: str) -> list[list[int]]:
    """Size and time of each file that a path stands for: weights that change make other prompts."""
    return [list(state_of(file)) for file in files_in(path)]
