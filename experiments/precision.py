"""Does half precision change prompts? The same held-out pictures in float32, bfloat16 and float16.

A prompt counts as different where one word is. Beside that share stand the cosine in float32 of both prompts, so that a
difference that costs nothing can be told from one that does, and the words that are right. PUBLISHED_RUNS=1 in the
environment takes the float32 prompts that `compare` published instead of finding them again; PRECISION_DTYPES sets what is
compared with them.
"""

from __future__ import annotations

from typing import Any

from experiments.compare import BUDGET
from experiments.harness.bench import Bench
from experiments.harness.environment import chosen
from experiments.harness.measures import Judge
from experiments.harness.pictures import scene_pictures
from experiments.harness.records import MethodEntry, RunRecord
from experiments.harness.runner import Context
from invert.inverter import Inverter
from invert.models.names import DTYPES

PICTURES = 40
ENTRY = MethodEntry("invert", "invert", {"budget": BUDGET})
ALLOWED = 0.05  # share of the prompts that may differ
EXACT = "float32"


def run(context: Context) -> dict[str, Any]:
    pictures = scene_pictures(2 if context.quick else PICTURES, context.seed)
    judge = Judge(context.device)
    found: dict[str, list[RunRecord]] = {}
    for dtype in (EXACT, *chosen("PRECISION_DTYPES", DTYPES[1:])):
        # What float32 finds is what `compare` finds.
        name = "compare" if dtype == EXACT else f"{context.name}-{dtype}"
        bench = Bench(name, Inverter.load("picturebook", device=context.device, dtype=dtype), judge)
        found[dtype] = list(bench.records((ENTRY,), pictures, 1))
        if context.for_the_repository and dtype != EXACT:
            bench.publish()
    halves = {dtype: compared(found[EXACT], records) for dtype, records in found.items() if dtype != EXACT}
    failed = any(half["differ"] > ALLOWED for half in halves.values())
    return {"pictures": len(pictures), "compared with float32": halves, "failed": failed}


def compared(exact: list[RunRecord], records: list[RunRecord]) -> dict[str, Any]:
    """What differs between two precisions, picture by picture."""
    pairs = list(zip(exact, records, strict=True))
    different = [(a, b) for a, b in pairs if a["prompt"] != b["prompt"]]
    return {
        "differ": len(different) / len(pairs),
        "word_f1": {"float32": mean(exact, "word_f1"), "here": mean(records, "word_f1")},
        "judge": {"float32": mean(exact, "judge"), "here": mean(records, "judge")},
        "different prompts": [{"picture": a["picture"], "float32": a["prompt"], "here": b["prompt"]} for a, b in different],
    }


def mean(records: list[RunRecord], measure: str) -> float:
    return sum(record[measure] for record in records) / len(records)
