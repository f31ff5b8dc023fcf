"""Does Invert beat CLIP Interrogator, PEZ and GCG, on pictures of known truth and by a held-out judge?

Every method gets the same pictures, model and target, on 200 held-out scenes and 100 pictures of each of three kinds that
our renderer did not make: Twemoji ("foreign"), stamps, clip art. Records are kept outside the repository, so a run that is
stopped is resumed. The run is made smaller by COMPARE_PICTURES (of each kind; "100,50": held-out, then the others),
COMPARE_SEEDS, COMPARE_METHODS, COMPARE_KINDS (names with commas) and COMPARE_REAL_RUNS (of each kind, of the package itself) in
the environment. COMPARE_KEPT=1 runs nothing but shows what a stopped run has left (with PUBLISHED_RUNS=1: what the repository
holds); what is missing shows in the table's numbers of pictures.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import numpy as np

from experiments.harness.bench import Bench
from experiments.harness.compare_page import write_page
from experiments.harness.environment import chosen, count, counts, is_on
from experiments.harness.measures import Judge
from experiments.harness.pictures import OUT_OF_DOMAIN_FOLDERS, Picture, out_of_domain_pictures, scene_pictures
from experiments.harness.readme import COMPARE, headline, write_table
from experiments.harness.records import TRUTH, MethodEntry, RunRecord
from experiments.harness.runner import Context
from experiments.harness.statistics import by_picture, means, paired
from experiments.harness.tables import TITLES, markdown, token_passes
from experiments.harness.wall_time import here, measure_times
from invert.inverter import Inverter

OWN_FOLDER = True
# Token passes that every search may spend on a picture: a twentieth of the 1.4 million that CLIP
# Interrogator's best mode spends. The Interrogator itself is not limited.
BUDGET = 70_000
SCENES, OUT_OF_DOMAIN, SEEDS, QUICK_PICTURES = 200, 100, 3, 2
REAL_RUNS = 10  # of each kind for the package itself; on the others its own method is run, with the same prompts
TIMED, REAL_TIMED = 8, 1  # pictures of each timed kind whose seconds are measured, and for the package itself
KINDS = ("held-out", *OUT_OF_DOMAIN_FOLDERS)
TIMED_KINDS = ("held-out", "foreign")  # seconds do not depend on who drew a picture

# Peers are given the settings that served them best on training scenes (`peer-settings`).
ENTRIES = (
    MethodEntry("invert", "invert", {"budget": BUDGET}),
    MethodEntry("nearest", "nearest", {"budget": BUDGET}),
    MethodEntry("pez", "pez", {"budget": BUDGET, "target": "raw", "tokens": 8}),
    MethodEntry("gcg", "gcg", {"budget": BUDGET, "target": "gap", "tokens": 8}),
    MethodEntry("random", "random", {"budget": BUDGET, "target": "gap"}),
    MethodEntry("retrieve", "retrieve", {"target": "raw"}, seeded=False),
    MethodEntry("interrogator-lite", "interrogator-lite", {"target": "raw"}, seeded=False),
    MethodEntry("interrogator-fast", "interrogator-fast", {"target": "raw"}, seeded=False),
    MethodEntry("interrogator-classic", "interrogator-classic", {"target": "raw"}, seeded=False),
    MethodEntry("interrogator", "interrogator", {"target": "raw"}, seeded=False, max_pictures=REAL_RUNS),
    MethodEntry("oracle", "oracle", seeded=False),
)


def run(context: Context) -> dict[str, Any]:
    pictures, seeds, entries = extent(context)
    cached_only = is_on("COMPARE_KEPT")
    separate = not context.quick  # the few runs of `--quick` are made at once, here: their seconds can be compared as they are
    bench = Bench(context.name, Inverter.load(device=context.device), Judge(context.device), cached_only, batched=separate)
    records = list(bench.records(entries, pictures, seeds))
    tables = {kind: table for kind in KINDS if (table := by_picture(records, kind))}
    found = {kind: means(table, context.seed) for kind, table in tables.items()}
    differences = {kind: paired(table, "invert", context.seed) for kind, table in tables.items()}
    if separate:
        timed = [picture for picture in pictures if picture.kind in TIMED_KINDS]
        times = measure_times(bench, entries, timed, TIMED, REAL_TIMED, publish=context.for_the_repository)
        for kind in found:
            put_costs(found[kind], means(times.tables.get(kind, {}), context.seed))
            put_costs(differences[kind], paired(times.tables.get(kind, {}), "invert", context.seed))
    context.path("table.md").write_text("\n".join(f"**{kind} pictures**\n\n{markdown(found[kind])}" for kind in found))
    pareto(found, context)
    gains = over_optimization(records, context)
    if context.for_the_repository and "held-out" in found:
        write_table(COMPARE, headline(found))
        bench.publish()
    write_page(context.path("report.html"), found, differences, records, pictures)
    return {
        "budget": BUDGET,
        "seeds": seeds,
        "seconds_measured_on": times.machine if separate else here(context.device),
        "means": found,
        "invert_minus_other": differences,
        "same_prompt_as_the_package": agreement(records),
        "over_optimisation": gains,
    }


def put_costs(found: dict[str, Any], separate: dict[str, Any]) -> None:
    """Replace seconds and memory of `means` or `paired` by those measured separately; drop them where none were."""
    for method, cells in found.items():
        measured = separate.get(method, {})
        for measure in ("seconds", "peak_mib"):
            cells.pop(measure, None)
            if measure in measured:
                cells[measure] = {**measured[measure], "pictures": measured["pictures"]}


def extent(context: Context) -> tuple[list[Picture], int, list[MethodEntry]]:
    """What to run: pictures, seeds and methods; `--quick` and the environment make it smaller."""
    most = (SCENES, OUT_OF_DOMAIN)
    asked = (QUICK_PICTURES,) * 2 if context.quick else counts("COMPARE_PICTURES", most)
    scenes, foreign = map(min, asked, most)
    seeds = 1 if context.quick else count("COMPARE_SEEDS", SEEDS)
    methods, kinds = chosen("COMPARE_METHODS", [c.name for c in ENTRIES]), chosen("COMPARE_KINDS", KINDS)
    pictures = scene_pictures(scenes, context.seed) if "held-out" in kinds else []
    pictures += [p for kind in OUT_OF_DOMAIN_FOLDERS if kind in kinds for p in out_of_domain_pictures(foreign, kind)]
    return pictures, seeds, entries(methods, context.quick)


def entries(names: Collection[str], quick: bool) -> list[MethodEntry]:
    """The entries of these names as the comparison enters them, so that its records serve other experiments too."""
    return [smaller(c) if quick else as_asked(c) for c in ENTRIES if c.name in names]


def as_asked(entry: MethodEntry) -> MethodEntry:
    """The package itself on as many pictures as the environment says."""
    return replace(entry, max_pictures=count("COMPARE_REAL_RUNS", REAL_RUNS)) if entry.max_pictures else entry


def smaller(entry: MethodEntry) -> MethodEntry:
    """For `--quick`: half the budget, and the package itself, which takes minutes, on one picture."""
    options = {**entry.options, "budget": BUDGET // 2} if "budget" in entry.options else entry.options
    quick = replace(entry, options=options)
    return replace(quick, max_pictures=1, kinds=KINDS[:1]) if entry.max_pictures else quick


def agreement(records: list[RunRecord]) -> dict[str, int]:
    """On how many pictures our writing of CLIP Interrogator's best mode gave the package's very prompt."""
    prompts = {(run["method"], run["kind"], run["picture"]): run["prompt"] for run in records}
    both = [key[1:] for key in prompts if key[0] == "interrogator" and ("interrogator-lite", *key[1:]) in prompts]
    same = sum(prompts["interrogator", *key] == prompts["interrogator-lite", *key] for key in both)
    return {"pictures": len(both), "same": same}


def pareto(found: dict[str, Any], context: Context) -> None:
    """Quality over cost, with intervals; the truth's own quality as a line."""
    figure, axes = plt.subplots(2, len(found), figsize=(6 * len(found), 9), layout="constrained", squeeze=False)
    for column, kind in enumerate(found):
        for axis, measure in zip(axes[:, column], ("word_f1", "judge"), strict=True):
            for i, (method, row) in enumerate(found[kind].items()):
                cell = row[measure]
                if method == TRUTH:
                    axis.axhline(cell["mean"], color="gray", linestyle=":", label="the true caption")
                    continue
                passes = max(10.0, token_passes(row))
                error = [[cell["mean"] - cell["low"]], [cell["high"] - cell["mean"]]]
                axis.errorbar(passes, cell["mean"], error, fmt="osD^v<>P*X"[i % 10], color=f"C{i}", label=method, capsize=3)
            axis.set(xscale="log", xlabel="text-encoder token passes", ylabel=TITLES[measure], title=f"{kind} pictures")
    axes[0, 0].legend(fontsize=8)
    figure.savefig(context.path("pareto.png"), dpi=110)
    plt.close(figure)


