"""Names, prompts and numbers that might break the command: brackets, control characters, lengths, encodings, NaN."""

from __future__ import annotations

import html
import io
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import get_type_hints

import pytest
from PIL import Image
from rich.console import Console

from invert.cli import terminal
from invert.cli.flags import translated
from invert.cli.options import Options, parser
from invert.cli.sources import checked
from invert.cli.table import comparison
from invert.config import TARGETS
from invert.escape import escaped
from invert.methods import method_names
from invert.methods.configs import InvertMethodConfig, PezConfig

NASTY = [
    "[/b]",
    "[red]a",
    "line\nfeed",
    "tab\tbed",
    "\x1b[31mred",
    "back\\slash",
    "\u202eright",
    "\udcff",
    "[bold",
    "grüße",
    "%s {}",
]


def test_what_prints_is_shown_as_it_is():
    assert [escaped(text) for text in ("[/b] grüße 狐", r"C:\new")] == ["[/b] grüße 狐", r"C:\new"]


@pytest.mark.parametrize(
    ("text", "shown"),
    [("a\nb", r"a\nb"), ("\x1b[31m", r"\x1b[31m"), ("\u202e", r"\u202e"), ("\udcff", r"\udcff"), ("\u2028", r"\u2028")],
)
def test_what_does_not_print_is_escaped(text, shown):
    assert escaped(text) == shown


def test_what_the_terminal_lacks_is_escaped():
    assert escaped("grüße 狐", "latin-1") == r"grüße \u72d0" and escaped("ü", "ascii") == r"\xfc"


@pytest.mark.parametrize("name", [text for text in NASTY if "/" not in text])
def test_a_file_with_an_odd_name_is_one_line_of_text_and_exact_json(run, tmp_path, name):
    path = tmp_path / f"{name}.png"
    Image.new("RGB", (9, 9)).save(path)
    done = run(path, path)
    assert done.status == 0 and done.out.splitlines() == [f"{escaped(str(path))}\ta picture of 9 pixels"] * 2
    assert json.loads(run(path, "--json").out)["image"] == str(path)


@pytest.mark.parametrize("prompt", NASTY)
def test_an_odd_prompt_is_one_line_of_text_and_exact_json(run, light, pictures, prompt):
    light.answers[0] = light.answers[1] = prompt
    assert run(pictures[0]).out == f"{escaped(prompt)}\n"
    assert json.loads(run(pictures[0], "--json").out)["prompt"] == prompt


def test_odd_names_and_prompts_are_drawn_and_reported(run, light, tmp_path):
    path = tmp_path / "".join(text for text in NASTY if "/" not in text)
    Image.new("RGB", (9, 9)).save(path, "PNG")
    light.answers[0] = "".join(NASTY)
    assert run(path, "--report", tmp_path / "page.html", "--trace", tmp_path / "t.png").status == 0
    assert html.escape(escaped("".join(NASTY))) in (tmp_path / "page.html").read_text()


@pytest.mark.parametrize("text", NASTY)
def test_rich_reads_no_markup_in_the_words_of_users(found, text):
    console = Console(width=200, file=io.StringIO(), record=True)
    console.print(comparison(text, [replace(found, prompt=text, method=text, judge=0.5)]))
    assert console.export_text().count(escaped(text)) == 3
    console.print(terminal.as_text(text))
    assert escaped(text) in console.export_text()


@pytest.mark.parametrize("option", ["--model", "--generator", "--judge", "--device", "--gap-images"])
@pytest.mark.parametrize("name", ["[/b]", "x" * 5000, "a\nb"])
def test_an_odd_name_of_a_model_is_one_sentence(command, pictures, option, name):
    needs = ("--select", "generator") if option in ("--generator", "--judge") else ()
    model = ("--model", "picturebook-judge") if option == "--device" else ()
    done = command(pictures[0], option, name, *needs, *model)
    assert done.status == 2 and len(done.sentences) == 1 and done.err.startswith("invert: "), done.err


@pytest.mark.parametrize("prompt", ["blurry background, " * 20, "[/b]", "a\0b", "~nobody/x"])
def test_a_long_or_odd_negative_is_a_prompt(run, pictures, prompt):
    assert run(pictures[0], "--negative", prompt).status == 0


def test_an_empty_path_is_no_folder(run):
    done = run("")
    assert done.status == 2 and "empty" in done.err and len(done.sentences) == 1


