"""Nothing that was computed is lost: bad files, internal errors, interrupts and outputs that fail, one at a time."""

from __future__ import annotations

import json
import os
import signal
import weakref
from dataclasses import replace

import pytest
import torch
from PIL import Image

import invert.cli.batch
import invert.files
from invert.errors import InputError


def sections(path) -> int:
    return path.read_text().count("<section>")


def test_a_line_a_picture_with_its_path(run, pictures):
    done = run(*pictures)
    assert done.status == 0 and done.err == ""
    assert done.out.splitlines() == [f"{path}\ta picture of {path.stem} pixels" for path in pictures]


@pytest.mark.parametrize("words", [(), ("--json",)])
def test_a_picture_that_the_model_may_not_know_is_noted_on_stderr_alone(run, light, pictures, words):
    light.found = replace(light.found, doubt="unlike all")
    done = run(pictures[0], *words)
    assert done.status == 0 and done.sentences == [f"invert: note: {pictures[0]}: unlike all"]
    assert len(done.out.splitlines()) == 1 and (not words or json.loads(done.out)["doubt"] == "unlike all")


@pytest.mark.parametrize(
    ("error", "status", "sentence"),
    [
        (InputError("it is too odd: give another"), 2, "invert: it is too odd: give another"),
        (RuntimeError("[/red] broke"), 1, "invert: internal error while inverting {}: RuntimeError: [/red] broke"),
        (MemoryError(), 1, "invert: out of memory while inverting {}"),
        (torch.OutOfMemoryError("no"), 1, "invert: out of memory while inverting {}"),
    ],
)
def test_an_error_in_the_third_picture_loses_neither_the_others_nor_the_report(
    run, light, pictures, tmp_path, error, status, sentence
):
    light.answers[2] = error
    done = run(*pictures, "--report", tmp_path / "page.html")
    assert done.status == status and len(done.out.splitlines()) == 3 == sections(tmp_path / "page.html")
    assert len(done.sentences) == 1 and done.err.startswith(sentence.format(pictures[2]))


def test_debug_shows_the_traceback_of_an_internal_error_and_goes_on(run, light, pictures):
    light.answers[1] = RuntimeError("broke")
    done = run(*pictures, "--debug")
    assert done.status == 1 and "Traceback" in done.err and len(done.out.splitlines()) == 3


@pytest.mark.parametrize(("answered", "sentence"), [(2, "interrupted after 2 of"), (0, "interrupted before there was")])
def test_ctrl_c_between_pictures_writes_the_report_of_those_that_are_done(run, light, pictures, tmp_path, answered, sentence):
    light.answers[answered] = KeyboardInterrupt()
    done = run(*pictures, "--report", tmp_path / "page.html")
    assert done.status == 130 and len(done.out.splitlines()) == answered
    assert len(done.sentences) == 1 and sentence in done.err
    assert sections(tmp_path / "page.html") if answered else not (tmp_path / "page.html").exists()


def test_an_interrupted_picture_gives_its_best_prompt_and_ends_the_batch(run, light, pictures, tmp_path):
    light.answers[1] = replace(light.found, interrupted=True, alternatives=[("a fox", 0.6)])
    done = run(*pictures, "--report", tmp_path / "page.html")
    assert done.status == 130 and len(done.out.splitlines()) == 2 == sections(tmp_path / "page.html")
    assert "best so far" in done.err


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_keeps_what_is_done(run, light, pictures, tmp_path, number, status):
    light.answers[2] = lambda: os.kill(os.getpid(), number)
    before = signal.getsignal(number)
    done = run(*pictures, "--report", tmp_path / "page.html")
    assert done.status == status and len(done.out.splitlines()) == 2 == sections(tmp_path / "page.html")
    assert len(done.sentences) == 1 and "after 2 of the images" in done.err
    assert signal.getsignal(number) is before


def test_a_signal_that_a_library_swallows_ends_the_batch_all_the_same(run, light, pictures):
    def swallowed():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        except KeyboardInterrupt:
            return "a prompt"

    light.answers[1] = swallowed
    done = run(*pictures)
    assert done.status == 143 and len(done.out.splitlines()) == 2


def test_an_interrupted_second_method_leaves_the_first_ones_prompt(run, light, pictures):
    light.answers[1] = KeyboardInterrupt()
    done = run(pictures[0], "--method", "gcg", "--json", "--compare", "pez", "--judge", "picturebook-judge")
    assert done.status == 130 and json.loads(done.out)["method"] == "gcg"


@pytest.mark.parametrize("bad", ["trace", "report", "embedding"])
def test_an_output_that_fails_after_the_work_does_not_keep_the_others_from_it(run, pictures, light, tmp_path, monkeypatch, bad):
    light.answers[0] = replace(light.found, soft=torch.zeros(2, 3))
    paths = {"trace": tmp_path / "t.png", "report": tmp_path / "r.html", "embedding": tmp_path / "e.safetensors"}
    write = invert.files.write_file

    def full(path, content, *more):
        if path == paths[bad]:
            raise OSError(28, "No space left on device")
        write(path, content, *more)

    monkeypatch.setattr(invert.files, "write_file", full)
    done = run(pictures[0], *(word for name, path in paths.items() for word in (f"--{name}", path)))
    assert done.status == 2 and done.out and len(done.sentences) == 1 and "No space" in done.err
    assert {name for name, path in paths.items() if path.exists()} == set(paths) - {bad}


def test_a_report_that_cannot_be_drawn_is_an_internal_error_and_the_trace_is_there(run, pictures, tmp_path, monkeypatch):
    import invert.report

    monkeypatch.setattr(invert.report, "report_page", lambda entries: 1 / 0)
    done = run(pictures[0], "--report", tmp_path / "r.html", "--trace", tmp_path / "t.png")
    assert done.status == 1 and done.out and (tmp_path / "t.png").exists() and "ZeroDivisionError" in done.err


@pytest.mark.parametrize("words", [(), ("--report", "page.html")])
def test_a_finished_picture_is_not_kept(run, pictures, monkeypatch, tmp_path, words):
    """At most the one that is worked on and the one that is read; a report keeps thumbnails of their own."""
    monkeypatch.chdir(tmp_path)
    alive: list[weakref.ref] = []
    load, seen = invert.cli.batch.load_image, []

    def counted(source):
        seen.append(sum(ref() is not None for ref in alive))
        image = load(source)
        alive.append(weakref.ref(image))
        return image

    monkeypatch.setattr(invert.cli.batch, "load_image", counted)
    assert run(*pictures, *words).status == 0
    assert len(seen) == 4 and max(seen) <= 1


def test_pictures_of_one_prompt_are_held_small(run, light, tmp_path, monkeypatch):
    sizes = []
    monkeypatch.setattr(
        light, "invert_joint", lambda images, *_, **__: sizes.extend(image.size for image in images) or light.found
    )
    for name in "ab":
        Image.new("RGB", (4000, 2000)).save(tmp_path / f"{name}.png")
    assert run(tmp_path / "a.png", tmp_path / "b.png", "--together").status == 0
    assert sizes == [(1024, 512)] * 2


def test_a_bad_picture_among_several_of_one_prompt_is_an_error(run, pictures):
    done = run(*pictures, "nowhere.png", "--together")
    assert done.status == 2 and done.out == "" and len(done.sentences) == 1
