"""How much faster is one optimization step than the plain loop's?

Both pull 16 token embeddings, batch 1, onto a target through a random text tower of ViT-L-14's shape. The plain
loop is what one writes first: the model as its library loads it, all 77 positions, backward, then a second pass to
score what the step arrived at. Ours is the soft stage's own step: it enters the frozen tower after the token table,
runs the prompt and no more, and takes the score from the same pass. A third loop is the plain one told that the
weights want no gradients. On a card our step is replayed as a graph, also with the tower in bfloat16, and three more
loops show what each is worth: ours launched kernel by kernel, the plain one in bfloat16, and the step of 8 prompts.
"""

from __future__ import annotations

import functools
import statistics
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import open_clip
import torch
import torch.nn.functional as F
from open_clip.model import CLIP
from torch import Tensor

from experiments.harness.memory import status_mib
from experiments.harness.runner import Context
from experiments.harness.timing import wall_seconds
from invert.config import SoftConfig
from invert.models.clip import Clip
from invert.models.graphs import Replay
from invert.models.open_clip import from_open_clip
from invert.soft import SoftStep

WIDTH, HEADS, LAYERS, VOCAB, CONTEXT = 768, 12, 12, 49408, 77  # the text tower of ViT-L-14
TOKENS = 16
RATE = 0.1  # of AdamW
GOALS = {"ours": 8.0, "ours-bfloat16": 15.0}  # times the plain loop's steps a second
LOOPS = ("plain", "plain-frozen", "ours")
CUDA_LOOPS = (*LOOPS, "ours-bfloat16", "ours-eager", "plain-bfloat16", "ours-8-prompts", "ours-8-prompts-bfloat16")
OURS_PER_PLAIN = 4  # steps of ours between two of the others, so that background load affects all equally
MOST_STEPS = 4096  # that one loop can make
PER_DEVICE = True  # a card's figures lie beside the CPU's


@dataclass(frozen=True)
class Loop:
    """`step()` moves the embeddings (B, 16, D) and returns their best score; `gradient()` is that of its loss in them."""

    step: Callable[[], float]
    gradient: Callable[[], Tensor]


def text_model(seed: int, device: torch.device, dtype: torch.dtype = torch.float32) -> Any:
    """An open_clip CLIP with ViT-L-14's text tower and next to no image side."""
    torch.manual_seed(seed)  # open_clip takes no generator
    vision = {"image_size": 32, "layers": 1, "width": 64, "head_width": 64, "patch_size": 32}
    text = {"context_length": CONTEXT, "vocab_size": VOCAB, "width": WIDTH, "heads": HEADS, "layers": LAYERS}
    with device:  # drawing 120 million numbers on one core takes seconds
        return CLIP(embed_dim=WIDTH, vision_cfg=vision, text_cfg=text, quick_gelu=True).eval().to(dtype)


def words_and_target(seed: int, device: torch.device, prompts: int = 1) -> tuple[Tensor, Tensor]:
    """(ids (B, 16) of random words; a random unit target (E,) float32)."""
    generator = torch.Generator().manual_seed(seed)
    words = torch.randint(VOCAB - 2, (prompts, TOKENS), generator=generator).to(device)
    return words, F.normalize(torch.randn(WIDTH, generator=generator), dim=0).to(device)


def plain_loop(seed: int, device: torch.device, frozen: bool, dtype: torch.dtype = torch.float32) -> Loop:
    """The reference: 77 positions forward and backward, and 77 again for the score."""
    model = text_model(seed, device, dtype).requires_grad_(not frozen)
    table = model.token_embedding.weight.detach()
    words, target = words_and_target(seed, device)
    embeddings, target = table[words].clone().requires_grad_(True), target.to(dtype)
    optimizer = torch.optim.AdamW([embeddings], lr=RATE, weight_decay=0.0)
    start, end, padding = table[None, -2:-1], table[None, -1:], table[:1].expand(1, CONTEXT - TOKENS - 2, -1)

    def score() -> Tensor:
        x = torch.cat([start, embeddings, end, padding], 1) + model.positional_embedding  # (1, 77, D)
        x = model.ln_final(model.transformer(x, attn_mask=model.attn_mask.to(dtype)))
        return F.normalize(x[0, TOKENS + 1] @ model.text_projection, dim=0) @ target

    def step() -> float:
        model.zero_grad()
        optimizer.zero_grad()
        (-score()).backward()
        optimizer.step()
        with torch.no_grad():
            return float(score())

    def gradient() -> Tensor:
        assert embeddings.grad is not None
        return embeddings.grad

    return Loop(step, gradient)


def our_clip(seed: int, device: torch.device, dtype: torch.dtype) -> Clip:
    return from_open_clip("random", text_model(seed, device, dtype), open_clip.image_transform(32, is_train=False))


