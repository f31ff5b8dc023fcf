"""Golden prompts: a few in every run; all of them by `python -m experiments golden`."""

from __future__ import annotations

import pytest

from experiments.harness import golden
from experiments.harness.golden import Check
from invert.errors import InputError
from invert.inverter import Inverter

FIRST, DRAWN_ELSEWHERE = "held-out/scene-000/0", "foreign/000/0"


@pytest.fixture(scope="module")
def inverter():
    return Inverter.load(device="cpu")


@pytest.mark.parametrize("run", [FIRST, DRAWN_ELSEWHERE])
def test_invert_finds_its_golden_prompts(inverter, run):
    checks = list(golden.check(inverter, ["invert"], [run]))
    assert [check for check in checks if check.verdict == "changed"] == [] and len(checks) == 1


@pytest.mark.parametrize("name", ["retrieve", "interrogator-lite-fast"])
def test_peers_find_their_golden_prompts(inverter, name):
    checks = list(golden.check(inverter, [name], [FIRST]))
    assert [check for check in checks if check.verdict == "changed"] == [] and len(checks) == 1


def test_every_run_of_every_method_is_recorded():
    recorded = golden.read()["methods"]
    assert tuple(recorded) == golden.NAMES
    for entry in golden.ENTRIES:
        runs = [golden.run_name(picture, seed) for picture, seed in golden.runs_of(entry)]
        assert list(recorded[entry.name]["prompts"]) == runs
        assert len(runs) == (60 if entry.name == "invert" else 5)
        assert recorded[entry.name]["revision"] == golden.revision_of(entry.method), "record the golden prompts anew"


def test_another_prompt_of_the_same_score_is_a_tie_and_of_another_score_a_change():
    assert Check("pez", FIRST, "a fox", 0.5, "a fox", 0.4).verdict == "same"
    tie, change = (Check("pez", FIRST, "a fox", 0.5, "an owl", score) for score in (0.50005, 0.4))
    assert (tie.verdict, change.verdict) == ("tie", "changed")
    assert "0.500000 'a fox'" in str(change) and "0.400000 'an owl'" in str(change)


def test_a_revised_method_asks_to_be_recorded_anew(inverter, monkeypatch):
    monkeypatch.setattr(golden, "revision_of", lambda method: 99)
    with pytest.raises(InputError, match="golden --record retrieve"):
        list(golden.check(inverter, ["retrieve"]))


def test_what_is_recorded_is_found_again_and_other_methods_stay(inverter, tmp_path, monkeypatch):
    before = golden.read()
    monkeypatch.setattr(golden, "GOLDEN", tmp_path / "golden.json")
    golden.write(before)
    assert golden.read() == before
    list(golden.record(inverter, ["retrieve"]))
    assert golden.read()["methods"]["pez"] == before["methods"]["pez"]
    assert {check.verdict for check in golden.check(inverter, ["retrieve"])} == {"same"}
