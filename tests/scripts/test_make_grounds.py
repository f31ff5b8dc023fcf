"""Grounds are cut from photographs, and from no part that has a single color."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
import make_grounds


def test_pieces_come_from_every_photograph_but_not_from_what_is_plain() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (2, 200, 300, 3), dtype=np.uint8)
    noise[0, ..., 2], noise[1, ..., 0] = 0, 0
    photographs = [Image.fromarray(noise[0]), Image.new("RGB", (300, 200), "teal"), Image.fromarray(noise[1])]
    pieces = [np.asarray(piece) for piece in itertools.islice(make_grounds.ground_pieces(photographs), 20)]
    assert all(piece.shape == (make_grounds.GROUND, make_grounds.GROUND, 3) for piece in pieces)
    assert [bool(piece[..., 2].any()) for piece in pieces] == [False, True] * 10
    again = [np.asarray(piece) for piece in itertools.islice(make_grounds.ground_pieces(photographs), 20)]
    assert all(np.array_equal(one, other) for one, other in zip(pieces, again, strict=True))
