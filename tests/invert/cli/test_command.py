"""The `invert` command as people use it: what is printed where, exit statuses, one bad file among good ones."""

from __future__ import annotations

import http.server
import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torchvision.transforms.functional import to_pil_image

import invert.cli
from invert.inverter import Inverter
from invert.picturebook.render import render
from invert.picturebook.world import draw_scenes
from invert.rounds import Round

QUICK = ("--restarts", "1", "--soft-steps", "2", "--budget", "3000")
# What the bundled model's prompts are found without; sympy stands for torch's compiler, which torch.optim and torchvision import.
SLOW = {"open_clip", "torchvision", "transformers", "huggingface_hub", "torch._dynamo", "sympy", "sklearn", "matplotlib"}


@dataclass(frozen=True)
class Done:
    """What a run left: exit status and both streams."""

    status: int
    out: str
    err: str


@pytest.fixture
def run(monkeypatch, capsys, inverter):
    """run("image.png", "--json") → Done, in this process, with the bundled model loaded once for all tests."""
    load = Inverter.load
    monkeypatch.setattr(Inverter, "load", lambda model, *rest: inverter if model == "picturebook" else load(model, *rest))

    def command(*words: object) -> Done:
        monkeypatch.setattr(sys, "argv", ["invert", *map(str, words)])
        with pytest.raises(SystemExit) as exit:
            invert.cli.main()
        out, err = capsys.readouterr()
        return Done(exit.value.code or 0, out, err)

    return command


@pytest.fixture
def images(tmp_path) -> list[Path]:
    paths = []
    for i, picture in enumerate(render(draw_scenes(3, 11, "held-out"))):
        paths.append(tmp_path / f"scene-{i}.png")
        to_pil_image(picture).save(paths[-1])
    return paths


IMPORTED = "import time:"  # how lines of PYTHONPROFILEIMPORTTIME begin


def imports(said: Path) -> set[str]:
    """The modules that a process has said to import."""
    return {line.rpartition("|")[2].strip() for line in said.read_text().splitlines() if line.startswith(IMPORTED)}


def opened_by(process: subprocess.Popen[str], pipe: Path) -> int:
    """The end of a named pipe that is written into, once the process reads the other one."""
    while process.poll() is None:
        try:
            return os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
        except OSError:  # nobody reads it yet
            time.sleep(0.01)
    raise AssertionError("it ended before it read the pipe")


