"""Which soft prompt draws the picture again, and why do most of them draw noise?

Soft prompts of every kind (`experiments/harness/soft_variants.py`), of held-out scenes, are drawn by the bundled
generator and compared with the picture by the judge, which none of them looked at. Beside them stand the hard prompt,
the true caption and the nearest caption of the corpus. The kinds that matter are drawn for all scenes, everything that was
tried for fewer. SOFT_DRAW_SCENES="50,20,6" in the environment sets how many; scenes that are done are kept in the cache.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import cache
from typing import Any, cast

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import torch
from torch import Tensor
from torchvision.transforms.functional import to_tensor
from torchvision.utils import save_image

from experiments.compare import BUDGET
from experiments.harness.bench import Bench
from experiments.harness.hidden_states import HiddenStates
from experiments.harness.measures import Judge
from experiments.harness.pictures import scene_pictures
from experiments.harness.records import MethodEntry, RunRecord
from experiments.harness.runner import Context
from experiments.harness.soft_variants import (
    AS_TODAY,
    HARD,
    MAIN,
    OF_STATES,
    ON_CLIP,
    POLISHED,
    TRIED,
    TRUTH,
    VARIANTS,
    Lab,
    Subject,
)
from experiments.harness.statistics import by_picture, means, paired
from invert.cache import cache_folder
from invert.diffusion.generator import Conditioning, Generator
from invert.diffusion.roundtrip import regenerate
from invert.inverter import Inverter
from invert.picturebook.grammar import caption
from invert.picturebook.world import draw_scenes

REVISION = 1  # raised when a variant finds other embeddings
SCENES, QUICK_SCENES, SEEDS = (50, 20, 6), (2, 2, 1), 4  # of what matters, of soft prompts as today, of what was tried
CAPTIONS = 256  # whose hidden states are the captions' distribution
MEASURES = ("judge", "pixels", "colours", "cpu_seconds")
SHOWN = (TRUTH, HARD, "retrieved caption", "soft, free", "soft, mixture", "soft, mixture rounded", ON_CLIP, POLISHED)


def run(context: Context) -> dict[str, Any]:
    """Means with intervals, paired differences to the hard prompt, distances of hidden states; a sheet and a plot."""
    wanted = os.environ.get("SOFT_DRAW_SCENES", "")
    numbers = QUICK_SCENES if context.quick else tuple(map(int, wanted.split(","))) if wanted else SCENES
    groups = (MAIN, AS_TODAY, {**TRIED, **OF_STATES})
    records = [
        record
        for n, group in zip(numbers, groups, strict=True)
        for subject in subjects(n, context)
        for record in rated(subject, group, context)
    ]
    table = by_picture(records, measures=MEASURES)
    layers = {name: layer_means(records, name) for name in VARIANTS if layer_means(records, name)}
    draw_layers(layers, context)
    draw_sheet(context, min(numbers[:2]))
    found = {
        "seeds": SEEDS,
        "config": asdict(lab_of(context).config),
        "means": means(table, context.seed, MEASURES),
        f"difference to {HARD}": {
            name: paired({name: table[name], HARD: table[HARD]}, name, context.seed, ("judge",))[HARD]["judge"]
            for name in table
            if name != HARD
        },
        "hidden states": layers,
        "judge of each picture": {name: {p: row["judge"] for p, row in rows.items()} for name, rows in table.items()},
    }
    context.path("table.md").write_text(markdown(found))
    return found


@cache
def lab_of(context: Context) -> Lab:
    """The models, loaded once."""
    inverter = Inverter.load(device=context.device)
    captions = [caption(scene) for scene in draw_scenes(CAPTIONS, context.seed + 1)]
    generator = Generator.load("picturebook", context.device)
    return Lab(inverter, generator, HiddenStates(inverter.clip, captions), context.seed)


def subjects(n: int, context: Context) -> Iterator[Subject]:
    """Held-out scenes with the prompts that `compare` has measured."""
    lab = lab_of(context)
    bench = Bench("compare", lab.inverter, judge_of(context))
    entries = [MethodEntry("invert", "invert", {"budget": BUDGET}), MethodEntry("retrieve", "retrieve", {"target": "gap"}, False)]
    for picture in scene_pictures(n, context.seed):
        hard, retrieved = (record["prompt"] for record in bench.records(entries, [picture], 1, log=lambda line: None))
        target = lab.inverter.clip.encode_image([picture.image])[0]
        yield Subject(lab, picture, target, hard, retrieved)


@cache
def judge_of(context: Context) -> Judge:
    return Judge(context.device)


def rated(subject: Subject, variants: dict[str, Any], context: Context) -> list[RunRecord]:
    """One record a variant, from the cache where an earlier run has left it."""
    file = cache_folder() / "experiments" / f"soft-draw-{REVISION}-{context.seed}.jsonl"
    lines = file.read_text().splitlines() if file.exists() else []
    known = {(r["picture"], r["method"]): r for r in map(json.loads, lines)}
    missing = {name: find for name, find in variants.items() if (subject.picture.name, name) not in known}
    fresh = measured(subject, missing, context) if missing else []
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a") as kept:
        kept.writelines(json.dumps(record) + "\n" for record in fresh)
    known |= {(r["picture"], r["method"]): r for r in fresh}
    return [known[subject.picture.name, name] for name in variants]


def measured(subject: Subject, variants: dict[str, Any], context: Context) -> list[RunRecord]:
    """Find each variant's embeddings, then draw all of them at once."""
    found, seconds = {}, {}
    for name, find in variants.items():
        began = time.process_time()
        found[name] = find(subject).detach()
        seconds[name] = time.process_time() - began
    conditioning = cast("Sequence[str]", conditioned(subject, found))  # the generator takes either
    scores = regenerate(subject.lab.generator, judge_of(context).clip, subject.picture.image, conditioning, range(SEEDS))
    keep_images(subject, found, scores.images, context)
    return [
        {
            "picture": subject.picture.name,
            "kind": subject.picture.kind,
            "method": name,
            "seed": context.seed,
            "judge": float(scores.judge[k].mean()),
            "pixels": float(scores.pixels[k].mean()),
            "colours": float(scores.colors[k].mean()),
            "cpu_seconds": seconds[name],
            "layers": None if name in OF_STATES else subject.lab.states.distances(words_of(subject, embeddings)).tolist(),
        }
        for k, (name, embeddings) in enumerate(found.items())
    ]


