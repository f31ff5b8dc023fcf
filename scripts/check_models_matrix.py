"""Run the command of every row of docs/models.md on a small model, from a clean install with the extra that the row names.

In: a wheel; out: a line for each command, exit status 1 where one did not do what its column promises. Run by the Python of
the development environment, whose tests' builders make the models: `python -m scripts.check_models_matrix dist/*.whl`. A row that
names an extra is also tried without it, where the command has to say so. Commands stand as the page shows them: of names of the
hub the small model lies in a cache of the hub, where open_clip's name stands for a large model its folder is given instead.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from scripts.check_readme import commands

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "models.md"
PATIENCE = 1800  # seconds after which a command counts as hanging
REVISION = "0" * 40  # of what lies in the hub's cache
BY_HAND = "others of `AutoPipelineForText2Image`"  # a row without a name: PixArt-α stands for it
Builder = Callable[[Path], object]


@dataclass(frozen=True)
class Row:
    """A line of a table.

    Attributes:
        family: what the table calls it.
        given: what stands for NAME in its commands: names, each with the options beside it.
        columns: of what works.
        extra: that it needs; "" where none.
    """

    family: str
    given: tuple[str, ...]
    columns: tuple[str, ...]
    extra: str


@dataclass(frozen=True)
class Try:
    """One command. shown: as on the page with its name; words: as it is run; column: what it has to do; extra: of its install."""

    row: Row
    column: str
    shown: str
    words: tuple[str, ...]
    extra: str


# What the page says --------------------------------------------------------------------------------


def sections(text: str) -> dict[str, str]:
    """Heading → text of the sections of a page."""
    parts = re.split(r"^## (.+)$", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def rows(section: str) -> list[Row]:
    """The rows of the table of a section."""
    lines = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in section.splitlines() if line.startswith("|")]
    header, _, *body = lines
    found = []
    for line in body:
        cells = dict(zip(header, line, strict=True))
        give = cells["give, for example"]
        working = tuple(name for name in header if cells[name] == "yes")
        extra = cells["extra"].partition(";")[0].strip("`")
        found.append(Row(cells["family"], given(give), working, "" if extra == "none" else extra))
    return found


def given(cell: str) -> tuple[str, ...]:
    """The names in a cell, each with its options: "`a/b` with `--model c`" is one, "`a/b`, `c/d`" are two."""
    names: list[str] = []
    for span in re.findall(r"`([^`]+)`", cell):
        if span.startswith("--"):
            names[-1] += f" {span}"
        elif "/" in span:
            names.append(span)
    return tuple(names)


def commands_of(section: str) -> dict[str, str]:
    """Column → its command: the lines of shell blocks that hold NAME, with the column behind `#`."""
    found = {}
    for line in commands(section):
        command, _, comment = line.partition("#")
        if "NAME" in command.split():
            found[re.split(r"\W", comment.strip())[0]] = command.strip()
    return found


# Small models ----------------------------------------------------------------------------------------


def encoders() -> dict[str, Builder]:
    """What makes the small model of a name, or of a row that gives none."""
    from tests.invert.conftest import saved_folder
    from tests.invert.models.conftest import built, save_clip

    def of(family: str) -> Builder:
        return lambda folder: built(family, folder)

    return {
        "ViT-L-14/openai": lambda folder: saved_folder(folder, width=64, heads=4, layers=2, quick_gelu=True),
        "hf:openai/clip-vit-large-patch14": lambda folder: save_clip(folder, 77),
        "LongCLIP": lambda folder: save_clip(folder, 248),
        "PE-Core-B-16/meta": of("PE-Core"),
        "ViT-B-16-SigLIP/webli": of("open_clip SigLIP"),
        "hf:google/siglip-base-patch16-224": of("SigLIP"),
        "ViT-B-16-SigLIP2/webli": of("open_clip SigLIP 2"),
        "hf:google/siglip2-base-patch16-224": of("SigLIP 2"),
        "hf:google/siglip2-base-patch16-naflex": of("SigLIP 2 NaFlex"),
        "ViT-L-14-CLIPA/datacomp1b": of("CLIPA"),
        "MobileCLIP2-S2/dfndr2b": of("MobileCLIP"),
        "ViT-H-14-worldwide/metaclip2_worldwide": of("open_clip MetaCLIP 2"),
        "hf:facebook/metaclip-2-worldwide-huge-quickgelu": of("MetaCLIP 2"),
    }


def generators() -> dict[str, Builder]:
    """As `encoders`; what is returned as a text is the name of the CLIPs that read what the pipeline reads."""
    from tests.invert.diffusion.families import small_pipeline
    from tests.invert.diffusion.pairs import save_with_clips

    def of(family: str) -> Builder:
        return lambda folder: small_pipeline(family).save_pretrained(folder)

    def with_clips(kind: str) -> Builder:
        def build(folder: Path) -> str:
            clips, pipeline = save_with_clips(kind, folder.with_name(f"{folder.name}-clips"))
            shutil.copytree(pipeline, folder, dirs_exist_ok=True)
            return clips

        return build

    def pixart_sigma(folder: Path) -> None:
        small_pipeline("PixArt").save_pretrained(folder)
        as_sentencepiece(folder / "tokenizer")

    def pixart_alpha(folder: Path) -> None:
        from diffusers import PixArtAlphaPipeline

        PixArtAlphaPipeline(**small_pipeline("PixArt").components).save_pretrained(folder)

    return {
        "stable-diffusion-v1-5/stable-diffusion-v1-5": with_clips("SD 1"),
        "stabilityai/stable-diffusion-xl-base-1.0": with_clips("SDXL"),
        "stabilityai/stable-diffusion-3.5-medium": of("Stable Diffusion 3"),
        "black-forest-labs/FLUX.1-schnell": of("FLUX"),
        "Qwen/Qwen-Image": of("Qwen-Image"),
        "PixArt-alpha/PixArt-Sigma-XL-2-1024-MS": pixart_sigma,
        BY_HAND: pixart_alpha,
    }


def as_sentencepiece(folder: Path) -> None:
    """Leave a T5's vocabulary as PixArt-Sigma publishes it: the sentencepiece model alone, which other packages have to read."""
    import sentencepiece

    from tests.invert.diffusion.families import TEXTS

    (folder / "tokenizer.json").unlink()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS), model_prefix=str(folder / "spiece"), vocab_size=60, hard_vocab_limit=False, pad_id=0,
        eos_id=1, unk_id=2, bos_id=-1, minloglevel=2,
    )  # fmt: skip


