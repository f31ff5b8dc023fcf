"""The `invert` command: prompts on stdout and nothing else, all notes on stderr.

Exit status: 0 done, 2 bad input (one sentence on stderr), 130 interrupted (the best prompt so far is
printed), 1 a failure of ours. In a batch a bad file does not stop the others.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer
from PIL import Image
from rich.console import Console
from rich.table import Table

from invert.config import InvertConfig
from invert.corpus import read_corpus
from invert.diffusion.pseudo_tokens import save_pseudo_tokens
from invert.errors import InputError
from invert.images import ENDINGS, load_image, names_image, thumbnail
from invert.inverter import Inverter
from invert.methods import METHODS, SOFT_METHODS, get_method
from invert.models.clip import Clip
from invert.models.loading import load_clip
from invert.result import Result
from invert.target import KINDS, image_latent, text_latent

if TYPE_CHECKING:
    from invert.diffusion.roundtrip import RoundTrip

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="rich")
notes = Console(stderr=True, highlight=False)
DEFAULT = InvertConfig()
# typer may carry its own copy of click: its base of all usage errors is found from one of them.
UsageError: type[Exception] = next(base for base in typer.BadParameter.__mro__ if base.__name__ == "ClickException")
DRAWN_SIZE = 256  # pixels of a scene drawn with --scene: for eyes; the model scales it down
INTERRUPTED = 130  # exit status, as shells have it for Ctrl-C
CHOICES = ("score", "generator")
CANDIDATES = 8  # prompts that the generator chooses among, at least
KEPT = 512  # pixels of a picture, for the page, while the rest of a batch goes on
COMPARED = 4  # images of each that it draws for that, where --generate asks for no number


@app.command()
def command(
    images: Annotated[list[str] | None, typer.Argument(help="Image files, folders of images, or URLs.")] = None,
    model: Annotated[str, typer.Option(help="picturebook, ViT-L-14/openai, hf:NAME, a folder …")] = "picturebook",
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1; by default a GPU if there is one.")] = None,
    method: Annotated[str, typer.Option(help=f"How to invert: {', '.join(METHODS)}.")] = DEFAULT.method,
    seed: Annotated[int, typer.Option(help="The same seed gives the same prompt.")] = DEFAULT.seed,
    top: Annotated[int, typer.Option(help="How many distinct prompts to print, the best first.")] = DEFAULT.top,
    target: Annotated[str, typer.Option(help="raw, empty or gap: how the image is brought among the texts.")] = DEFAULT.target,
    gap_images: Annotated[str | None, typer.Option(help="Folder of example images that measure the modality gap.")] = None,
    negative: Annotated[str | None, typer.Option(help="An image or a prompt to move away from.")] = None,
    negative_weight: Annotated[float, typer.Option(help="How strongly to move away from it.")] = DEFAULT.negative_weight,
    together: Annotated[bool, typer.Option("--together", help="One prompt for all the images: what they share.")] = False,
    text: Annotated[str | None, typer.Option(help="Shorten this prompt instead of reading an image.")] = None,
    init_prompt: Annotated[str, typer.Option(help="A prompt to start the search from.")] = "",
    must_include: Annotated[str, typer.Option(help="Words the prompt has to hold, separated by commas.")] = "",
    ban: Annotated[str, typer.Option(help="Words it may not hold, separated by commas.")] = "",
    corpus: Annotated[Path | None, typer.Option(help="File of prompts, one a line: where starts and language come from.")] = None,
    language_weight: Annotated[
        float, typer.Option(help="Cosine that one nat of the prompt's log-probability is worth.")
    ] = DEFAULT.language_weight,
    max_tokens: Annotated[int, typer.Option(help="Longest prompt, in tokens.")] = DEFAULT.max_tokens,
    token_penalty: Annotated[float, typer.Option(help="Cosine that one more token must earn.")] = DEFAULT.token_penalty,
    tokens: Annotated[int, typer.Option(help="Soft tokens per restart.")] = DEFAULT.tokens,
    restarts: Annotated[int, typer.Option(help="Soft prompts optimised at once.")] = DEFAULT.restarts,
    soft_steps: Annotated[int, typer.Option(help="Gradient steps on them.")] = DEFAULT.soft_steps,
    budget: Annotated[int | None, typer.Option(help="Text-encoder token passes to spend at most.")] = None,
    seconds: Annotated[float | None, typer.Option(help="Seconds to spend on an image at most.")] = None,
    generate: Annotated[int, typer.Option(help="Draw the prompt again this many times, for --report or --json.")] = 0,
    select: Annotated[
        str, typer.Option(help="What chooses the final prompt: score, or generator, by what prompts draw.")
    ] = "score",
    generator: Annotated[str, typer.Option(help="picturebook, a Stable Diffusion id, or its folder.")] = DEFAULT.generator,
    judge: Annotated[
        str | None, typer.Option(help="CLIP that --compare, --generate and --select judge by; picturebook has its own.")
    ] = None,
    compare: Annotated[str | None, typer.Option(help="Other methods to run beside, separated by commas; a table.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    trace: Annotated[Path | None, typer.Option(help="Draw the curves and which prompts won when into this PNG.")] = None,
    report: Annotated[Path | None, typer.Option(help="Write a self-contained HTML page.")] = None,
    embedding: Annotated[
        Path | None, typer.Option(help="Save the soft prompt as pseudo-tokens that diffusers loads, into this .safetensors.")
    ] = None,
    scene: Annotated[str | None, typer.Option(help="Draw this description in picturebook's world into the given file.")] = None,
    list_objects: Annotated[bool, typer.Option("--list-objects", help="Print the names of picturebook's objects.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    """Give an image, get the prompt that makes a text-to-image model draw it again."""
    if list_objects:
        raise typer.Exit(print_objects())
    paths = images or []
    if negative is not None and not negative.strip():
        raise InputError("--negative is empty: give an image or a prompt, or leave it out")
    if scene is not None:
        raise typer.Exit(draw_scene(scene, paths, seed))
    if text is None and not paths:
        raise InputError("no image given: try `invert image.png`, or `invert --help`")
    if text is not None and paths:
        raise InputError("--text shortens a prompt and reads no image: give either of them, not both")
    others = listed(compare or "")
    for name in (method, *others):
        get_method(name)  # an unknown name is told before a model is loaded
    if target not in KINDS:
        raise InputError(f"unknown target {target!r}: choose one of {', '.join(KINDS)}")
    config = InvertConfig(
        method=method,
        target=target,
        tokens=tokens,
        restarts=restarts,
        soft_steps=soft_steps,
        max_tokens=max_tokens,
        token_penalty=token_penalty,
        language_weight=language_weight,
        corpus=() if corpus is None else read_corpus(corpus),
        budget=budget,
        seconds=seconds,
        seed=seed,
        top=max(top, CANDIDATES) if select == "generator" else top,
        generator=generator,
        init_prompt=init_prompt,
        must_include=listed(must_include),
        ban=listed(ban),
        negative_weight=negative_weight,
    )
    check_drawing(generate, select, shown=as_json or report is not None, one_picture=text is None and not together)
    groups = grouped(expanded(paths), together)
    if embedding is not None:
        check_embedding(method, prompts=1 if text is not None else len(groups))
    output = Output(as_json, trace, report, embedding, top, generate, select == "generator", debug)
    apart = load_image(negative) if negative is not None and names_image(negative) else negative
    inverter = loaded(model, device, gap_images)
    second = loaded_judge(inverter.clip, judge) if others or output.draws else None
    job = Job(config, inverter, apart, second, output)
    subjects = job.readable(groups) if text is None else [Subject("the text", [], text)]
    raise typer.Exit(job.run(subjects, (method, *others), several=len(groups) > 1))


def listed(text: str) -> tuple[str, ...]:
    """ "a, b" → ("a", "b")."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def expanded(paths: Iterable[str]) -> list[str]:
    """Folders become the image files in them, sorted; everything else stays."""
    found: list[str] = []
    for path in paths:
        if Path(path).is_dir():
            inside = sorted(str(p) for p in Path(path).iterdir() if p.suffix.lower() in ENDINGS)
            if not inside:
                raise InputError(f"{path} is a folder without images: give image files, or a folder that holds some")
            found += inside
        else:
            found.append(path)
    return found


