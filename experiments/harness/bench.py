"""The bench that methods are compared on: pictures of known truth in, one row a run out.

A row holds the prompt, what it cost, and how right it is. Prompts and costs go into a JSONL file
outside the repository as soon as they are found, so that an experiment of hours can be stopped and
taken up again; they count only as long as the weights and the method's own code are those that made
them. They are rated when they are read: another judge or measure costs no run.

The runs behind the repository's own figures are published in `results/runs/`. An experiment runs
everything itself unless PUBLISHED_RUNS=1 in the environment lets it take those as its own.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import to_pil_image

import invert as package
from experiments.harness.measures import Judge, objects_right, relation_right, word_f1
from experiments.harness.runner import FOLDER, RESULTS
from invert.cache import cache_folder
from invert.corpus import encoded_corpus
from invert.inverter import Inverter
from invert.methods import METHODS, TOGETHER, interrogator, interrogator_lite
from invert.picturebook import models
from invert.picturebook.grammar import mentioned_objects, paraphrases
from invert.picturebook.render import render
from invert.picturebook.world import Scene, draw_scenes, objects
from invert.result import Result
from invert.target import image_latent

FOREIGN = FOLDER / "foreign"
PUBLISHED = RESULTS / "runs"
OURS = ("invert", "nearest")
OUR_METHODS = ("__init__", "tokens", "labels", *OURS)  # modules of `invert.methods` that these two are made of
WITH_GENERATOR = ("ph2p", "textual-inversion", "invert-chosen")
# Modules of ours that decide no prompt of a method in a comparison; and those that decide none of `nearest`, which does
# not search.
APART = {"cli", "denoise", "generate", "images", "pseudo_tokens", "report", "result", "roundtrip", "textual_inversion"}
OF_SEARCH = {"corpus", "language", "search"}
GROUP = 12  # pictures that a method seeks the prompts of together
Row = dict[str, Any]


@dataclass(frozen=True)
class Picture:
    """A test picture. kind: its split, or "foreign"; scene: its truth."""

    name: str
    kind: str
    image: Image.Image
    scene: Scene

    @property
    def truth(self) -> str:
        """The true caption; it is silent about a background that has no name."""
        return paraphrases(self.scene)[0].removesuffix(" on a  background")


@dataclass(frozen=True)
class Contender:
    """A method as it enters: options of the inversion, whether seeds differ, on how many pictures of a kind at most.

    kinds: of pictures that it enters on; all where none is named.
    """

    name: str
    method: str
    options: dict[str, Any] = field(default_factory=dict)
    seeded: bool = True
    most: int | None = None
    kinds: tuple[str, ...] = ()


def scene_pictures(n: int, seed: int, split: str = "held-out") -> list[Picture]:
    """n scenes of a split as our renderer draws them."""
    scenes = draw_scenes(n, seed, split)
    images = [to_pil_image(render([scene], models.IMAGE_SIZE)[0]) for scene in scenes]
    return [Picture(f"scene-{i:03}", split, x, s) for i, (x, s) in enumerate(zip(images, scenes, strict=True))]


def foreign_pictures(n: int) -> list[Picture]:
    """The first n pictures that our renderer did not make."""
    index = {thing.name: i for i, thing in enumerate(objects())}
    found = []
    for truth in json.loads((FOREIGN / "truths.json").read_text())[:n]:
        file, _ = truth.pop("file"), truth.pop("ground")
        truth["objects"] = [index[name] for name in truth["objects"]]
        fields: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in truth.items()}
        scene = Scene(**fields)
        found.append(Picture(Path(file).stem, "foreign", Image.open(FOREIGN / file).convert("RGB"), scene))
    return found


@cache
def fingerprint(method: str) -> str:
    """Changes with the weights and with the code that decides a method's prompts: of ours all, of a peer its modules."""
    root = Path(package.__path__[0])
    files = [models.WEIGHTS / "clip.safetensors"]
    if method in METHODS:
        files.append(root.parent / (METHODS[method][0].replace(".", "/") + ".py"))
        files += [root / "methods" / f"{shared}.py" for shared in ("tokens", "labels")]
    if method.startswith(OURS):
        apart = APART | (OF_SEARCH if method == "nearest" else set())
        files += sorted(file for file in root.glob("*.py") if file.stem not in apart)
        files += [root / "methods" / f"{name}.py" for name in OUR_METHODS]
    if method in WITH_GENERATOR:
        from invert.picturebook import pipeline  # with it comes diffusers, a slow import

        files += [
            root / "diffusion" / "denoising.py",
            root / "diffusion" / "generator.py",
            *sorted(pipeline.FOLDER.rglob("*.safetensors")),
        ]
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()[:12]


