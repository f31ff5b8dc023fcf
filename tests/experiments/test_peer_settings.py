"""Every peer enters the comparison with the setting that served it best on training scenes."""

from __future__ import annotations

import json

import pytest

from experiments.compare import ENTRIES
from experiments.harness.runner import RESULTS

BEST: dict[str, str] = json.loads((RESULTS / "peer-settings.json").read_text())["best"]
AS_ENTERED = {"interrogator-lite-fast": "interrogator-fast", "interrogator-lite-classic": "interrogator-classic"}


@pytest.mark.parametrize("peer", BEST)
def test_a_peer_is_given_what_served_it_best(peer: str) -> None:
    (entry,) = (entry for entry in ENTRIES if entry.name == AS_ENTERED.get(peer, peer))
    said = [entry.options[name] for name in ("target", "tokens") if name in entry.options]
    assert [peer, *map(str, said)] == BEST[peer].split()
