"""No output is written over what a run reads, and no value that was given is dropped without a word."""

from __future__ import annotations

import contextlib
import os
from typing import get_args, get_origin, get_type_hints

import pytest
import typer
from PIL import Image

from invert.cli.encode import EncodeOptions
from invert.cli.failures import UsageError
from invert.cli.flags import RENAMED
from invert.cli.inputs import Input, files_in
from invert.cli.options import LEAST_GAP_IMAGES, Options, parser
from invert.cli.outputs import is_somebody_elses, what_is_lost
from invert.cli.repeated import JOINED
from invert.cli.run import RunOptions
from invert.cli.serve import ServeOptions
from invert.cli.shards import ShardOptions
from invert.errors import InputError
from invert.methods.settings import parse_settings

READ = {
    "the corpus": (["--corpus", "a.txt"], "the --corpus"),
    "the phrases": (["--analyze", "--phrases", "a.txt"], "the --phrases"),
    "a negative": (["--negative", "a.txt"], "the --negative"),
}


@pytest.fixture
def text(tmp_path, monkeypatch):
    """A file of the user's, a.txt in the working directory."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "a.txt"
    path.write_text("a red fox\n")
    return path


@pytest.mark.parametrize(("words", "what"), READ.values(), ids=READ)
def test_a_report_does_not_take_the_place_of_what_is_read(run, pictures, text, words, what):
    done = run(pictures[0], *words, "--report", "a.txt")
    assert done.status == 2 and f"--report would overwrite {what} a.txt" in done.err and len(done.sentences) == 1
    assert text.read_text() == "a red fox\n"


@pytest.mark.parametrize("output", ["--report", "--trace", "--embedding"])
def test_every_output_is_compared_also_through_links(run, pictures, text, output):
    os.link(text, "hard.txt")
    os.symlink(text, "soft.txt")
    for path in ("a.txt", "hard.txt", "soft.txt"):
        done = run(pictures[0], "--corpus", "a.txt", output, path)
        assert done.status == 2 and "would overwrite the --corpus" in done.err
    assert text.read_text() == "a red fox\n"


def test_a_text_to_shorten_has_a_corpus_that_stays(run, text):
    done = run("--text", "a fox", "--corpus", "a.txt", "--report", "a.txt")
    assert done.status == 2 and "would overwrite the --corpus a.txt" in done.err


def test_files_of_folders_stay(run, pictures, tmp_path):
    lists = tmp_path / "lists"
    lists.mkdir()
    (lists / "colors.txt").write_text("teal\n")
    done = run(pictures[0], "--analyze", "--phrases", lists, "--report", lists / "colors.txt")
    assert done.status == 2 and "would overwrite the --phrases" in done.err and (lists / "colors.txt").read_text() == "teal\n"
    for words in (["--caption", lists], ["--model", f"picturebook+{lists}"]):
        done = run(pictures[0], *words, "--report", lists / "colors.txt")
        assert done.status == 2 and f"would overwrite a file of the {words[0]}," in done.err
    assert list(files_in(str(lists), {".png"})) == []


def test_example_images_stay(run, pictures, tmp_path):
    examples = tmp_path / "examples"
    examples.mkdir()
    for i in range(LEAST_GAP_IMAGES):
        Image.new("RGB", (9, 9), (i, i, i)).save(examples / f"{i}.png")
    done = run(pictures[0], "--target", "gap", "--gap-images", examples, "--trace", examples / "3.png")
    assert done.status == 2 and "--trace would overwrite one of the --gap-images," in done.err


@pytest.mark.parametrize(("path", "count"), [("11.png", "one picture"), (".", "4 pictures")])
def test_few_examples_measure_no_gap(run, pictures, monkeypatch, path, count):
    monkeypatch.chdir(pictures[0].parent)
    done = run(pictures[0], "--target", "gap", "--gap-images", path)
    assert done.status == 2 and f"--gap-images {path} is {count}, whose" in done.err and "folder of 8 or more" in done.err


def test_the_caption_beside_a_picture_stays(run, pictures):
    beside = pictures[0].with_suffix(".txt")
    beside.write_text("a fox")
    done = run(pictures[0], "--caption", "sidecar", "--report", beside)
    assert done.status == 2 and "would overwrite the caption" in done.err and beside.read_text() == "a fox"


def test_a_trace_calls_a_text_no_picture(run, pictures, text):
    done = run(pictures[0], "--trace", "a.txt")
    assert done.status == 2 and "--trace would overwrite a file that is no curve, a.txt" in done.err


def test_a_new_file_loses_nothing(tmp_path, pictures):
    assert what_is_lost("trace", str(tmp_path / "new.png"), [Input(str(pictures[0]), "the picture")]) is None
    (tmp_path / "empty.png").touch()
    assert not is_somebody_elses(str(tmp_path / "empty.png"))


def test_a_run_leaves_the_corpus_as_it_is(command, pictures):
    corpus = pictures[0].with_suffix(".txt")
    corpus.write_text("a red fox\n")
    done = command("run", pictures[0].parent, "--sidecar", "--existing", "overwrite", "--corpus", corpus)
    assert done.status == 2 and "--sidecar would change the --corpus" in done.err and corpus.read_text() == "a red fox\n"


@pytest.fixture
def read():
    """read(dataclass of options, words) → the options that were read."""

    def options(options_type, *words):
        found = []
        app = parser(lambda values: found.append(values) or 0, options_type)
        with contextlib.suppress(typer.Exit):
            app(list(words), standalone_mode=False)
        return found[0]

    return options


def test_lists_are_joined(read):
    options = read(Options, "a.png", "--ban", "fox", "--ban", "owl,cat", "--must-include", "a", "--must-include", "b")
    assert options.ban == "fox,owl,cat" and options.must_include == "a,b" and options.compare is None
    assert read(Options, "a.png", "--compare", "pez", "--compare", "gcg").compare == "pez,gcg"
    assert read(RunOptions, "a", "--formats", "jsonl", "--formats", "csv").formats == "jsonl,csv"


def test_what_is_not_given_has_its_default(read):
    for options_type in (Options, RunOptions, ShardOptions, EncodeOptions, ServeOptions):
        assert read(options_type) == options_type()


def once(options_type):
    """The options of a command that are given once, with a word that each takes; those that are not a list and no flag."""
    hints = get_type_hints(options_type)
    for name, hint in hints.items():
        kinds = get_args(hint) or (hint,)
        if bool not in kinds and not any(get_origin(kind) is list for kind in kinds) and name not in JOINED:
            yield RENAMED.get(name, f"--{name.replace('_', '-')}")


@pytest.mark.parametrize("options_type", [Options, RunOptions, ShardOptions, EncodeOptions, ServeOptions])
def test_every_other_option_is_given_once(options_type):
    names = list(once(options_type))
    assert len(names) > 5
    for name in names:
        with pytest.raises(UsageError, match=f"{name} is given twice: give it once"):
            parser(lambda _: 0, options_type)([name, "1", name, "2"], standalone_mode=False)


def test_twice_is_one_sentence(run, pictures):
    done = run(pictures[0], "--corpus", "a.txt", "--corpus=b.txt")
    assert done.status == 2 and done.sentences == ["invert: --corpus is given twice: give it once"]
    assert run(pictures[0], "--json", "--json").status == 0
    assert run("--seed", "1", "--seed", "2", "--help").status == 0


def test_a_setting_is_given_once():
    with pytest.raises(InputError, match=r"`pez.lr` is set twice: set it once"):
        parse_settings(["pez.lr=0.2", "pez.lr=0.3"])
