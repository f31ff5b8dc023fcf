"""Can the text encoder's layers be run backwards: from the state after layer k, which tokens are found again?

The seed thread asked it. The hidden states after k layers (k = 0: token rows plus positions), or only
the final latent, are the target; free embeddings are pulled onto it by gradient descent, and each is
read as its nearest row. picturebook's trained tower stands beside a randomly initialized ViT-B-32 one.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import torch
from torch import Tensor

from experiments.harness.random_clip import random_clip
from experiments.harness.runner import Context
from invert.models.clip import Clip
from invert.models.loading import load_clip
from invert.picturebook.grammar import caption
from invert.picturebook.models import trained_token_ids
from invert.picturebook.world import draw_scenes

LENGTHS = (4, 8, 16)  # tokens of a prompt
PROMPTS = 8  # inverted at once
STEPS = 200
RATE = 1.0  # of Adam, in units of the table's spread; cosine to zero


def run(context: Context) -> dict[str, Any]:
    towers = {"picturebook": load_clip(device=context.device), "ViT-B-32 (random weights)": random_clip("ViT-B-32", context)}
    lengths, steps = ((4,), 60) if context.quick else (LENGTHS, STEPS)
    found: dict[str, Any] = {}
    for name, clip in towers.items():
        found[name] = {length: by_layer(clip, length, steps, context) for length in lengths}
    draw(found, context)
    return {"prompts": PROMPTS, "steps": steps, "recovered": found}


def by_layer(clip: Clip, length: int, steps: int, context: Context) -> dict[str, Any]:
    """What is found again from the state after every layer, and from the final latent alone."""
    generator = torch.Generator().manual_seed(context.seed)
    ids = prompts(clip, length, generator)
    count = len(clip.tower.layers)
    depths = range(count + 1) if count <= 4 else (0, 1, 2, 4, 8, count)
    found = {}
    for depth in depths:
        found[f"layer {depth}"] = recovered(clip, ids, partial(clip.tower.hidden, layer=depth), steps, generator)
    found["latent"] = recovered(clip, ids, clip.tower.encode, steps, generator)
    return found


def trained_tokens(clip: Clip) -> list[int] | None:
    """The tokens that training met, where the model has a world of its own."""
    return list(trained_token_ids()) if clip.name == "picturebook" else None


def prompts(clip: Clip, length: int, generator: torch.Generator) -> Tensor:
    """(PROMPTS, length) ids: pieces of captions where the model has a world, any tokens elsewhere."""
    if trained_tokens(clip) is None:
        return torch.randint(clip.frame.before[0], (PROMPTS, length), generator=generator).to(clip.device)
    encoded = (clip.tokenizer.encode(caption(scene)) for scene in draw_scenes(40 * PROMPTS, 0))
    long_enough = [ids[:length] for ids in encoded if len(ids) >= length]
    return torch.tensor(long_enough[:PROMPTS], device=clip.device)


def recovered(
    clip: Clip, ids: Tensor, state: Callable[[Tensor], Tensor], steps: int, generator: torch.Generator
) -> dict[str, float]:
    """Pull free embeddings onto the prompts' state.

    state: framed embeddings (B, L + 2, D) → what is known of them, one row a prompt or a position.
    Returns the share of embeddings whose nearest row is the true token's, and the error that is left
    of the state, relative to its size: where both are low, other embeddings explain the state as well.
    """
    known = trained_tokens(clip)
    rows = clip.token_embeddings if known is None else clip.token_embeddings[known]
    with torch.no_grad():
        target = state(clip.add_special_embeddings(clip.embed(ids)))
    start = rows[torch.randint(len(rows), ids.shape, generator=generator).to(rows.device)]
    free = start.clone().requires_grad_(True)
    optimizer = torch.optim.Adam([free], lr=RATE * float(rows.std()))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = (state(clip.add_special_embeddings(free)) - target).square().mean() / target.square().mean()
        loss.backward()
        optimizer.step()
        schedule.step()
    nearest = torch.cdist(free.detach().flatten(0, 1), rows).argmin(1)
    true = clip.embed(ids).flatten(0, 1)
    accuracy = (rows[nearest] == true).all(1).float().mean()
    return {"accuracy": float(accuracy), "relative_error": float(loss.detach())}


def draw(found: dict[str, Any], context: Context) -> None:
    figure, axes = plt.subplots(1, len(found), figsize=(6 * len(found), 4), sharey=True, layout="constrained")
    for axis, (name, lengths) in zip(axes, found.items(), strict=True):
        for length, layers in lengths.items():
            axis.plot(list(layers), [row["accuracy"] for row in layers.values()], marker="o", label=f"{length} tokens")
        axis.set(title=name, xlabel="what is known", ylim=(-0.05, 1.05))
        axis.tick_params(axis="x", rotation=45)
        axis.legend()
    axes[0].set_ylabel("share of tokens found again")
    figure.savefig(context.path("accuracy.png"), dpi=110)
    plt.close(figure)
