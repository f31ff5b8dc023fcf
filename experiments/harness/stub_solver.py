"""A model that costs nothing, for what is measured around it: the prompt says which pixels were seen."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from invert.batch.tiers import Found


@dataclass
class StubSolver:
    """Answers from a picture's pixels alone. seconds: of a batch."""

    seconds: float = 0.0
    batch: int = 16

    def prepare(self, image: Image.Image) -> Any:
        return np.asarray(image.resize((2, 2))).astype(int)

    def __call__(self, prepared: Sequence[Any]) -> Sequence[Found | Exception]:
        time.sleep(self.seconds)
        return [Found(f"pixels {' '.join(map(str, p.ravel()))}", float(p.mean()) / 255, 1, "stub", 0, ()) for p in prepared]


@dataclass(frozen=True)
class MakeStub:
    """Makes a `StubSolver` in any process. seconds: of a batch of that many pictures; load: until it is there."""

    seconds: float = 0.0
    load: float = 0.0
    batch: int = 16

    def __call__(self, device: str) -> StubSolver:
        time.sleep(self.load)
        return StubSolver(self.seconds, self.batch)
