"""The work of the command: load what is needed once, invert every picture, print and write whatever was done."""

from __future__ import annotations

import json
import os
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from PIL import Image

from invert.cli.failures import BAD_INPUT, BROKEN_PIPE, FAILURE, internal_error
from invert.cli.interrupts import Interrupts
from invert.cli.outputs import Outputs
from invert.cli.sources import STDIN, read_stdin
from invert.cli.table import print_comparison
from invert.cli.terminal import OutputError, as_text, complain, progress, say
from invert.config import InvertConfig, MethodConfig
from invert.diffusion.reading import what_is_cut
from invert.errors import InputError
from invert.escape import escaped
from invert.history import HistoryEntry, labeled
from invert.images import load_image, thumbnail
from invert.images.addresses import download, is_address
from invert.images.embedded import EmbeddedPrompt, read_embedded
from invert.inverter import Inverter
from invert.methods import get_method
from invert.models.clip import Clip
from invert.report import Entry
from invert.result import Result
from invert.target import image_latent, text_latent

if TYPE_CHECKING:
    from invert.cli.polishing import Polishing
    from invert.diffusion.roundtrip import RoundTrip

KEPT = 512  # pixels of a picture, for the page, while the rest of a batch goes on
TOGETHER_SIDE = 1024  # pixels of each of the pictures of one prompt, which are in memory at once


@dataclass(frozen=True)
class Subject:
    """What one prompt is wanted for: images, read once for everything that looks at them, or a text to shorten."""

    label: str
    pictures: list[Image.Image]
    text: str = ""
    embedded: EmbeddedPrompt | None = None  # that its one picture carries


def read_subjects(groups: Iterable[list[str]], job: Job) -> Iterator[Subject]:
    """The groups of images as subjects; what cannot be read is told on stderr and the rest go on."""
    for group in groups:
        label = ", ".join(group)
        try:
            read = [opened(path, len(group) > 1) for path in group]
            carried = read[0][1] if len(group) == 1 and job.outputs.embedded != "ignore" else None
            yield Subject(label, [image for image, _ in read], embedded=carried)
        except Exception as error:
            job.tell(error, f" while reading {label}")


def opened(path: str, small: bool) -> tuple[Image.Image, EmbeddedPrompt | None]:
    """A picture and the prompt in its file, of which a stream and an address are read once."""
    if path == STDIN:
        stream = read_stdin()
        carried, image = read_embedded(stream), load_image(stream, "the picture on standard input")
    elif is_address(path):
        content = download(path)
        carried, image = read_embedded(content), load_image(content, path)
    else:
        carried = read_embedded(path) if os.path.isfile(path) else None  # what a pipe holds is gone once read
        image = load_image(path)
    if not small:
        return image, carried
    smaller = thumbnail(image, TOGETHER_SIDE)
    smaller.filename = getattr(image, "filename", "")  # type: ignore[attr-defined]  # where a caption may lie beside it
    return smaller, carried


