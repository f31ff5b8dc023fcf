"""What comes of a picture on a model that brings nothing? picturebook's CLIP is taken for an unknown model.

Its lexicon, corpus, grammar and labels are withheld: a bundle is made from its weights alone. The English bundle (words,
corpus, prior, composed starts) stands beside the generic one (whole words of one token) and beside peers with the same
English words. "Not composed" starts from the English corpus's nearest prompts instead. The English tables are written for
photographs and art in general. OPEN_WORLD_PICTURES in the environment sets how many pictures of each kind are inverted.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

from experiments.ablations import register_variants
from experiments.compare import BUDGET
from experiments.harness.bench import Bench
from experiments.harness.measures import Judge
from experiments.harness.pictures import out_of_domain_pictures, scene_pictures
from experiments.harness.records import MethodEntry, RunRecord
from experiments.harness.runner import Context
from experiments.harness.statistics import by_picture, means, paired
from experiments.harness.tables import markdown
from invert.english.tables import entries, phrases
from invert.inverter import Inverter
from invert.lexicon import ENGLISH_FUNCTION_WORDS

PICTURES = 24  # of each kind
KINDS = ("held-out", "foreign")
WHOLE = "english"
LIMIT = {"budget": BUDGET}
ENTRIES = {
    "english": (
        MethodEntry("english", "invert", LIMIT),
        MethodEntry("english-without-soft-words", "invert-without-soft-words", LIMIT),
        MethodEntry("english-gcg", "gcg", {**LIMIT, "tokens": 8}),
        MethodEntry("english-retrieve", "retrieve", {}, seeded=False),
    ),
    "english-not-composed": (MethodEntry("english-not-composed", "invert", LIMIT),),
    "generic": (MethodEntry("generic", "invert", LIMIT),),
}


def run(context: Context) -> dict[str, Any]:
    register_variants()
    n = 1 if context.quick else int(os.environ.get("OPEN_WORLD_PICTURES", PICTURES))
    pictures = scene_pictures(n, context.seed) + out_of_domain_pictures(n)
    judge, found = Judge(context.device), []
    for name, methods in ENTRIES.items():
        bench = Bench(f"{context.name}-{name}", inverter_of(name, context), judge)
        found += list(bench.records(methods, pictures, 1))
        if context.for_the_repository:
            bench.publish()
    tables = {kind: by_picture(found, kind) for kind in KINDS}
    summary = {kind: means(table, context.seed) for kind, table in tables.items()}
    context.path("table.md").write_text("\n".join(f"**{kind} pictures**\n\n{markdown(summary[kind])}" for kind in KINDS))
    return {
        "means": summary,
        "differences from english": {kind: paired(table, WHOLE, context.seed) for kind, table in tables.items()},
        "share of prompts with a word that English lacks": non_words(found),
        "prompts": [{name: record[name] for name in ("method", "kind", "picture", "prompt", "word_f1")} for record in found],
    }


def inverter_of(name: str, context: Context) -> Inverter:
    """picturebook's CLIP with a bundle that knows nothing of its world."""
    bundle, _, without = name.partition("-")
    inverter = Inverter.load("picturebook", bundle=bundle, device=context.device)
    return Inverter(replace(inverter.bundle, compose=None)) if without else inverter


def non_words(records: list[RunRecord]) -> dict[str, float]:
    """Method → share of its prompts that hold a word which the English tables lack."""
    known = {word for entry in entries() for word in f"{entry.text} {entry.plural}".split()} | ENGLISH_FUNCTION_WORDS
    known |= {word for table in phrases().values() for phrase in table for word in phrase.split()}
    methods = dict.fromkeys(record["method"] for record in records)
    lacking = {name: [not known.issuperset(r["prompt"].split()) for r in records if r["method"] == name] for name in methods}
    return {name: sum(flags) / len(flags) for name, flags in lacking.items()}
