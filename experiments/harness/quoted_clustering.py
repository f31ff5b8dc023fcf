"""The sentences of docs/clustering.md and experiments/README.md about clustering that hold figures; see `quoted`."""

from __future__ import annotations

from collections.abc import Callable

from experiments.harness.quotes import Quoted, at, result

PAGE = "docs/clustering.md"
POINTS = (1_000, 10_000, 100_000, 1_000_000)


def density(estimator: str, n: int, d: int, *keys: str) -> Callable[[], float]:
    """A figure of a row of `density-vs-sklearn`."""

    def figure() -> float:
        rows = result("density-vs-sklearn")["rows"]
        value = next(row for row in rows if (row["estimator"], row["n"], row["d"]) == (estimator, n, d))
        for key in keys:
            value = value[key]
        return float(value)

    return figure


def hdbscan(n: int, d: int) -> tuple[Callable[[], float], ...]:
    """Processor seconds of ours, scikit-learn's and the package's."""
    return tuple(density("HDBSCAN", n, d, "processor_seconds", who) for who in ("ours", "scikit-learn", "hdbscan"))


def homework(n: int) -> tuple[Callable[[], float], ...]:
    """Seconds of our DBSCAN and scikit-learn's in the lesson's homework."""

    def row() -> dict[str, float]:
        return next(row["seconds"] for row in result("homework")["dbscan"] if row["n"] == n)

    return (lambda: row()["ours"], lambda: row()["scikit-learn"])


def dbscan(d: int) -> Quoted:
    """The row of how many times scikit-learn's speed ours has."""
    faster = tuple(density("DBSCAN", n, d, "times_faster", "scikit-learn") for n in POINTS)
    return Quoted(PAGE, f"| DBSCAN, {d} features | {{:.1f}} | {{:.1f}} | {{:.1f}} | {{:.1f}}{'' if d == 2 else ' *'} |", faster)


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
    Quoted(PAGE, "(`homework.json`) | {:.2f} s | {:.2f} s |", homework(30_000)),
    Quoted(PAGE, "| DBSCAN, 2 cores, 100,000 points | {:.2f} s | {:.2f} s |", homework(100_000)),
    Quoted("experiments/README.md", "({:.2f} s beside {:.2f} s at 100,000 points)", homework(100_000)),
    Quoted(PAGE, "| HDBSCAN, 1,000,000 × 2 | {:.1f} | {:,.0f} * | {:.0f} |", hdbscan(1_000_000, 2)),
    Quoted(PAGE, "| HDBSCAN, 100,000 × 64 | {:.1f} | {:.0f} | {:.0f} * |", hdbscan(100_000, 64)),
    *map(dbscan, (2, 8, 16, 64)),
]
