"""How wide a mean-shift kernel should be: the lesson's rule and scikit-learn's.

In: points (N, D); out: a bandwidth in their units. Both rules ask how far a point has to look to see a given share
of the data. Sources: fast.ai, part 2, lesson 12 ("a third of the data"); scikit-learn's `estimate_bandwidth`.
"""

from __future__ import annotations

from typing import Any

import torch
from sklearn.base import BaseEstimator

from clustering.arrays import compute_dtype, read_points, squarable, sum_dtype
from clustering.pairwise import distance_chunks
from clustering.params import generator_on, whole

REACH = {"gaussian": 3.0, "triangular": 1.0, "flat": 1.0}  # bandwidths within which a kernel does practically all it does
RULES = {"third": 1 / 3, "scikit-learn": 0.3}  # the share of the data that a point should see
PROBES = 500  # points that are asked


def estimate_bandwidth(
    x: Any, rule: str = "third", kernel: str = "gaussian", n_samples: int | None = PROBES, random_state: Any = 0
) -> float:
    """The bandwidth for points of any kind and device, in their units.

    Args:
        x: (N, D), a tensor, array or list.
        rule: "third": the kernel's reach covers a third of the data, so that a Gaussian's σ is a third of the distance
            that does. "scikit-learn": the mean distance to the last of the nearest 30 %, whatever the kernel.
        kernel: "gaussian", "triangular" or "flat".
        n_samples: points that are asked; None: all.
        random_state: draws them: an int, RandomState, torch.Generator or None.

    Returns:
        The bandwidth; 0 where so many points coincide that none has to look anywhere.

    Raises:
        ValueError: unknown rules and kernels, n_samples below 1, NaN and infinity.
    """
    if rule not in RULES or kernel not in REACH:
        raise ValueError(f"unknown rule {rule!r} or kernel {kernel!r}: choose from {', '.join(RULES)} and {', '.join(REACH)}")
    if n_samples is not None:
        n_samples = whole(n_samples, "n_samples", "estimate_bandwidth")
    points = compute_dtype(squarable(read_points(BaseEstimator(), x, reset=True)))
    probes = points
    if n_samples is not None and n_samples < len(points):
        generator = generator_on(points.device, random_state)
        probes = points[torch.randperm(len(points), generator=generator, device=points.device)[:n_samples]]
    data = probes if rule == "scikit-learn" else points  # scikit-learn looks only among the sample
    k = max(1, int(len(data) * RULES[rule]))
    far = torch.cat([block.kthvalue(k, dim=1).values for _, block in distance_chunks(probes, data, "euclidean")])
    return float(far.mean(dtype=sum_dtype(far.device))) / (REACH[kernel] if rule == "third" else 1.0)