def grouped(paths: list[str], together: bool) -> list[list[str]]:
    """The images of each prompt."""
    return [paths] if together else [[path] for path in paths]


def print_objects() -> int:
    from invert.picturebook.world import objects

    for thing in objects():
        print(thing.name)
    return 0


def draw_scene(description: str, paths: list[str], seed: int) -> int:
    """`invert --scene "a fox above an umbrella" out.png`."""
    from torchvision.utils import save_image

    from invert.picturebook.grammar import caption, parse
    from invert.picturebook.render import render

    if len(paths) != 1:
        raise InputError('--scene needs one file to write: invert --scene "two owls on a blue background" out.png')
    drawn = parse(description, seed)
    try:
        save_image(render([drawn], DRAWN_SIZE)[0], paths[0])
    except (OSError, ValueError) as error:
        raise InputError(f"cannot write {paths[0]}: {error}; give a writable .png path") from error
    notes.print(caption(drawn), soft_wrap=True)
    return 0


@dataclass(frozen=True)
class Output:
    """What is wanted of the results besides the prompts on stdout."""

    as_json: bool
    trace: Path | None
    report: Path | None
    embedding: Path | None
    top: int  # prompts to print
    generate: int  # images to draw
    select: bool  # by what they draw
    debug: bool

    @property
    def draws(self) -> bool:
        return bool(self.generate or self.select)


