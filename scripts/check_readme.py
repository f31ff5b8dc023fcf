"""Run every command of the README and of docs/command-line.md as a reader would, with the package as it is installed.

In: the pages and an environment with `prompt-inversion` in it; out: a line for each command, exit status 1 where one
did not do what it should. Commands run in a scratch folder, with the Python that runs this file:
`clean/bin/python scripts/check_readme.py`. A command must exit with 0. One that wants an extra which is not installed,
or weights that are not here, must exit with 2 and say so in one sentence. Commands that set an environment up are left
out (whoever runs this has run them), and so are servers whose extra is installed: they would not end.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
SHELLS = ("", "bash", "sh", "console")
PAGES = (ROOT / "README.md", ROOT / "docs" / "command-line.md")
SET_UP = ("pip install", "git clone", "pytest", "docker ", "uvx ", ".ci/run")
LASTING = ("invert serve",)  # where the extra is there, it would not end
# What a command holds → (module that it needs, extra that brings the module).
EXTRAS = {
    "--generate": ("diffusers", "diffusion"),
    "--select generator": ("diffusers", "diffusion"),
    "interrogator,": ("clip_interrogator", "compare"),
    "invert shards": ("pyarrow", "shards"),
    "invert serve": ("gradio", "app"),
}
ELSEWHERE = ("--model ViT", "--model hf:", "path/to/")  # weights that are not here: nothing is downloaded for a check
PATIENCE = 1800  # seconds after which a command counts as hanging


@dataclass(frozen=True)
class Block:
    """A fenced block of the README. language: "" where none is named."""

    language: str
    text: str


@dataclass(frozen=True)
class Outcome:
    """What a command did: its exit status, what it wrote, and what is wrong with that ("" where nothing is)."""

    status: int
    stderr: str
    seconds: float
    fault: str


def blocks(text: str) -> Iterator[Block]:
    """The fenced blocks of a Markdown text."""
    for match in re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        yield Block(match[1], match[2])


def commands(text: str) -> list[str]:
    """The lines of a Markdown text's shell blocks that hold a command, as a shell takes them, `.venv/bin/` taken off."""
    lines = (
        line.removeprefix("$ ").replace(".venv/bin/", "")
        for block in blocks(text)
        if block.language in SHELLS
        for line in block.text.replace("\\\n", " ").splitlines()
    )
    return [line for line in lines if bare(line)]


def bare(command: str) -> str:
    """The command's words, without comments."""
    return " ".join(shlex.split(command, comments=True))


def sets_up(command: str) -> bool:
    """Whether the command prepares an environment rather than uses it."""
    return any(part in bare(command) for part in SET_UP)


def lasts(command: str) -> bool:
    """Whether the command would run until somebody ends it."""
    return any(part in bare(command) for part in LASTING) and not missing_extra(command)


def missing_extra(command: str) -> str:
    """The extra that the command needs and that is not installed here; "" where there is none."""
    for part, (module, extra) in EXTRAS.items():
        if part in bare(command) and importlib.util.find_spec(module) is None:
            return extra
    return ""


def fault(command: str, status: int, stderr: str) -> str:
    """What is wrong with the way a command ended; "" where nothing is."""
    if "Traceback" in stderr:
        return "a traceback"
    extra = missing_extra(command)
    if not extra and not any(part in bare(command) for part in ELSEWHERE):
        return "" if status == 0 else f"exit status {status} instead of 0"
    sentences = [line for line in stderr.splitlines() if line.startswith("invert: ")]
    if status != 2 or len(sentences) != 1:
        return f"exit status {status} with {len(sentences)} sentences, instead of 2 with one"
    return "" if f"[{extra}]" in sentences[0] or not extra else f"the sentence does not name the extra {extra!r}"


def scratch(folder: Path) -> None:
    """The files that the pages' commands speak of."""
    examples = ROOT / "examples"
    shutil.copytree(examples, folder / "examples")
    pictures = {"image.png": "lobster", "photo.jpg": "fox", "a.png": "fox", "b.png": "clocks", "style/one.png": "fox"}
    pictures |= {"style/two.png": "clocks", "pictures/one.png": "lobster", "pictures/deeper/two.png": "fox"}
    for name, picture in pictures.items():  # a picture's kind is told by its content, not by its name
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(examples / f"{picture}.png", folder / name)
    (folder / "prompts.txt").write_text("a fox on a red background\ntwo alarm clocks\na lobster above a palm tree\n")


def run(command: list[str], shown: str, folder: Path) -> Outcome:
    """Run one command in the folder, with this environment's commands before all others and without a network's models."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    environment = {**os.environ, "PATH": path, "HF_HUB_OFFLINE": "1", "INVERT_CACHE": str(folder / "cache")}
    environment.pop("PYTHONPATH", None)  # the package as it is installed, not a clone
    began = time.perf_counter()
    try:
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        return Outcome(-1, "", time.perf_counter() - began, f"nothing after {PATIENCE} seconds")
    seconds = time.perf_counter() - began
    return Outcome(done.returncode, done.stderr, seconds, fault(shown, done.returncode, done.stderr))


def check(text: str, folder: Path) -> bool:
    """Run every command and Python block of a page; whether all did what they should."""
    scratch(folder)
    due = [(["bash", "-c", command], command) for command in commands(text) if not sets_up(command) and not lasts(command)]
    due += [([sys.executable, "-c", block.text], "(Python block)") for block in blocks(text) if block.language == "python"]
    right = True
    for command, shown in due:
        outcome = run(command, shown, folder)
        print(f"{outcome.fault or 'right':8} {outcome.seconds:6.1f} s  {outcome.status}  {shown}", flush=True)
        if outcome.fault:
            right = False
            print(outcome.stderr, file=sys.stderr)
    return right


def main() -> int:
    parser = argparse.ArgumentParser(description="Run every command of the README and of docs/command-line.md.")
    parser.add_argument("pages", nargs="*", type=Path, default=PAGES)
    right = True
    for page in parser.parse_args().pages:
        with tempfile.TemporaryDirectory() as folder:
            right = check(page.read_text(encoding="utf-8"), Path(folder)) and right
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
