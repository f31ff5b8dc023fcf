"""Every figure of the README and of some pages is the one that the results hold."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments.harness import quotes
from experiments.harness.quoted import COMPLETE, QUOTED
from experiments.harness.quotes import Quoted, at, ratio, stale, without_source


@pytest.mark.parametrize("quoted", QUOTED, ids=lambda quoted: f"{quoted.page}: {quoted.text[:40]}")
def test_a_quoted_figure_is_that_of_the_results(quoted: Quoted) -> None:
    assert stale(quoted) == "", f"{quoted.page} should say this"


@pytest.mark.parametrize("page", COMPLETE)
def test_no_figure_of_a_page_is_without_a_source(page: str) -> None:
    assert without_source(page, QUOTED) == []


def test_a_changed_result_or_an_invented_figure_is_found_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    page = "Of\n5 points[^1] a fit\ntakes 1.50 s `8` on <b id=7>an</b> [H200](x9.md).\n\n```\n3\n```\n"
    (tmp_path / "page.md").write_text(page)
    monkeypatch.setattr(quotes, "ROOT", tmp_path)
    monkeypatch.setattr(quotes, "result", lambda name: {"ours": [{"ms": 1500.0}], "theirs": 3000.0})
    right = Quoted("page.md", "a fit takes {:.2f} s", (at("x", "ours", 0, "ms", times=1e-3),))
    wrong = Quoted("page.md", "takes {:.2f} s", (ratio(at("x", "theirs"), at("x", "ours", 0, "ms")),))
    assert (stale(right), stale(wrong)) == ("", "takes 2.00 s")
    assert [number for _, number in without_source("page.md", [right])] == ["5", "1"]
    assert [number for _, number in without_source("page.md", [])] == ["5", "1", "1.50"]
