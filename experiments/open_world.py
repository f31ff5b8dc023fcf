"""What comes of a picture on a model that brings nothing? picturebook's CLIP is taken for an unknown model.

Its lexicon, corpus, grammar and labels are withheld: a bundle is made from its weights alone. The English bundle (words,
corpus, prior, composed starts) stands beside itself without each part, beside the generic one (whole words of one token),
and beside peers with the same English words and corpus. The English tables are written for photographs and art in
general. Rows are kept as they are found, so a run that is stopped goes on. In the environment OPEN_WORLD_PICTURES sets how many
pictures of each kind are inverted ("100,50": held-out, then the others), OPEN_WORLD_SEEDS how often; OPEN_WORLD_METHODS and
OPEN_WORLD_KINDS (names with commas) choose methods and kinds. Our method without one of its parts runs on the first 30 of each.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from experiments.ablations import register_variants
from experiments.compare import BUDGET
from experiments.harness.bench import Bench
from experiments.harness.english_variants import CHANGES
from experiments.harness.environment import chosen, count, counts
from experiments.harness.held_out_language import mean_perplexity
from experiments.harness.measures import Judge
from experiments.harness.pictures import OUT_OF_DOMAIN_FOLDERS, Picture, out_of_domain_pictures, scene_pictures
from experiments.harness.readme import OPEN_WORLD, open_world, write_table
from experiments.harness.records import MethodEntry
from experiments.harness.runner import Context
from experiments.harness.statistics import by_picture, means, paired
from experiments.harness.tables import markdown
from invert.config import SearchConfig, SoftConfig
from invert.english.tables import entries, phrases
from invert.errors import InputError
from invert.inverter import Inverter
from invert.lexicon import ENGLISH_FUNCTION_WORDS
from invert.picturebook.grammar import caption
from invert.picturebook.world import draw_scenes

PICTURES, SEEDS = (100, 100), 3  # held-out, and of each of the other kinds
PARTS = 30  # pictures of each kind that our method runs on without one of its parts
OTHERS = "all that others drew"  # the three foreign kinds together
NON_WORDS, PERPLEXITY = "share of prompts with a word that English lacks", "perplexity of a character"
KINDS = ("held-out", *OUT_OF_DOMAIN_FOLDERS)
WHOLE, PEERS = "english", ("pez", "gcg", "retrieve", "splice", "interrogator-lite", "interrogator-lite-own-lists")
LIMIT = {"budget": BUDGET}
FIXED = {"language_weight": SearchConfig.language_weight, "token_penalty": SearchConfig.token_penalty}  # not by the spread
CAPTIONS = 2000  # of picturebook, whose frames are looked for in the corpus
ENTRIES = {  # bundle → the methods that run on it; an ablation's name says what is missing
    "english": (
        MethodEntry("english", "invert", LIMIT),
        *(
            MethodEntry(f"english-{name}", method, {**LIMIT, **options}, max_pictures=PARTS)
            for name, method, options in (
                ("with-soft-words", "invert", {"soft_steps": SoftConfig.steps}),
                ("with-fixed-weights", "invert", FIXED),
                ("without-prior", "invert-without-language", {}),
                ("with-sparse-start", "invert-with-sparse-start", {}),
            )
        ),
        MethodEntry("pez", "pez", {**LIMIT, "tokens": 16}),
        MethodEntry("gcg", "gcg", {**LIMIT, "tokens": 8}),
        MethodEntry("retrieve", "retrieve", {}, seeded=False),
        MethodEntry("splice", "splice", {}, seeded=False),
        MethodEntry("interrogator-lite", "interrogator-lite", {}, seeded=False),
    ),
    "english-own-lists": (MethodEntry("interrogator-lite-own-lists", "interrogator-lite", {}, seeded=False),),
    **{
        f"english-{name}": (MethodEntry(f"english-{name}", "invert", LIMIT, max_pictures=PARTS),)
        for name in ("not-composed", "without-corpus", "without-phrases", "without-frequencies", "without-background")
    },
    "generic": (MethodEntry("generic", "invert", LIMIT, max_pictures=PARTS),),
}
SLOW = {"interrogator-lite"}  # encodes the package's 100,000 phrases first: not in `--quick`


def run(context: Context) -> dict[str, Any]:
    register_variants()
    pictures, seeds, wanted = extent(context)
    judge, found = Judge(context.device), []
    for name, methods in ENTRIES.items():
        chosen = [smaller(entry) if context.quick else entry for entry in methods if entry.name in wanted]
        if not chosen:
            continue
        bench = Bench(f"{context.name}-{name}", inverter_of(name, context), judge)
        found += list(bench.records(chosen, pictures, seeds))
        if context.for_the_repository:
            bench.publish()
    tables = {kind: table for kind in KINDS if (table := by_picture(found, kind))}
    together = {OTHERS: by_picture([record for record in found if record["kind"] in OUT_OF_DOMAIN_FOLDERS])}
    summary = {kind: means(table, context.seed) for kind, table in tables.items()}
    context.path("table.md").write_text("\n".join(f"**{kind} pictures**\n\n{markdown(summary[kind])}" for kind in summary))
    prompts = {name: [r["prompt"] for r in found if r["method"] == name] for name in dict.fromkeys(r["method"] for r in found)}
    told = {
        NON_WORDS: {name: non_words(texts) for name, texts in prompts.items()},
        PERPLEXITY: {name: mean_perplexity(texts) for name, texts in prompts.items()},
    }
    if context.for_the_repository and set(KINDS) <= set(tables):
        write_table(OPEN_WORLD, open_world_table(summary, told[NON_WORDS], told[PERPLEXITY]))
    return {
        "means": summary,
        "differences from english": {kind: paired(table, WHOLE, context.seed) for kind, table in (tables | together).items()},
        **told,
        "share of the captions' frames that the corpus holds": frames_held(inverter_of("english", context), context.seed),
        "prompts": [{name: record[name] for name in ("method", "kind", "picture", "prompt", "word_f1")} for record in found],
    }


def open_world_table(summary: dict[str, Any], non_words: dict[str, float], perplexity: dict[str, float]) -> str:
    """The README's table: our method and its peers, without what is left when a part is missing."""
    shown = (WHOLE, *PEERS)
    means_shown = {kind: {name: rows[name] for name in shown if name in rows} for kind, rows in summary.items()}
    return open_world(means_shown, non_words, perplexity)


