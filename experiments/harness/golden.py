"""Golden prompts: what every method found on a few pictures, to tell whether a change that should change none did.

In: the recorded prompts in `experiments/golden.json`; out: a `Check` for each. `invert` is recorded on 20 pictures
with 3 seeds, every other method that needs neither a network nor another package on 5 pictures. A method whose
revision was raised is recorded again. On another processor the last bits of a latent differ, and with them at times
which of two equally good prompts is taken: a prompt whose score is within `TIE` of the recorded one counts as a tie.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from experiments.harness.pictures import Picture, out_of_domain_pictures, scene_pictures
from experiments.harness.records import MethodEntry, revision_of
from experiments.harness.runner import FOLDER
from experiments.harness.wall_time import here
from invert.errors import InputError
from invert.inverter import Inverter

GOLDEN = FOLDER / "golden.json"
TIE = 1e-4  # cosine
CPU = torch.device("cpu")
OURS = "invert"
SEEDS = 3  # of ours
ENTRIES = (
    MethodEntry("invert", "invert", {"budget": 70_000}),
    MethodEntry("nearest", "nearest", {"budget": 70_000}),
    MethodEntry("pez", "pez", {"budget": 3_000, "target": "gap", "tokens": 16}),
    MethodEntry("gcg", "gcg", {"budget": 70_000, "target": "gap", "tokens": 8}),
    MethodEntry("random", "random", {"budget": 70_000, "target": "gap"}),
    MethodEntry("retrieve", "retrieve", {"target": "gap"}),
    MethodEntry("interrogator-lite", "interrogator-lite", {"target": "raw"}),
    MethodEntry("interrogator-lite-fast", "interrogator-lite-fast", {"target": "raw"}),
    MethodEntry("interrogator-lite-classic", "interrogator-lite-classic", {"target": "raw"}),
    MethodEntry("interrogator-lite-negative", "interrogator-lite-negative", {"target": "raw"}),
    MethodEntry("ph2p", "ph2p", {"budget": 2_000, "restarts": 1, "tokens": 4}, uses_generator=True),
    MethodEntry("textual-inversion", "textual-inversion", {"budget": 1_500, "tokens": 4}, uses_generator=True),
)
NAMES = tuple(entry.name for entry in ENTRIES)


@dataclass(frozen=True)
class Check:
    """A prompt that is found today beside the one that was recorded; scores are cosines with the target."""

    method: str
    run: str  # kind/picture/seed
    expected: str
    expected_score: float
    found: str
    score: float

    @property
    def verdict(self) -> str:
        """ "same", "tie" (another prompt that scores the same) or "changed"."""
        if self.found == self.expected:
            return "same"
        return "tie" if abs(self.score - self.expected_score) <= TIE else "changed"

    def __str__(self) -> str:
        if self.verdict == "same":
            return f"same     {self.method:26} {self.run:22} {self.score:.4f}  {self.found}"
        recorded = f"recorded {self.expected_score:.6f} {self.expected!r}, found {self.score:.6f} {self.found!r}"
        return f"{self.verdict:8} {self.method:26} {self.run:22} {recorded}"


def runs_of(entry: MethodEntry) -> list[tuple[Picture, int]]:
    """The pictures and seeds that a method is recorded on."""
    if entry.method == OURS:
        pictures = scene_pictures(12, 0) + out_of_domain_pictures(8)
        return [(picture, seed) for picture in pictures for seed in range(SEEDS)]
    return [(picture, 0) for picture in scene_pictures(3, 0) + out_of_domain_pictures(2)]


def run_name(picture: Picture, seed: int) -> str:
    return f"{picture.kind}/{picture.name}/{seed}"


def find(inverter: Inverter, entry: MethodEntry, picture: Picture, seed: int) -> tuple[str, float]:
    """The prompt of one run today, and its score."""
    inverter.prepare(method=entry.method)
    result = inverter.invert(picture.image, method=entry.method, seed=seed, **entry.options)
    return result.prompt, result.score


def check(inverter: Inverter, names: Collection[str] = NAMES, runs: Collection[str] = ()) -> Iterator[Check]:
    """Run methods again and compare; runs: only these (kind/picture/seed), all where none is named.

    Raises:
        InputError: a method's options or revision are not those that were recorded.
    """
    recorded = read()["methods"]
    for entry in (entry for entry in ENTRIES if entry.name in names):
        ours = recorded[entry.name]
        for what, now in (("revision", revision_of(entry.method)), ("options", entry.options)):
            if ours[what] != now:
                raise InputError(
                    f"{what} of {entry.name} are {now} and were {ours[what]} when its golden prompts were recorded: "
                    f"record them anew with `python -m experiments golden --record {entry.name}`"
                )
        for picture, seed in runs_of(entry):
            name = run_name(picture, seed)
            if not runs or name in runs:
                expected, score = ours["prompts"][name]
                yield Check(entry.name, name, expected, score, *find(inverter, entry, picture, seed))


def record(inverter: Inverter, names: Collection[str] = NAMES) -> Iterator[str]:
    """Record methods again, one progress line per run; the others stay as they are."""
    recorded = read() if GOLDEN.exists() else {"methods": {}}
    for entry in (entry for entry in ENTRIES if entry.name in names):
        prompts = {}
        for picture, seed in runs_of(entry):
            prompt, score = find(inverter, entry, picture, seed)
            prompts[run_name(picture, seed)] = [prompt, round(score, 6)]
            yield f"recorded {entry.name:26} {run_name(picture, seed):22} {score:.4f}  {prompt}"
        about = {"revision": revision_of(entry.method), "options": entry.options}
        recorded["methods"][entry.name] = {**about, "recorded_on": here(CPU), "prompts": prompts}
        write(recorded)


def read() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(GOLDEN.read_text())
    return found


def write(recorded: dict[str, Any]) -> None:
    """One line a prompt, methods in the order of `ENTRIES`."""
    ordered = {name: recorded["methods"][name] for name in NAMES if name in recorded["methods"]}
    text = json.dumps({"methods": ordered}, indent=1, ensure_ascii=False)
    GOLDEN.write_text(text.replace("[\n     ", "[").replace(",\n     ", ", ").replace("\n    ]", "]") + "\n")
