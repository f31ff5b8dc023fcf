"""Points in clear blobs whose type, order in memory, scale or single values are odd; weights that are odd."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.random import Generator


def blobs(rng: Generator) -> tuple[np.ndarray, np.ndarray, float]:
    """Points in clear blobs, (N, D) in float64; the blob of each; and the unit of length: blobs lie 20 apart or more."""
    n_blobs, width = int(rng.integers(2, 5)), int(rng.choice([1, 2, 3, 4, 8, 33]))
    scale = float(rng.choice([1.0, 1.0, 1.0, 1e-3, 1e3]))
    centers = np.zeros((n_blobs, width))
    centers[:, 0] = 20 * np.arange(n_blobs)
    labels = np.sort(rng.integers(0, n_blobs, int(rng.integers(20, 150))) % n_blobs)
    labels[:n_blobs] = np.arange(n_blobs)
    points = centers[labels] + rng.uniform(-1, 1, (len(labels), width)) / np.sqrt(width)
    offset = float(rng.choice([0, 0, 0, 100, 1e4]))
    return (points + offset) * scale, labels, scale


def odd_points(rng: Generator) -> tuple[str, Any, float]:
    """A name, points in some odd form, and their unit of length."""
    points, _, scale = blobs(rng)
    forms: tuple[Callable[[Generator, np.ndarray], tuple[str, Any]], ...] = (
        typed,
        typed,
        laid_out,
        laid_out,
        spoiled,
        shaped,
        listed,
    )
    name, made = forms[rng.integers(len(forms))](rng, points)
    return f"{name} {points.shape} scale {scale:g}", made, scale


def typed(rng: Generator, points: np.ndarray) -> tuple[str, Any]:
    dtype = str(rng.choice(["f2", "f4", "f8", ">f4", ">f8", "i2", "i4", "i8", "u1", "?", "c8", "O", "U8", "g"]))
    if dtype in ("i2", "u1"):
        points = points - points.min()
        points = points / max(1.0, points.max()) * 100
    with np.errstate(all="ignore"):
        return f"dtype {dtype}", points.astype(dtype)


def laid_out(rng: Generator, points: np.ndarray) -> tuple[str, Any]:
    points = points.astype(rng.choice(["f4", "f8"]))
    kind = int(rng.integers(6))
    if kind == 0:
        return "reversed", points[::-1]
    if kind == 1:
        return "columns reversed", points[:, ::-1]
    if kind == 2:
        return "Fortran order", np.asfortranarray(points)
    if kind == 3:
        return "every second row", np.repeat(points, 2, 0)[::2]
    if kind == 4:
        points.flags.writeable = False
        return "read-only", points
    return "a part of columns", np.concatenate([points, points], 1)[:, : points.shape[1]]


def spoiled(rng: Generator, points: np.ndarray) -> tuple[str, Any]:
    points = points.astype(rng.choice(["f4", "f8"]))
    value = [np.nan, np.inf, -np.inf, 1e30, -1e30, 0.0, 1e38][rng.integers(7)]
    points[rng.integers(len(points)), rng.integers(points.shape[1])] = value
    return f"with {value} in {points.dtype}", points


def shaped(rng: Generator, points: np.ndarray) -> tuple[str, Any]:
    kind = int(rng.integers(9))
    made = [
        points[:0],
        points[:, :0],
        points[0],
        points[None],
        points[:1],
        np.repeat(points[:1], 30, 0),
        points[:3],
        None,
        "points",
    ]
    names = ["no rows", "no columns", "one axis", "three axes", "one row", "one row 30 times", "three rows", "None", "a word"]
    return names[kind], made[kind]


def listed(rng: Generator, points: np.ndarray) -> tuple[str, Any]:
    kind = int(rng.integers(4))
    if kind == 0:
        return "lists", points.tolist()
    if kind == 1:
        return "tuples", tuple(map(tuple, points))
    if kind == 2:
        return "ragged", [*points.tolist()[:-1], [1.0] * (points.shape[1] + 1)]
    return "a list of rows", list(points)


def odd_weights(rng: Generator, x: Any) -> tuple[str, Any]:
    try:
        n = len(x)
    except TypeError:
        return "", None
    if rng.integers(2) or n == 0:
        return "", None
    ones = np.ones(n)
    kind = int(rng.integers(10))
    spoilt = ones.copy()
    spoilt[0] = [np.nan, np.inf, -1.0, 1e300, 0.0][kind % 5]
    if kind < 5:
        return f"weight {spoilt[0]}", spoilt
    made = [ones[:-1], ones.astype(np.float32)[::-1], ones.astype(int), ones[:, None].repeat(2, 1), 2.0]
    names = ["too few weights", "float32 weights", "integer weights", "weights of two columns", "one weight"]
    return names[kind - 5], made[kind - 5]