def extent(context: Context) -> tuple[list[Picture], int, set[str]]:
    """What to run: pictures, seeds and the names of methods; `--quick` and the environment make it smaller."""
    scenes, others = (1, 1) if context.quick else counts("OPEN_WORLD_PICTURES", PICTURES)
    seeds = 1 if context.quick else count("OPEN_WORLD_SEEDS", SEEDS)
    known = {entry.name for methods in ENTRIES.values() for entry in methods}
    wanted = set(chosen("OPEN_WORLD_METHODS", sorted(known), sorted(known - SLOW if context.quick else known)))
    if WHOLE not in wanted:
        raise InputError(f"OPEN_WORLD_METHODS: add {WHOLE!r}, which the others are compared with")
    kinds = chosen("OPEN_WORLD_KINDS", KINDS)
    foreign = [picture for kind in OUT_OF_DOMAIN_FOLDERS if kind in kinds for picture in out_of_domain_pictures(others, kind)]
    return (scene_pictures(scenes, context.seed) if "held-out" in kinds else []) + foreign, seeds, wanted


def smaller(entry: MethodEntry) -> MethodEntry:
    """For `--quick`: half the budget; less goes to the soft stage alone."""
    options = {**entry.options, "budget": BUDGET // 2} if "budget" in entry.options else entry.options
    return MethodEntry(entry.name, entry.method, options, entry.seeded)


def inverter_of(name: str, context: Context) -> Inverter:
    """picturebook's CLIP with a bundle that knows nothing of its world."""
    bundle, _, change = name.partition("-")
    inverter = Inverter.load("picturebook", bundle=bundle, device=context.device)
    return Inverter(CHANGES[change](inverter.bundle)) if change else inverter


def non_words(prompts: list[str]) -> float:
    """Share of the prompts that hold a word which the English tables lack."""
    known = {word for entry in entries() for word in f"{entry.text} {entry.plural}".split()} | ENGLISH_FUNCTION_WORDS
    known |= {word for table in phrases().values() for phrase in table for word in phrase.split()}
    return sum(not known.issuperset(prompt.replace(",", " ").split()) for prompt in prompts) / len(prompts)


def frames_held(inverter: Inverter, seed: int) -> dict[str, float]:
    """How far the corpus knows picturebook's sentences: by the words that join, of captions and of distinct frames."""
    lexicon = inverter.bundle.lexicon
    held = {lexicon.template(lexicon.segment(text)) for text in inverter.bundle.corpus.prompts}
    frames = Counter(lexicon.template(lexicon.segment(caption(scene))) for scene in draw_scenes(CAPTIONS, seed, "held-out"))
    known = {frame: n for frame, n in frames.items() if frame in held}
    return {"of captions": sum(known.values()) / frames.total(), "of distinct frames": len(known) / len(frames)}
