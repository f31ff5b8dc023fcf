"""What an English word is used for, counted on a few senses written down here."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
from english_uses import FIRST, OF_PLACES, UNMET, Uses

COUNTS = """fox%1:05:00:: 1 3
fox%1:18:00:: 2 1
left%1:06:00:: 4 2
left%1:15:00:: 1 19
left%3:00:00:: 1 35
leave%2:38:00:: 1 80
person%1:03:00:: 1 40
"""
KINDS = {3: "top", 5: "animal", 6: "artifact", 15: "location", 18: "person"}
VISIBLE = frozenset({"animal", "artifact", "location", "person"})


@pytest.fixture
def uses(tmp_path: Path) -> Uses:
    (tmp_path / "cntlist.rev").write_text(COUNTS)
    return Uses(tmp_path, KINDS, [("leave", ["left", "leaving"])], {"leave": 4.0, "left": 3.0, "leaving": 1.0}.__getitem__)


def test_a_noun_names_what_is_seen_in_nearly_all_its_uses(uses: Uses) -> None:
    assert uses.visible_share("fox", ["animal", "person"], VISIBLE) == pytest.approx((4 + FIRST) / (4 + UNMET))
    assert uses.visible_share("person", ["top"], VISIBLE) == pytest.approx(40 / 40.5)  # the kind itself
    assert uses.visible_share("yak", ["animal"], VISIBLE) == pytest.approx(FIRST / UNMET)  # never met


def test_what_is_mostly_another_part_of_speech_is_not_taken_for_a_noun(uses: Uses) -> None:
    assert uses.verbs == {"leave": 40.0, "left": 30.0, "leaving": 10.0}  # 80 times, shared by how frequent each form is
    assert uses.visible_share("left", ["location", "artifact", "past", "adj", "adv"], VISIBLE) == 0
    seen, others = 2 + OF_PLACES * (19 + FIRST), uses.verbs["left"] + 35
    share = uses.visible_share("left", ["location", "artifact", "past", "adj"], VISIBLE)  # it were no adverb
    assert share == pytest.approx(seen / (21 + others + 3 * UNMET))
    assert uses.visible_share("can", ["function", "artifact"], VISIBLE) == 0
