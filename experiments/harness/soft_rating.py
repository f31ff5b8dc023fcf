"""Soft prompts rated: found, drawn by the bundled generator, compared by the judge; kept in the cache as they are found.

None of the ways to find them looked at the judge, nor at the seeds that images are drawn with here.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from torchvision.utils import save_image

from experiments.compare import BUDGET
from experiments.harness.bench import Bench
from experiments.harness.hidden_states import HiddenStates
from experiments.harness.measures import Judge
from experiments.harness.pictures import Picture, scene_pictures
from experiments.harness.records import MethodEntry, RunRecord, weights_of
from experiments.harness.runner import Context
from experiments.harness.soft_subjects import Lab, Subject, Variant
from experiments.harness.soft_variants import HARD, OF_STATES, POLISHED, TRUTH
from experiments.harness.statistics import by_picture, means, paired
from invert.cache import cache_folder
from invert.diffusion.generator import Conditioning, Generator
from invert.diffusion.roundtrip import regenerate
from invert.inverter import Inverter
from invert.picturebook import models
from invert.picturebook.grammar import caption
from invert.picturebook.world import draw_scenes

REVISION = 1  # raised when a variant finds other embeddings
SEEDS = 4  # images of a prompt
TUNING_SEED, TUNING_POOL = 78, 48  # of scenes that variants are tried on
CAPTIONS = 256  # whose hidden states are the captions' distribution
MEASURES = ("judge", "pixels", "colours", "cpu_seconds")


@cache
def lab_of(context: Context) -> Lab:
    """The models, loaded once."""
    inverter = Inverter.load(device=context.device)
    captions = [caption(scene) for scene in draw_scenes(CAPTIONS, context.seed + 1)]
    generator = Generator.load("picturebook", context.device)
    return Lab(inverter, generator, HiddenStates(inverter.clip, captions), context.seed)


def subjects(n: int, context: Context) -> Iterator[Subject]:
    """Held-out scenes with the prompts that `compare` has measured."""
    bench = Bench("compare", lab_of(context).inverter, judge_of(context))
    for picture in scene_pictures(n, context.seed):
        yield subject_of(picture, bench, context)


def tuning_subjects(n: int, context: Context) -> Iterator[Subject]:
    """The first n scenes of another draw, which no table reports on, in whose hard prompt something is wrong."""
    bench = Bench("soft-tried", lab_of(context).inverter, judge_of(context))
    every = (replace(one, kind="tuning") for one in scene_pictures(TUNING_POOL, context.seed + TUNING_SEED))
    found = (subject_of(picture, bench, context) for picture in every)
    yield from islice((one for one in found if one.hard != one.picture.truth), n)


def subject_of(picture: Picture, bench: Bench, context: Context) -> Subject:
    """The picture with its prompts."""
    entries = [MethodEntry("invert", "invert", {"budget": BUDGET}), MethodEntry("retrieve", "retrieve", {"target": "gap"}, False)]
    hard, retrieved = (record["prompt"] for record in bench.records(entries, [picture], 1, log=lambda line: None))
    lab = lab_of(context)
    return Subject(lab, picture, lab.inverter.clip.encode_image([picture.image])[0], hard, retrieved)


@cache
def judge_of(context: Context) -> Judge:
    return Judge(context.device)


def rated(subject: Subject, variants: Mapping[str, Variant], context: Context) -> list[RunRecord]:
    """One record a variant, from the cache where an earlier run has left it."""
    file = kept_in(context).with_suffix(".jsonl")
    lines = file.read_text().splitlines() if file.exists() else []
    known = {(r["kind"], r["picture"], r["method"]): r for r in map(json.loads, lines)}
    file.parent.mkdir(parents=True, exist_ok=True)
    found = []
    for name, find in variants.items():
        key = subject.picture.kind, subject.picture.name, name
        if key not in known:
            known[key] = measured(subject, name, find, context)
            with file.open("a") as kept:
                kept.write(json.dumps(known[key]) + "\n")
        found.append(known[key])
    return found


@cache
def kept_in(context: Context) -> Path:
    """The folder of images in the cache, named by all that records depend on; the records lie beside it."""
    digest = hashlib.sha256((models.WEIGHTS / "judge.safetensors").read_bytes()).hexdigest()[:12]
    return cache_folder() / "experiments" / f"soft-draw-{REVISION}-{context.seed}-{weights_of(True)}-{digest}"


def measured(subject: Subject, name: str, find: Variant, context: Context) -> RunRecord:
    """Find the variant's embeddings, draw them, and compare."""
    began = time.process_time()
    embeddings = find(subject).detach()
    seconds = time.process_time() - began
    conditioning = cast("Sequence[str]", conditioned(subject, name, embeddings))  # the generator takes either
    scores = regenerate(subject.lab.generator, judge_of(context).clip, subject.picture.image, conditioning, range(SEEDS))
    path = image_of(subject.picture.name, name, context)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_image(scores.images[0, 0], path)
    return {
        "picture": subject.picture.name,
        "kind": subject.picture.kind,
        "method": name,
        "seed": context.seed,
        "judge": float(scores.judge.mean()),
        "pixels": float(scores.pixels.mean()),
        "colours": float(scores.colors.mean()),
        "cpu_seconds": seconds,
        "layers": None if name in OF_STATES else subject.lab.states.distances(words_of(subject, embeddings)).tolist(),
    }


def image_of(picture: str, name: str, context: Context) -> Path:
    """Where the first seed's image of a variant is kept, for the sheet."""
    return kept_in(context) / f"{picture} {name.replace(' ', '-')}.png"


def words_of(subject: Subject, embeddings: Tensor) -> Tensor:
    """The rows that stand at places of words: of a whole context those of the prompt that it began as."""
    whole = subject.lab.generator.tokenizers[0].model_max_length - 2
    return embeddings[: len(subject.rows(subject.hard))] if len(embeddings) == whole else embeddings


@torch.no_grad()
def conditioned(subject: Subject, name: str, embeddings: Tensor) -> Conditioning:
    """What the generator draws of them: of embeddings (L, D), or of hidden states (T, D)."""
    hidden = embeddings[None] if name in OF_STATES else subject.lab.generator.encode_embeddings([embeddings[None]]).hidden
    return Conditioning(hidden)


def summary(records: Sequence[RunRecord], context: Context) -> dict[str, Any]:
    """Means with intervals, paired differences to the hard prompt, distances of hidden states."""
    table = by_picture(records, measures=MEASURES)
    layers = {name: layer_means(records, name) for name in table}
    return {
        "seeds": SEEDS,
        "config": asdict(lab_of(context).config),
        "means": means(table, context.seed, MEASURES),
        **{
            f"difference to {base}": {
                name: paired({name: table[name], base: table[base]}, name, context.seed, ("judge",))[base]["judge"]
                for name in table
                if name != base
            }
            for base in (HARD, TRUTH)
        },
        "hidden states": {name: rows for name, rows in layers.items() if rows},
        "judge of each picture": {name: {p: row["judge"] for p, row in rows.items()} for name, rows in table.items()},
    }


def layer_means(records: Sequence[RunRecord], name: str) -> list[float]:
    rows = [record["layers"] for record in records if record["method"] == name and record["layers"]]
    return torch.tensor(rows).mean(0).tolist() if rows else []


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
