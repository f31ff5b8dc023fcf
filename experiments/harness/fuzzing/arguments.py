"""Random command lines: pictures, options with good and odd values, outputs, and what is known to be wrong with them."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

MAX_TOP = 10  # distinct prompts that the stand-in has
ODD_NUMBERS = ["nan", "inf", "-inf", "1e999", "", "x", "0x10", "1e400", "- 1", "½", "1,5"]
HUGE = "9" * 30
ODD_WORDS = [
    "",
    " ",
    "[red]",
    "[/]",
    "[bold]x[/bold]",
    "\x1b[31m",
    "a\nb",
    "\t",
    "é 猫 🦊",
    "\udce9",
    "x" * 300,
    "x" * 5000,
    "-",
    "--",
    "'\"",
]
ODD_NAMES = [
    "[red]x[bold].png",
    "a\nb.png",
    "\udce9.png",
    "猫 🦊.png",
    "sp ace.png",
    "\x1b[31m.png",
    "-x.png",
    "[bold].png",
    "%s{}.png",
]


@dataclass
class Line:
    """A command line, with what is known to be wrong with it and what it is to print."""

    words: list[str] = field(default_factory=list)
    faults: int = 0  # arguments that nobody may take
    pictures: int = 0  # that can be read
    lines: int | None = None  # of stdout, where that is known
    stdin: bytes = b""
    encoding: str = "utf-8"
    full: bool = False  # stdout takes nothing
    outputs: list[Path] = field(default_factory=list)


def add_pictures(rng: np.random.Generator, line: Line, here: Path) -> None:
    """The positional arguments; with them line.lines, until an option changes it."""
    for i in range(int(rng.choice([1, 1, 1, 2, 3]))):
        kind = int(rng.integers(14))
        path = here / f"{i}.png"
        if kind <= 5:
            Image.new("RGB", (9 + i, 9)).save(path)
            line.words.append(str(rng.choice([str(path), path.name, f"./{path.name}"])))
            line.pictures += 1
        elif kind <= 7:
            path = here / str(rng.choice(np.array(ODD_NAMES, object)))
            Image.new("RGB", (9 + i, 9)).save(path, "png")
            line.words.append(f"./{path.name}")
            line.pictures += 1
        elif kind == 8:
            inside = here / f"folder{i}"
            inside.mkdir()
            for j in range(int(rng.integers(0, 3))):
                Image.new("RGB", (9, 9)).save(inside / f"{j}.png")
                line.pictures += 1
            (inside / "notes.txt").touch()
            line.faults += not any(inside.glob("*.png"))
            line.words.append(str(inside))
        elif kind == 9 and "-" not in line.words:
            file = io.BytesIO()
            Image.new("RGB", (9, 9)).save(file, "png")
            good = bool(rng.integers(2))
            line.stdin = file.getvalue() if good else [b"", b"text", file.getvalue()[:30]][rng.integers(3)]
            line.pictures, line.faults = line.pictures + good, line.faults + (not good)
            line.words.append("-")
        else:
            path.write_bytes([b"", b"text", b"\x89PNG\r\n\x1a\n", b"%!PS-Adobe-3.0 EPSF-3.0\n"][rng.integers(4)])
            wrong = [
                path.name,
                "missing.png",
                "",
                "http://127.0.0.1:9/x.png",
                "http://[",
                "file:///x.png",
                "/dev/null",
                "x" * 300,
            ]
            line.words.append(wrong[rng.integers(len(wrong))])
            line.faults += 1
    line.lines = line.pictures


def odd(words: list[str], rng: np.random.Generator) -> str:
    return words[rng.integers(len(words))]


def number_option(name: str, good: list[str], bad: list[str]) -> Callable[[np.random.Generator, Line, Path], None]:
    def add(rng: np.random.Generator, line: Line, _: Path) -> None:
        if name in line.words:
            return
        wrong = bool(rng.integers(2))
        value = odd([*bad, *ODD_NUMBERS], rng) if wrong else odd(good, rng)
        line.words += [name, value]
        line.faults += wrong
        if name == "--top" and not wrong and line.lines is not None:
            line.lines *= min(int(value), MAX_TOP)

    return add


def choice_option(name: str, good: list[str]) -> Callable[[np.random.Generator, Line, Path], None]:
    def add(rng: np.random.Generator, line: Line, _: Path) -> None:
        if name in line.words:
            return
        wrong = bool(rng.integers(2))
        line.words += [name, odd([*ODD_WORDS, "nonsense", good[0] + "x"], rng) if wrong else odd(good, rng)]
        line.faults += wrong

    return add


def word_option(name: str) -> Callable[[np.random.Generator, Line, Path], None]:
    """An option that takes any words; whether they make sense only the model knows."""

    def add(rng: np.random.Generator, line: Line, _: Path) -> None:
        if name not in line.words:
            line.words += [name, odd([*ODD_WORDS, "a fox", "red, blue"], rng)]
            line.lines = None

    return add


def output_option(name: str, ending: str) -> Callable[[np.random.Generator, Line, Path], None]:
    def add(rng: np.random.Generator, line: Line, here: Path) -> None:
        if name in line.words:
            return
        kind = int(rng.integers(9))
        path = here / f"out{len(line.words)}{ending}"
        if kind == 1:
            path = here / "missing" / path.name
        elif kind == 2:
            path.mkdir()
        elif kind == 3:
            path = here / ("x" * 300)
        elif kind == 4:
            path = Path("/proc/none") / path.name
        elif kind == 5:
            path.symlink_to(path)
        elif kind == 6:
            (here / f"out-target{ending}").write_bytes(b"old")
            path.symlink_to(here / f"out-target{ending}")
        elif kind == 7:
            path.write_bytes(b"old")
        line.words += [name, str(path)]
        good = kind not in (1, 2, 3, 4, 5)
        line.faults += not good
        if good and name != "--embedding":
            line.outputs.append(path)
        elif name == "--embedding":
            line.lines = None

    return add


def switch_option(name: str) -> Callable[[np.random.Generator, Line, Path], None]:
    def add(_: np.random.Generator, line: Line, __: Path) -> None:
        if name not in line.words:
            line.words.append(name)
            line.lines = None

    return add


def compare_option(rng: np.random.Generator, line: Line, _: Path) -> None:
    if "--compare" not in line.words:
        wrong = bool(rng.integers(2))
        line.words += [
            "--compare",
            odd(["nonsense", "pez,nonsense", "[red]"], rng) if wrong else odd(["pez", "pez,gcg", "nearest"], rng),
        ]
        line.faults += wrong
        line.lines = None


def corpus_option(rng: np.random.Generator, line: Line, here: Path) -> None:
    contents = [
        b"a fox\na red car\n",
        b"",
        b"\n\n",
        b"\xff\xfe\0",
        b"[red]\n" * 50,
        b"x" * 10**6,
        b"a fox\n" * 10**5,
        rng.bytes(500),
    ]
    path = here / "corpus.txt"
    path.write_bytes(contents[rng.integers(len(contents))])
    if "--corpus" not in line.words:
        line.words += ["--corpus", odd([str(path), str(path), str(path), "missing.txt", "", str(here), "x" * 300], rng)]
        line.lines = None


def phrases_option(rng: np.random.Generator, line: Line, here: Path) -> None:
    """A table of phrases, with --analyze or, which is a fault, without it."""
    if "--phrases" in line.words:
        return
    path = here / "[moods].txt"
    path.write_bytes([b"calm\nwild\n", b"[red]\n", b"", b"\xff\xfe\0", b"x" * 10**5, b"a\tb\n\x1b[31m\n"][rng.integers(6)])
    line.words += ["--phrases", odd([str(path), path.name, "missing.txt", "", str(here / "none"), "x" * 300], rng)]
    line.lines = None
    if rng.integers(4):
        line.words += [] if "--analyze" in line.words else ["--analyze"]
    else:
        line.faults += "--analyze" not in line.words


def wrong_option(name: str, *values: str) -> Callable[[np.random.Generator, Line, Path], None]:
    """An option with values that nobody may take, or that does nothing with what the other options of these lines are."""

    def add(rng: np.random.Generator, line: Line, _: Path) -> None:
        if name not in line.words:
            line.words += [name, odd(list(values), rng)]
            line.faults += 1

    return add


SETTINGS = [
    "pez.lr",
    "=",
    "",
    "nonsense.x=1",
    "invert.beam=x",
    "invert.nonsense=1",
    "[red].x=1",
    "invert.beam=-1",
    "ph2p.iterations=1",
]
OPTIONS: tuple[Callable[[np.random.Generator, Line, Path], None], ...] = (
    *(number_option(name, ["1", "5", "8"], ["0", "-1", "2.5", HUGE]) for name in ("--restarts", "--top")),
    *(
        number_option(name, ["1", "5", "8", HUGE], ["0", "-1", "2.5"]) for name in ("--tokens", "--max-tokens")
    ),  # at most the context
    number_option("--budget", ["1", "100000", HUGE], ["0", "-1", "2.5"]),
    number_option("--soft-steps", ["0", "5"], ["-1", "2.5", "10000000", HUGE]),
    number_option("--seconds", ["1", "2.5", "1e6"], ["0", "-1"]),
    number_option("--seed", ["0", "-1", "9223372036854775807"], ["2.5", str(2**64), str(-(2**70)), HUGE]),
    *(number_option(name, ["0", "0.5", "-0.1"], []) for name in ("--token-penalty", "--language-weight", "--negative-weight")),
    number_option("--generate", ["0"], ["-1", "100000"]),
    choice_option("--method", ["invert", "pez", "gcg", "nearest"]),
    choice_option("--target", ["raw", "empty", "gap"]),
    choice_option("--select", ["score"]),
    choice_option("--model", ["picturebook"]),
    choice_option("--device", ["cpu"]),
    *(
        word_option(name)
        for name in ("--negative", "--init-prompt", "--must-include", "--ban", "--gap-images", "--text", "--judge")
    ),
    output_option("--report", ".html"),
    output_option("--trace", "-trace.png"),
    output_option("--embedding", ".safetensors"),
    choice_option("--bundle", ["picturebook"]),
    choice_option("--dtype", ["float32"]),
    choice_option("--embedded", ["show", "ignore"]),
    word_option("--generator"),
    switch_option("--analyze"),
    phrases_option,
    wrong_option("--set", *SETTINGS),
    wrong_option("--model-weights", "x", "1,x", ""),
    *(wrong_option(name, "5", *ODD_NUMBERS) for name in ("--steps", "--guidance", "--size")),
    wrong_option("--generator-model", "x", "[red]"),
    wrong_option("--polish-steps", "-1", *ODD_NUMBERS),
    switch_option("--json"),
    switch_option("--together"),
    switch_option("--low-memory"),
    compare_option,
    corpus_option,
)
