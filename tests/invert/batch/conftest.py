"""Shards for every file of tests here."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.invert.batch.shard_cases import tar_of


@pytest.fixture
def tars(tmp_path: Path) -> list[Path]:
    """Three tars of five pictures."""
    return [tar_of(tmp_path / f"{i:05d}.tar", 5, 10 * i) for i in range(3)]
