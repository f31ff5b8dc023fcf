"""The README says what the comparison found."""

from __future__ import annotations

import json

import pytest

from experiments.harness.readme import BEGIN, END, README, headline, with_headline
from experiments.harness.runner import RESULTS


def measured(value: float) -> dict[str, float]:
    return {"mean": value, "low": value - 0.1, "high": value + 0.1}


def test_a_method_without_foreign_pictures_has_a_dash_there():
    row = {name: measured(0.5) for name in ("word_f1", "objects", "judge", "forward", "backward", "seconds")}
    row = {**row, "pictures": 3}
    scenes, others = headline({"held-out": {"invert": row, "slow": row}, "foreign": {"invert": row}}).split(
        "\nPictures that others drew:\n\n"
    )
    assert scenes.count("0.50 ± 0.10") == 6 and others.count("0.50 ± 0.10") == 2
    assert "| `slow` | 3 | 0.50" in scenes and others.splitlines()[-1] == "| `slow` | – | – | – |"


def test_every_kind_of_pictures_has_its_columns_and_the_judge_is_of_scenes_alone():
    row = {name: measured(0.5) for name in ("word_f1", "objects", "judge", "forward", "backward", "seconds")} | {"pictures": 2}
    kinds = ("held-out", "foreign", "stamps", "clip-art")
    *scenes, _, _, _, title, _, line = headline({kind: {"invert": row} for kind in kinds}).splitlines()
    assert [title.count(f", {name} |") for name in ("Twemoji", "stamps", "clip art")] == [2, 2, 2]
    assert "judge" in scenes[0] and "judge" not in title and len({scene.count("|") for scene in scenes}) == 1
    assert "| 2 + 2 + 2 |" in line and title.count("|") == line.count("|")
    assert "others" not in headline({"held-out": {"invert": row}})


def test_only_what_stands_between_the_marks_changes():
    text = README.read_text()
    assert with_headline(with_headline(text, "| a |\n"), "| b |\n") == with_headline(text, "| b |\n")
    before, _, after = text.partition(BEGIN)
    changed = with_headline(text, "| a |\n")
    assert changed.startswith(before) and changed.endswith(after.partition(END)[2])
    with pytest.raises(ValueError):
        with_headline("no marks", "")


def test_the_readme_shows_the_recorded_comparison():
    recorded = json.loads((RESULTS / "compare" / "compare.json").read_text())
    assert with_headline(README.read_text(), headline(recorded["means"])) == README.read_text()
