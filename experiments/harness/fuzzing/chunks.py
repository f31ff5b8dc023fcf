"""Caches of encoded chunks: whatever lies there and whenever time is up, latents are those that the model computes."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast
from unittest import mock

import numpy as np
import torch
from torch import Tensor

from experiments.harness.fuzzing.caches import packed
from experiments.harness.fuzzing.verdicts import Case, Part, watch
from invert import cache, encoding
from invert.models.clip import Clip

WIDTH = 6
WORDS = ("fox", "owl", "", "[red]", "猫", "a\nb", "x" * 400)


def run(count: int, seed: int) -> Part:
    """The verdict on that many states."""
    with tempfile.TemporaryDirectory() as folder:
        return watch("chunks", seed, cases(count, seed, Path(folder)), seconds=10)


def cases(count: int, seed: int, folder: Path) -> Iterator[Case]:
    for i in range(count):
        rng = np.random.default_rng((seed, i))
        yield case(rng, f"{seed}/{i}", folder / str(i))


def case(rng: np.random.Generator, name: str, folder: Path) -> Case:
    """Prompts that are encoded, then again with files in some state, then by another model, each within some time."""
    prompts = [f"{WORDS[rng.integers(len(WORDS))]} {i}" for i in range(int(rng.integers(1, 30)))]
    model, other = (quick_clip(int(rng.integers(1 << 30))) for _ in range(2))
    kind = KINDS[rng.integers(len(KINDS))]
    size, most, patience = (int(x) for x in rng.integers((1, 0, 0), (12, 40, 20)))

    def encoded(clip: Clip, limited: bool) -> str | None:
        asked = iter(range(10_000))
        exhausted = (lambda: next(asked) >= patience) if limited else (lambda: False)
        indices, table = encoding.encode_prompts(clip, prompts, exhausted, in_order=bool(rng.integers(2)))
        return differs(indices, table.tensor(), clip, prompts, limited)

    def read() -> list[str | None]:
        with (
            mock.patch.dict(os.environ, {"INVERT_CACHE": str(folder)}),
            mock.patch.object(cache, "note_unwritable"),
            mock.patch.multiple(encoding, CHUNK=size, MOST_IN_MEMORY=most, encode=lambda clip, texts: clip.encode_text(texts)),
        ):
            found = [encoded(model, limited=bool(rng.integers(2)))]
            for file in sorted(folder.rglob("*.npz")):
                if rng.integers(2):
                    spoil(kind, file, rng)
            return [*found, encoded(model, limited=bool(rng.integers(2))), encoded(other, limited=False), encoded(model, False)]

    return Case(f"{name} {kind}", read, (), lambda got: next((why for why in got if why), None))


def quick_clip(seed: int) -> Clip:
    """What encoding asks of a model: latents that depend on the model and on each prompt alone."""

    def encode_text(prompts: list[str]) -> Tensor:
        rows = [np.random.default_rng([seed, *prompt.encode()]).standard_normal(WIDTH) for prompt in prompts]
        return torch.nn.functional.normalize(torch.tensor(np.stack(rows)).float(), dim=1)

    return cast(Clip, SimpleNamespace(encode_text=encode_text, device=torch.device("cpu"), fingerprint=str(seed)))


def differs(indices: list[int], latents: Tensor, clip: Clip, prompts: list[str], limited: bool) -> str | None:
    """Why these are not the latents of those prompts."""
    if indices != sorted(set(indices)) or not indices or len(indices) > len(prompts):
        return f"indices {indices}"
    if not limited and len(indices) < len(prompts):
        return f"{len(indices)} of {len(prompts)} prompts, and time was not up"
    if latents.dtype != torch.float32 or latents.shape != (len(indices), WIDTH):
        return f"latents {latents.dtype} {tuple(latents.shape)}"
    right = clip.encode_text([prompts[i] for i in indices]).half().float()
    return None if torch.equal(latents, right) else "other latents"


def spoil(kind: str, file: Path, rng: np.random.Generator) -> None:
    """Bring a chunk's file into the state."""
    content = bytearray(file.read_bytes())
    rows = np.load(file)["latents"]
    at = int(rng.integers(len(content)))
    arrays: dict[str, Callable[[], dict[str, np.ndarray]]] = {
        "fewer rows": lambda: {"latents": rows[:-1]},
        "other width": lambda: {"latents": rows[:, :3]},
        "one number": lambda: {"latents": np.float16(1)},  # type: ignore[dict-item]
        "one axis": lambda: {"latents": rows[:, 0]},
        "float32": lambda: {"latents": rows.astype(np.float32)},
        "whole numbers": lambda: {"latents": rows.astype(np.int64)},
        "texts": lambda: {"latents": np.array(["x"] * len(rows))},
        "not finite": lambda: {"latents": np.full_like(rows, np.nan)},
        "other arrays": lambda: {"latents": rows, "else": rows},
        "pickled": lambda: {"latents": np.array([None] * len(rows), object)},
    }
    if kind in arrays:
        file.write_bytes(packed(arrays[kind]()))
    elif kind == "cut":
        file.write_bytes(content[:at])
    elif kind == "zeroed tail":
        file.write_bytes(content[:at] + bytes(len(content) - at))
    elif kind == "flipped":
        content[at] ^= 1 << int(rng.integers(8))
        file.write_bytes(content)
    elif kind == "noise":
        file.write_bytes(rng.bytes(int(rng.integers(0, 500))))
    elif kind == "a folder":
        file.unlink()
        file.mkdir()
    elif kind == "gone":
        file.unlink()


KINDS = (
    "whole", "gone", "cut", "zeroed tail", "flipped", "noise", "a folder", "fewer rows", "other width", "one number", "one axis",
    "float32", "whole numbers", "texts", "not finite", "other arrays", "pickled",
)  # fmt: skip