@pytest.mark.parametrize("option", ["--negative-weight", "--language-weight", "--token-penalty", "--seconds"])
@pytest.mark.parametrize("number", ["nan", "inf", "-inf", "1e999"])
def test_a_number_that_is_none_is_one_sentence_with_the_flag(run, pictures, option, number):
    done = run(pictures[0], option, number)
    assert done.status == 2 and len(done.sentences) == 1 and option in done.err


@pytest.mark.parametrize("seed", [2**63, -(2**63) - 1, 10**40])
def test_a_seed_beyond_64_bits_is_one_sentence(run, pictures, seed):
    done = run(pictures[0], "--seed", seed)
    assert done.status == 2 and len(done.sentences) == 1 and "--seed" in done.err


@pytest.mark.parametrize("seed", [2**63 - 1, -(2**63), 0])
def test_a_seed_of_64_bits_is_taken(run, pictures, seed):
    assert json.loads(run(pictures[0], "--json", "--seed", seed).out)["seed"] == seed


@pytest.mark.parametrize("option", ["--restarts", "--soft-steps", "--top", "--generate"])
def test_a_number_beyond_all_measure_is_one_sentence(run, pictures, option):
    done = run(pictures[0], option, 10**30, "--json")
    assert done.status == 2 and len(done.sentences) == 1 and option in done.err


def test_an_address_in_capitals_is_no_file():
    assert checked("HTTP://127.0.0.1:9/photo.png") == "HTTP://127.0.0.1:9/photo.png"


def test_folders_that_cannot_be_taken_are_told_and_the_rest_is_done(run, pictures, tmp_path):
    empty, outer = tmp_path / "empty", tmp_path / "outer"
    empty.mkdir()
    (outer / "inner").mkdir(parents=True)
    done = run(empty, pictures[0], outer, "nowhere.png", pictures[1])
    assert done.status == 2 and len(done.out.splitlines()) == 2
    assert [name in line for name, line in zip((str(empty), "inner", "nowhere.png"), done.sentences, strict=True)] == [True] * 3


def test_a_folder_beside_pictures_is_named(run, pictures):
    (pictures[0].parent / "more").mkdir()
    done = run(pictures[0].parent)
    assert done.status == 0 and len(done.out.splitlines()) == 4 and "more" in done.err


def test_a_picture_on_standard_input(run, pictures, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(pictures[0].read_bytes())))
    assert json.loads(run("-", "--json").out)["image"] == "-"


@pytest.mark.parametrize(("content", "words"), [(b"", ["-"]), (b"no picture", ["-"]), (b"", ["-", "-"])])
def test_standard_input_without_a_picture_is_one_sentence(run, monkeypatch, content, words):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    done = run(*words)
    assert done.status == 2 and len(done.sentences) == 1 and "standard input" in done.err


def test_an_output_may_not_take_the_place_of_a_picture_or_of_another_output(run, pictures, tmp_path):
    before = pictures[0].read_bytes()
    done = run(pictures[0], "--trace", pictures[0])
    assert done.status == 2 and "overwrite" in done.err and pictures[0].read_bytes() == before
    done = run(pictures[0], "--trace", tmp_path / "a", "--report", tmp_path / "a")
    assert done.status == 2 and "--trace" in done.err and "--report" in done.err and not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    ("sentence", "shown"),
    [
        ("`max_tokens` is 0", "--max-tokens is 0"),
        ('use `target="raw"`', "use --target raw"),
        ("`as_json` or `report`", "--json or --report"),
        ("`pez.lr` is -1", "--set pez.lr is -1"),
        ("see `Inverter.load` and `invert image.png`", "see `Inverter.load` and `invert image.png`"),
        ("`unknown_parameter`", "`unknown_parameter`"),
    ],
)
def test_parameters_of_the_library_are_flags_of_the_command(sentence, shown):
    assert translated(sentence) == shown


def test_the_names_that_help_shows_are_the_librarys():
    hints = get_type_hints(Options, include_extras=True)
    methods, targets = (hints[name].__metadata__[0].help for name in ("method", "target"))
    assert all(name in methods for name in method_names()) and all(target in targets for target in TARGETS)