@dataclass(frozen=True)
class Subject:
    """What one prompt is wanted for: images, read once for everything that looks at them, or a text to shorten."""

    label: str
    pictures: list[Image.Image]
    text: str = ""


class Job:
    """One run of the command: the model is loaded once, and every subject goes through the same methods."""

    def __init__(
        self, config: InvertConfig, inverter: Inverter, negative: Image.Image | str | None, judge: Clip | None, output: Output
    ) -> None:
        """judge: where prompts or what they draw are compared. Loads the generator where something is to be drawn."""
        self.config, self.inverter, self.negative, self.judge, self.output = config, inverter, negative, judge, output
        self.round_trip = round_trip(config, inverter, judge, output.generate or COMPARED) if output.draws and judge else None
        self.status = 0

    def run(self, subjects: Iterable[Subject], methods: tuple[str, ...], several: bool) -> int:
        """The prompt of every subject, and the pictures that were asked for; the exit status."""
        done: list[tuple[list[Image.Image], list[Result]]] = []
        for subject in subjects:
            results = self.run_one(subject, methods)
            if not results:
                continue
            self.print_results(subject, results, several)
            done.append(([thumbnail(picture, KEPT) for picture in subject.pictures], results))
            if results[-1].interrupted:
                self.status = INTERRUPTED
                break
        if done:
            self.write(done)
        return self.status

    def readable(self, groups: Iterable[list[str]]) -> Iterator[Subject]:
        """The groups of images as subjects; a bad file is told on stderr and the rest go on."""
        for group in groups:
            try:
                yield Subject(", ".join(group), [load_image(path) for path in group])
            except InputError as error:
                self.tell(error)

    def tell(self, error: InputError) -> None:
        """One sentence on stderr, and the exit status that goes with it."""
        if self.output.debug:
            raise error
        print(f"invert: {error}", file=sys.stderr)
        self.status = 2

    def write(self, done: list[tuple[list[Image.Image], list[Result]]]) -> None:
        """The files that were asked for; trace and embedding are the first result's."""
        first = done[0][1][0]
        if self.output.embedding is not None and first.soft is not None:
            save_pseudo_tokens(first.soft, self.output.embedding)
        if self.output.trace is not None or self.output.report is not None:
            from invert.report import write_report, write_trace  # with it comes matplotlib, a slow import

            if self.output.trace is not None:
                write_trace(first, self.output.trace)
            if self.output.report is not None:
                write_report(done, self.output.report)

    def run_one(self, subject: Subject, methods: tuple[str, ...]) -> list[Result]:
        """The results of those methods that gave one; the first one's failure is taken for the subject's."""
        results: list[Result] = []
        for method in methods:
            try:
                results.append(self.result(subject, method))
            except InputError as error:
                self.tell(error)
                if not results:
                    break
            if results[-1].interrupted:
                break
        return results

    def result(self, subject: Subject, method: str) -> Result:
        config = replace(self.config, method=method)
        with notes.status(f"inverting {subject.label}") as line:

            def on_best(prompt: str, value: float) -> None:
                line.update(f"{value:.3f}  {prompt}")

            if not subject.pictures:
                return self.inverter.distill(subject.text, config, negative=self.negative, on_best=on_best)
            result = self.inverter.invert(subject.pictures, config, negative=self.negative, on_best=on_best)
            if self.round_trip is None or result.interrupted:
                return result
            line.update(f"drawing {result.prompt}")
            return self.drawn(result, subject.pictures[0], self.round_trip)

    def drawn(self, result: Result, picture: Image.Image, round_trip: RoundTrip) -> Result:
        """The result with the prompt chosen by what it draws, and with its images, as far as that is asked for."""
        if self.output.select:
            result = round_trip.choose(result, picture)
            result = replace(result, alternatives=result.alternatives[: self.output.top])
        return round_trip.draw(result, picture) if self.output.generate else result

    def judged(self, subject: Subject, results: list[Result]) -> list[float]:
        """Each prompt's cosine with the subject under the judge, which no method optimises."""
        assert self.judge is not None
        pictures = subject.pictures
        latent = image_latent(self.judge, pictures) if pictures else text_latent(self.judge, subject.text)
        return [float(text_latent(self.judge, result.prompt) @ latent) for result in results]

    def print_results(self, subject: Subject, results: list[Result], several: bool) -> None:
        if self.output.as_json:
            source = {"image": subject.label} if subject.pictures else {}
            for result in results:
                print(json.dumps({**source, **result.to_json()}), flush=True)
        elif len(results) > 1:
            Console().print(comparison(subject.label, results, self.judged(subject, results)))
        else:
            for prompt, _ in results[0].alternatives:
                print(f"{subject.label}\t{prompt}" if several else prompt, flush=True)


