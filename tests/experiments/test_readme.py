"""The README says what the comparison found."""

from __future__ import annotations

import json

import pytest

from experiments.harness.readme import COMPARE, OPEN_WORLD, README, headline, marks, open_world, with_table
from experiments.harness.runner import RESULTS
from experiments.open_world import NON_WORDS, PERPLEXITY, open_world_table


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


def test_the_open_world_has_a_row_for_every_method_and_tells_how_english_its_prompts_are():
    row = {name: measured(0.5) for name in ("word_f1", "objects", "judge", "forward", "backward")} | {"pictures": 2}
    found = {"held-out": {"english": row, "pez": row}, "foreign": {"english": row}}
    title, _, ours, pez = open_world(found, {"english": 0.0, "pez": 0.75}, {"english": 3.2, "pez": 11.0}).splitlines()
    assert "word F1, Twemoji" in title and {line.count("|") for line in (title, ours, pez)} == {10}
    assert ours.endswith("| 0.50 ± 0.10 | 0% | 3.2 | 1 |") and pez.endswith("| – | 75% | 11.0 | 1 |")


@pytest.mark.parametrize("experiment", [COMPARE, OPEN_WORLD])
def test_only_what_stands_between_the_marks_changes(experiment):
    text = README.read_text()
    begin, end = marks(experiment)
    assert with_table(with_table(text, experiment, "| a |\n"), experiment, "| b |\n") == with_table(text, experiment, "| b |\n")
    before, _, after = text.partition(begin)
    changed = with_table(text, experiment, "| a |\n")
    assert changed.startswith(before) and changed.endswith(after.partition(end)[2])
    with pytest.raises(ValueError):
        with_table("no marks", experiment, "")


def test_the_readme_shows_the_recorded_comparison():
    recorded = json.loads((RESULTS / "compare" / "compare.json").read_text())
    assert with_table(README.read_text(), COMPARE, headline(recorded["means"])) == README.read_text()


def test_the_readme_shows_what_came_of_the_open_world():
    recorded = json.loads((RESULTS / "open-world.json").read_text())
    shown = open_world_table(recorded["means"], recorded[NON_WORDS], recorded[PERPLEXITY])
    assert with_table(README.read_text(), OPEN_WORLD, shown) == README.read_text()