def our_loop(seed: int, device: torch.device, dtype: torch.dtype = torch.float32, prompts: int = 1, eager: bool = False) -> Loop:
    """18 positions forward and backward: the prompt, start- and end-of-text."""
    clip = our_clip(seed, device, dtype)
    words, target = words_and_target(seed, device, prompts)
    rate = RATE / float(clip.token_embeddings.std())  # the soft stage counts in units of the table's spread
    config = SoftConfig(parameterization="continuous", steps=MOST_STEPS, lr=rate)
    soft = SoftStep(clip, target, clip.token_embeddings, words, config)
    advance = soft if eager else Replay(soft, device)
    taken = 0

    def step() -> float:
        nonlocal taken
        advance()
        taken += 1
        return float(soft.best[taken - 1])

    return Loop(step, lambda: soft.gradient)


BUILDERS: dict[str, Callable[[int, torch.device], Loop]] = {
    "plain": functools.partial(plain_loop, frozen=False),
    "plain-frozen": functools.partial(plain_loop, frozen=True),
    "plain-bfloat16": functools.partial(plain_loop, frozen=False, dtype=torch.bfloat16),
    "ours": our_loop,
    "ours-eager": functools.partial(our_loop, eager=True),
    "ours-bfloat16": functools.partial(our_loop, dtype=torch.bfloat16),
    "ours-8-prompts": functools.partial(our_loop, prompts=8),
    "ours-8-prompts-bfloat16": functools.partial(our_loop, prompts=8, dtype=torch.bfloat16),
}


def build(name: str, seed: int, device: torch.device) -> Loop:
    return BUILDERS[name](seed, device)


def gradient_agreement(loops: dict[str, Loop]) -> float:
    """Cosine between the plain loop's first gradient and ours: the same optimization, not a cheaper one."""
    for name in ("plain", "ours"):
        loops[name].step()
    plain, ours = (loops[name].gradient() for name in ("plain", "ours"))
    return float(F.cosine_similarity(plain.flatten(), ours.flatten(), dim=0))


def replay_agreement(seed: int, device: torch.device, steps: int = 20) -> float:
    """The largest difference between a replayed step's score and that of the same step launched kernel by kernel."""
    ours, eager = (build(name, seed, device) for name in ("ours", "ours-eager"))
    return max(abs(ours.step() - eager.step()) for _ in range(steps))


def interleaved(loops: dict[str, Loop], rounds: int, device: torch.device) -> dict[str, list[float]]:
    """Seconds of each step, the loops taking turns."""
    seconds: dict[str, list[float]] = {name: [] for name in loops}
    for _ in range(rounds):
        for name, loop in loops.items():
            for _ in range(OURS_PER_PLAIN if name.startswith("ours") else 1):
                seconds[name].append(wall_seconds(loop.step, device))
    return seconds


def peak_memory(name: str, seed: int, device: torch.device) -> dict[str, float]:
    """MiB at most that a process of its own took for a few steps of one loop, and before them for its imports."""
    command = [sys.executable, "-m", "experiments.step_speed", name, str(seed), str(device)]
    imports, peak = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return {"imports": float(imports), "peak": float(peak)}


def print_peak_memory(name: str, seed: int, device: torch.device) -> None:
    print(allocated_peak(device))
    loop = build(name, seed, device)
    for _ in range(3):
        loop.step()
    print(allocated_peak(device))


def allocated_peak(device: torch.device) -> float:
    """MiB that this process held at most: on the card, or resident."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return status_mib("VmHWM")


def speeds(loops: dict[str, Loop], rounds: int, device: torch.device) -> dict[str, float]:
    """Steps a second of each loop."""
    seconds = interleaved(loops, rounds, device)
    return {name: 1 / statistics.median(times[1:]) for name, times in seconds.items()}


def measure(seed: int, device: torch.device, rounds: int) -> dict[str, Any]:
    """Speeds of the loops, each with the number of threads that serves it best, and whether they compute the same."""
    names = CUDA_LOOPS if device.type == "cuda" else LOOPS
    loops = {name: build(name, seed, device) for name in names}
    found: dict[str, Any] = {"tokens": TOKENS, "goals": GOALS, "gradient_cosine": gradient_agreement(loops)}
    if device.type == "cuda":
        found["replay_error"] = replay_agreement(seed, device)
        for name in names:
            for _ in range(5):  # until every graph is captured
                loops[name].step()
        best = speeds(loops, 2 * rounds, device)
    else:
        threads = torch.get_num_threads()
        found["by_threads"] = {}
        for count in sorted({1, threads}):
            torch.set_num_threads(count)
            found["by_threads"][count] = speeds(loops, rounds, device)
        torch.set_num_threads(threads)
        best = {name: max(by[name] for by in found["by_threads"].values()) for name in names}
    found["steps_per_second"] = best
    found["times_plain"] = {name: best[name] / best["plain"] for name in names}
    found["times_plain_frozen"] = {name: best[name] / best["plain-frozen"] for name in names}
    found["reached"] = {name: found["times_plain"][name] >= goal for name, goal in GOALS.items() if name in names}
    return found


def run(context: Context) -> dict[str, Any]:
    found = measure(context.seed, context.device, 3 if context.quick else 12)
    names = found["steps_per_second"]
    found["peak_memory_mib"] = {name: peak_memory(name, context.seed, context.device) for name in names}
    return found


if __name__ == "__main__":
    print_peak_memory(sys.argv[1], int(sys.argv[2]), torch.device(sys.argv[3]))