def prepare(inverter: Inverter, method: str) -> None:
    """Build what a method builds once per model (tables, corpus, vocabulary), so that no picture is charged for it."""
    inverter.vocabulary()
    if method.startswith("interrogator-lite"):
        interrogator_lite.tables(inverter.clip)
    elif method.startswith("interrogator"):
        interrogator.interrogator(inverter.clip)
    if method.startswith(("invert", "interrogator", "retrieve")):
        encoded_corpus(inverter.clip)


class Bench:
    """Runs contenders on pictures and keeps every row under `name`."""

    def __init__(
        self, name: str, inverter: Inverter, judge: Judge, only_kept: bool = False, together: bool = False, about: str = ""
    ) -> None:
        """only_kept: run nothing, show the rows that earlier runs have left.

        together: methods that can seek the prompts of several pictures at once do; the seconds of one are then unknown.
        about: what else a run depends on, such as the machine where its seconds count.
        """
        self.inverter, self.judge = inverter, judge
        self.only_kept, self.together, self.about = only_kept, together, about
        self.file, self.published = cache_folder() / "experiments" / f"{name}.jsonl", PUBLISHED / f"{name}.jsonl"
        earlier = read_rows(self.published) if os.environ.get("PUBLISHED_RUNS", "0") != "0" else []
        self.known = {run["key"]: run for run in [*earlier, *read_rows(self.file)]}
        self.used: set[str] = set()
        self._latents: dict[tuple[str, str], tuple[Tensor, Tensor]] = {}

    def rows(
        self, contenders: Iterable[Contender], pictures: list[Picture], seeds: int, say: Callable[[str], None] = print
    ) -> Iterator[Row]:
        """Every row of every contender, what ran before read back; `say` is told of new runs."""
        for contender in contenders:
            its_seeds = range(seeds if contender.seeded else 1)
            for kind in dict.fromkeys(picture.kind for picture in pictures):
                if contender.kinds and kind not in contender.kinds:
                    continue
                here = [p for p in pictures if p.kind == kind][: contender.most]
                if self.together and contender.method in TOGETHER and not self.only_kept:
                    for seed in its_seeds:
                        self.run_together(contender, here, seed, say)
                for picture in here:
                    for seed in its_seeds:
                        key = self.key(contender, picture, seed)
                        if key in self.known or not self.only_kept:
                            yield self.row(key, contender, picture, seed, say)

    def run_together(self, contender: Contender, pictures: list[Picture], seed: int, say: Callable[[str], None]) -> None:
        """What is not known yet, GROUP pictures at a time."""
        missing = [picture for picture in pictures if self.key(contender, picture, seed) not in self.known]
        for begin in range(0, len(missing), GROUP):
            group = missing[begin : begin + GROUP]
            images = [picture.image for picture in group]
            results = self.inverter.invert_each(images, method=contender.method, seed=seed, **contender.options)
            for picture, result in zip(group, results, strict=True):
                self.keep(self.key(contender, picture, seed), run_of(result, alone=False))
            say(f"{contender.name:24} {len(group)} pictures {results[-1].seconds:6.1f} s")

    def row(self, key: str, contender: Contender, picture: Picture, seed: int, say: Callable[[str], None]) -> Row:
        if key not in self.known:
            run = self.measure(contender, picture, seed)
            self.keep(key, run)
            say(f"{contender.name:24} {picture.name:10} {run['seconds']:6.1f} s  {run['prompt']}")
        self.used.add(key)
        about = {"method": contender.name, "picture": picture.name, "kind": picture.kind, "seed": seed}
        return {**about, **self.known[key], **self.rated(self.known[key]["prompt"], picture)}

    def key(self, contender: Contender, picture: Picture, seed: int) -> str:
        """All that a run depends on."""
        content = hashlib.sha256(picture.image.tobytes()).hexdigest()[:12]
        parts = [contender.name, contender.method, contender.options, fingerprint(contender.method), content, seed]
        return json.dumps([*parts, self.about] if self.about else parts, sort_keys=True)

    def keep(self, key: str, run: Row) -> None:
        self.known[key] = {"key": key, **run}
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with self.file.open("a") as file:
            file.write(json.dumps(self.known[key]) + "\n")

    def publish(self) -> None:
        """Write the runs that this bench has given out: the evidence for figures that go into the repository."""
        self.published.parent.mkdir(parents=True, exist_ok=True)
        self.published.write_text("".join(json.dumps(self.known[key]) + "\n" for key in sorted(self.used)))

    def measure(self, contender: Contender, picture: Picture, seed: int) -> Row:
        """Run once; the prompt and its cost."""
        if contender.method == "oracle":
            return {"prompt": picture.truth, "seconds": 0.0, "forward": 0, "backward": 0, "images": 0, "peak_mib": None}
        prepare(self.inverter, contender.method)
        with peak_memory(self.inverter.clip.device) as peak:
            result = self.inverter.invert(picture.image, method=contender.method, seed=seed, **contender.options)
        return {**run_of(result), "peak_mib": peak[0]}

    def rated(self, prompt: str, picture: Picture) -> Row:
        """Words, objects and relation against the truth; similarity under the optimised model and the judge."""
        clip = self.inverter.clip
        judged, optimised = self.latents(picture)
        return {
            "word_f1": word_f1(prompt, picture.scene),
            "named": named(prompt, picture.scene),
            "objects": float(objects_right(prompt, picture.scene)),
            "relation": float(relation_right(prompt, picture.scene)),
            "judge": float(self.judge.clip.encode_text([prompt])[0] @ judged),
            "optimised": float(clip.encode_text([prompt])[0] @ optimised),
            "tokens": len(clip.tokenizer.encode(prompt)),
        }

    def latents(self, picture: Picture) -> tuple[Tensor, Tensor]:
        """A picture's unit latents under the judge and under the optimised model, computed once for all of its rows."""
        name = (picture.kind, picture.name)
        if name not in self._latents:
            of_judge, of_optimised = (image_latent(clip, [picture.image]) for clip in (self.judge.clip, self.inverter.clip))
            self._latents[name] = of_judge, of_optimised
        return self._latents[name]


