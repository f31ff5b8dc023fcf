"""What a picture costs in seconds: every contender on the same few pictures, in turn, in one process.

Rows of a comparison come from several sessions, machines even, and from methods that seek several prompts
at once; their seconds cannot be set side by side. Those that come from here can. They are kept like other
rows, under the machine that they were measured on.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import torch

from experiments.harness.bench import Bench, Contender, Picture, Row
from experiments.harness.runner import machine
from experiments.harness.statistics import Table, by_picture

NAME = "compare-times"


@dataclass(frozen=True)
class Times:
    """machine: where they were measured, "" where nothing was. tables: kind → method → picture → its row."""

    machine: str
    tables: dict[str, Table]


def measure_times(
    bench: Bench, contenders: list[Contender], pictures: list[Picture], n: int, n_limited: int, publish: bool
) -> Times:
    """Seconds on the first n pictures of each kind, of contenders that have a limit on the first n_limited.

    bench: of the comparison; from it come model, judge and whether to show only what is kept.
    """
    own = Bench(NAME, bench.inverter, bench.judge, bench.only_kept, about=here(bench.inverter.clip.device))
    if own.only_kept and own.known:
        own.about = json.loads(list(own.known)[-1])[-1]  # whichever machine was the last to measure
    rows: list[Row] = []
    for kind in dict.fromkeys(picture.kind for picture in pictures):
        for i, picture in enumerate([p for p in pictures if p.kind == kind][:n]):
            due = [contender for contender in contenders if i < (n_limited if contender.most else n)]
            rows += own.rows(due, [picture], 1)
    if publish:
        own.publish()
    return Times(own.about if rows else "", {kind: by_picture(rows, kind) for kind in {row["kind"] for row in rows}})


def here(device: torch.device) -> str:
    """This machine, as far as its seconds depend on it."""
    known: dict[str, Any] = machine(device)
    return known["gpu"] or f"{known['processor']}, {known['instructions']}, threads: {known['threads']}"
