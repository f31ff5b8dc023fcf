"""How much memory does a model take, whole and with towers that take turns, in float32 and in bfloat16?

Real architectures with random weights, saved to disk in float32 and in bfloat16 and loaded by the real loader, each in a
process of its own, which encodes one picture and then scores and differentiates prompts, as a search does. Peak: the
process's high-water mark as Linux counts it, without what it held before a model was loaded (libraries). A run that
would not fit beside what else runs is left out and says so. LOW_MEMORY_MODELS and LOW_MEMORY_LIMIT (GiB) in the
environment set which architectures are measured and how much may be taken.

Each peak is kept in `results/runs/low-memory.jsonl` when it is measured, and is not measured again: the large ones want a
machine with nothing else to do. Without that file, all are.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from experiments.harness.environment import number
from experiments.harness.memory import extra_memory
from experiments.harness.runner import Context
from invert.errors import InputError

MODELS = "ViT-L-14,ViT-bigG-14"
FAMILIES = (  # whose weights in float32 docs/models.md states
    "ViT-L-14",
    "PE-Core-B-16",
    "ViT-B-16-SigLIP",
    "ViT-B-16-SigLIP2",
    "ViT-L-14-CLIPA",
    "MobileCLIP2-S2",
    "ViT-H-14-worldwide",
)
DTYPES = ("float32", "bfloat16")
SAMPLE = 1 << 20  # random numbers that all weights are made of
OVERHEAD = 2.0  # GiB beside the weights
PROMPTS = 32


def run(context: Context) -> dict[str, Any]:
    number("LOW_MEMORY_LIMIT", available())  # one that is no number is said before weights are written, not after
    names = ["ViT-B-32"] if context.quick else architectures()
    journal = context.results / "runs" / f"{context.name}.jsonl"
    known = {} if context.quick or not journal.exists() else {key_of(row): row for row in read(journal)}
    for name in names:
        for dtype in DTYPES:
            due = [low for low in (False, True) if (name, dtype, low) not in known]
            for row in peaks(name, dtype, due, context.seed) if due else ():
                print(row, flush=True)
                known[key_of(row)] = row
                if row["peak_gib"] is not None and not context.quick:
                    journal.parent.mkdir(parents=True, exist_ok=True)
                    with journal.open("a") as out:
                        out.write(json.dumps(row) + "\n")
    order = [(name, dtype, low) for name in names for dtype in DTYPES for low in (False, True)]
    families = FAMILIES[:1] if context.quick else FAMILIES
    return {"peaks": [known[key] for key in order], "weights_gib": {name: weights_of(name) for name in families}}


def architectures() -> list[str]:
    """The architectures that the environment asks for, MODELS where it asks for none; InputError for one unknown to open_clip."""
    import open_clip

    names = os.environ.get("LOW_MEMORY_MODELS", MODELS).split(",")
    for name in names:
        if name not in open_clip.list_models():
            raise InputError(f"LOW_MEMORY_MODELS: open_clip has no architecture {name!r}; open_clip.list_models() lists all")
    return names


def read(journal: Path) -> list[dict[str, Any]]:
    """What was measured before."""
    return [json.loads(line) for line in journal.read_text().splitlines()]


def key_of(row: dict[str, Any]) -> tuple[str, str, bool]:
    """What a row is measured of."""
    return row["model"], row["dtype"], row["low_memory"]


def peaks(name: str, dtype: str, lows: Sequence[bool], seed: int) -> Iterator[dict[str, Any]]:
    """A row for each way to load the architecture: whole (False) and with towers in turn."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "random.safetensors"
        size = save_random(name, getattr(torch, dtype), file, seed)
        for low in lows:
            row = {"model": name, "dtype": dtype, "weights_gib": round(size / 2**30, 2), "low_memory": low}
            yield {**row, **measured(f"{name}/{file}", dtype, low, size)}


def shapes(name: str) -> dict[str, torch.Tensor]:
    """The tensors of an architecture, without memory."""
    import open_clip

    with torch.device("meta"):
        model, _, _ = open_clip.create_model_and_transforms(name, load_weights=False, device="meta")
    return model.state_dict()


def weights_of(name: str) -> float:
    """GiB of an architecture's weights in float32."""
    return round(sum(value.numel() for value in shapes(name).values()) * 4 / 2**30, 2)


def save_random(name: str, dtype: torch.dtype, file: Path, seed: int) -> int:
    """Write random weights of an architecture; returns their bytes. A tensor at a time: the format is a header and the bytes."""
    sample = (torch.randn(SAMPLE, generator=torch.Generator().manual_seed(seed)) * 0.02).to(dtype)
    header, at = {}, 0
    code = {torch.float32: "F32", torch.bfloat16: "BF16"}[dtype]
    state = shapes(name)
    for key, value in state.items():
        size = value.numel() * sample.element_size()
        header[key] = {"dtype": code, "shape": list(value.shape), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    with file.open("wb") as out:
        out.write(len(text).to_bytes(8, "little") + text)
        for value in state.values():
            rest = value.numel()
            while rest > 0:
                part = sample[: min(rest, SAMPLE)]
                out.write(part.view(torch.uint8).numpy().tobytes())
                rest -= len(part)
    return at


def measured(model: str, dtype: str, low: bool, size: int) -> dict[str, Any]:
    """The peak of one run, in a process of its own; None with the reason where it was not run."""
    limit = number("LOW_MEMORY_LIMIT", available())
    # The image tower is the larger part; beside half precision the whole model stands in float32 as well.
    share = 0.8 if low else 1.0 if dtype == "float32" else 3.0
    if size / 2**30 * share + OVERHEAD > limit:
        return {"peak_gib": None, "reason": f"does not fit into {limit:.0f} GiB"}
    words = [sys.executable, "-m", "experiments.low_memory", model, dtype, str(int(low))]
    done = subprocess.run(words, capture_output=True, text=True, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    return {"peak_gib": round(float(done.stdout.split()[-1]) / 1024, 2)}


def available() -> float:
    """GiB that the system has to give."""
    line = next(line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemAvailable"))
    return int(line.split()[1]) / 2**20


def use(model: str, dtype: str, low: bool) -> None:
    """What a search does: the picture, then prompts, then a gradient."""
    from PIL import Image

    from invert.budget import Budget
    from invert.models.loading import load_clip
    from invert.models.turns import Turns
    from invert.scorer import PromptScorer
    from invert.target import image_latent

    clip = load_clip(model, "cpu", dtype, turns=Turns() if low else None)
    target = image_latent(clip, [Image.new("RGB", (256, 256), "teal")])
    scorer = PromptScorer(clip, target, Budget())
    ids = torch.randint(1000, 40000, (PROMPTS, 12), generator=torch.Generator().manual_seed(0))
    scorer.score_ids(ids)
    scorer.score_and_gradient(clip.embed(ids[:4]))
    scorer.exact.score_ids(ids[:4])


if __name__ == "__main__":
    import open_clip  # noqa: F401  # libraries do not count

    import invert.models.open_clip
    import invert.scorer  # noqa: F401

    print(extra_memory(lambda: use(sys.argv[1], sys.argv[2], sys.argv[3] == "1")))
