"""What a picture costs in seconds: every entry on the same few pictures, in turn, in one process.

Records of a comparison come from several processes, machines even, and from methods that invert several pictures
together; their seconds cannot be set side by side. Those that come from here can. They are kept like other
records, under the machine that they were measured on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from experiments.harness.bench import Bench
from experiments.harness.pictures import Picture
from experiments.harness.records import MethodEntry, RunRecord
from experiments.harness.runner import machine
from experiments.harness.statistics import PictureMeans, by_picture

NAME = "compare-times"


@dataclass(frozen=True)
class Times:
    """machine: where they were measured, "" where nothing was. tables: kind → method → picture → its means."""

    machine: str
    tables: dict[str, PictureMeans]


def measure_times(
    bench: Bench, entries: list[MethodEntry], pictures: list[Picture], n: int, n_limited: int, publish: bool
) -> Times:
    """Seconds on the first n pictures of each kind, of entries that have a limit on the first n_limited.

    bench: of the comparison; from it come model, judge and whether to show only what is kept.
    """
    own = Bench(NAME, bench.inverter, bench.judge, bench.cached_only, machine=here(bench.inverter.clip.device))
    if own.cached_only and own.known:
        own.machine = list(own.known.values())[-1]["machine"]  # whichever machine was the last to measure
    records: list[RunRecord] = []
    for kind in dict.fromkeys(picture.kind for picture in pictures):
        for i, picture in enumerate([p for p in pictures if p.kind == kind][:n]):
            due = [entry for entry in entries if i < (n_limited if entry.max_pictures else n)]
            records += own.records(due, [picture], 1)
    if publish:
        own.publish()
    return Times(
        own.machine if records else "", {kind: by_picture(records, kind) for kind in {record["kind"] for record in records}}
    )


def here(device: torch.device) -> str:
    """This machine, as far as its seconds depend on it."""
    known: dict[str, Any] = machine(device)
    return known["gpu"] or f"{known['processor']}, {known['instructions']}, threads: {known['threads']}"