class Job:
    """One run of the command: the model is loaded once, and every subject goes through the same methods."""

    wanted = "a prompt"

    def __init__(
        self,
        config: InvertConfig,
        methods: tuple[str, ...],
        inverter: Inverter,
        outputs: Outputs,
        interrupts: Interrupts,
        negative: Image.Image | str | None = None,
        judge: Clip | None = None,
        round_trip: RoundTrip | None = None,
        settings: Mapping[str, MethodConfig] | None = None,
        polishing: Polishing | None = None,
    ) -> None:
        """judge: compares prompts, or what they draw. round_trip: draws them. settings: of methods, by name.

        polishing: makes the first method's soft prompts draw.
        """
        self.settings = settings or {}
        self.config, self.methods, self.inverter, self.outputs = config, methods, inverter, outputs
        self.interrupts, self.negative, self.judge, self.round_trip = interrupts, negative, judge, round_trip
        self.polishing = polishing
        self.entries: list[Entry] = []  # what the files are written from
        self.printed = 0  # subjects
        self.status = 0

    def run(self, subjects: Iterable[Subject], several: bool) -> int:
        """The prompt of every subject, and the files that were asked for; the exit status."""
        try:
            self.invert_all(subjects, several)
        except KeyboardInterrupt:
            done = f"after {self.printed} of the images" if self.printed else f"before there was {self.wanted}"
            complain(f"{self.interrupts.word} {done}")
            self.status = self.interrupts.status
        except OutputError as error:
            if not error.broken:
                complain(error)
            self.status = BROKEN_PIPE if error.broken else BAD_INPUT
        self.write()
        return self.status

    def invert_all(self, subjects: Iterable[Subject], several: bool) -> None:
        for subject in subjects:
            if subject.embedded is not None and self.outputs.embedded == "show":
                complain(f"note: {subject.label} carries a prompt ({subject.embedded.source}): {subject.embedded.prompt}")
            results = self.run_one(subject)
            if results:
                self.keep(subject, results)
                self.print_results(subject, results, several)
                if results[0].doubt:
                    complain(f"note: {subject.label}: {results[0].doubt}")
                self.printed += 1
                if results[-1].interrupted or self.interrupts.received is not None:
                    complain(f"{self.interrupts.word}: the last prompt is the best so far")
                    self.status = self.interrupts.status
                    return

    def tell(self, error: Exception, doing: str) -> None:
        """One sentence on stderr, and the exit status that goes with it."""
        if self.outputs.debug:
            traceback.print_exception(error)
        bad = isinstance(error, InputError)
        complain(error if bad else internal_error(error, doing))
        self.status = BAD_INPUT if bad and self.status != FAILURE else FAILURE

    def keep(self, subject: Subject, results: list[Result]) -> None:
        """What the files need of it: small pictures of all for a report, else the first results."""
        if self.outputs.report is not None:
            carried = "" if subject.embedded is None else subject.embedded.prompt
            pictures = [thumbnail(image, KEPT) for image in subject.pictures]
            self.entries.append(Entry(subject.label, pictures, results, carried=carried))
        elif self.outputs.files() and not self.entries:
            self.entries.append(Entry(subject.label, [], results))

    def write(self) -> None:
        """The files that were asked for; one that cannot be written does not keep the others from it."""
        for write in self.outputs.writers(self.entries) if self.entries else ():
            try:
                write()
            except KeyboardInterrupt:
                complain(f"{self.interrupts.word} while writing: the files that were asked for are not complete")
                self.status = self.interrupts.status
                return
            except Exception as error:
                self.tell(error, " while writing")

    def run_one(self, subject: Subject) -> list[Result]:
        """The results of those methods that gave one; if the first one fails, the subject is skipped."""
        results: list[Result] = []
        for method in self.methods:
            try:
                results.append(self.result(subject, method))
            except KeyboardInterrupt:
                if not results:
                    raise
                results[-1] = replace(results[-1], interrupted=True)
            except Exception as error:
                self.tell(error, f" while inverting {subject.label}{f' by {method!r}' if len(self.methods) > 1 else ''}")
                if not results:
                    break
            if results[-1].interrupted:
                break
        if self.judge is not None and results:
            return [replace(r, judge=score) for r, score in zip(results, self.judged(subject, results), strict=True)]
        return results

    def result(self, subject: Subject, method: str) -> Result:
        config = replace(self.config, method=method, method_config=self.settings.get(method))
        metric = get_method(method).metric
        with progress(f"inverting {subject.label}") as line:
            best = ""

            def on_best(prompt: str, objective: float) -> None:
                nonlocal best
                best = f"{labeled(objective, metric)}  {prompt}"
                line.update(as_text(best))

            def on_step(step: HistoryEntry) -> None:
                line.update(as_text(f"{step.stage} {step.step + 1}  {best}"))

            follow: dict[str, Any] = {"on_best": on_best, "on_step": on_step}
            if not subject.pictures:
                return self.inverter.distill(subject.text, config, negative=self.negative, **follow)
            if subject.embedded is not None and self.outputs.embedded == "use" and method == self.methods[0]:
                result = self.inverter.rate(subject.embedded.prompt, subject.pictures[0], config, negative=self.negative)
            else:
                result = self.inverter.invert_joint(subject.pictures, config, negative=self.negative, **follow)
            if result.interrupted:
                return result
            polishing = self.polishing if method == self.methods[0] else None
            return self.finished(result, subject, polishing, lambda text: line.update(as_text(text)))

    def finished(self, result: Result, subject: Subject, polishing: Polishing | None, show: Callable[[str], None]) -> Result:
        """The result with its prompt chosen by what it draws, polished, and with its images, as far as that is asked for."""
        round_trip, doing = self.round_trip, "drawing"
        try:
            if round_trip is not None and self.outputs.select:
                show(f"drawing {result.prompt}")
                result = round_trip.choose(result, subject.pictures[0]).limited(self.outputs.top)
            if polishing is not None:
                doing = "polishing"
                result = polishing.polished(result, subject.pictures, show)
            if round_trip is None or not self.outputs.generate or result.interrupted:
                return result
            show(f"drawing {result.prompt}")
            doing = "drawing"
            if cut := what_is_cut(round_trip.generator, result.prompt):
                complain(f"note: {subject.label}: {cut}")
            return round_trip.draw(
                result, subject.pictures[0], lambda error: self.tell(error, f" while drawing {result.prompt!r}")
            )
        except KeyboardInterrupt:  # the prompt is there: only its images are not
            return result.limited(self.outputs.top, interrupted=True)
        except Exception as error:
            self.tell(error, f" while {doing} {result.prompt!r}")
            return result.limited(self.outputs.top)

    def judged(self, subject: Subject, results: list[Result]) -> list[float]:
        """Each prompt's cosine with the subject under the judge, which no method optimizes."""
        assert self.judge is not None
        pictures = subject.pictures
        latent = image_latent(self.judge, pictures) if pictures else text_latent(self.judge, subject.text)
        return [float(text_latent(self.judge, result.prompt) @ latent) for result in results]

    def print_results(self, subject: Subject, results: list[Result], several: bool) -> None:
        if self.outputs.as_json:
            source: dict[str, Any] = {"image": subject.label} if subject.pictures else {}
            if subject.embedded is not None:
                source["embedded"] = subject.embedded.to_json()
            for result in results:
                say(json.dumps({**source, **result.to_json()}))
        elif len(self.methods) > 1:
            print_comparison(subject.label, results)
        else:
            for prompt, _ in results[0].alternatives:
                say(f"{escaped(subject.label)}\t{escaped(prompt)}" if several else escaped(prompt))
