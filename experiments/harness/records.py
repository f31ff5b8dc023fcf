"""Run records: what one run of a method found and cost, keyed by everything that it depends on.

A run depends on the method and its revision, the options, the weights, the picture and the seed; a measured
time also on the machine. Source files are not part of the key: a change that can change a method's prompts
raises the method's `revision`, and the golden prompts (`experiments.harness.golden`) tell when that was forgotten.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from experiments.harness.pictures import Picture
from invert.methods import get_method
from invert.picturebook import models
from invert.result import Result

RunRecord = dict[str, Any]
KEY = ("method", "revision", "options", "weights", "image", "seed", "machine")
TRUTH = "oracle"  # the method that knows the truth
GENERATOR = models.WEIGHTS.parent / "generator"


@dataclass(frozen=True)
class MethodEntry:
    """A method as it enters a comparison.

    Attributes:
        name: the entry's name in tables.
        method: the method's name.
        options: options of the inversion.
        seeded: whether another seed can give another prompt.
        max_pictures: the entry runs on so many pictures of a kind at most.
        kinds: kinds of pictures that the entry runs on; all where none is named.
        uses_generator: whether its prompts depend on the generator's weights.
    """

    name: str
    method: str
    options: dict[str, Any] = field(default_factory=dict)
    seeded: bool = True
    max_pictures: int | None = None
    kinds: tuple[str, ...] = ()
    uses_generator: bool = False


def identity(entry: MethodEntry, picture: Picture, seed: int, machine: str = "") -> RunRecord:
    """The fields of a record that its key is made of, and the picture's name; machine: "" where nothing depends on it."""
    return {
        "picture": picture.name,
        "kind": picture.kind,
        "method": entry.method,
        "revision": revision_of(entry.method),
        "options": entry.options,
        "weights": weights_of(entry.uses_generator),
        "image": picture.digest,
        "seed": seed,
        "machine": machine,
    }


def key_of(record: RunRecord) -> str:
    """Equal for two runs that must give the same."""
    return json.dumps([record[name] for name in KEY], sort_keys=True)


def revision_of(method: str) -> int:
    """The method's revision: a number that is raised with every change that can change its prompts."""
    return 1 if method == TRUTH else get_method(method).revision


@cache
def weights_of(uses_generator: bool) -> str:
    """Hash of the weights that a method of picturebook reads."""
    files = [models.WEIGHTS / "clip.safetensors", *([models.SYNONYMS] if models.SYNONYMS.exists() else [])]
    files += sorted(GENERATOR.rglob("*.safetensors")) if uses_generator else []
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()[:12]


def measured(result: Result, alone: bool = True, peak_mib: float | None = None) -> RunRecord:
    """What is kept of a run; alone: whether its seconds went to this picture only."""
    return {
        "prompt": result.prompt,
        "seconds": result.seconds if alone else None,
        "forward": result.forward_tokens,
        "backward": result.backward_tokens,
        "images": result.image_passes,
        "peak_mib": peak_mib,
    }


def read_records(file: Path) -> list[RunRecord]:
    """Whole records only: an interrupted run may have left half a line, an older version records with another key."""
    records = []
    for line in file.read_text().splitlines() if file.exists() else []:
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            continue
        if all(name in record for name in KEY):
            records.append(record)
    return records


def write_records(file: Path, records: Iterable[RunRecord]) -> None:
    """One line a record, ordered by key."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(record) + "\n" for record in sorted(records, key=key_of)))
