"""How far do soft embeddings end from any word, how often is a combination nearer, and how many have no word?

Soft prompts of both parameterizations (the free one with large and with small steps) are optimized on
held-out scenes; every embedding's distance to its nearest token is set beside the distances that tokens
keep among themselves, and beside the best mean of two or three tokens.
"""

from __future__ import annotations

from typing import Any

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import torch
from torch import Tensor

from experiments.harness.pictures import scene_pictures
from experiments.harness.runner import Context
from invert.budget import Budget
from invert.config import SoftConfig
from invert.history import History
from invert.inverter import Inverter
from invert.models.clip import Clip
from invert.project import Projection, project
from invert.scorer import PromptScorer
from invert.soft import optimize
from invert.target import apply_gap_correction, image_latent

PICTURES, RESTARTS, TOKENS = 40, 4, 12
SOFT = {
    "free": SoftConfig(parameterization="continuous", steps=160, lr=0.5),
    "free, small steps": SoftConfig(parameterization="continuous", steps=160, lr=0.05),
    "mixture": SoftConfig(steps=60),
}
EXAMPLES = 12  # projected soft prompts written into the JSON


def run(context: Context) -> dict[str, Any]:
    inverter = Inverter.load(device=context.device)
    clip, index = inverter.clip, inverter.bundle.token_index
    pictures = scene_pictures(3 if context.quick else PICTURES, context.seed)
    own = index.nearest(index.embeddings, 2)[1][:, 1]  # (T,) to each row's nearest other row
    distances: dict[str, Tensor] = {"tokens among themselves": own}
    found: dict[str, Any] = {"no_word_beyond": index.no_word_distance, "median_between_tokens": float(own.median())}
    for kind, config in SOFT.items():
        generator = torch.Generator().manual_seed(context.seed)
        singles, words, examples = [], [], []
        for picture in pictures:
            target = apply_gap_correction(
                inverter.clip, image_latent(inverter.clip, [picture.image]), "gap", inverter.bundle.modality_gap
            )
            start = torch.randint(len(index), (RESTARTS, TOKENS), generator=generator).to(context.device)
            soft = optimize(PromptScorer(clip, target, Budget()), index, start, config, History())
            embeddings = soft.embeddings.flatten(0, 1)
            singles.append(index.nearest(embeddings, 1)[1][:, 0])
            words += project(embeddings, index)
            best = project(soft.embeddings[int(soft.scores.argmax())], index)
            examples.append({"truth": picture.truth, "words": [described(word, clip) for word in best]})
        distances[f"{kind}: to the nearest token"] = torch.cat(singles)
        distances[f"{kind}: to the token or combination"] = torch.tensor([word.distance for word in words])
        found[kind] = shares(torch.cat(singles), words, index.no_word_distance) | {"examples": examples[:EXAMPLES]}
    draw(distances, index.no_word_distance, context)
    return {"pictures": len(pictures), "restarts": RESTARTS, "tokens": TOKENS, **found}


def described(word: Projection, clip: Clip) -> str:
    return word.text(clip) if word.has_word else f"no word ({word.text(clip)} is nearest)"


def shares(single: Tensor, words: list[Projection], limit: float) -> dict[str, float]:
    """Medians of the distances, and the shares of combinations and of embeddings without a word."""
    combined = [len(word.ids) > 1 for word in words]
    return {
        "median_to_nearest_token": float(single.median()),
        "median_to_token_or_combination": float(torch.tensor([word.distance for word in words]).median()),
        "combination_is_nearer": sum(combined) / len(words),
        "no_single_word": float((single > limit).float().mean()),
        "no_word_nor_combination": sum(not word.has_word for word in words) / len(words),
    }


def draw(distances: dict[str, Tensor], limit: float, context: Context) -> None:
    figure, axis = plt.subplots(figsize=(8, 4.5), layout="constrained")
    top = max(float(values.quantile(0.99)) for values in distances.values())
    for name, values in distances.items():
        axis.hist(values.cpu().numpy(), bins=60, range=(0, top), density=True, histtype="step", label=name)
    axis.axvline(limit, color="gray", linestyle=":", label="no word beyond this")
    axis.set(xlabel="Euclidean distance in the token table", ylabel="density")
    axis.legend(fontsize=8)
    figure.savefig(context.path("distances.png"), dpi=110)
    plt.close(figure)
