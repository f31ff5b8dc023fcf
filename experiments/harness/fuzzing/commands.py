"""Command lines: odd numbers, words, paths, outputs and streams, in this process with an inverter that answers at once.

A few run as real processes with the real model. Status 0 with what was asked for, or 2 with one sentence a fault.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
from PIL import Image

from experiments.harness.fuzzing.arguments import MAX_TOP, OPTIONS, Line, add_pictures
from experiments.harness.fuzzing.processes import PROCESSES, Done
from experiments.harness.fuzzing.verdicts import Case, Part, watch
from invert.cli.command import run_command
from invert.config import InvertConfig
from invert.inverter import Inverter
from invert.models.device import pick_device
from invert.result import Result


class QuickInverter:
    """The bundled model's inverter, but it knows the prompt: a real result, renamed."""

    def __init__(self, real: Inverter) -> None:
        self.clip, self.bundle = real.clip, real.bundle
        self.analyze, self.bundle_for = real.analyze, real.bundle_for
        config = InvertConfig(restarts=1, soft_steps=1, seconds=2.0, tokens=4)
        self._found: Result = real.invert(Image.new("RGB", (64, 64), "teal"), config)

    def invert_joint(self, pictures: Any, config: Any, **_: Any) -> Result:
        config = config.within_context(self.clip.max_prompt_tokens)
        prompts = [f"a picture of {pictures[0].width} pixels, number {i}" for i in range(min(config.top, MAX_TOP))]
        alternatives = [(prompt, 0.5) for prompt in prompts]
        return replace(self._found, prompt=prompts[0], alternatives=alternatives, method=config.method, seed=config.seed)

    def distill(self, text: str, config: Any, **more: Any) -> Result:
        return self.invert_joint([Image.new("RGB", (len(text), 1))], config, **more)


def run(count: int, seed: int) -> Part:
    """The verdict on that many command lines, one in fifty a process of its own."""
    real = Inverter.load("picturebook", device="cpu")
    quick = QuickInverter(real)
    with tempfile.TemporaryDirectory() as folder, standing_in(quick):
        return watch("commands", seed, cases(count, seed, Path(folder)), memory=1000)


@contextlib.contextmanager
def standing_in(quick: QuickInverter) -> Iterator[None]:
    """The command loads the stand-in wherever it would load the bundled models; other names are looked for offline."""
    load = Inverter.load

    def loaded(name: str = "picturebook", bundle: str | None = None, device: str | None = None, *more: Any) -> Any:
        pick_device(device)
        return quick if name == "picturebook" and bundle in (None, "picturebook") else load(name, bundle, device, *more)

    drawing = SimpleNamespace(choose=lambda result, _: result, draw=lambda result, *_: result)
    with (
        mock.patch.object(Inverter, "load", loaded),
        mock.patch("invert.cli.loading.loaded_judge", lambda *_: quick.clip),
        mock.patch("invert.cli.loading.round_trip", lambda *_, **__: drawing),
        mock.patch.dict(os.environ, {"HF_HUB_OFFLINE": "1"}),
    ):
        yield


def cases(count: int, seed: int, folder: Path) -> Iterator[Case]:
    for i in range(count):
        rng = np.random.default_rng((seed, i))
        here = folder / str(i)
        here.mkdir()
        if i % 50 == 49:
            name, check = PROCESSES[i // 50 % len(PROCESSES)]
            yield Case(f"{seed}/{i} process: {name}", partial(check, here), (), check=lambda why: why, starts=True)
        else:
            yield in_process(rng, f"{seed}/{i}", here)


def in_process(rng: np.random.Generator, name: str, here: Path) -> Case:
    line = Line()
    add_pictures(rng, line, here)
    for _ in range(int(rng.integers(0, 4))):
        OPTIONS[rng.integers(len(OPTIONS))](rng, line, here)
    if rng.integers(12) == 0:
        line.encoding = str(rng.choice(["ascii", "latin-1", "cp1252"]))
    line.full = bool(rng.integers(25) == 0)
    before = digests(here)
    return Case(f"{name} {line.words}", lambda: done(line, here), (), lambda result: judged(line, result, before, here))


def done(line: Line, here: Path) -> Done:
    """The run in its folder, with its own streams."""
    out: io.BytesIO = FullStream() if line.full else io.BytesIO()
    err = io.BytesIO()
    stdin = io.TextIOWrapper(io.BytesIO(line.stdin))
    streams = io.TextIOWrapper(out, encoding=line.encoding), io.TextIOWrapper(err, encoding=line.encoding)
    with contextlib.chdir(here), mock.patch.multiple(sys, stdin=stdin, stdout=streams[0], stderr=streams[1]):
        status = run_command(line.words)
        with contextlib.suppress(OSError, ValueError):
            streams[0].flush()
        streams[1].flush()
    if line.full:
        streams[0].detach()  # or it would try once more when it is freed
    return Done(status, out.getvalue().decode(line.encoding), err.getvalue().decode(line.encoding))


class FullStream(io.BytesIO):
    """A disk that is full."""

    def write(self, _: Any) -> int:
        raise OSError(28, "No space left on device")


def judged(line: Line, result: Done, before: dict[Path, str], here: Path) -> str | None:
    """Why what came is not what was to come."""
    said = result.err.splitlines()
    if result.status not in (0, 2):
        return f"status {result.status}: {result.err[-300:]}"
    if any(not one.startswith("invert: ") or not one.isprintable() for one in said):
        return f"stderr holds {result.err[:300]!r}"
    if "Traceback" in result.err or "internal error" in result.err:
        return result.err[:300]
    faults = line.faults + (line.full and bool(result.out))
    if result.status == 2 and not any(not one.startswith("invert: note:") for one in said):
        return "status 2 without a sentence"
    if result.status == 0 and (faults or line.full):
        return f"{line.faults} faults were taken for good"
    if any(path in before and digest != before[path] for path, digest in digests(here).items()):
        return "an input was changed"
    return answered(line, result) if result.status == 0 else None


def answered(line: Line, result: Done) -> str | None:
    printed = result.out.splitlines()
    if line.lines is not None and len(printed) != line.lines:
        return f"{len(printed)} lines instead of {line.lines}: {result.out[:200]!r}"
    if "--json" in line.words:
        for one in printed:
            try:
                json.loads(one, parse_constant=lambda name: (_ for _ in ()).throw(ValueError(name)))
            except ValueError as error:
                return f"no JSON ({error}): {one[:200]}"
    elif not all(one.replace("\t", "").isprintable() for one in printed):
        return f"control codes on stdout: {result.out[:200]!r}"
    missing = [path.name for path in line.outputs if not path.exists() or path.stat().st_size == 0]
    return f"{missing} were not written" if missing else None


def digests(folder: Path) -> dict[Path, str]:
    """Of the pictures in the folder."""
    return {
        path: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.suffix == ".png" and path.is_file() and not path.name.startswith("out")
    }