@dataclass
class Shelf:
    """Small models, each made once: in the cache of the hub where the hub has such names, else in a folder.

    Attributes:
        hub: the cache.
        folders: where all others lie.
        server: address of an image endpoint on this machine.
    """

    hub: Path
    folders: Path
    server: str
    builders: dict[str, Builder]
    made: dict[str, tuple[str, str]]

    def words(self, command: str, name: str) -> list[str]:
        """The words of a command for what stands for NAME: a name with options, or a family."""
        first, *options = shlex.split(name) if name not in self.builders else [name]
        found, clips = self.get(first)
        if clips and "--model" in options:
            options[options.index("--model") + 1] = clips
        words: list[str] = []
        for word in shlex.split(command):
            words += [found, *options] if word == "NAME" else [word]
        return words

    def get(self, name: str) -> tuple[str, str]:
        """What is given in place of a name, and the CLIPs that go with it ("" where none do)."""
        if name.startswith("https://"):
            return self.server, ""
        if name not in self.made:
            if name not in self.builders:
                raise SystemExit(f"{PAGE.name} names {name}: say in {Path(__file__).name} what makes a small model of it")
            folder, shown = self.place(name)
            folder.mkdir(parents=True)
            clips = self.builders[name](folder)
            self.made[name] = shown, clips if isinstance(clips, str) else ""
        return self.made[name]

    def place(self, name: str) -> tuple[Path, str]:
        """The folder that a model goes into, and how it is named then."""
        of_hub = name.startswith("hf:") or name in generators()
        if not of_hub or name == BY_HAND:
            folder = self.folders / re.sub(r"\W+", "-", name)
            return folder, str(folder)
        repository = self.hub / f"models--{name.removeprefix('hf:').replace('/', '--')}"
        (repository / "refs").mkdir(parents=True)
        (repository / "refs" / "main").write_text(REVISION)
        return repository / "snapshots" / REVISION, name


# Running ---------------------------------------------------------------------------------------------


