"""What does each part of our method bring: everything in place, against one part left out or one setting changed?

Left out are the soft stage's words, the concepts, language, its reward for length, pairs of moves, the length
penalty, the beam, the last sweep, the corpus (alone and with the soft stage's words), and the search itself (then
the soft prompts are read off directly, by nearest token or with combinations). Changed are the target, the number
of soft tokens L and of restarts R.
"""

from __future__ import annotations

from typing import Any

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt

from experiments.compare import BUDGET
from experiments.harness.bench import Bench
from experiments.harness.measures import Judge
from experiments.harness.pictures import out_of_domain_pictures, scene_pictures
from experiments.harness.records import MethodEntry
from experiments.harness.runner import Context
from experiments.harness.statistics import by_picture, means, paired
from experiments.harness.tables import TITLES, markdown
from invert.inverter import Inverter
from invert.methods import METHODS, Problem, Solution
from invert.methods.invert import invert_with, language_of
from invert.methods.nearest import soft_prompts
from invert.methods.tokens import score_text
from invert.project import project
from invert.search import SearchConfig
from invert.soft import SoftConfig

SCENES, FOREIGN = 24, 12
WHOLE = "invert"
LIMIT = {"budget": BUDGET}
TARGETS, TOKENS, RESTARTS = ("empty", "gap"), (4, 8, 32), (1, 3, 12)  # beside the defaults: raw, 16 tokens, 6 restarts
MUTE = ("a picture",)  # a corpus that tells neither what captions are like nor what stands in them
WITHOUT = (
    "soft-words",
    "concepts",
    "language",
    "reward",
    "pairs",
    "penalty",
    "beam",
    "sweep",
    "search",
    "search-nor-combinations",
)
BOTH = "language-nor-soft-words"  # where there is no corpus either


def run(context: Context) -> dict[str, Any]:
    METHODS.update({f"invert-without-{part}": (__name__, f"without_{part.replace('-', '_')}") for part in (*WITHOUT, BOTH)})
    scenes, foreign = (2, 1) if context.quick else (SCENES, FOREIGN)
    pictures = scene_pictures(scenes, context.seed) + out_of_domain_pictures(foreign)
    bench = Bench(context.name, Inverter.load(device=context.device), Judge(context.device))
    table = by_picture(bench.records(variants(), pictures, 1))
    summary = means(table, context.seed)
    if context.for_the_repository:
        bench.publish()
    context.path("table.md").write_text(markdown(summary))
    draw(summary, context)
    return {"budget": BUDGET, "means": summary, "whole_minus_variant": paired(table, WHOLE, context.seed)}


def variants() -> list[MethodEntry]:
    """Our method, and every change of it by one part."""
    parts = [MethodEntry(f"without {part.replace('-', ' ')}", f"invert-without-{part}", LIMIT) for part in WITHOUT]
    mute = {**LIMIT, "corpus": MUTE}
    corpus = [
        MethodEntry("without corpus", "invert-without-language", mute),
        MethodEntry("without corpus nor soft words", f"invert-without-{BOTH}", mute),
    ]
    targets = [MethodEntry(f"target {kind}", "invert", {**LIMIT, "target": kind}) for kind in TARGETS]
    lengths = [MethodEntry(f"L = {n}", "invert", {**LIMIT, "tokens": n}) for n in TOKENS]
    restarts = [MethodEntry(f"R = {n}", "invert", {**LIMIT, "restarts": n}) for n in RESTARTS]
    return [MethodEntry(WHOLE, "invert", LIMIT), *parts, *corpus, *targets, *lengths, *restarts]


def changed(problem: Problem, use_soft: bool = True, use_concepts: bool = True, **search: Any) -> Solution:
    """`invert` with fields of SearchConfig replaced."""
    config = problem.config
    settings = {
        "max_tokens": config.max_tokens,
        "token_penalty": config.token_penalty,
        "language_weight": config.language_weight,
        **search,
    }
    soft = SoftConfig(steps=config.soft_steps)
    return invert_with(problem, soft, SearchConfig(**settings), use_concepts=use_concepts, use_soft=use_soft)


def without_soft_words(problem: Problem) -> Solution:
    return changed(problem, use_soft=False, use_concepts=False)


def without_concepts(problem: Problem) -> Solution:
    return changed(problem, use_concepts=False)


def without_language(problem: Problem) -> Solution:
    return changed(problem, language_weight=0.0)


def without_language_nor_soft_words(problem: Problem) -> Solution:
    return changed(problem, language_weight=0.0, use_soft=False, use_concepts=False)


def without_reward(problem: Problem) -> Solution:
    """A token pays what it costs the language's log p, as if no prompt were usually that long."""
    config = problem.config
    return changed(problem, token_penalty=config.token_penalty - config.language_weight * language_of(problem).per_token)


def without_pairs(problem: Problem) -> Solution:
    return changed(problem, pairs=0)


def without_penalty(problem: Problem) -> Solution:
    return changed(problem, token_penalty=0.0)


def without_beam(problem: Problem) -> Solution:
    return changed(problem, beam=1)


def without_sweep(problem: Problem) -> Solution:
    return changed(problem, swept=0)


def without_search(problem: Problem) -> Solution:
    """The best soft prompt as it projects: each embedding's nearest token or combination of tokens."""
    return projected(problem, 3)


def without_search_nor_combinations(problem: Problem) -> Solution:
    """The best soft prompt, each embedding as its one nearest token."""
    return projected(problem, 1)


def projected(problem: Problem, most: int) -> Solution:
    soft = soft_prompts(problem, SoftConfig(steps=problem.config.soft_steps))
    found = project(soft.embeddings[int(soft.scores.argmax())], problem.vocabulary, most)
    text = problem.clip.tokenizer.decode([token for projection in found for token in projection.ids]).strip()
    return Solution([(text, score_text(problem, text))], float(soft.scores.max()), found)


def draw(summary: dict[str, Any], context: Context) -> None:
    """Word F1 and judge of every variant; the dotted line is the whole method."""
    names = list(summary)[::-1]
    figure, axes = plt.subplots(1, 2, figsize=(11, 0.32 * len(names) + 1.2), sharey=True, layout="constrained")
    for axis, measure in zip(axes, ("word_f1", "judge"), strict=True):
        cells = [summary[name][measure] for name in names]
        values = [cell["mean"] for cell in cells]
        error = [[c["mean"] - c["low"] for c in cells], [c["high"] - c["mean"] for c in cells]]
        axis.errorbar(values, names, xerr=error, fmt="o", capsize=3)
        axis.axvline(summary[WHOLE][measure]["mean"], color="gray", linestyle=":")
        axis.set_xlabel(TITLES[measure])
    figure.savefig(context.path("parts.png"), dpi=110)
    plt.close(figure)
