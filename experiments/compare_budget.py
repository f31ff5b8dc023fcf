"""How does each method's quality grow with its budget: a tenth, half, once, and ten times that of `compare`?

On scenes of known truth; CLIP Interrogator enters with our writing of its best mode, which stops where
the budget ends and is complete at some 80,000 token passes.
"""

from __future__ import annotations

from typing import Any

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt

from experiments.compare import BUDGET, ENTRIES
from experiments.harness.bench import Bench
from experiments.harness.measures import Judge
from experiments.harness.pictures import scene_pictures
from experiments.harness.records import MethodEntry
from experiments.harness.runner import Context
from experiments.harness.statistics import by_picture, means
from experiments.harness.tables import TITLES, markdown, token_passes
from invert.inverter import Inverter

PICTURES, FACTORS = 12, (0.1, 0.5, 1.0, 10.0)
NAMES = ("invert", "nearest", "pez", "gcg", "random", "interrogator-lite")


def run(context: Context) -> dict[str, Any]:
    bench = Bench(context.name, Inverter.load(device=context.device), Judge(context.device), batched=True)
    pictures = scene_pictures(2 if context.quick else PICTURES, context.seed)
    factors = FACTORS[:-1] if context.quick else FACTORS
    entries = [with_budget(entry, factor) for entry in ENTRIES if entry.name in NAMES for factor in factors]
    summary = means(by_picture(bench.records(entries, pictures, 1)), context.seed)
    if context.for_the_repository:
        bench.publish()
    context.path("table.md").write_text(markdown(summary))
    draw(summary, factors, context)
    return {"budget": BUDGET, "factors": factors, "means": summary}


def with_budget(entry: MethodEntry, factor: float) -> MethodEntry:
    return MethodEntry(label(entry.name, factor), entry.method, {**entry.options, "budget": round(BUDGET * factor)}, entry.seeded)


def label(name: str, factor: float) -> str:
    return f"{name} × {factor:g}"


def draw(summary: dict[str, Any], factors: tuple[float, ...], context: Context) -> None:
    """Against what was really spent: a method may stop before its budget ends."""
    figure, axes = plt.subplots(1, 2, figsize=(12, 4.5), layout="constrained")
    for axis, measure in zip(axes, ("word_f1", "judge"), strict=True):
        for i, name in enumerate(NAMES):
            cells = [summary[label(name, factor)] for factor in factors]
            spent = [token_passes(cell) for cell in cells]
            quality = [cell[measure]["mean"] for cell in cells]
            error = [
                [c[measure]["mean"] - c[measure]["low"] for c in cells],
                [c[measure]["high"] - c[measure]["mean"] for c in cells],
            ]
            axis.errorbar(spent, quality, error, color=f"C{i}", marker="o", capsize=3, label=name)
        axis.set(xscale="log", xlabel="text-encoder token passes", ylabel=TITLES[measure])
    axes[0].legend(fontsize=8)
    figure.savefig(context.path("quality.png"), dpi=110)
    plt.close(figure)
