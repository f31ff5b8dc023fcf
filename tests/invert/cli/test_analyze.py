"""`--analyze` prints phrases by category and searches for nothing; what it would ignore is an error."""

from __future__ import annotations

import json

import pytest

from invert.analysis import Analysis
from invert.cli.analysis import analysis_table
from invert.cli.table import print_table
from invert.errors import InputError
from invert.inverter import Inverter


def rows(text: str) -> list[list[str]]:
    """The cells of the lines of a table that hold a phrase."""
    return [[cell.strip() for cell in line.strip("│").split("│")] for line in text.splitlines() if line.startswith("│")]


def test_a_table_of_the_best_phrases_of_each_category(run, pictures):
    done = run(pictures[0], "--analyze")
    assert done.status == 0 and done.err == "" and str(pictures[0]) not in done.out
    assert rows(done.out) == [["sizes", "11 pixels", "0.500"], ["", "many pixels", "0.500"], ["", "few pixels", "0.500"]]


def test_several_pictures_have_a_table_each_with_their_names(run, pictures):
    done = run(*pictures[:2], "--analyze", "--top", 1)
    assert [row[1] for row in rows(done.out)] == ["11 pixels", "12 pixels"]
    assert run(*pictures[:2], "--analyze", "--together", "--top", 1).out.count("11 pixels") == 1


def test_json_is_one_object_a_line(run, pictures):
    found = [json.loads(line) for line in run(*pictures[:2], "--analyze", "--json", "--top", 2).out.splitlines()]
    assert [one["image"] for one in found] == [str(path) for path in pictures[:2]]
    assert found[0]["analysis"] == {"sizes": [{"phrase": "11 pixels", "score": 0.5}, {"phrase": "many pixels", "score": 0.5}]}


def test_phrases_of_ones_own_are_ranked_too(run, pictures, tmp_path):
    (tmp_path / "[red]pets.txt").write_text("a fox\n[/b]\n")
    done = run(pictures[0], "--analyze", "--phrases", tmp_path / "[red]pets.txt")
    assert rows(done.out)[3:] == [["[red]pets", "a fox", "0.500"], ["", "[/b]", "0.500"]]


@pytest.mark.parametrize("text", ["line\nfeed", "\x1b[31mred", "[bold", "\udcff"])
def test_odd_phrases_and_names_are_one_line_of_text(capsys, text):
    print_table(analysis_table(Analysis({text: [(text, 0.5)]}, "light"), text))
    out = capsys.readouterr().out
    shown = text.encode("unicode_escape", "surrogatepass").decode("ascii")
    assert rows(out) == [[shown, shown, "0.500"]] and out.splitlines()[0].strip() == shown


def test_an_error_in_one_picture_loses_neither_the_others_nor_the_report(run, light, pictures, tmp_path):
    light.answers[1] = InputError("it is too odd: give another")
    done = run(*pictures, "--analyze", "--report", tmp_path / "page.html", "--json")
    assert done.status == 2 and len(done.out.splitlines()) == 3 and done.sentences == ["invert: it is too odd: give another"]
    page = (tmp_path / "page.html").read_text()
    assert page.count("<section>") == 3 and "<td>14 pixels<td>0.500" in page and "12 pixels" not in page


def test_an_interrupt_keeps_what_is_done(run, light, pictures):
    light.answers[0] = KeyboardInterrupt()
    done = run(*pictures, "--analyze")
    assert done.status == 130 and done.sentences == ["invert: interrupted before there was an analysis"]
    light.calls, light.answers = 0, {2: KeyboardInterrupt()}
    assert run(*pictures, "--analyze").sentences == ["invert: interrupted after 2 of the images"]


@pytest.mark.parametrize(
    ("words", "flag"),
    [
        (["--compare", "pez"], "--compare"),
        (["--trace", "a.png"], "--trace"),
        (["--embedding", "a.safetensors"], "--embedding"),
        (["--max-tokens", "9"], "--max-tokens"),
        (["--set", "pez.lr=1"], "--set"),
        (["--generate", "1", "--json"], "--generate"),
        (["--ban", "fox"], "--ban"),
    ],
)
def test_an_option_of_a_search_is_one_sentence(run, light, pictures, words, flag):
    done = run(pictures[0], "--analyze", *words)
    assert done.status == 2 and len(done.sentences) == 1 and light.calls == 0
    assert done.err.startswith(f"invert: {flag} does not go with --analyze")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--text", "a fox", "--analyze"], "--text does not go with --analyze"),
        (["a.png", "--phrases", "b.txt"], "--phrases are ranked by --analyze"),
        (["a.png", "--analyze", "--phrases", ""], "--phrases is empty"),
        (["a.png", "--analyze", "--phrases", "nowhere.txt"], "the --phrases nowhere.txt cannot be read"),
        (["a.png", "--analyze", "--top", "0"], "--top is 0: give 1 or more"),
    ],
)
def test_bad_input_is_told_before_the_model_is_loaded(run, monkeypatch, words, sentence):
    monkeypatch.setattr(Inverter, "load", lambda *_, **__: pytest.fail("the model is loaded"))
    done = run(*words)
    assert done.status == 2 and len(done.sentences) == 1 and done.err.startswith(f"invert: {sentence}")
