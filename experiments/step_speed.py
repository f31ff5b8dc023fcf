"""How much faster is one optimisation step than the plain loop's?

Both pull 16 token embeddings, batch 1, onto a target through a random text tower of ViT-L-14's shape. The plain
loop is what one writes first: the model as its library loads it, all 77 positions, backward, then a second pass to
score what the step arrived at. Ours enters the frozen tower after the token table, runs the prompt and no more, and
takes the score from the same pass. A third loop is the plain one told that the weights want no gradients.
"""

from __future__ import annotations

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
from invert.models.open_clip import from_open_clip

WIDTH, HEADS, LAYERS, VOCAB, CONTEXT = 768, 12, 12, 49408, 77  # the text tower of ViT-L-14
TOKENS = 16
RATE = 0.1  # of AdamW
GOAL = 8.0  # times the plain loop's steps a second
LOOPS = ("plain", "plain-frozen", "ours")
OURS_PER_PLAIN = 4  # steps of ours between two of the others, so that background load affects all equally


@dataclass(frozen=True)
class Loop:
    """embeddings: (1, 16, D), moved by every `step()`, which returns their score."""

    embeddings: Tensor
    step: Callable[[], float]


def text_model(seed: int, device: torch.device) -> Any:
    """An open_clip CLIP with ViT-L-14's text tower and next to no image side."""
    torch.manual_seed(seed)  # open_clip takes no generator
    vision = {"image_size": 32, "layers": 1, "width": 64, "head_width": 64, "patch_size": 32}
    text = {"context_length": CONTEXT, "vocab_size": VOCAB, "width": WIDTH, "heads": HEADS, "layers": LAYERS}
    return CLIP(embed_dim=WIDTH, vision_cfg=vision, text_cfg=text, quick_gelu=True).eval().to(device)


def start_and_target(table: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """(rows (1, 16, D) of random words, that want gradients; a random unit target (E,))."""
    generator = torch.Generator().manual_seed(seed)
    words = torch.randint(VOCAB - 2, (1, TOKENS), generator=generator).to(table.device)
    target = F.normalize(torch.randn(WIDTH, generator=generator), dim=0).to(table.device)
    return table[words].clone().requires_grad_(True), target


def plain_loop(seed: int, device: torch.device, frozen: bool) -> Loop:
    """The reference: 77 positions forward and backward, and 77 again for the score."""
    model = text_model(seed, device).requires_grad_(not frozen)
    table = model.token_embedding.weight.detach()
    embeddings, target = start_and_target(table, seed)
    optimizer = torch.optim.AdamW([embeddings], lr=RATE, weight_decay=0.0)
    start, end, padding = table[None, -2:-1], table[None, -1:], table[:1].expand(1, CONTEXT - TOKENS - 2, -1)

    def score() -> Tensor:
        x = torch.cat([start, embeddings, end, padding], 1) + model.positional_embedding  # (1, 77, D)
        x = model.ln_final(model.transformer(x, attn_mask=model.attn_mask))
        return F.normalize(x[0, TOKENS + 1] @ model.text_projection, dim=0) @ target

    def step() -> float:
        model.zero_grad()
        optimizer.zero_grad()
        (-score()).backward()
        optimizer.step()
        with torch.no_grad():
            return float(score())

    return Loop(embeddings, step)


def our_loop(seed: int, device: torch.device) -> Loop:
    """18 positions forward and backward: the prompt, start- and end-of-text."""
    clip = from_open_clip("random", text_model(seed, device), open_clip.image_transform(32, is_train=False))
    embeddings, target = start_and_target(clip.token_embeddings, seed)
    optimizer = torch.optim.AdamW([embeddings], lr=RATE, weight_decay=0.0)
    start, end = (clip.token_embeddings[[token]][None] for token in (clip.start_id, clip.end_id))

    def step() -> float:
        score = clip.encode_embeddings(torch.cat([start, embeddings, end], 1))[0] @ target
        (embeddings.grad,) = torch.autograd.grad(-score, embeddings)
        optimizer.step()
        return float(score.detach())

    return Loop(embeddings, step)


def build(name: str, seed: int, device: torch.device) -> Loop:
    return our_loop(seed, device) if name == "ours" else plain_loop(seed, device, frozen=name == "plain-frozen")


def gradient_agreement(loops: dict[str, Loop]) -> float:
    """Cosine between the plain loop's first gradient and ours: the same optimisation, not a cheaper one."""
    for name in ("plain", "ours"):
        loops[name].step()
    plain, ours = (loops[name].embeddings.grad for name in ("plain", "ours"))
    assert plain is not None and ours is not None
    return float(F.cosine_similarity(plain.flatten(), ours.flatten(), dim=0))


def interleaved(loops: dict[str, Loop], rounds: int, device: torch.device) -> dict[str, list[float]]:
    """Seconds of each step, the loops taking turns."""
    seconds: dict[str, list[float]] = {name: [] for name in loops}
    for _ in range(rounds):
        for name, loop in loops.items():
            for _ in range(OURS_PER_PLAIN if name == "ours" else 1):
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


def run(context: Context) -> dict[str, Any]:
    loops = {name: build(name, context.seed, context.device) for name in LOOPS}
    agreement = gradient_agreement(loops)
    found: dict[str, Any] = {"tokens": TOKENS, "goal": GOAL, "gradient_cosine": agreement, "by_threads": {}}
    threads = torch.get_num_threads()
    for count in sorted({1, threads}):
        torch.set_num_threads(count)
        seconds = interleaved(loops, 3 if context.quick else 12, context.device)
        found["by_threads"][count] = {name: 1 / statistics.median(times[1:]) for name, times in seconds.items()}
    torch.set_num_threads(threads)
    # Each loop with the number of threads that serves it best.
    best = {name: max(speeds[name] for speeds in found["by_threads"].values()) for name in LOOPS}
    found["steps_per_second"] = best
    found["times_plain"] = best["ours"] / best["plain"]
    found["times_plain_frozen"] = best["ours"] / best["plain-frozen"]
    found["reached"] = found["times_plain"] >= GOAL
    del loops
    found["peak_memory_mib"] = {name: peak_memory(name, context.seed, context.device) for name in LOOPS}
    return found


if __name__ == "__main__":
    print_peak_memory(sys.argv[1], int(sys.argv[2]), torch.device(sys.argv[3]))
