"""`invert serve`: what it refuses before anything is loaded, and a page that is served until Ctrl-C."""

from __future__ import annotations

import re
import socket
import sys
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest

import invert.cli
import invert.cli.serve
from invert.app.listening import check_address
from invert.app.server import launch
from invert.cli.serve import ServeOptions, check_drawing, quick
from invert.diffusion.options import DrawingOptions
from invert.errors import InputError
from invert.inverter import Inverter


def served(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["invert", "serve", *words])
    with pytest.raises(SystemExit) as end:
        invert.cli.main()
    return int(end.value.code or 0)


def test_the_reference_lists_every_option_and_its_default() -> None:
    page = (Path(__file__).parents[3] / "docs" / "app.md").read_text(encoding="utf-8")
    rows = [line.split(" | ") for line in page.splitlines() if line.startswith("| `--")]
    listed = {option: default for first, _, default in rows for option in re.findall(r"`(--[a-z-]+)`", first)}
    options = {f"--{field.name.replace('_', '-')}": field.default for field in fields(ServeOptions)}
    assert listed.keys() == options.keys()
    for option, default in options.items():
        if isinstance(default, int | float) and not isinstance(default, bool):
            assert listed[option].strip(" |") == f"{default:g}", option


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--port", "0"], "--port is 0: give 1 to 65535"),
        (["--queue", "0"], "--queue is 0: give 1 or more"),
        (["--bundle", "nothing"], "unknown bundle 'nothing'"),
        (["--host", ""], "--host is empty"),
        (["--dtype", "float8"], "unknown --dtype 'float8': choose one of float32, float16, bfloat16"),
        (["--model-weights", "1,none"], "--model-weights is '1,none'"),
        (["--generator-model", "one"], "--generator-model is of an image endpoint: give its address as --generator"),
        (["--steps", "0"], "--steps is 0: give 1 to"),
        (["--method", "pez"], "--method is chosen on the page or in a call of its API"),
        (["--corpus-mode", "extend"], "--corpus-mode says what a --corpus does to the bundle's own: give one"),
        (["--corpus", "nowhere.txt"], "the --corpus nowhere.txt cannot be read"),
        (["--gap-images=folder"], "--gap-images does nothing for `invert serve`"),
        (["--json"], "--json does nothing for `invert serve`"),
        (["--host", "nowhere.invalid"], "--host 'nowhere.invalid' is no address and no name of this machine"),
        (["--host", "x" * 70], "is no address and no name"),
        (["--host", "192.0.2.7"], "--host 192.0.2.7 is no address that this machine can listen on"),  # for documentation
        (["--host", "192.0.2.7", "--port", "7860"], "--host 192.0.2.7 is no address that this machine can listen on"),
        (["--guidance", "0.5"], "--guidance is 0.5: give 1 to 1000"),
        (["--unknown"], "No such option: --unknown"),
        (["image.png"], "unexpected extra argument"),
    ],
)
def test_a_wrong_option_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str], sentence: str
) -> None:
    monkeypatch.setattr(Inverter, "load", lambda *_: pytest.fail("a model was loaded"))
    assert served(monkeypatch, *words) == 2
    out, err = capsys.readouterr()
    assert sentence in err and err.count("\n") == 1 and out == ""


def test_the_page_is_served_on_loopback_until_ctrl_c(
    toy_bundle, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path
) -> None:
    pytest.importorskip("gradio")
    answers: list[str] = []
    loaded: list[tuple] = []

    class Waiting:
        """Stands for the event that nobody sets: looks at the page, then presses Ctrl-C."""

        def wait(self) -> None:
            answers.append(httpx.get(capsys.readouterr().out.strip(), timeout=600).text)
            raise KeyboardInterrupt

    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    monkeypatch.setattr(Inverter, "load", lambda *given: loaded.append(given) or Inverter(toy_bundle))
    monkeypatch.setattr(invert.cli.serve, "Event", Waiting)
    assert served(monkeypatch, "--model", "a+b", "--model-weights", "2,1", "--dtype", "bfloat16", "--low-memory") == 0
    assert "Invert" in answers[0]
    assert loaded == [("a+b", None, None, "bfloat16", (2.0, 1.0), True)]


