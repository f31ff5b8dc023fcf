"""Peaks of memory are kept as they are measured, and what did not fit is tried again."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from experiments import low_memory
from experiments.harness.runner import Context
from invert.errors import InputError


def test_what_was_measured_is_kept_and_what_did_not_fit_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str, bool]] = []
    room = {"gib": 1.0}

    def peaks(name: str, dtype: str, lows: Sequence[bool], seed: int) -> Iterator[dict[str, Any]]:
        for low in lows:
            asked.append((name, dtype, low))
            fits = low or room["gib"] > 2
            yield {"model": name, "dtype": dtype, "low_memory": low, "peak_gib": 1.5 if fits else None}

    monkeypatch.setattr(low_memory, "peaks", peaks)
    monkeypatch.setattr(low_memory, "FAMILIES", ("ViT-B-32",))
    monkeypatch.setenv("LOW_MEMORY_MODELS", "RN50")
    first = low_memory.run(Context("low-memory", tmp_path))["peaks"]
    assert [row["peak_gib"] for row in first] == [None, 1.5, None, 1.5]
    assert len((tmp_path / "runs" / "low-memory.jsonl").read_text().splitlines()) == 2
    asked.clear()
    room["gib"] = 16.0
    second = low_memory.run(Context("low-memory", tmp_path))["peaks"]
    assert asked == [("RN50", "float32", False), ("RN50", "bfloat16", False)]
    assert [row["peak_gib"] for row in second] == [1.5] * 4
    lines = (tmp_path / "runs" / "low-memory.jsonl").read_text().splitlines()
    assert sorted(map(low_memory.key_of, map(json.loads, lines))) == sorted(map(low_memory.key_of, second))


@pytest.mark.parametrize(
    ("variable", "value", "sentence"),
    [
        ("LOW_MEMORY_MODELS", "RN50,ViT-Q-3", r"^LOW_MEMORY_MODELS: open_clip has no architecture 'ViT-Q-3'; "),
        ("LOW_MEMORY_LIMIT", "much", "^LOW_MEMORY_LIMIT is 'much': give a number above 0$"),
    ],
)
def test_what_cannot_be_measured_is_said_before_weights_are_written(
    variable: str, value: str, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(low_memory, "peaks", lambda *_: pytest.fail("weights were written"))
    monkeypatch.setenv(variable, value)
    with pytest.raises(InputError, match=sentence):
        low_memory.run(Context("low-memory", tmp_path))
