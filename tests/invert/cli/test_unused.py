"""No option is taken that would do nothing: each is refused beside what leaves it without use, before anything is loaded."""

from __future__ import annotations

from dataclasses import replace

import pytest

from invert.cli.run import RunOptions, check
from invert.config import InvertConfig
from invert.inverter import Inverter
from invert.methods import TUNING_OPTIONS, get_method, method_names
from tests.invert.batch.shard_cases import write_tar

MAIN = [
    (["--negative-weight", "0.2"], "--negative-weight weighs --negative, which is not given"),
    (["--gap-images", "FOLDER"], "--gap-images measure the modality gap for --target gap"),
    (["--method", "retrieve", "--restarts", "2"], "the method 'retrieve' does nothing with --restarts: use invert or nearest"),
    (["--method", "pez", "--soft-steps", "9"], "does nothing with --soft-steps"),
    (["--method", "pez", "--compare", "gcg", "--language-weight", "0"], "the methods pez, gcg do nothing with --language-weight"),
    (["--method", "interrogator-lite-fast", "--top", "3"], "does nothing with --top"),
    (["--corpus-mode", "extend"], "--corpus-mode says what a --corpus does to the bundle's own: give one, or leave the mode out"),
    (["--corpus-mode", "add"], "unknown --corpus-mode 'add': choose one of replace, extend"),
    (["--generator", "picturebook"], "or draw by --generate, or leave it out"),
    (["--embedding", "e.safetensors", "--polish-steps", "0", "--generator", "picturebook"], "does nothing with --generator"),
    (["--embedding", "e.safetensors", "--embedded", "use"], "--embedded use finds no soft prompt"),
    (["--compare", "pez", "--top", "3"], "--compare shows the best prompt of each method: add --json"),
    (["PICTURE", "--trace", "t.png"], "--trace draws one search"),
    (["PICTURE", "--embedding", "e.safetensors"], "--embedding saves one soft prompt"),
    (["--scene", "a fox", "--json"], "--json does not go with --scene"),
    (["--list-objects"], "an image does not go with --list-objects"),
]
TEXT = [
    (["--target", "empty"], "--target corrects the latents of images"),
    (["--together"], "--together is about images"),
    (["--embedded", "ignore"], "--embedded is about images"),
    (["--embedding", "e.safetensors", "--polish-steps", "9"], "--polish-steps is about images"),
]
RUN = [
    (["--sidecar", "--top", "3"], "--top needs a folder"),
    (["--out", "o", "--top", "3"], "--top prompts of a picture are in other tables than metadata"),
    (["--out", "o", "--formats", ","], "nothing would be written into --out"),
    (
        ["--out", "o", "--generator", "picturebook"],
        "does nothing with --generator: use ph2p or textual-inversion",
    ),
    (["--out", "o", "--corpus-mode", "extend"], "--corpus-mode says what a --corpus does"),
    (["--out", "o", "--negative-weight", "0.2"], "--negative-weight weighs --negative"),
]
SHARDS = [
    (["--embedded", "use"], "No such option: --embedded"),
    (["--picture-column", "image"], "--picture-column is of Parquet files"),
    (["--key-column", "id"], "--key-column is of Parquet files"),
    (["--corpus-mode", "extend"], "--corpus-mode says what a --corpus does"),
    (["--shard-size", "7"], "a tar is one shard as it is"),
    (["--method", "pez", "--max-tokens", "9"], "does nothing with --max-tokens"),
]


@pytest.fixture(autouse=True)
def nothing_is_loaded(monkeypatch, tmp_path):
    """A test that has a stand-in puts it in afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Inverter, "load", lambda *_, **__: pytest.fail("loaded"))


def refused(done, sentence):
    return done.status == 2 and not done.out and len(done.sentences) == 1 and sentence in done.err


@pytest.mark.parametrize(("words", "sentence"), MAIN)
def test_the_main_command_refuses_what_it_would_ignore(command, pictures, words, sentence):
    words = [word.replace("FOLDER", str(pictures[0].parent)).replace("PICTURE", str(pictures[1])) for word in words]
    done = command(pictures[0], *words)
    assert refused(done, sentence), done.err


@pytest.mark.parametrize(("words", "sentence"), TEXT)
def test_what_is_about_images_does_not_go_with_a_text(command, words, sentence):
    assert refused(command("--text", "a red fox", *words), sentence)


@pytest.mark.parametrize(("words", "sentence"), RUN)
def test_runs_refuse_what_they_would_ignore(command, pictures, words, sentence):
    assert refused(command("run", pictures[0].parent, *words), sentence)


@pytest.mark.parametrize(("words", "sentence"), SHARDS)
def test_shards_refuse_what_they_would_ignore(command, pictures, tmp_path, words, sentence):
    tar = write_tar(tmp_path / "0.tar", {"0.png": pictures[0].read_bytes()})
    assert refused(command("shards", tar, "--out", tmp_path / "out", *words), sentence)


def test_patterns_hold_for_pictures_that_are_named_too(command, pictures):
    done = command("run", pictures[0], "--sidecar", "--exclude", "11.*")
    assert refused(done, "no images that the patterns want")


def test_methods_follow_options_that_there_are(monkeypatch):
    assert all(hasattr(InvertConfig, name) for name in TUNING_OPTIONS)
    assert all(get_method(name).follows <= set(TUNING_OPTIONS) for name in method_names())


def test_a_trace_without_steps_is_said(run, light, pictures, found, tmp_path):
    light.answers[0] = replace(found, history=[], method="retrieve")
    done = run(pictures[0], "--method", "retrieve", "--trace", tmp_path / "t.png")
    assert done.status == 0 and done.sentences == ["invert: note: --trace shows no steps, as the method 'retrieve' took none"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--ban", "fox"], "--ban counts only for pictures that carry none"),
        (["--must-include", "owl", "--max-tokens", "9"], "--must-include and --max-tokens count only"),
    ],
)
def test_prompts_that_pictures_carry_need_not_meet_wishes(run, pictures, words, sentence):
    done = run(pictures[0], "--embedded", "use", *words)
    assert done.status == 0 and f"note: prompts that pictures carry are used as they are: {sentence}" in done.err
    assert "are used as they are" not in run(pictures[0], *words).err
    assert "are used as they are" not in run(pictures[0], "--embedded", "use").err


def test_a_run_says_it_too(capsys):
    check(RunOptions(folders=["pictures"], sidecar=True, embedded="use", ban="fox"))
    assert "counts only for pictures that carry none" in capsys.readouterr().err
