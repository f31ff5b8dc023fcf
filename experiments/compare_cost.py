"""What do the methods cost on a text encoder of real size (ViT-L-14's shape, random weights)?

Only seconds, token passes and memory: prompts of random weights mean nothing and are not rated. Every
search gets the same limit of token passes; what is compared is the time that they take for it.
"""

from __future__ import annotations

from typing import Any

from experiments.harness.memory import peak_memory
from experiments.harness.pictures import scene_pictures
from experiments.harness.random_clip import random_clip
from experiments.harness.runner import Context
from invert.bundle import generic_bundle
from invert.inverter import Inverter

ARCHITECTURE, BUDGET, PICTURES = "ViT-L-14", 20_000, 1
METHODS = ("nearest", "pez", "gcg", "random", "invert")


def run(context: Context) -> dict[str, Any]:
    architecture, budget, count = ("ViT-B-32", 2_000, 1) if context.quick else (ARCHITECTURE, BUDGET, PICTURES)
    inverter = Inverter(generic_bundle(random_clip(architecture, context)))
    pictures = scene_pictures(count, context.seed)
    found = {}
    for method in METHODS:
        inverter.prepare(method=method)
        with peak_memory(context.device) as peak:
            results = [inverter.invert(p.image, method=method, budget=budget, target="raw", seed=context.seed) for p in pictures]
        passes = sum(r.forward_tokens + r.backward_tokens for r in results)
        found[method] = {
            "seconds": sum(r.seconds for r in results) / count,
            "forward_tokens": sum(r.forward_tokens for r in results) / count,
            "backward_tokens": sum(r.backward_tokens for r in results) / count,
            "milliseconds_per_1000_token_passes": 1e6 * sum(r.seconds for r in results) / passes,
            "peak_mib": peak[0],
        }
    return {"architecture": architecture, "budget": budget, "pictures": count, "cost": found}