def test_drawing_options_need_something_that_draws(
    toy_bundle, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Inverter, "load", lambda *_: Inverter(toy_bundle))
    assert served(monkeypatch, "--model", "toy", "--steps", "4") == 2
    assert "--steps is of drawn images, and 'toy' draws none: add --generator" in capsys.readouterr().err


def test_a_served_model_starts_from_the_users_corpus(picturebook_bundle, monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    seen: list[tuple[str, ...]] = []

    def building(inverter: Inverter, *_: object) -> None:
        seen.append(inverter.bundle.corpus.prompts)
        raise InputError("seen")

    (tmp_path / "own.txt").write_text("A fox in a suit\n")
    monkeypatch.setattr(Inverter, "load", lambda *_: Inverter(picturebook_bundle))
    monkeypatch.setattr("invert.app.server.build", building)
    assert served(monkeypatch, "--corpus", str(tmp_path / "own.txt")) == 2
    assert served(monkeypatch, "--corpus", str(tmp_path / "own.txt"), "--corpus-mode", "extend") == 2
    assert seen == [("a fox in a suit",), (*picturebook_bundle.corpus.prompts, "a fox in a suit")]


def test_a_port_that_is_taken_is_one_sentence(
    toy_bundle, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path
) -> None:
    pytest.importorskip("gradio")
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    monkeypatch.setattr(Inverter, "load", lambda *_: Inverter(toy_bundle))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert served(monkeypatch, "--port", str(port)) == 2
    assert f"--port {port} cannot be opened" in capsys.readouterr().err


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0"])
def test_an_address_of_this_machine_is_free(host: str) -> None:
    check_address(host, None)


def test_python_users_hear_of_a_bad_host_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = SimpleNamespace(launch=lambda **_: pytest.fail("it was launched"))
    with pytest.raises(InputError, match="`host` 192"):
        launch(blocks, host="192.0.2.7")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--generator", "./nosuch"], "nosuch"),
        (["--size", "2047x2047"], "divisible by 8"),
        (["--generator", "http://127.0.0.1:9/v1", "--steps", "4"], "takes no --steps"),
    ],
)
def test_what_no_drawing_could_follow_is_refused_before_the_page_opens(
    picturebook_bundle, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str], sentence: str
) -> None:
    pytest.importorskip("diffusers")
    monkeypatch.setattr(Inverter, "load", lambda *_: Inverter(picturebook_bundle))
    monkeypatch.setattr("invert.app.server.build", lambda *_: pytest.fail("a page was built"))
    assert served(monkeypatch, *words) == 2
    err = capsys.readouterr().err
    assert sentence in err and err.count("\n") == 1


def test_a_drawing_is_tried_in_few_steps() -> None:
    asked: list[DrawingOptions] = []
    pipeline = SimpleNamespace(check=asked.append, draw=lambda prompts, seeds, options: asked.append(options) or [])
    bundle = SimpleNamespace(generator="one", once=lambda *_: pipeline)
    check_drawing(bundle, None, DrawingOptions())
    assert not asked
    check_drawing(bundle, None, DrawingOptions(steps=50))
    assert asked == [DrawingOptions(steps=50)]
    check_drawing(bundle, None, DrawingOptions(size="64x64"))
    assert asked[-1] == DrawingOptions(steps=2, size="64x64")


def test_a_pipeline_that_takes_no_steps_is_tried_as_it_is() -> None:
    def check(options: DrawingOptions) -> None:
        options.refuse({"steps"}, "it")

    assert quick(SimpleNamespace(check=check), DrawingOptions(size="8x8")) == DrawingOptions(size="8x8")  # type: ignore[arg-type]
