"""What does each part of our method bring: everything in place, against one part left out or one setting changed?

Left out are the soft stage's words, the concepts, language, its reward for length, pairs of moves, the length
penalty, the beam, the last sweep, zero-shot classification, the corpus (alone and with the soft stage's words), and the
search itself (then the soft prompts are read off directly, by nearest token or with combinations). Changed are the
target, the number of soft tokens L and of restarts R.
"""

from __future__ import annotations

from dataclasses import replace
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
from invert.methods import Method, get_method, register
from invert.methods.configs import InvertMethodConfig
from invert.methods.invert import invert, objective_weights, search_config, searched, soft_stage, soft_words
from invert.methods.task import InversionOutput, InversionTask
from invert.project import project

SCENES, OUT_OF_DOMAIN = 24, 12
WHOLE = "invert"
LIMIT = {"budget": BUDGET}
TARGETS, TOKENS, RESTARTS = ("empty", "gap"), (4, 8, 32), (1, 3, 12)  # beside the defaults: raw, 16 tokens, 6 restarts
N_SPARSE = 16  # words of the sparse start
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
    "classes",
    "search",
    "search-nor-combinations",
)
BOTH = "language-nor-soft-words"  # where there is no corpus either


def run(context: Context) -> dict[str, Any]:
    register_variants()
    n_scenes, n_out_of_domain = (2, 1) if context.quick else (SCENES, OUT_OF_DOMAIN)
    pictures = scene_pictures(n_scenes, context.seed) + out_of_domain_pictures(n_out_of_domain)
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


def register_variants() -> None:
    """Enter every variant as a method of its own, measured anew with what it varies."""
    revision = get_method(WHOLE).revision
    for part in (*WITHOUT, BOTH):
        run_variant = globals()[f"without_{part.replace('-', '_')}"]
        register(Method(f"invert-without-{part}", revision, InvertMethodConfig, run_variant, options=frozenset({"corpus"})))
    register(Method("invert-with-sparse-start", revision, InvertMethodConfig, with_sparse_start))


def changed(
    task: InversionTask, config: InvertMethodConfig, use_soft: bool = True, use_concepts: bool = True, **search: Any
) -> InversionOutput:
    """`invert` with fields of SearchConfig replaced, or with words of the soft stage left out."""
    stage = soft_stage(task, config)
    words = []
    if stage is not None:
        words = soft_words(stage.soft if use_soft else None, stage.concepts if use_concepts else [], task.bundle.token_index)
    return searched(task, config, stage, words, replace(search_config(task, config), **search))


def with_sparse_start(task: InversionTask, config: InvertMethodConfig) -> InversionOutput:
    """With the words of a sparse combination (SpLiCE) tried first."""
    return invert(task, replace(config, n_sparse=N_SPARSE))


def without_soft_words(task: InversionTask, config: InvertMethodConfig) -> InversionOutput:
    return changed(task, config, use_soft=False, use_concepts=False)


def without_concepts(task: InversionTask, config: InvertMethodConfig) -> InversionOutput:
    return changed(task, config, use_concepts=False)


def without_language(task: InversionTask, config: InvertMethodConfig) -> InversionOutput:
    return changed(task, config, language_weight=0.0)


def without_language_nor_soft_words(task: InversionTask, config: InvertMethodConfig) -> InversionOutput:
    return changed(task, config, language_weight=0.0, use_soft=False, use_concepts=False)


def without_reward(task: InversionTask, config: InvertMethodConfig) -> InversionOutput:
    """A token pays what it costs the prior's log p, as if no prompt were usually that long."""
    penalty, weight = objective_weights(task)
    return changed(task, config, token_penalty=penalty - weight * task.bundle.prior.per_token)


def without_pairs(task: InversionTask, config: InvertMethodConfig) -> InversionOutput:
    return changed(task, config, pairs=0)


def without_penalty(task: InversionTask, config: InvertMethodConfig) -> InversionOutput:
    return changed(task, replace(config, token_penalty_slope=0.0), token_penalty=0.0)


def without_beam(task: InversionTask, config: InvertMethodConfig) -> InversionOutput:
    return changed(task, config, beam=1)


def without_sweep(task: InversionTask, config: InvertMethodConfig) -> InversionOutput:
    """Without the last round, which refines the best prompt of each template."""
    return changed(task, config, n_refined=0)


def without_classes(task: InversionTask, config: InvertMethodConfig) -> InversionOutput:
    """The cosine of whole prompts alone, and what a token must earn the same on every picture."""
    return invert(task, replace(config, n_classes=0, class_weight=0.0, token_penalty_slope=0.0))


def without_search(task: InversionTask, config: InvertMethodConfig) -> InversionOutput:
    """The best soft prompt as it projects: each embedding's nearest token or combination of tokens."""
    return projected(task, config, 3)


def without_search_nor_combinations(task: InversionTask, config: InvertMethodConfig) -> InversionOutput:
    """The best soft prompt, each embedding as its one nearest token."""
    return projected(task, config, 1)


def projected(task: InversionTask, config: InvertMethodConfig, most: int) -> InversionOutput:
    stage = soft_stage(task, config)
    assert stage is not None  # the bundle has one
    soft = stage.soft
    found = project(soft.embeddings[int(soft.scores.argmax())], task.bundle.token_index, most)
    text = task.decode(token for projection in found for token in projection.ids)
    return InversionOutput([(text, task.scorer().score_text(text))], float(soft.scores.max()), found)


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
