"""Run records → means with intervals and paired differences.

A picture's runs with several seeds are averaged first: pictures are the sample, seeds are not. Intervals are
95 % percentile-bootstrap intervals of the mean (Efron and Tibshirani, 1993).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from scipy.stats import wilcoxon

from experiments.harness.records import RunRecord

QUALITY = ("word_f1", "named", "objects", "relation", "judge", "optimised")
COST = ("tokens", "seconds", "forward", "backward", "images", "peak_mib")
EVERY = (*QUALITY, *COST)

PictureMeans = dict[str, dict[str, dict[str, float]]]  # method → picture → measure → mean over seeds


def estimate(values: Sequence[float] | np.ndarray, seed: int = 0) -> dict[str, float]:
    """A mean with its interval: "mean", "low", "high"."""
    low, high = bootstrap_interval(values, seed)
    return {"mean": float(np.mean(values)), "low": low, "high": high}


def bootstrap_interval(values: Sequence[float] | np.ndarray, seed: int = 0, resamples: int = 2000) -> tuple[float, float]:
    """The 95 % percentile-bootstrap interval of a mean."""
    sample = np.asarray(values, dtype=float)
    rng = np.random.default_rng(seed)
    means = sample[rng.integers(0, len(sample), (resamples, len(sample)))].mean(1)
    return float(np.percentile(means, 2.5)), float(np.percentile(means, 97.5))


def by_picture(records: Iterable[RunRecord], kind: str | None = None, measures: Sequence[str] = EVERY) -> PictureMeans:
    """Method → picture → measure, averaged over seeds; of one kind of picture, or of all."""
    grouped: dict[str, dict[str, list[RunRecord]]] = defaultdict(lambda: defaultdict(list))
    for record in records:
        if kind in (None, record["kind"]):
            grouped[record["method"]][f"{record['kind']}/{record['picture']}"].append(record)
    return {
        method: {picture: {m: mean(run[m] for run in runs) for m in measures} for picture, runs in pictures.items()}
        for method, pictures in grouped.items()
    }


def mean(values: Iterable[float | None]) -> float:
    """NaN where nothing was measured."""
    present = [value for value in values if value is not None]
    return float(np.mean(present)) if present else float("nan")


def means(table: PictureMeans, seed: int = 0, measures: Sequence[str] = EVERY) -> dict[str, Any]:
    """Method → measure → {"mean", "low", "high"} (95 % bootstrap over pictures), and the number of pictures."""
    found: dict[str, Any] = {}
    for method, pictures in table.items():
        found[method] = {"pictures": len(pictures)}
        for measure in measures:
            values = [of_picture[measure] for of_picture in pictures.values() if not np.isnan(of_picture[measure])]
            if values:
                found[method][measure] = estimate(values, seed)
    return found


def paired(table: PictureMeans, ours: str, seed: int = 0, measures: Sequence[str] = (*QUALITY, "seconds")) -> dict[str, Any]:
    """Other method → measure → ours minus theirs on the pictures of both: mean, 95 % interval, Wilcoxon's p."""
    found: dict[str, Any] = {}
    for method, pictures in table.items():
        shared = [name for name in pictures if name in table.get(ours, {})]
        if method == ours or not shared:
            continue
        found[method] = {"pictures": len(shared)}
        for measure in measures:
            differences = np.array([table[ours][name][measure] - pictures[name][measure] for name in shared])
            differences = differences[~np.isnan(differences)]
            if len(differences):
                p = float(wilcoxon(differences).pvalue) if np.any(differences) else 1.0
                found[method][measure] = {**estimate(differences, seed), "p": p}
        if "forward" in pictures[shared[0]]:
            theirs, own = (sum(t[name]["forward"] + t[name]["backward"] for name in shared) for t in (pictures, table[ours]))
            found[method]["token_passes_ratio"] = theirs / own if own else None
    return found
