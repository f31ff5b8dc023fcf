"""Do odd and damaged inputs of every kind end in a right answer or one clear sentence?

1,000 pictures, 300 command lines and 200 of sub-commands, 200 states of the cache and 200 of encoded chunks, 60 sequences of
questions to a model whose towers take turns in memory, 60 addresses on this machine's own servers, and 800 inputs of estimators
beside scikit-learn's answer. Counted: tracebacks, messages that are no one sentence, silently wrong answers, programs started,
inputs that take too much memory or time. The experiment fails where anything is found.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

from experiments.harness.fuzzing.verdicts import Part
from experiments.harness.runner import Context

COUNTS = {
    "pictures": 1000, "commands": 300, "subcommands": 200, "caches": 200, "chunks": 200, "turns": 60, "addresses": 60,
    "clusterings": 800,
}  # fmt: skip
QUICK = 20  # inputs of each part


def run(context: Context) -> dict[str, Any]:
    parts = [run_part(name, QUICK if context.quick else count, context.seed) for name, count in COUNTS.items()]
    for part in parts:
        for finding in part.findings:
            print(f"{part.name}: {finding.kind} | {finding.case} | {finding.what}", file=sys.stderr)
    return {"parts": {part.name: part.to_json() for part in parts}, "failed": any(part.findings for part in parts)}


def run_part(name: str, count: int, seed: int) -> Part:
    """Try that many inputs of one part."""
    print(f"{name}: {count} inputs, seed {seed}", file=sys.stderr, flush=True)
    found: Part = importlib.import_module(f"experiments.harness.fuzzing.{name}").run(count, seed)
    return found
