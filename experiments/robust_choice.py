"""Does a choice by the mean cosine over several frames find better prompts than the search's own objective?

A prompt that says what is there should score well in other company too, and word salad should not. On picturebook's CLIP
taken for an unknown model (the English bundle), the distinct best prompts of one search are scored anew: behind other
beginnings, with their clauses in another order, with each word left out. The search's objective chooses once more with such
a mean in the cosine's place. Every choice is among the same prompts, so that nothing but the choice differs. The scenes
are those that the bundle was tuned on (seed 11): this decides what is built, and reports no quality. In the environment
ROBUST_CHOICE_SCENES sets how many scenes are inverted.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments.compare import BUDGET
from experiments.harness.environment import count
from experiments.harness.measures import Judge, objects_right, word_f1
from experiments.harness.pictures import scene_pictures
from experiments.harness.runner import Context
from experiments.harness.statistics import estimate
from invert.bundle import ModelBundle
from invert.inverter import Inverter
from invert.lexicon import token_count
from invert.models.clip import Clip
from invert.search import SearchConfig
from invert.target import image_latent

SCENES, TUNING_SEED = 12, 11
OWN = "the search's own"  # choice
CANDIDATES = (4, 16)  # distinct best prompts that are chosen among
BEGINNINGS = ("a picture of", "a photo of", "an image of", "a drawing of")
CLAUSE = re.compile(r"\s+(?=(?:on|and|with|in|at|next to|beside|above|below|under|behind|near|inside|to the) )|,\s*")


def run(context: Context) -> dict[str, Any]:
    n = 1 if context.quick else count("ROBUST_CHOICE_SCENES", SCENES)
    inverter, judge = Inverter.load("picturebook", bundle="english", device=context.device), Judge(context.device)
    rows: list[dict[str, Any]] = []
    for picture in scene_pictures(n, TUNING_SEED):
        budget = BUDGET // 10 if context.quick else BUDGET
        result = inverter.invert(picture.image, budget=budget, top=max(CANDIDATES), seed=context.seed)
        prompts = [prompt for prompt, _ in result.alternatives]
        target = image_latent(inverter.clip, [picture.image])
        beside = objectives_beside_the_cosine(inverter.bundle, prompts)
        worth = {name: beside + means for name, means in robust_cosines(inverter.clip, prompts, target).items()}
        similar = judge.similarity(prompts, [picture.image] * len(prompts)).tolist()
        rated = [
            {"word_f1": word_f1(p, picture.scene), "objects": float(objects_right(p, picture.scene)), "judge": similar[i]}
            for i, p in enumerate(prompts)
        ]
        chosen = {f"{name}, of {k}": int(np.argmax(scores[:k])) for name, scores in worth.items() for k in CANDIDATES}
        chosen = {OWN: 0, **chosen}
        rows.append({"picture": picture.name, "prompts": prompts, "rated": rated, "chosen": chosen})
        print(picture.name, *sorted({prompts[i] for i in chosen.values()}), sep="\n   ", flush=True)
    return {"scenes": n, "scene seed": TUNING_SEED, "choices": compared(rows, context.seed), "rows": rows}


def compared(rows: Sequence[dict[str, Any]], seed: int) -> dict[str, Any]:
    """Choice → measure → its mean, and its difference from the search's own choice, with intervals over pictures."""
    found: dict[str, Any] = {}
    for name in rows[0]["chosen"]:
        of = {m: np.array([row["rated"][row["chosen"][name]][m] for row in rows]) for m in rows[0]["rated"][0]}
        own = {m: np.array([row["rated"][0][m] for row in rows]) for m in of}
        found[name] = {
            "changed": sum(row["chosen"][name] != 0 for row in rows),
            **{m: {**estimate(values, seed), "difference": estimate(values - own[m], seed)} for m, values in of.items()},
        }
    return found


def objectives_beside_the_cosine(bundle: ModelBundle, prompts: Sequence[str]) -> np.ndarray:
    """(N,): what language earns each prompt, and length costs it."""
    words = [bundle.lexicon.segment(prompt) for prompt in prompts]
    tokens = [token_count(prompt) for prompt in words]
    language = [bundle.prior.log_prob(p) - bundle.prior.per_token * n for p, n in zip(words, tokens, strict=True)]
    return SearchConfig.language_weight * np.array(language) - SearchConfig.token_penalty * np.array(tokens)


def robust_cosines(clip: Clip, prompts: Sequence[str], target: Any) -> dict[str, np.ndarray]:
    """Kind of company → (N,) mean cosine of each prompt in it, itself among them."""
    kinds = {
        "beginnings": [[prompt, *(f"{begin} {prompt}" for begin in BEGINNINGS)] for prompt in prompts],
        "clauses in another order": [reordered(prompt) for prompt in prompts],
        "words left out": [shortened(prompt) for prompt in prompts],
    }
    kinds["all of them"] = [list(dict.fromkeys(itertools.chain(*parts))) for parts in zip(*kinds.values(), strict=True)]
    return {name: np.array([mean_cosine(clip, texts, target) for texts in variants]) for name, variants in kinds.items()}


def mean_cosine(clip: Clip, texts: Sequence[str], target: Any) -> float:
    return float((clip.encode_text(texts) @ target).mean())


def reordered(prompt: str) -> list[str]:
    """Every rotation of the prompt's clauses."""
    clauses = [clause for clause in CLAUSE.split(prompt) if clause]
    return [" ".join([*clauses[i:], *clauses[:i]]) for i in range(len(clauses))]


def shortened(prompt: str) -> list[str]:
    """The prompt, and the prompt without each of its words."""
    words = prompt.split()
    return [prompt, *(" ".join([*words[:i], *words[i + 1 :]]) for i in range(len(words)) if len(words) > 1)]
