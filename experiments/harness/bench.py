"""The bench that methods are compared on: pictures of known truth in, one record a run out.

A record holds the prompt, what it cost, and how right it is. Prompts and costs go into a JSONL file outside
the repository as soon as they are found, so that an experiment of hours can be stopped and resumed. Prompts
are rated when records are read: another judge or measure costs no run.

The runs behind the repository's own figures are published in `results/runs/`. An experiment runs
everything itself unless PUBLISHED_RUNS=1 in the environment lets it take those as its own.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator

from torch import Tensor

from experiments.harness.environment import is_on
from experiments.harness.measures import Judge, objects_named, objects_right, relation_right, word_f1
from experiments.harness.memory import peak_memory
from experiments.harness.pictures import Picture
from experiments.harness.records import TRUTH, MethodEntry, RunRecord, identity, key_of, measured, read_records, write_records
from experiments.harness.runner import RESULTS
from invert.cache import cache_folder
from invert.inverter import Inverter
from invert.methods import get_method
from invert.target import image_latent

PUBLISHED = RESULTS / "runs"
BATCH = 12  # pictures that a method inverts together


class Bench:
    """Runs method entries on pictures and keeps every record under `name`."""

    def __init__(
        self,
        name: str,
        inverter: Inverter,
        judge: Judge,
        cached_only: bool = False,
        batched: bool = False,
        machine: str = "",
    ) -> None:
        """Read what earlier runs have left.

        Args:
            name: of the experiment whose records these are.
            inverter: the model that prompts are found with.
            judge: the model that they are rated by.
            cached_only: run nothing, show the records that earlier runs have left.
            batched: methods that can invert several pictures together do; the seconds of one are then unknown.
            machine: where the records' seconds count; "" where seconds of several machines may stand side by side.
        """
        self.inverter, self.judge = inverter, judge
        self.cached_only, self.batched, self.machine = cached_only, batched, machine
        self.file, self.published = cache_folder() / "experiments" / f"{name}.jsonl", PUBLISHED / f"{name}.jsonl"
        earlier = read_records(self.published) if is_on("PUBLISHED_RUNS") else []
        self.known = {key_of(record): record for record in [*earlier, *read_records(self.file)]}
        self.used: set[str] = set()
        self._latents: dict[tuple[str, str], tuple[Tensor, Tensor]] = {}

    def records(
        self, entries: Iterable[MethodEntry], pictures: list[Picture], seeds: int, log: Callable[[str], None] = print
    ) -> Iterator[RunRecord]:
        """Every record of every entry, read back where it ran before; `log` receives a line per new run."""
        for entry in entries:
            its_seeds = range(seeds if entry.seeded else 1)
            for kind in dict.fromkeys(picture.kind for picture in pictures):
                if entry.kinds and kind not in entry.kinds:
                    continue
                chosen = [p for p in pictures if p.kind == kind][: entry.max_pictures]
                if self.batched and self.can_batch(entry) and not self.cached_only:
                    for seed in its_seeds:
                        self.run_batches(entry, chosen, seed, log)
                for picture in chosen:
                    for seed in its_seeds:
                        if not self.cached_only or self.find(entry, picture, seed) is not None:
                            yield self.record(entry, picture, seed, log)

    def can_batch(self, entry: MethodEntry) -> bool:
        return entry.method != TRUTH and get_method(entry.method).run_batch is not None

    def run_batches(self, entry: MethodEntry, pictures: list[Picture], seed: int, log: Callable[[str], None]) -> None:
        """Run what is not known yet, BATCH pictures at a time."""
        missing = [picture for picture in pictures if self.find(entry, picture, seed) is None]
        for begin in range(0, len(missing), BATCH):
            batch = missing[begin : begin + BATCH]
            images = [picture.image for picture in batch]
            results = self.inverter.invert_batch(images, method=entry.method, seed=seed, **entry.options)
            for picture, result in zip(batch, results, strict=True):
                self.keep({**self.identity(entry, picture, seed), **measured(result, alone=False)})
            log(f"{entry.name:24} {len(batch)} pictures {results[-1].seconds:6.1f} s")

    def record(self, entry: MethodEntry, picture: Picture, seed: int, log: Callable[[str], None]) -> RunRecord:
        """The rated record of one run, which happens now where nothing is known of it."""
        run = self.find(entry, picture, seed)
        if run is None:
            run = {**self.identity(entry, picture, seed), **self.measure(entry, picture, seed)}
            self.keep(run)
            log(f"{entry.name:24} {picture.name:10} {run['seconds']:6.1f} s  {run['prompt']}")
        self.used.add(key_of(run))
        about = {"method": entry.name, "picture": picture.name, "kind": picture.kind, "seed": seed}
        return {**run, **about, **self.rate(run["prompt"], picture)}

    def identity(self, entry: MethodEntry, picture: Picture, seed: int) -> RunRecord:
        return identity(entry, picture, seed, self.machine)

    def find(self, entry: MethodEntry, picture: Picture, seed: int) -> RunRecord | None:
        return self.known.get(key_of(self.identity(entry, picture, seed)))

    def keep(self, record: RunRecord) -> None:
        """Remember a run, and append it to the file at once."""
        self.known[key_of(record)] = record
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with self.file.open("a") as file:
            file.write(json.dumps(record) + "\n")

    def publish(self) -> None:
        """Write the runs that this bench has given out: the evidence for figures that go into the repository."""
        write_records(self.published, (self.known[key] for key in self.used))

    def measure(self, entry: MethodEntry, picture: Picture, seed: int) -> RunRecord:
        """Run once; the prompt and its cost."""
        if entry.method == TRUTH:
            return {"prompt": picture.truth, "seconds": 0.0, "forward": 0, "backward": 0, "images": 0, "peak_mib": None}
        self.inverter.prepare(method=entry.method, **entry.options)
        with peak_memory(self.inverter.clip.device) as peak:
            result = self.inverter.invert(picture.image, method=entry.method, seed=seed, **entry.options)
        return measured(result, peak_mib=peak[0])

    def rate(self, prompt: str, picture: Picture) -> RunRecord:
        """Words, objects and relation against the truth; similarity under the optimized model and the judge."""
        clip = self.inverter.clip
        judged, optimized = self.latents(picture)
        return {
            "word_f1": word_f1(prompt, picture.scene),
            "named": objects_named(prompt, picture.scene),
            "objects": float(objects_right(prompt, picture.scene)),
            "relation": float(relation_right(prompt, picture.scene)),
            "judge": float(self.judge.clip.encode_text([prompt])[0] @ judged),
            "optimised": float(clip.encode_text([prompt])[0] @ optimized),
            "tokens": len(clip.tokenizer.encode(prompt)),
        }

    def latents(self, picture: Picture) -> tuple[Tensor, Tensor]:
        """A picture's unit latents under the judge and under the optimized model, computed once for all of its records."""
        name = (picture.kind, picture.name)
        if name not in self._latents:
            of_judge, of_optimized = (image_latent(clip, [picture.image]) for clip in (self.judge.clip, self.inverter.clip))
            self._latents[name] = of_judge, of_optimized
        return self._latents[name]
