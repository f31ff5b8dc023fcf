"""What the app does, without a page."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from threading import Event
from types import SimpleNamespace

import pytest
import torch

from invert.analysis import Analysis
from invert.app import views
from invert.app.limits import Limits
from invert.app.runs import watched
from invert.app.service import Row, Service, Upload
from invert.app.sidecars import distinct, write_zip
from invert.diffusion.drawing import Drawn
from invert.diffusion.options import DrawingOptions
from invert.errors import InputError
from invert.history import HistoryEntry
from invert.result import Result


def test_a_search_is_followed_step_by_step_to_its_result(service: Service, files) -> None:
    progress = list(service.search(files.upload, service.config("quick")))
    assert progress[0].prompt == "" and progress[0].result is None
    assert progress[-1].prompt == "w33" and progress[-1].result.alternatives[1][0] == "w1 w2"
    assert [entry.value for entry in progress[-1].entries] == pytest.approx([0, 0.1, 0.2])
    assert not progress[-1].result.interrupted


def test_stop_ends_only_that_visitors_search_and_keeps_its_best(service: Service, files) -> None:
    search = service.search(files.upload, service.config("endless"), "me")
    while not next(search).entries:
        pass
    assert not service.sessions.stop("somebody else")
    assert service.sessions.stop("me")
    *_, last = search
    assert last.prompt == "w7 w8" and last.result.interrupted and "stopped" in last.note
    assert not service.sessions.stop("me")  # nothing runs any more


def test_a_search_that_nobody_reads_ends() -> None:
    stop, ended = Event(), Event()

    def search(on_best, on_step):
        on_best("a", 1.0)
        stop.wait()
        ended.set()

    updates = watched(search, stop)
    next(updates)
    updates.close()
    assert ended.is_set()


def test_an_error_of_the_search_reaches_its_reader(service: Service, files) -> None:
    with pytest.raises(RuntimeError):
        list(service.search(files.upload, service.config("broken")))


def test_every_picture_of_a_batch_has_a_row_bad_or_good(service: Service, files) -> None:
    uploads = [files.upload, Upload(str(files.bad), "bad.png"), files.upload]
    *_, rows = service.each(uploads, service.config("quick"))
    assert [row.result and row.result.prompt for row in rows] == ["w33", None, "w33"]
    assert rows[1].problem.startswith("bad.png is not an image that can be read")


def test_a_method_that_fails_leaves_the_others_and_tells_no_path(service: Service, files) -> None:
    *_, rows = service.compare(files.upload, ["quick", "broken", "quick"], service.config("quick"))
    assert [row.label for row in rows] == ["quick", "broken"]
    assert rows[0].result.prompt == "w33" and -1 <= rows[0].judge <= 1
    assert "RuntimeError" in rows[1].problem and "secret" not in rows[1].problem


def test_settings_stay_within_the_limits(service: Service) -> None:
    assert service.config("quick", seconds=1e9).seconds == service.limits.seconds
    assert service.config("quick", seconds=None).seconds == service.limits.seconds
    assert service.config("quick", seconds=2.0, ban=" a, b,").ban == ("a", "b")
    with pytest.raises(InputError, match="unknown `method` 'nothing'"):
        service.config("nothing")
    with pytest.raises(InputError, match="characters"):
        service.config("quick", init_prompt="w" * 5000)
    with pytest.raises(InputError, match="25 or fewer"):
        next(service.each([Upload("a", "a")] * 26, service.config("quick")))


@pytest.mark.parametrize("wrong", [{"queue": 0}, {"megabytes": 0}, {"seconds": float("nan")}, {"files": -1}])
def test_a_limit_of_less_than_one_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(InputError, match=f"`{next(iter(wrong))}` is"):
        Limits(**wrong)  # type: ignore[arg-type]


def test_prompts_are_drawn_once_for_each_seed_and_compared_with_the_picture(service: Service, files) -> None:
    drawn = service.draw("w1", images=3, seed=5, upload=files.upload)
    assert [one.seed for one in drawn] == [5, 6, 7] and all(-1 <= one.judge <= 1 for one in drawn)
    assert service.draw("w1", images=1)[0].judge is None
    for prompt, images in ((" ", 1), ("w1", 0), ("w1", 4)):
        with pytest.raises(InputError):
            service.draw(prompt, images)


def test_images_are_drawn_as_the_command_line_asks_for(service: Service) -> None:
    asked: list[DrawingOptions] = []
    fast = Service(service.inverter, service.limits, "a generator", DrawingOptions(steps=4, size="64x64"))
    blank = Drawn(torch.zeros(3, 8, 8))
    draw = lambda prompts, seeds, options: asked.append(options) or [blank] * len(seeds)  # noqa: E731
    fast.generator = SimpleNamespace(draw=draw)  # type: ignore[assignment]
    fast.draw("w1", images=2)
    assert asked == [DrawingOptions(steps=4, size="64x64")]


def test_without_a_generator_nothing_is_drawn(service: Service) -> None:
    bare = Service(service.inverter)
    assert not {"ph2p", "textual-inversion"} & set(bare.methods)
    with pytest.raises(InputError, match="no generator"):
        bare.draw("w1")


def test_the_zip_holds_a_prompt_and_all_figures_of_each_picture(tmp_path: Path, found: Result) -> None:
    rows = [Row("a.png", found), Row("a.jpg", found), Row("bad.png", problem="bad.png is empty: give an image file")]
    write_zip(rows, tmp_path / "out.zip")
    with zipfile.ZipFile(tmp_path / "out.zip") as archive:
        assert sorted(archive.namelist()) == ["a-2.json", "a-2.txt", "a.json", "a.txt", "problems.txt"]
        assert archive.read("a.txt") == b"a fox\n"
        assert json.loads(archive.read("a-2.json"))["image"] == "a.jpg"
        assert b"bad.png is empty" in archive.read("problems.txt")


def test_names_in_the_zip_are_distinct_whatever_they_are() -> None:
    names = distinct(["a", "a", "a-2", "a", "problems"])
    assert names[0] == "a" and len(set(names)) == 5 and "problems" not in names


def test_text_of_users_is_no_markup(found: Result) -> None:
    evil = "<script>alert(1)</script>"
    entries = [HistoryEntry(evil, i, float(i), evil, evil) for i in range(3)]
    pages = [
        views.curve(entries),
        views.comparison([Row(evil, found, 0.5), Row(evil, problem=evil)]),
        views.batch([Row(evil, problem=evil)], 1),
        views.analysis(Analysis({evil: [(evil, 0.5)]}, "")),
    ]
    assert all("&lt;script&gt;" in page and "<script>" not in page for page in pages)


def test_the_curve_has_a_line_for_each_stage_and_none_for_a_single_step(found: Result) -> None:
    assert views.curve(found.history).count("<polyline") == 2
    assert views.curve(found.history[:1]) == ""
    flat = [HistoryEntry("a", i, 0.5) for i in range(5000)]
    assert len(views.curve(flat)) < 10_000  # long ones are thinned out


def test_the_best_under_the_judge_is_marked(found: Result) -> None:
    table = views.comparison([Row("gcg", found, 0.2), Row("pez", found, 0.4)])
    assert table.index("gcg") < table.index('class="best"') < table.index("pez")
