"""What runs shards, by name: in this process, in several of this machine, on a Ray cluster.

Each takes the same arguments and gives the same rows: `run(shards, workers, job, on_report)`. A worker is a function without
arguments that loads a model, so that it can be sent to another process.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from invert.batch.work import STOPPED, Report, Solver
from invert.errors import InputError

ENGINES = ("local", "processes", "ray")
OnReport = Callable[[Report], object]


@dataclass(frozen=True)
class Workers:
    """How shards are worked on.

    Attributes:
        make: loads a model on the device that it is given ("" for the default one); can be pickled.
        devices: of the workers, one each; for Ray their number alone counts, () for as many as the cluster has room for.
        gpus: of a worker, as Ray shares them out; None: 1 where the cluster has some.
    """

    make: Callable[[str], Solver]
    devices: tuple[str, ...] = ("",)
    gpus: float | None = None


def load(workers: Workers, device: str) -> Solver | Report:
    """A loaded model, or a report on why no shard can be done here."""
    try:
        return workers.make(device)
    except InputError as error:
        return Report("", STOPPED, str(error))
    except Exception as error:
        return Report("", STOPPED, f"internal error while loading the model: {type(error).__name__}: {error}")