def over_optimization(records: list[RunRecord], context: Context) -> dict[str, Any]:
    """Similarity under the model that was optimized against the judge's: how far a method overstates itself.

    A method that fools its model lies below the line through the true captions. Per method: the mean
    of both similarities over those of the same picture's true caption, and their correlation.
    """
    truth = {(run["kind"], run["picture"]): run for run in records if run["method"] == TRUTH}
    figure, axis = plt.subplots(figsize=(7, 6), layout="constrained")
    found = {}
    for i, method in enumerate(dict.fromkeys(run["method"] for run in records)):
        mine = [run for run in records if run["method"] == method]
        points = np.array([(run["optimised"], run["judge"]) for run in mine])
        shown = points[[run["seed"] == 0 for run in mine]]
        color, size = ("black", 4) if method == TRUTH else (f"C{i}", 9)
        axis.scatter(
            shown[:, 0], shown[:, 1], s=size, color=color, alpha=0.7, label=method, zorder=3 if method == "invert" else 2
        )
        paired_truth = [truth.get((run["kind"], run["picture"])) for run in mine]
        base = np.array([(t["optimised"], t["judge"]) if t else (np.nan, np.nan) for t in paired_truth])
        gain = np.nanmean(points - base, axis=0) if truth else [np.nan, np.nan]
        spread = points.std(0).min() if len(points) > 2 else 0.0
        found[method] = {
            "optimised_over_truth": float(gain[0]),
            "judge_over_truth": float(gain[1]),
            "correlation": float(np.corrcoef(points.T)[0, 1]) if spread else None,
        }
    axis.set(xlabel="cosine under the optimized model", ylabel="cosine under the judge", title="Who fools the model")
    axis.legend(fontsize=8)
    figure.savefig(context.path("over-optimisation.png"), dpi=110)
    plt.close(figure)
    return found