def words_of(subject: Subject, embeddings: Tensor) -> Tensor:
    """The rows that stand at places of words: of a whole context those of the prompt that it began as."""
    whole = subject.lab.generator.tokenizers[0].model_max_length - 2
    return embeddings[: len(subject.rows(subject.hard))] if len(embeddings) == whole else embeddings


@torch.no_grad()
def conditioned(subject: Subject, found: dict[str, Tensor]) -> Conditioning:
    generator = subject.lab.generator
    hidden = [
        embeddings[None] if name in OF_STATES else generator.encode_embeddings([embeddings[None]]).hidden
        for name, embeddings in found.items()
    ]
    return Conditioning(torch.cat(hidden))


def keep_images(subject: Subject, found: dict[str, Tensor], images: Tensor, context: Context) -> None:
    """The first seed's image of each variant, for the sheet."""
    folder = cache_folder() / "experiments" / f"soft-draw-{REVISION}-{context.seed}"
    folder.mkdir(parents=True, exist_ok=True)
    for name, image in zip(found, images[:, 0], strict=True):
        save_image(image, folder / f"{subject.picture.name} {name.replace(' ', '-')}.png")


def layer_means(records: list[RunRecord], name: str) -> list[float]:
    rows = [record["layers"] for record in records if record["method"] == name and record["layers"]]
    return torch.tensor(rows).mean(0).tolist() if rows else []


def draw_layers(layers: dict[str, list[float]], context: Context) -> None:
    """Distance of hidden states from those of captions, layer by layer."""
    figure, axis = plt.subplots(figsize=(8, 5), layout="constrained")
    for name in SHOWN:
        axis.plot(range(len(layers[name])), layers[name], marker="o", label=name)
    axis.axhline(1, color="gray", lw=1, ls=":")
    axis.set(xlabel="layers of the text encoder", ylabel="squared distance, captions = 1", yscale="log")
    axis.set_xticks(range(len(layers[HARD])))
    axis.legend(fontsize=8)
    figure.savefig(context.path("states.png"), dpi=110)
    plt.close(figure)


def draw_sheet(context: Context, n: int) -> None:
    """A scene a row: the picture, then the first image of each main variant."""
    folder = cache_folder() / "experiments" / f"soft-draw-{REVISION}-{context.seed}"
    figure, axes = plt.subplots(n, len(SHOWN) + 1, figsize=(1.5 * (len(SHOWN) + 1), 1.5 * n), layout="constrained", squeeze=False)
    for row, picture in zip(axes, scene_pictures(n, context.seed), strict=True):
        row[0].imshow(to_tensor(picture.image).permute(1, 2, 0))
        for axis, name in zip(row[1:], SHOWN, strict=True):
            axis.imshow(plt.imread(folder / f"{picture.name} {name.replace(' ', '-')}.png"))
    for axis, title in zip(axes[0], ("picture", *SHOWN), strict=True):
        axis.set_title(title.replace(", ", ",\n"), fontsize=9)
    for axis in axes.flat:
        axis.axis("off")
    figure.savefig(context.path("sheet.png"), dpi=100)
    plt.close(figure)


def markdown(found: dict[str, Any]) -> str:
    """One row a variant."""
    lines = [
        f"| soft prompt | pictures | judge | minus {HARD} | pixels | states after the last layer | CPU seconds |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, row in found["means"].items():
        judge, gap = row["judge"], found[f"difference to {HARD}"].get(name)
        difference = "" if gap is None else f"{gap['mean']:+.3f} [{gap['low']:.3f}, {gap['high']:.3f}]"
        last = found["hidden states"].get(name)
        title = f"**{name}**" if name == POLISHED else name
        lines.append(
            f"| {title} | {row['pictures']} | {judge['mean']:.3f} [{judge['low']:.3f}, {judge['high']:.3f}] | {difference} | "
            f"{row['pixels']['mean']:.3f} | {'' if last is None else f'{last[-1]:.1f}'} | {row['cpu_seconds']['mean']:.1f} |"
        )
    return "\n".join(lines) + "\n"
