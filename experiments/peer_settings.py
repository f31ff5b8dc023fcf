"""Which target and which prompt length serve each peer best, on scenes of the training split?

`compare` gives every peer the winner, so that nobody loses by a setting that suits us.
"""

from __future__ import annotations

from typing import Any

from experiments.compare import BUDGET
from experiments.harness.bench import Bench
from experiments.harness.measures import Judge
from experiments.harness.pictures import scene_pictures
from experiments.harness.records import MethodEntry
from experiments.harness.runner import Context
from experiments.harness.statistics import by_picture, means
from experiments.harness.tables import markdown
from invert.inverter import Inverter

SCENES, TARGETS, LENGTHS = 10, ("raw", "gap"), (8, 16)


def run(context: Context) -> dict[str, Any]:
    pictures = scene_pictures(2 if context.quick else SCENES, context.seed, "train")
    bench = Bench(context.name, Inverter.load(device=context.device), Judge(context.device))
    records = list(bench.records(settings(context.quick), pictures, 1))
    summary = means(by_picture(records), context.seed)
    context.path("table.md").write_text(markdown(summary))
    return {"means": summary, "best": {peer: best(summary, peer) for peer in dict.fromkeys(n.split()[0] for n in summary)}}


def settings(quick: bool) -> list[MethodEntry]:
    """Every peer with every target, those of fixed length with every length."""
    budget = {"budget": BUDGET // 4 if quick else BUDGET}
    tried = []
    for target in TARGETS:
        for peer in ("pez", "gcg"):
            for tokens in LENGTHS:
                options = {"target": target, "tokens": tokens, **budget}
                tried.append(MethodEntry(f"{peer} {target} {tokens}", peer, options))
        tried.append(MethodEntry(f"random {target}", "random", {"target": target, **budget}))
        for peer in ("retrieve", "interrogator-lite-fast", "interrogator-lite-classic", "interrogator-lite"):
            if not (quick and peer == "interrogator-lite"):
                tried.append(MethodEntry(f"{peer} {target}", peer, {"target": target}, seeded=False))
    return tried


def best(summary: dict[str, Any], peer: str) -> str:
    """The peer's setting of highest word F1."""
    return max((name for name in summary if name.split()[0] == peer), key=lambda name: summary[name]["word_f1"]["mean"])