@pytest.mark.parametrize(("number", "status", "word"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")])
def test_the_installed_command_prints_the_prompt_that_it_prints_here_and_keeps_what_is_done_at_a_signal(
    run, images, tmp_path, number, status, word
):
    """A process as a terminal starts it, without the slow imports; its second picture never comes."""
    pipe, page, said = tmp_path / "never.png", tmp_path / "page.html", tmp_path / "stderr"
    os.mkfifo(pipe)
    command = [Path(sys.executable).with_name("invert"), images[0], pipe, "--report", page, *QUICK]
    environment = {**os.environ, "PYTHONPROFILEIMPORTTIME": "1"}
    with (
        said.open("w") as err,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=err, text=True, env=environment) as process,
    ):
        assert process.stdout is not None
        line = process.stdout.readline()
        writing = opened_by(process, pipe)
        imported = imports(said)  # for the prompt; the page's curves take more
        process.send_signal(number)
        rest = process.stdout.read()
    os.close(writing)
    sentences = [line for line in said.read_text().splitlines() if not line.startswith(IMPORTED)]
    assert process.returncode == status and sentences == [f"invert: {word} after 1 of the images"]
    assert line == f"{images[0]}\t{run(images[0], *QUICK).out}" and rest == "" and page.read_text().count("<section>") == 1
    assert "torch" in imported and not imported & SLOW


def test_an_unknown_method_is_told_before_the_model_is_loaded(run, monkeypatch):
    monkeypatch.setattr(Inverter, "load", None)
    done = run("scene.png", "--method", "interogator")
    assert done.status == 2
    assert "did you mean interrogator" in done.err.replace("'", "")


def test_several_images_are_printed_with_their_paths(run, images):
    done = run(*images, *QUICK)
    assert done.status == 0
    lines = [line.split("\t") for line in done.out.splitlines()]
    assert [path for path, _ in lines] == [str(path) for path in images]
    assert all(prompt for _, prompt in lines)


def test_a_folder_stands_for_the_images_in_it(run, images, tmp_path):
    (tmp_path / "notes.txt").write_text("not an image")
    assert run(tmp_path, *QUICK).out.count("\t") == 3


def test_a_hidden_folder_is_none_that_was_left_out(run, images, tmp_path):
    (tmp_path / ".invert").mkdir()
    assert "left out" not in run(tmp_path, *QUICK).err
    (tmp_path / "more").mkdir()
    assert "such as " + str(tmp_path / "more") in run(tmp_path, *QUICK).err.replace("\n", " ")


def test_one_bad_file_does_not_stop_the_others(run, images, tmp_path):
    bad = tmp_path / "bad.png"
    bad.write_bytes(images[0].read_bytes()[:200])
    done = run(images[0], bad, images[1], *QUICK)
    assert done.status == 2
    assert [line.split("\t")[0] for line in done.out.splitlines()] == [str(images[0]), str(images[1])]
    assert sum("bad.png" in line for line in done.err.splitlines()) == 1


def test_json_is_one_object_a_line(run, images):
    objects = [json.loads(line) for line in run(*images[:2], "--json", *QUICK).out.splitlines()]
    assert [found["image"] for found in objects] == [str(path) for path in images[:2]]
    assert all(-1 <= found["score"] <= 1 and found["token_passes"]["backward"] > 0 for found in objects)


def test_top_prints_distinct_prompts_the_best_first(run, images):
    lines = run(images[0], "--top", 3, "--budget", 6000, *QUICK[:4]).out.splitlines()
    assert len(set(lines)) == 3


def test_required_words_are_there_and_banned_ones_are_not(run, images):
    plain = run(images[0], *QUICK).out
    banned = next(word for word in plain.split() if len(word) > 3)
    done = run(images[0], "--must-include", "umbrella", "--ban", banned, "--restarts", 1, "--soft-steps", 2)
    assert "umbrella" in done.out.split()
    assert banned not in done.out.split()


def test_together_gives_one_prompt_for_all_images(run, images):
    done = run(*images, "--together", *QUICK)
    assert done.status == 0 and len(done.out.splitlines()) == 1 and "\t" not in done.out


def test_a_text_is_shortened(run):
    long = "a picture of a fox above a red umbrella on a striped blue and white background, a picture"
    done = run("--text", long, "--max-tokens", 6, *QUICK)
    assert done.status == 0 and 1 <= len(done.out.split()) <= 6


def test_a_negative_prompt_changes_the_target(run, images):
    scores = [json.loads(run(images[0], "--json", *QUICK, *more).out)["score"] for more in ((), ("--negative", "a fox"))]
    assert scores[0] != scores[1]


def test_a_negative_may_be_an_image(run, images):
    scores = [json.loads(run(images[0], "--json", *QUICK, *more).out)["score"] for more in ((), ("--negative", images[1]))]
    assert scores[0] != scores[1]


def test_a_picture_is_fetched_once_however_many_look_at_it(run, images, tmp_path):
    asked = []

    class Pictures(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(images[0].read_bytes())

        def log_message(self, *_):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Pictures) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/a.png"
        done = run(url, "--compare", "retrieve", "--report", tmp_path / "a.html", *QUICK)
        server.shutdown()
    assert done.status == 0 and asked == ["/a.png"]


def test_the_soft_prompt_is_saved_as_diffusers_reads_it(run, images, tmp_path, inverter):
    assert run(images[0], "--embedding", tmp_path / "a.safetensors", "--polish-steps", 0, "--tokens", 5, *QUICK).status == 0
    (rows,) = load_file(tmp_path / "a.safetensors").values()
    soft = inverter.invert(str(images[0]), tokens=5, restarts=1, soft_steps=2, budget=3000).soft
    assert torch.equal(rows, soft.float())


def test_compare_prints_a_row_for_every_method(run, images):
    done = run(images[0], "--compare", "nearest,retrieve", *QUICK)
    assert all(name in done.out for name in ("invert", "nearest", "retrieve", "token passes"))


def test_a_method_with_a_number_of_steps_says_so_where_nothing_limits_it(run, images):
    words = (images[0], "--method", "pez", "--set", "pez.steps=2", "--tokens", 3)
    note = "note: pez takes all of its 2 steps: --budget or --seconds ends it earlier"
    assert note in run(*words).err
    assert "note" not in run(*words, "--budget", 30).err


def test_a_trace_of_another_format_is_refused(run, images, tmp_path):
    done = run(images[0], "--trace", tmp_path / "trace.jpg", *QUICK)
    assert done.status == 2 and "give one that ends in .png" in done.err and not (tmp_path / "trace.jpg").exists()


def test_trace_and_report_are_written(run, images, tmp_path):
    trace, report = tmp_path / "trace.png", tmp_path / "page.html"
    assert run(images[0], "--trace", trace, "--report", report, *QUICK).status == 0
    with Image.open(trace) as picture:
        assert picture.width > 200
    page = report.read_text()
    assert "<img" in page and "http://" not in page and "https://" not in page


def test_a_shortened_text_is_compared_and_reported_too(run, tmp_path):
    done = run("--text", "a fox on a red background", "--compare", "retrieve", "--report", tmp_path / "a.html", *QUICK)
    assert done.status == 0 and "retrieve" in done.out
    assert "retrieve" in (tmp_path / "a.html").read_text()


def interrupted(*_):
    raise KeyboardInterrupt


def test_an_interrupt_prints_the_best_prompt_so_far(run, images, monkeypatch):
    monkeypatch.setattr(Round, "expand", interrupted)
    done = run(*images, *QUICK)
    assert done.status == 130
    assert len(done.out.splitlines()) == 1 and done.out.startswith(str(images[0]))


def test_an_interrupt_still_writes_the_report_of_what_is_done(run, images, monkeypatch, tmp_path):
    monkeypatch.setattr(Round, "expand", interrupted)
    assert run(*images, "--report", tmp_path / "a.html", *QUICK).status == 130
    assert "<section>" in (tmp_path / "a.html").read_text()


BAD = {
    "no image": ((), "no image given"),
    "missing file": (("nowhere.png",), "nowhere.png"),
    "unknown option": (("IMAGE", "--color"), "--color"),
    "no tokens": (("IMAGE", "--tokens", 0), "--tokens"),
    "no budget": (("IMAGE", "--budget", 0), "--budget"),
    "no restarts": (("IMAGE", "--restarts", 0), "--restarts"),
    "not a number": (("IMAGE", "--seed", "one"), "--seed"),
    "unknown method": (("IMAGE", "--method", "inverse"), "inverse"),
    "unknown compared method": (("IMAGE", "--compare", "pezz"), "pezz"),
    "unknown model": (("IMAGE", "--model", "picture-book"), "picture-book"),
    "unknown target": (("IMAGE", "--target", "middle"), "middle"),
    "unknown device": (("IMAGE", "--model", "picturebook-judge", "--device", "abacus"), "abacus"),
    "banned and required": (("IMAGE", "--ban", "fox", "--must-include", "Fox"), "fox"),
    "missing corpus": (("IMAGE", "--corpus", "nowhere.txt"), "nowhere.txt"),
    "empty negative": (("IMAGE", "--negative", ""), "negative"),
    "missing negative": (("IMAGE", "--negative", "nowhere.png"), "nowhere.png"),
    "text and image": (("IMAGE", "--text", "a fox"), "--text"),
    "embedding of several": (("IMAGE", "IMAGE", "--embedding", "a.safetensors"), "--embedding"),
    "embedding of a method without": (("IMAGE", "--method", "gcg", "--embedding", "a.safetensors"), "gcg"),
    "unwritable embedding": (("IMAGE", "--embedding", "/nowhere/a.safetensors", *QUICK), "/nowhere/a.safetensors"),
    "unwritable report": (("IMAGE", "--report", "/nowhere/page.html", *QUICK), "/nowhere/page.html"),
    "a picture in the place of a report": (("--report", "IMAGE", "IMAGE"), "--report is a page, and"),
    "a picture in the place of an embedding": (("--embedding", "e.png", "IMAGE"), "give one that ends in .safetensors"),
    "a picture that is no curve": (("--trace", "PICTURE", "IMAGE"), "--trace would overwrite the picture"),
    "a scene over a picture": (("IMAGE", "--scene", "two alarm clocks"), "is there already, and --scene draws into a new file"),
    "soft prompts that are not made": (("IMAGE", "--soft-steps", 0, "--tokens", 4), "a search with --soft-steps 0 makes none"),
    "unknown object": (("--scene", "a glorp on a red background", "out.png"), "glorp"),
    "scene without a file": (("--scene", "a fox"), "--scene"),
    "url without network": (("http://127.0.0.1:9/picture.png",), "127.0.0.1:9"),
}


@pytest.mark.parametrize("words, named", BAD.values(), ids=BAD.keys())
def test_bad_input_is_one_sentence_that_names_it_and_status_2(run, images, words, named):
    before = [path.read_bytes() for path in images]
    done = run(*({"IMAGE": images[0], "PICTURE": images[1]}.get(word, word) for word in words))
    assert done.status == 2
    assert named in done.err
    assert len(done.err.strip().splitlines()) == 1 and done.err.startswith("invert: ")
    assert [path.read_bytes() for path in images] == before


def test_a_curve_is_drawn_over_the_one_before(run, images, tmp_path):
    for _ in range(2):
        assert run(images[0], "--trace", tmp_path / "trace.png", *QUICK).status == 0


def test_a_prompt_that_is_a_folder_s_name_is_a_prompt(run, images, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "fox").mkdir()
    assert run(images[0], "--negative", "fox", *QUICK).status == 0


def test_a_model_that_judges_itself_is_said_to_do_so(run, images, inverter, monkeypatch):
    alone = Inverter(replace(inverter.bundle, load_evaluator=None))
    monkeypatch.setattr(Inverter, "load", lambda *_, **__: alone)
    words = (images[0], "--compare", "retrieve", *QUICK)
    assert "are judged" not in run(*words, "--judge", "picturebook-judge").err
    assert (
        "note: prompts are judged by 'picturebook' itself, which they were optimized on: --judge names another" in run(*words).err
    )


def test_lists_that_are_not_installed_are_missed_before_the_first_picture(run, images, inverter, monkeypatch):
    alone = Inverter(replace(inverter.bundle, labels=None))
    monkeypatch.setattr(Inverter, "load", lambda *_, **__: alone)
    monkeypatch.setattr("importlib.util.find_spec", lambda *_: None)
    done = run(images[0], "--compare", "interrogator-lite", "--method", "retrieve")
    assert (done.status, done.out) == (2, "") and "prompt-inversion[compare]" in done.err


def test_an_empty_folder_is_named(run, tmp_path):
    done = run(tmp_path)
    assert done.status == 2 and str(tmp_path) in done.err


def test_debug_shows_the_traceback(run):
    done = run("nowhere.png", "--debug")
    assert done.status == 2 and "Traceback" in done.err and done.err.splitlines()[-1].startswith("invert: nowhere.png")


def test_a_report_that_cannot_be_written_is_told_before_the_work(run, images, monkeypatch):
    monkeypatch.setattr(Inverter, "load", lambda *_, **__: pytest.fail("the model is loaded"))
    done = run(images[0], "--report", "/nowhere/page.html")
    assert done.status == 2 and done.out == "" and "--report" in done.err and "/nowhere" in done.err
