"""How often does each method write token soup (end-of-text marks, repeats, torn words), and what stops it?

The seed thread saw its prompts end in repeated end-of-text tokens. Every method's prompts are checked for
four kinds of nonsense. "nearest, whole table" is the seed's idea with nothing done against them; `nearest`
and `pez` keep to trained tokens, `gcg` also to texts that read back, `random` to whole words, and `invert`
has a rule on repeats besides.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from typing import Any

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import torch

from experiments.compare import entries
from experiments.harness.bench import Bench
from experiments.harness.measures import Judge
from experiments.harness.pictures import Picture, scene_pictures
from experiments.harness.runner import Context
from invert.budget import Budget
from invert.config import SoftConfig
from invert.history import History
from invert.inverter import Inverter
from invert.lexicon import Lexicon, Word
from invert.models.clip import Clip
from invert.picturebook.grammar import STOP_WORDS, lexicon
from invert.scorer import PromptScorer
from invert.soft import optimize
from invert.target import apply_gap_correction, image_latent
from invert.token_index import TokenIndex

PICTURES = 50
SHOWN = ("nearest", "pez", "gcg", "random", "interrogator-lite", "invert", "oracle")
SPECIAL = re.compile(r"<\|?(start|end)[^>]*>|<(start|end)_of_text>")
KINDS = ("special token", "other than letters", "repeat", "torn word")


def run(context: Context) -> dict[str, Any]:
    inverter = Inverter.load(device=context.device)
    pictures = scene_pictures(2 if context.quick else PICTURES, context.seed)
    table = whole_table(inverter.clip)
    prompts = {"nearest, whole table": [plain(inverter, table, picture, context.seed) for picture in pictures]}
    bench = Bench("compare", inverter, Judge(context.device))  # shares the rows that `compare` has measured
    for name in SHOWN:
        prompts[name] = [row["prompt"] for row in bench.records(entries([name], context.quick), pictures, 1)]
    known = set(lexicon())
    found = {
        name: {kind: sum(kind in nonsense(p, known) for p in said) / len(said) for kind in KINDS}
        for name, said in prompts.items()
    }
    draw(found, context)
    return {"pictures": len(pictures), "share_of_prompts": found, "examples": {name: said[:5] for name, said in prompts.items()}}


def whole_table(clip: Clip) -> TokenIndex:
    """Every token of the table as a word, special and untrained ones too."""
    words = tuple(Word(clip.tokenizer.text(token), (token,)) for token in range(len(clip.token_embeddings)))
    return TokenIndex(clip.token_embeddings, Lexicon(words, frozenset(), clip.tokenizer.encode))


def plain(inverter: Inverter, index: TokenIndex, picture: Picture, seed: int) -> str:
    """The seed's plain idea: free embeddings from random rows, each read as its nearest row."""
    clip = inverter.clip
    target = apply_gap_correction(clip, image_latent(clip, [picture.image]), "gap", inverter.bundle.modality_gap)
    generator = torch.Generator().manual_seed(seed)
    start = torch.randint(len(index), (1, 16), generator=generator).to(clip.device)
    scorer = PromptScorer(clip, target, Budget())
    soft = optimize(scorer, index, start, SoftConfig(parameterization="continuous", steps=160, lr=0.5), History())
    nearest = torch.cdist(soft.embeddings[0], index.embeddings).argmin(1)
    return clip.tokenizer.decode(index.token_ids[nearest].tolist()).strip()


def nonsense(prompt: str, known: set[str]) -> set[str]:
    """Which kinds of nonsense a prompt holds.

    A repeat is a word twice in a row or a content word more than twice. picturebook's captions hold
    letters and commas only, so anything else comes from tokens that it was never trained on; letters
    that are no word of its lexicon are words torn at a token's edge and glued to others.
    """
    found = set()
    if SPECIAL.search(prompt):
        found.add("special token")
    words = SPECIAL.sub(" ", prompt.lower()).replace(",", " ").split()
    if any(not word.isascii() or not word.isalpha() for word in words):
        found.add("other than letters")
    if any(word.isascii() and word.isalpha() and word not in known for word in words):
        found.add("torn word")
    often = any(count > 2 for word, count in Counter(words).items() if word not in STOP_WORDS)
    if often or any(a == b for a, b in itertools.pairwise(words)):
        found.add("repeat")
    return found


def draw(found: dict[str, dict[str, float]], context: Context) -> None:
    figure, axis = plt.subplots(figsize=(9, 4.5), layout="constrained")
    for k, kind in enumerate(KINDS):
        places = [i + 0.2 * (k - 1.5) for i in range(len(found))]
        axis.bar(places, [row[kind] for row in found.values()], 0.2, label=kind)
    axis.set_xticks(range(len(found)), list(found), rotation=30, ha="right")
    axis.set(ylabel="share of prompts", ylim=(0, 1.05))
    axis.legend()
    figure.savefig(context.path("shares.png"), dpi=110)
    plt.close(figure)
