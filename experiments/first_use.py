"""What does a picture take on a model of real size, the first time, the second, and when all its words are encoded?

ViT-L-14 with random weights, saved and loaded back as a user's checkpoint, with the English bundle; each run is the command in a
process of its own: with nothing encoded, with what that run encoded, `invert encode` until all is encoded, then with all of it,
and on each of the examples with a search of so many seconds; in float32, and in bfloat16 where the processor multiplies it.
Random weights cost what trained ones cost, and know nothing, so the prompts show what English alone makes of a picture: their
perplexity, and whether each word is one, stands beside PEZ's. In the environment FIRST_USE_MODEL names another architecture of
open_clip, FIRST_USE_SECONDS sets the seconds.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.harness.cold_command import timed_command
from experiments.harness.environment import number
from experiments.harness.held_out_language import mean_perplexity
from experiments.harness.random_clip import save_untrained
from experiments.harness.runner import FOLDER, Context
from experiments.open_world import non_words
from invert.models.precision import multiplies_bfloat16

MODEL, SECONDS = "ViT-L-14", 10.0  # architecture; of search
EXAMPLES = FOLDER.parent / "examples"


def run(context: Context) -> dict[str, Any]:
    name, seconds = (
        os.environ.get("FIRST_USE_MODEL", "ViT-B-32" if context.quick else MODEL),
        number("FIRST_USE_SECONDS", SECONDS),
    )
    pictures = sorted(EXAMPLES.glob("*.png"))[: 1 if context.quick else None]
    with tempfile.TemporaryDirectory() as folder:
        weights, cache = Path(folder) / "random.pt", Path(folder) / "cache"
        save_untrained(name, context.seed, weights)
        model = ("--model", f"{name}/{weights}", "--bundle", "english")
        briefly = (*model, "--seconds", str(seconds))
        found = {"model": name, "weights_gib": weights.stat().st_size / 2**30, "seconds": seconds}
        if context.quick:
            return {**found, "nothing_encoded": command(cache, pictures[0], *model)}
        return {
            **found,
            **{dtype: in_precision(Path(folder) / dtype, dtype, model, seconds, pictures) for dtype in dtypes()},
            "pez_briefly": of_prompts([command(cache, picture, *briefly, "--method", "pez") for picture in pictures]),
        }


def dtypes() -> list[str]:
    """float32, and bfloat16 where the processor multiplies it."""
    return ["float32", "bfloat16"] if multiplies_bfloat16() else ["float32"]


def in_precision(cache: Path, dtype: str, model: Sequence[str], seconds: float, pictures: Sequence[Path]) -> dict[str, Any]:
    """All runs in one precision, from an empty cache to one with every word and prompt."""
    own = (*model, "--dtype", dtype)
    return {
        "nothing_encoded": command(cache, pictures[0], *own),
        "once_more": command(cache, pictures[0], *own),
        "encode": command(cache, "encode", *own),
        "cache_gib": sum(file.stat().st_size for file in cache.rglob("*") if file.is_file()) / 2**30,
        "all_encoded": command(cache, pictures[0], *own),
        "all_encoded_briefly": of_prompts([command(cache, picture, *own, "--seconds", str(seconds)) for picture in pictures]),
    }


def command(cache: Path, *words: object) -> dict[str, Any]:
    """One run of `invert`: what it prints, wall seconds and peak MiB."""
    return timed_command(cache, *words)._asdict()


def of_prompts(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The runs, the longest and the largest of them, and how much their prompts are English."""
    prompts = [run["printed"] for run in runs]
    return {
        "runs": list(runs),
        "longest_seconds": max(run["seconds"] for run in runs),
        "largest_peak_mib": max(run["peak_mib"] for run in runs),
        "perplexity_of_a_character": mean_perplexity(prompts),
        "share_with_a_word_that_english_lacks": non_words(prompts),
    }
