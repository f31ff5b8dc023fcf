"""Runs an experiment and keeps what it found, together with the machine and the versions that it ran on.

In: an experiment's name and a few options; out: `results/NAME.json`, with the pictures beside it, or all
in a folder `results/NAME/` where the module sets OWN_FOLDER (for experiments that write many files). Where it sets
PER_DEVICE, what another device than the CPU found is kept beside the CPU's, as `results/NAME-cuda.json`.
"""

from __future__ import annotations

import datetime
import importlib
import json
import platform
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

FOLDER = Path(__file__).parent.parent
RESULTS = FOLDER / "results"
PACKAGES = (
    "torch",
    "open_clip_torch",
    "transformers",
    "faiss-cpu",
    "numba",
    "numpy",
    "scikit-learn",
    "triton",
    "numba-cuda",
    "jax",
)


@dataclass(frozen=True)
class Context:
    """The options of an experiment. quick: run a small version, in minutes, to try it out."""

    name: str
    results: Path = RESULTS
    quick: bool = False
    seed: int = 0
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    own_folder: bool = False

    def path(self, file: str) -> Path:
        """Where the experiment keeps a file of its own: "scenes.png" → results/NAME-scenes.png, or in its folder."""
        path = self.results / self.name / file if self.own_folder else self.results / f"{self.name}-{file}"
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    @property
    def for_the_repository(self) -> bool:
        """Whether what is found is what the repository tells its readers: a whole run into its own results."""
        return self.results == RESULTS and not self.quick

    @property
    def json_path(self) -> Path:
        return self.path(f"{self.name}.json") if self.own_folder else self.results / f"{self.name}.json"


def names() -> list[str]:
    """Every experiment, by the name that `run` takes."""
    return sorted(path.stem.replace("_", "-") for path in FOLDER.glob("*.py") if not path.stem.startswith("__"))


def load(name: str) -> ModuleType:
    """The module of an experiment."""
    return importlib.import_module(f"experiments.{name.replace('-', '_')}")


def summary(name: str) -> str:
    """The first line of an experiment's docstring."""
    return (load(name).__doc__ or "").strip().split("\n")[0]


def run(name: str, quick: bool, seed: int, device: torch.device, results: Path = RESULTS) -> Path:
    """Run one experiment; returns the path of its JSON."""
    module = load(name)
    per_device = getattr(module, "PER_DEVICE", False) and device.type != "cpu"
    stem = f"{name}-{device.type}" if per_device else name
    context = Context(stem, results, quick, seed, device, getattr(module, "OWN_FOLDER", False))
    began = time.perf_counter()
    found: dict[str, Any] = module.run(context)
    record = {"experiment": name, "quick": quick, "seed": seed, "seconds": round(time.perf_counter() - began, 1)}
    context.json_path.parent.mkdir(parents=True, exist_ok=True)
    context.json_path.write_text(json.dumps({**record, "machine": machine(device), **found}, indent=1) + "\n")
    return context.json_path


def machine(device: torch.device) -> dict[str, Any]:
    """Where a figure was measured: date, processor, threads, device, versions."""
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    return {
        "date": datetime.date.today().isoformat(),
        "processor": processor(),
        "instructions": torch.backends.cpu.get_cpu_capability(),  # of the processor's, the widest that torch uses
        "threads": torch.get_num_threads(),
        "gpu": gpu,
        "python": platform.python_version(),
        "versions": dict(installed()),
    }


def processor() -> str:
    """The processor's own name where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def installed() -> Iterator[tuple[str, str]]:
    for package in PACKAGES:
        try:
            yield package, version(package)
        except PackageNotFoundError:
            continue
