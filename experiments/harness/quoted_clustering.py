"""The sentences of docs/clustering.md and experiments/README.md about clustering that hold figures; see `quoted`."""

from __future__ import annotations

from experiments.harness.quotes import Quoted, at

PAGE = "docs/clustering.md"

CLUSTERING = [
    Quoted(
        PAGE,
        "clusters them: {:.0f} iterations at a peak of {:,.0f} MiB of memory ({:.0f} of them before it began), {:.0f} seconds "
        "of one processor; on the wall {:.0f}, on a machine that was busy with other work.",
        (
            at("kmeans-100m", "iterations"),
            at("kmeans-100m", "peak_mib"),
            at("kmeans-100m", "mib_before"),
            at("kmeans-100m", "processor_seconds_to_fit"),
            at("kmeans-100m", "seconds_to_fit"),
        ),
    ),
    Quoted(
        "experiments/README.md",
        "from disk, at a peak of {:,.0f} MiB of memory.",
        (at("kmeans-100m", "peak_mib"),),
    ),
]
