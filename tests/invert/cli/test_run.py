"""`invert run`: its options, what it refuses before anything is loaded, and real runs on the bundled model."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from invert.batch.find import Picture
from invert.batch.tiers import Tiers
from invert.cli.run import is_below
from invert.cli.run_progress import Progress, SpeedColumn
from invert.inverter import Inverter


@pytest.fixture
def model(monkeypatch, inverter):
    """The bundled model, loaded once for all tests."""
    monkeypatch.setattr(Inverter, "load", lambda *_, **__: inverter)
    return inverter


@pytest.fixture
def scenes(tmp_path, pictures_of_scenes) -> Path:
    for name, picture in zip(("a.png", "b.jpg", "sub/c.png"), pictures_of_scenes, strict=True):
        (tmp_path / "scenes" / name).parent.mkdir(parents=True, exist_ok=True)
        picture.save(tmp_path / "scenes" / name, quality=95)
    return tmp_path / "scenes"


@pytest.fixture
def pictures_of_scenes():
    from torchvision.transforms.functional import to_pil_image

    from invert.picturebook.render import render
    from invert.picturebook.world import draw_scenes

    return [to_pil_image(picture) for picture in render(draw_scenes(3, 7, "held-out"))]


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_folder_gets_captions_and_tables_and_stdout_stays_empty(command, model, scenes, tmp_path):
    words = ["run", scenes, "--out", tmp_path / "out", "--sidecar", "--method", "retrieve", "--formats", "metadata,jsonl"]
    done = command(*words)
    assert (done.status, done.out) == (0, "") and done.sentences[0] == "invert: 3 of 3 pictures have a prompt"
    assert "imagefolder" in done.sentences[1]
    rows = lines(tmp_path / "out" / "prompts.jsonl")
    assert [row["file_name"] for row in rows] == ["../scenes/a.png", "../scenes/b.jpg", "../scenes/sub/c.png"]
    assert rows[0]["prompt"] == model.invert(scenes / "a.png", method="retrieve").prompt
    assert (scenes / "sub" / "c.txt").read_text() == rows[2]["prompt"] + "\n"
    again = command(*words)
    assert again.status == 0 and again.sentences[0] == "invert: 3 of 3 pictures have a prompt; 3 from before"


def test_a_search_gives_each_picture_the_prompt_of_a_run_of_its_own(command, model, scenes):
    words = ["--method", "random", "--budget", "1000", "--seed", "5"]
    assert command("run", scenes, "--out", scenes, *words).status == 0
    alone = [command(scenes / row["file_name"], *words).out.strip() for row in lines(scenes / "metadata.jsonl")]
    assert [row["text"] for row in lines(scenes / "metadata.jsonl")] == alone


def test_what_retrieval_serves_badly_is_searched(command, model, scenes):
    words = ["--method", "random", "--budget", "500", "--search-share", "0.3", "--formats", "jsonl", "--top", "2"]
    assert command("run", scenes, "--out", scenes, *words).status == 0
    rows = lines(scenes / "prompts.jsonl")
    assert sorted(row["tier"] for row in rows) == [1, 1, 2] and all(len(row["alternatives"]) == 2 for row in rows)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "no folder given"),
        (["{}"], "nothing would be written: add --out"),
        (["nowhere", "--sidecar"], "nowhere does not exist"),
        (["{}", "--sidecar", "--existing", "keep"], "unknown --existing 'keep': choose one of skip"),
        (["{}", "--out", "o", "--prefix", "a"], "--prefix is about captions: add --sidecar"),
        (["{}", "--sidecar", "--report"], "--report needs a folder to write to: add --out"),
        (["{}", "--out", "o", "--formats", "xml"], "unknown --formats 'xml'"),
        (["{}", "--out", "o", "--embedded", "x"], "unknown --embedded 'x'"),
        (["{}", "--out", "o", "--method", "pezz"], "did you mean 'pez'?"),
        (["{}", "--out", "o", "--search-share", "2"], "--search-share is 2.0"),
        (["{}", "--out", "o", "--method", "retrieve", "--search-below", "0.2"], "choose another one"),
        (["{}", "--out", "o", "--search-below", "0.2", "--must-include", "fox"], "cannot follow --must-include"),
        (["{}", "--out", "o", "--include", "*.gif"], "no images that the patterns want"),
        (["{}", "--out", "o", "--tokens", "0"], "--tokens is 0"),
        (["{}", "--out", "file/o"], "cannot make the folder file/o/.invert: Not a directory; choose a writable --out"),
        (["{}", "--sidecar", "--report", "page.html"], "add --out"),
    ],
)
def test_what_makes_no_sense_is_one_sentence_before_anything_is_loaded(
    command, light, pictures, tmp_path, monkeypatch, words, sentence
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    monkeypatch.setattr(Inverter, "load", lambda *_, **__: pytest.fail("loaded"))
    done = command("run", *(word.format(pictures[0].parent) for word in words))
    assert done.status == 2 and done.out == "" and sentence in done.err and len(done.sentences) == 1, done.err


def test_a_table_of_somebody_elses_is_not_overwritten(command, model, scenes):
    (scenes / "metadata.jsonl").write_text("mine\n")
    for _ in range(2):
        done = command("run", scenes, "--out", scenes, "--method", "retrieve")
        assert done.status == 2 and "is there already and not from a run" in done.err
    assert (scenes / "metadata.jsonl").read_text() == "mine\n"


@pytest.mark.parametrize("name", ["errors.jsonl", "gallery/index.html", "prompts.csv"])
def test_nothing_of_somebody_elses_is_lost_by_a_later_run_that_writes_more(command, model, scenes, tmp_path, name):
    words = ["run", scenes, "--out", tmp_path / "out", "--method", "retrieve"]
    foreign = tmp_path / "out" / name
    foreign.parent.mkdir(parents=True)
    if name == "prompts.csv":  # comes between two runs
        assert command(*words).status == 0
    foreign.write_text("mine")
    refused = command(*words, "--report", "--formats", "metadata,csv")
    assert refused.status == 2 and "is there already and not from a run" in refused.sentences[0]
    assert foreign.read_text() == "mine"
    foreign.unlink()
    if foreign.parent.name == "gallery":
        foreign.parent.rmdir()
    assert command(*words, "--report", "--formats", "metadata,csv").status == 0
    assert command(*words, "--report", "--formats", "metadata,csv", "--restart").status == 0  # its own it writes again


def test_folders_of_one_output_never_take_each_other_s_prompts(command, model, scenes, tmp_path):
    words = ["--out", tmp_path / "out", "--method", "retrieve", "--formats", "jsonl"]
    other = tmp_path / "other"
    other.mkdir()
    (other / "a.png").write_bytes((scenes / "a.png").read_bytes())
    (scenes / "a.png").write_bytes((scenes / "sub" / "c.png").read_bytes())
    for path in (scenes / "a.png", other / "a.png"):  # alike but for their content
        path.write_bytes(path.read_bytes().ljust(100_000, b"\0"))
        os.utime(path, (1, 1))
    assert command("run", scenes / "a.png", *words).status == 0
    second = command("run", other, *words)
    (row,) = lines(tmp_path / "out" / "prompts.jsonl")
    assert row["prompt"] == model.invert(other / "a.png", method="retrieve").prompt
    assert "1 picture of earlier runs is not among these: its row is kept" in second.err
    both = command("run", scenes / "a.png", other, *words)
    assert both.sentences[0] == "invert: 2 of 2 pictures have a prompt; 2 from before"
    assert [row["file_name"] for row in lines(tmp_path / "out" / "prompts.jsonl")] == ["../other/a.png", "../scenes/a.png"]


def test_a_restart_that_is_refused_changes_nothing(command, model, scenes, tmp_path):
    words = ["run", scenes, "--out", tmp_path / "out", "--method", "retrieve"]
    assert command(*words).status == 0
    (tmp_path / "out" / "prompts.csv").write_text("mine")
    assert command(*words, "--formats", "metadata,csv", "--restart").status == 2
    assert command(*words).sentences[0] == "invert: 3 of 3 pictures have a prompt; 3 from before"


def test_a_negative_picture_that_was_replaced_is_another_option(command, model, scenes, tmp_path):
    negative = tmp_path / "negative.png"
    negative.write_bytes((scenes / "a.png").read_bytes())
    words = ["run", scenes / "sub", "--out", tmp_path / "out", "--method", "retrieve", "--negative", negative]
    assert command(*words).status == 0
    negative.write_bytes((scenes / "sub" / "c.png").read_bytes())
    refused = command(*words)
    assert refused.status == 2 and "belongs to a run with other options" in refused.sentences[0]


def test_captions_are_added_once_whatever_the_run_and_written_again_where_they_were_removed(command, model, scenes, tmp_path):
    words = ["--sidecar", "--method", "retrieve", "--existing", "append"]
    (scenes / "a.txt").write_text("old")
    assert command("run", scenes / "sub", scenes, *words).status == 0
    expected = {path: path.read_text() for path in scenes.rglob("*.txt")}
    assert len(expected) == 3 and expected[scenes / "a.txt"].startswith("old, ")
    (scenes / "b.txt").unlink()
    for more in ([scenes / "sub", scenes], [scenes], [scenes, "--restart"], [scenes, "--out", tmp_path / "out"]):
        assert command("run", *more, *words).status == 0
        assert {path: path.read_text() for path in scenes.rglob("*.txt")} == expected


def test_changed_options_are_said_as_flags_and_restart_begins_again(command, model, scenes):
    assert command("run", scenes, "--out", scenes, "--method", "retrieve").status == 0
    done = command("run", scenes, "--out", scenes, "--method", "retrieve", "--ban", "red")
    assert done.status == 2 and "--ban was '' and is 'red'" in done.err and "add --restart" in done.err
    done = command("run", scenes, "--out", scenes, "--method", "retrieve", "--ban", "red", "--restart")
    assert done.status == 0 and not any("red" in row["text"].split() for row in lines(scenes / "metadata.jsonl"))


def test_bad_pictures_do_not_fail_the_run_unless_all_are(command, model, scenes, tmp_path):
    (scenes / "bad.png").write_bytes(b"no picture")
    done = command("run", scenes, "--out", tmp_path / "o", "--method", "retrieve")
    assert done.status == 0 and "1 could not be done, see" in done.err and len(lines(tmp_path / "o" / "errors.jsonl")) == 1
    done = command("run", scenes / "bad.png", "--out", tmp_path / "p", "--method", "retrieve")
    assert done.status == 2 and "0 of 1 picture has a prompt" in done.err


@pytest.mark.parametrize(("number", "status", "word"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")])
def test_a_signal_writes_the_tables_of_what_is_done(command, model, scenes, monkeypatch, number, status, word):
    work = Tiers.__call__

    def struck(self, prepared):
        if self.inverter.struck:
            os.kill(os.getpid(), number)
        self.inverter.struck = True
        return work(self, prepared)

    monkeypatch.setattr(model, "struck", False, raising=False)
    monkeypatch.setattr(Tiers, "__call__", struck)
    words = ["run", scenes, "--out", scenes, "--method", "random", "--budget", "300"]
    done = command(*words)
    assert done.status == status and done.sentences == [f"invert: {word} after 1 of 3 pictures: start it again to go on"]
    assert len(lines(scenes / "metadata.jsonl")) == 1
    monkeypatch.undo()
    monkeypatch.setattr(Inverter, "load", lambda *_, **__: model)
    assert "1 from before" in command(*words).err and len(lines(scenes / "metadata.jsonl")) == 3


def test_a_read_only_output_is_one_sentence(command, model, scenes, monkeypatch):
    def refusing(path, *_):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("invert.files.write_file", refusing)
    done = command("run", scenes, "--sidecar", "--method", "retrieve")
    assert done.status == 2 and done.sentences == [
        f"invert: cannot write {scenes}/a.txt: Read-only file system; choose a writable path"
    ]


def test_the_help_and_its_refusals_import_nothing_heavy():
    code = (
        "import sys\nfrom invert.cli import main\n"
        "for words in (['run', '-h'], ['run'], ['run', 'somewhere'], ['run', 'nowhere', '--sidecar', '--method', 'x']):\n"
        "    sys.argv = ['invert', *words]\n"
        "    try:\n        main()\n    except SystemExit as end:\n        print(end.code or 0)\n"
        "assert not {'torch', 'open_clip', 'matplotlib', 'pyarrow', 'numpy'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[3])
    assert done.returncode == 0 and done.stdout.split()[-3:] == ["2", "2", "2"], done.stderr


def test_progress_shows_pictures_a_second_and_the_time_left():
    import io

    from rich.console import Console

    stream = io.StringIO()
    with Progress(Console(file=stream, force_terminal=True, width=120)) as progress:
        progress.begin(100, 40)
        progress.advance(20, 3)
        progress.bar.refresh()
    shown = stream.getvalue()
    assert "60/100" in shown and "3 bad" in shown
    task = progress.bar.tasks[0]
    task.finished_speed = 0.25
    assert SpeedColumn().render(task).plain == "4.0 s/picture"
    task.finished_speed = 12.34
    assert SpeedColumn().render(task).plain == "12.3 pictures/s"


def test_tables_name_pictures_below_them_whatever_links_lead_there(tmp_path):
    (tmp_path / "pictures" / "..sub").mkdir(parents=True)
    (tmp_path / "link").symlink_to("pictures")
    out = tmp_path / "pictures"
    assert is_below(Picture("", str(tmp_path / "link" / "..sub" / "a.png")), out)
    assert not is_below(Picture("", str(tmp_path / "a.png")), out)