def run_of(result: Result, alone: bool = True) -> Row:
    """What is kept of a run; alone: whether its seconds went to this picture only."""
    return {
        "prompt": result.prompt,
        "seconds": result.seconds if alone else None,
        "forward": result.forward_tokens,
        "backward": result.backward_tokens,
        "images": result.image_passes,
        "peak_mib": None,
    }


def named(prompt: str, scene: Scene) -> float:
    """Share of the scene's objects that the prompt names, whatever else it names: kind to long prompts."""
    said = {index for index, _, _ in mentioned_objects(prompt)}
    return len(said & set(scene.objects)) / len(set(scene.objects))


def read_rows(file: Path) -> list[Row]:
    """Whole lines only: an interrupted run may have left half of one."""
    rows = []
    for line in file.read_text().splitlines() if file.exists() else []:
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return rows


@contextmanager
def peak_memory(device: torch.device) -> Iterator[list[float | None]]:
    """Peak MiB within the block: of the card's allocator, or of the process where Linux lets its mark be reset."""
    peak: list[float | None] = [None]
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        yield peak
        peak[0] = torch.cuda.max_memory_allocated(device) / 2**20
        return
    try:
        Path("/proc/self/clear_refs").write_text("5")
        resettable = True
    except OSError:
        resettable = False
    yield peak
    if resettable:
        status = Path("/proc/self/status").read_text()
        peak[0] = int(status.split("VmHWM:")[1].split()[0]) / 1024