def test_an_extra_that_is_missing_is_named_before_anything_is_loaded(run, light, pictures, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for words in (["--generate", 1], ["--select", "generator"], ["--method", "ph2p"], ["--compare", "textual-inversion"]):
        done = run(pictures[0], *words, "--json")
        assert done.status == 2 and "prompt-inversion[diffusion]" in done.err and len(done.sentences) == 1
    assert "prompt-inversion[compare]" in run(pictures[0], "--method", "interrogator").err
    assert light.calls == 0


def test_every_option_reaches_its_field():
    taken: list[Options] = []
    parser(lambda options: taken.append(options) or 0)(["a.png", "--top", "3", "--json", "--ban", "x"], standalone_mode=False)
    parser(lambda options: taken.append(options) or 0)(["a.png", "--analyze", "--phrases", "b.txt"], standalone_mode=False)
    assert taken == [
        Options(images=["a.png"], top=3, as_json=True, ban="x"),
        Options(images=["a.png"], analyze=True, phrases="b.txt"),
    ]
    assert [options.n_top for options in (*taken, Options())] == [3, 5, 1]


LIGHT = """
import io, sys
from contextlib import redirect_stderr, redirect_stdout
from invert.cli import main
import PIL  # installed packages are found
for words in (["--help"], ["-h"], ["--version"], [], ["--color"], ["nowhere.png"], ["a", "--tokens", "0"], ["a", "--seed", "x"],
              ["a", "--select", "x"], ["a", "--method", "pezz"], ["a", "--target", "x"], ["a", "--report", "/nowhere/a"],
              ["a", "--corpus", "nowhere"], ["a", "--generate", "1"], ["a", "--text", "b"], ["a", "--seconds", "nan"],
              ["a", "--method", "gcg", "--embedding", "b"], ["a", "--analyze", "--phrases", "nowhere"],
              ["a", "--analyze", "--compare", "pez"]):
    sys.argv = ["invert", *words]
    with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
        try:
            main()
        except SystemExit as exit:
            status = exit.code or 0
    heavy = {"torch", "open_clip", "transformers", "matplotlib", "numpy", "faiss"} & set(sys.modules)
    assert not heavy, (words, heavy)
    helps = bool(words) and words[0] in ("-h", "--help", "--version")
    assert (status, bool(out.getvalue()), bool(err.getvalue())) == ((0, True, False) if helps else (2, False, True)), words
"""


def test_help_version_and_usage_errors_import_nothing_heavy():
    done = subprocess.run([sys.executable, "-c", LIGHT], capture_output=True, text=True, cwd=Path(__file__).parents[3])
    assert done.returncode == 0, done.stderr


IMPORTING = """
import os, signal, sys
class Kill:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            os.kill(os.getpid(), signal.{signal})
sys.meta_path.insert(0, Kill())
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.argv = ["invert", {picture!r}]
from invert.cli import main
main()
"""


@pytest.mark.parametrize(("name", "status", "word"), [("SIGINT", 130, "interrupted"), ("SIGTERM", 143, "terminated")])
def test_a_signal_while_importing_is_one_sentence(pictures, name, status, word):
    code = IMPORTING.format(signal=name, picture=str(pictures[0]))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[3])
    assert done.returncode == status and done.stderr == f"invert: {word} before there was a prompt\n" and done.stdout == ""


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--set", "pezz.lr=1"], "unknown method 'pezz' (did you mean 'pez'?)"),
        (["--method", "pez", "--set", "pez.rate=1"], "the method 'pez' has no setting 'rate'"),
        (["--method", "pez", "--set", "pez.lr=fast"], "--set pez.lr is 'fast': give a number"),
        (["--method", "pez", "--set", "pez.steps=0"], "--set pez.steps is 0: give a number of at least 1"),
        (["--set", "gcg.topk=9"], "--set names the method 'gcg', which does not run: choose it with --method or --compare"),
        (["--set", "beam=9"], "sets nothing: write METHOD.FIELD=VALUE"),
        (["--bundle", "picturbook"], "unknown bundle 'picturbook' (did you mean 'picturebook'?)"),
    ],
)
def test_settings_and_bundles_that_are_not_there_are_told_before_anything_is_loaded(run, light, pictures, words, sentence):
    done = run(pictures[0], *words)
    assert done.status == 2 and sentence in done.err and len(done.sentences) == 1 and light.calls == 0


def test_the_settings_of_every_method_that_runs_reach_it(run, light, pictures, monkeypatch):
    given = []
    found = light.invert_joint

    def invert_joint(images, config, **more):
        given.append((config.method, config.method_config))
        return found(images, config, **more)

    monkeypatch.setattr(light, "invert_joint", invert_joint)
    light.bundle.evaluator = lambda: None
    monkeypatch.setattr("invert.cli.batch.Job.judged", lambda *_: [0.5, 0.5])
    run(pictures[0], "--compare", "pez", "--set", "pez.lr=0.2", "--set", "invert.beam=3")
    assert given == [("invert", InvertMethodConfig(beam=3)), ("pez", PezConfig(lr=0.2))]
