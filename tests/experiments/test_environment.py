"""What the environment asks of an experiment: the right value, or one sentence that names the variable."""

from __future__ import annotations

import pytest

from experiments.harness.environment import chosen, count, counts, is_on, number
from invert.errors import InputError

NAME = "SOME_PICTURES"


@pytest.mark.parametrize(("given", "wanted"), [(None, (100, 8)), ("25,3", (25, 3)), (" 25 , 3 ", (25, 3)), ("7", (7, 7))])
def test_numbers_are_read(given: str | None, wanted: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    if given is not None:
        monkeypatch.setenv(NAME, given)
    assert counts(NAME, (100, 8)) == wanted


@pytest.mark.parametrize("given", ["", "ten", "0", "-3", "2.5", "1,2,3", "1,", "²"])
def test_what_is_no_number_is_one_sentence(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(NAME, given)
    with pytest.raises(
        InputError, match=rf"^{NAME} is .*: give a whole number, 1 or more \(2 with commas, or one for all\), as in 100,8$"
    ):
        counts(NAME, (100, 8))
    with pytest.raises(InputError, match=f"^{NAME} is .*: give a whole number, 1 or more, as in 100$"):
        count(NAME, 100)


def test_a_number_may_be_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    assert number(NAME, 2.5) == 2.5
    monkeypatch.setenv(NAME, "7.5")
    assert number(NAME, 2.5) == 7.5


@pytest.mark.parametrize("given", ["", "much", "0", "-1", "nan", "inf"])
def test_what_is_no_number_above_nought_is_one_sentence(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(NAME, given)
    with pytest.raises(InputError, match=f"^{NAME} is '{given}': give a number above 0$"):
        number(NAME, 2.5)


def test_names_are_chosen_in_the_order_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    assert chosen(NAME, ["a", "b", "c"]) == ["a", "b", "c"]
    assert chosen(NAME, ["a", "b", "c"], default=["b"]) == ["b"]
    monkeypatch.setenv(NAME, "c;a")
    assert chosen(NAME, ["a", "b", "c"], separator=";") == ["c", "a"]
    with pytest.raises(InputError, match=f"^{NAME}: unknown 'c;a': a, b, c$"):
        chosen(NAME, ["a", "b", "c"])


def test_a_switch_is_one_or_nought(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not is_on(NAME)
    for given, wanted in (("1", True), ("0", False)):
        monkeypatch.setenv(NAME, given)
        assert is_on(NAME) is wanted
    monkeypatch.setenv(NAME, "yes")
    with pytest.raises(InputError, match=f"^{NAME} is 'yes': give 1 or 0$"):
        is_on(NAME)
