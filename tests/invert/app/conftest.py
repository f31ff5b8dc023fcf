"""A served page over a tiny model, with methods that cost nothing; one server a worker."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from invert.app.limits import Limits
from invert.app.service import Service, Upload
from invert.bundle import ModelBundle
from invert.diffusion.drawing import Drawn
from invert.history import COSINE
from invert.inverter import Inverter
from invert.methods import METHODS, InversionOutput, InversionTask, Method
from invert.methods.configs import NoConfig

LIMITS = Limits(queue=32, megabytes=1, seconds=600, files=25, drawn=3)  # nothing ends by its time, however busy the machine


def quick(task: InversionTask, _: Any) -> InversionOutput:
    """Names the picture by its width, after three steps."""
    prompt = f"w{task.images[0].width}"
    for step in range(3):
        task.history.record("quick", step, 0.1 * step, prompt, COSINE)
    task.history.report_candidate(prompt, 0.3)
    return InversionOutput(prompts=[(prompt, 0.3), ("w1 w2", 0.2)])


def endless(task: InversionTask, _: Any) -> InversionOutput:
    """Finds something at once, and goes on until somebody stops it."""
    task.history.report_candidate("w7 w8", 0.4)
    task.history.record("endless", 0, 0.4, "w7 w8", COSINE)
    while not task.budget.exhausted:
        time.sleep(0.01)
    return InversionOutput(prompts=[(task.history.best_prompt, 0.4)])


def broken(task: InversionTask, _: Any) -> InversionOutput:
    raise RuntimeError("/secret/path of this machine")


@pytest.fixture(scope="session")
def methods() -> Iterator[tuple[str, ...]]:
    """The stand-ins, known by name as long as tests of the app run."""
    made = [Method(run.__name__, 1, NoConfig, run) for run in (quick, endless, broken)]
    METHODS._known.update({method.name: method for method in made})
    yield tuple(method.name for method in made)
    for method in made:
        del METHODS._known[method.name]


@pytest.fixture(scope="session")
def service(toy_bundle: ModelBundle, methods: tuple[str, ...]) -> Service:
    bundle = replace(toy_bundle, phrases={"first": ("w1", "w2", "w3"), "second": ("w4",)})
    found = Service(Inverter(bundle), LIMITS, "a generator")
    found.generator = SimpleNamespace(draw=lambda prompts, seeds, options: (Drawn(torch.rand(3, 8, 8)) for _ in seeds))  # type: ignore[assignment]
    return found


@dataclass(frozen=True)
class Files:
    """A good picture, of 33 pixels, one that is none, and one whose file carries a prompt."""

    good: Path
    bad: Path
    carrying: Path

    @property
    def upload(self) -> Upload:
        return Upload(str(self.good), self.good.name)


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    folder = tmp_path_factory.mktemp("pictures")
    good, bad = folder / "good.png", folder / "bad.png"
    good.write_bytes(png(33))
    bad.write_text("not a picture")
    carrying = folder / "drawn.png"
    carrying.write_bytes(png(34, parameters="a fox in the snow\nSteps: 20, Sampler: Euler a, Seed: 1"))
    return Files(good, bad, carrying)


def png(width: int, **texts: str) -> bytes:
    buffer, chunks = io.BytesIO(), PngInfo()
    for key, text in texts.items():
        chunks.add_text(key, text)
    Image.new("RGB", (width, 20), "teal").save(buffer, "PNG", pnginfo=chunks)
    return buffer.getvalue()


@pytest.fixture(scope="session")
def address(service: Service, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where the page is served."""
    pytest.importorskip("gradio")
    from invert.app.page import page
    from invert.app.server import launch, prepare_environment

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(tmp_path_factory.mktemp("served")))
        prepare_environment()
        blocks = page(service)
        yield launch(blocks, LIMITS)[0].rstrip("/")
        blocks.close(verbose=False)