def tries(page: str, shelf: Shelf, only: str) -> Iterator[Try]:
    """The commands of all rows whose family or column the pattern `only` finds."""
    parts = sections(page)
    for section in ("Encoders", "Generators"):
        templates = commands_of(parts[section])
        for row in rows(parts[section]):
            due = [(name, column) for name in row.given or (row.family,) for column in row.columns]
            due = [(name, column) for name, column in due if re.search(only, f"{row.family} {name} {column}")]
            for name, column in due:
                template = templates[column]
                if row.family == "picturebook":  # needs no name
                    template, words = template.replace("--generator NAME ", ""), []
                words = shlex.split(template) if row.family == "picturebook" else shelf.words(template, name)
                shown = template.replace("NAME", name)
                if row.extra and (name, column) == due[0]:
                    yield Try(row, column, shown, tuple(words), "")
                yield Try(row, column, shown, tuple(words), row.extra)


def environment(scratch: Path, wheel: Path, extra: str) -> Path:
    """The folder of commands of a clean virtual environment with the wheel and the extra; one that is there already is taken."""
    folder = scratch / f"venv-{extra or 'none'}"
    if not (folder / "bin" / "invert").exists():
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        wanted = f"{wheel.resolve()}[{extra}]" if extra else str(wheel.resolve())
        subprocess.run([folder / "bin" / "pip", "install", "-q", "-c", ROOT / "constraints.txt", wanted], check=True)
    return folder / "bin"


def run(one: Try, commands: Path, scratch: Path, hub: Path) -> str:
    """What is wrong with the way a command went; "" where nothing is."""
    inherited = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV", "HF_HOME")}
    inherited |= {"PATH": os.pathsep.join([str(commands), os.environ.get("PATH", "")]), "HOME": str(scratch / "home")}
    inherited |= {"HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(hub), "INVERT_CACHE": str(scratch / "cache")}
    try:
        done = subprocess.run(
            [commands / one.words[0], *one.words[1:]],
            cwd=scratch,
            env=inherited,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
    except subprocess.TimeoutExpired:
        return f"nothing after {PATIENCE} seconds"
    return fault(one, done.returncode, done.stdout, done.stderr)


def fault(one: Try, status: int, out: str, err: str) -> str:
    """What is wrong with an exit status and what was written; "" where nothing is."""
    if one.extra != one.row.extra:  # without what the row needs
        sentences = [line for line in err.splitlines() if line.startswith("invert: ")]
        named = status == 2 and len(sentences) == 1 and f"[{one.row.extra}]" in sentences[0]
        return "" if named else f"exit status {status}, and no sentence that names the extra: {err[-300:]}"
    if status or not out.strip() or "Traceback" in err:
        return f"exit status {status}: {err[-2000:]}"
    if "--json" not in one.words:
        return ""
    found: dict[str, Any] = json.loads(out)
    wanted = {"prompt": "drawn", "soft": "soft_drawn", "judge": "judge"}[one.column]
    drawn = found.get(wanted)
    if not drawn or not found["prompt"]:
        return f"nothing under {wanted!r}: {err[-2000:]}"
    problems = [image["problem"] for image in drawn if image.get("problem")] if isinstance(drawn, list) else []
    return "; ".join(problems)


@contextmanager
def endpoint() -> Iterator[str]:
    """The address of an image endpoint on this machine, within the context."""
    from tests.invert.diffusion.image_server import Server, serving

    with serving(Server()) as server:
        yield server.url


def main() -> int:
    parser = argparse.ArgumentParser(description="Run the command of every row of docs/models.md from clean installs.")
    parser.add_argument("wheel", type=Path)
    parser.add_argument("--scratch", type=Path, help="folder for environments and models; those environments are taken again")
    parser.add_argument("--only", default="", help="rows and columns whose names this regular expression finds")
    options = parser.parse_args()
    failures = 0
    with tempfile.TemporaryDirectory(dir=options.scratch) as folder, endpoint() as server:
        work = Path(folder)
        Image.radial_gradient("L").resize((96, 80)).convert("RGB").save(work / "image.png")
        shelf = Shelf(work / "hub", work / "models", server, {**encoders(), **generators()}, {})
        for one in tries(PAGE.read_text(encoding="utf-8"), shelf, options.only):
            commands = environment(options.scratch or work, options.wheel, one.extra)
            began = time.perf_counter()
            problem = run(one, commands, work, shelf.hub)
            failures += bool(problem)
            seconds = time.perf_counter() - began
            print(f"{'wrong' if problem else 'right'} {seconds:5.0f} s  [{one.extra or 'no extra'}]  {one.shown}", flush=True)
            if problem:
                print(problem, file=sys.stderr, flush=True)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
