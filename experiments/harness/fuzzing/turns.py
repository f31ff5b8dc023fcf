"""`--low-memory`: towers in turn give what the whole model gives, whatever is asked in whatever order, or one sentence.

Now and then the weights' file is changed between two turns: what comes then is what the model gave before, or a refusal.
"""

from __future__ import annotations

import gc
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from open_clip.model import CLIP, set_model_preprocess_cfg
from open_clip.push_to_hf_hub import save_config_for_hf
from open_clip.transform import PreprocessCfg
from PIL import Image
from safetensors.torch import load, save
from torch import Tensor

from experiments.harness.fuzzing.verdicts import Case, Part, watch
from invert.errors import InputError
from invert.models.clip import Clip
from invert.models.loading import load_clip
from invert.models.turns import Turns

PROMPTS = ("a fox", "two owls on a striped blue and white background", "", "[red]", "猫 🦊", "x " * 90)
SHAPE: dict[str, Any] = {
    "embed_dim": 8,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}
WEIGHTS = "open_clip_model.safetensors"
Question = Callable[[Clip], Tensor]


def run(count: int, seed: int) -> Part:
    """The verdict on that many sequences of questions."""
    with tempfile.TemporaryDirectory() as folder, torch.random.fork_rng(), nothing_else_collected():
        torch.manual_seed(seed)
        names = [saved(Path(folder) / name) for name in ("first", "second")]
        content = [(Path(name) / WEIGHTS).read_bytes() for name in names]
        wholes = {name: load_clip(name, "cpu") for name in (*names, "+".join(names))}
        return watch("turns", seed, cases(count, seed, wholes, names, content))


@contextmanager
def nothing_else_collected() -> Iterator[None]:
    """Whoever leaves has garbage collected: of what this process held before there is none to look for."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def saved(folder: Path) -> str:
    """A small random model in a folder as open_clip writes it."""
    folder.mkdir()
    model = CLIP(**SHAPE)
    set_model_preprocess_cfg(model, asdict(PreprocessCfg(size=32)))
    (folder / WEIGHTS).write_bytes(save(dict(model.state_dict())))
    save_config_for_hf(model, folder / "open_clip_config.json", SHAPE)
    return str(folder)


def cases(count: int, seed: int, wholes: dict[str, Clip], names: list[str], content: list[bytes]) -> Iterator[Case]:
    """A model with towers in turn lives on from case to case, until its file is changed under it."""
    files = [Path(name) / WEIGHTS for name in names]
    living: dict[str, Clip] = {}
    for i in range(count):
        rng = np.random.default_rng((seed, i))
        name = list(wholes)[rng.integers(len(wholes))]
        fault = "nothing" if rng.integers(3) else FAULTS[rng.integers(len(FAULTS))]
        if name not in living:
            for file, whole in zip(files, content, strict=True):
                restore(file, whole)
            living[name] = load_clip(name, "cpu", turns=Turns())
        yield case(rng, f"{seed}/{i} {name.count('+') + 1} {fault}", living[name], wholes[name], fault, files[0], content)
        if fault != "nothing":
            living.clear()


def restore(file: Path, content: bytes) -> None:
    """As it was before the last case."""
    with suppress(IsADirectoryError, FileNotFoundError):
        if file.read_bytes() == content:
            return
    if file.is_dir():
        file.rmdir()
    file.write_bytes(content)


def case(rng: np.random.Generator, name: str, clip: Clip, whole: Clip, fault: str, file: Path, content: list[bytes]) -> Case:
    """A model with towers in turn that is asked several questions; before one of them its file is changed."""
    questions = [question(rng) for _ in range(int(rng.integers(2, 5)))]
    spoiled = int(rng.integers(len(questions)))

    def ask() -> str | None:
        for i, one in enumerate(questions):
            if i == spoiled:
                spoil(fault, file, content, rng)
            answer, right = one(clip), one(whole)
            if answer.shape != right.shape or not torch.allclose(answer, right, atol=1e-5, rtol=1e-4):
                return f"question {i} has another answer"
        return None

    return Case(name, ask, () if fault == "nothing" else (InputError,), lambda why: why)


def question(rng: np.random.Generator) -> Question:
    """Something that the command asks of a model."""
    prompts = [PROMPTS[i] for i in rng.integers(len(PROMPTS), size=int(rng.integers(1, 4)))]
    image = Image.fromarray(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8))
    kinds: tuple[Question, ...] = (
        lambda clip: clip.encode_image([image]),
        lambda clip: clip.encode_text(prompts),
        lambda clip: gradient(clip, prompts),
        lambda clip: clip.embed(clip.tokenize(prompts)[0]).float(),
        lambda clip: clip.encode_image([image]) @ clip.encode_text(prompts).T,
    )
    return kinds[rng.integers(len(kinds))]


def gradient(clip: Clip, prompts: list[str]) -> Tensor:
    """Of the latents' sum, in the prompts' embeddings."""
    ids, eot = clip.tokenize(prompts)
    with torch.enable_grad():
        at = clip.embed(ids).detach().float().requires_grad_(True)
        return torch.autograd.grad(clip.tower.encode(at, eot).float().sum(), at)[0]


FAULTS = ("the same again", "gone", "cut", "noise", "another model's", "not finite", "other shapes", "a folder")


def spoil(fault: str, file: Path, content: list[bytes], rng: np.random.Generator) -> None:
    """Change the file of weights as the fault says: a new file under the name, as programs that save do."""
    if fault == "nothing":
        return
    tensors = load(content[0])
    changed = {
        "the same again": content[0],
        "cut": content[0][: int(rng.integers(len(content[0])))],
        "noise": rng.bytes(1000),
        "another model's": content[1],
        "not finite": save({name: torch.full_like(tensor, torch.nan) for name, tensor in tensors.items()}),
        "other shapes": save({name: tensor.flatten()[:1].clone() for name, tensor in tensors.items()}),
    }
    file.unlink()
    if fault == "a folder":
        file.mkdir()
    elif fault in changed:
        file.write_bytes(changed[fault])