def loaded(model: str, device: str | None, gap_images: str | None) -> Inverter:
    """The model, with its modality gap measured where example images are given."""
    with notes.status(f"loading {model}"):
        inverter = Inverter.load(model, device)
    if gap_images is not None:
        inverter.measure_gap(expanded([gap_images]))
    return inverter


def check_drawing(generate: int, select: str, shown: bool, one_picture: bool) -> None:
    """InputError where images are asked for that nobody would see, or that there is no picture to compare with."""
    if select not in CHOICES:
        raise InputError(f"unknown --select {select!r}: choose one of {', '.join(CHOICES)}")
    if generate < 0:
        raise InputError(f"--generate is {generate}: give 1 or more, or leave it out")
    if generate and not shown:
        raise InputError("--generate draws images but nothing shows them: add --report page.html, or --json for their figures")
    if (generate or select == "generator") and not one_picture:
        raise InputError("--generate and --select compare with one picture: leave them out with --text and --together")


def check_embedding(method: str, prompts: int) -> None:
    """InputError where --embedding has no soft prompt to save, or more than one."""
    if method not in SOFT_METHODS:
        raise InputError(f"the method {method!r} gives no soft prompt for --embedding: use {', '.join(SOFT_METHODS)}")
    if prompts > 1:
        raise InputError("--embedding saves one soft prompt: give one image, or --together")


def loaded_judge(clip: Clip, name: str | None) -> Clip:
    """The model of that name; else picturebook's own judge for picturebook, while any other model has to judge itself."""
    if name is None and clip.name != "picturebook":
        return clip
    with notes.status("loading the judge"):
        return load_clip(name or "picturebook-judge", clip.device)


def round_trip(config: InvertConfig, inverter: Inverter, judge: Clip, images: int) -> RoundTrip:
    """The generator that is asked for, loaded, for that many images of a prompt."""
    from invert.diffusion.generator import Generator  # with it comes diffusers, a slow import
    from invert.diffusion.roundtrip import RoundTrip

    with notes.status(f"loading {config.generator}"):
        drawing = Generator.load(config.generator, inverter.clip.device)
    return RoundTrip(inverter, drawing, judge, tuple(range(config.seed, config.seed + images)))


def comparison(label: str, results: list[Result], judged: list[float]) -> Table:
    """One row a method: prompt, cosine under the model and under the judge, and cost."""
    table = Table("method", "prompt", "score", "judge", "seconds", "token passes", title=label)
    for r, similarity in zip(results, judged, strict=True):
        cost = f"{r.forward_tokens + r.backward_tokens:,}"
        table.add_row(r.method, r.prompt, f"{r.score:.3f}", f"{similarity:.3f}", f"{r.seconds:.1f}", cost)
    return table


def main() -> NoReturn:
    """Entry point: bad input becomes one sentence and exit status 2."""
    try:
        status = app(standalone_mode=False)
    except (InputError, typer.Exit, typer.Abort, UsageError, KeyboardInterrupt) as error:
        if "--debug" in sys.argv and not isinstance(error, typer.Exit):
            raise
        status = exit_status(error)
    sys.exit(status or 0)


def exit_status(error: BaseException) -> int:
    """Say what went wrong, in one sentence, and return the exit status for it."""
    match error:
        case typer.Exit():
            return error.exit_code
        case InputError():
            print(f"invert: {error}", file=sys.stderr)
            return 2
    if isinstance(error, UsageError):
        message = getattr(error, "format_message", error.__str__)()
        print(f"invert: {message}", file=sys.stderr)
        return 2
    print("invert: interrupted before there was a prompt", file=sys.stderr)
    return INTERRUPTED
