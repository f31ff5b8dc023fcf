"""How wide a mean-shift kernel should be: the lesson's rule and scikit-learn's.

In: points (N, D); out: a bandwidth in their units. Both rules ask how far a point has to look to see a given share
of the data. Sources: fast.ai, part 2, lesson 12 ("a third of the data"); scikit-learn's `estimate_bandwidth`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from clustering.arrays import compute_dtype
from clustering.distances import distance_chunks

REACH = {"gaussian": 3.0, "triangular": 1.0, "flat": 1.0}  # bandwidths within which a kernel does practically all it does
RULES = {"third": 1 / 3, "scikit-learn": 0.3}  # the share of the data that a point should see
PROBES = 500  # points that are asked


def estimate_bandwidth(
    x: Tensor,
    rule: str = "third",
    kernel: str = "gaussian",
    n_samples: int | None = PROBES,
    generator: torch.Generator | None = None,
) -> float:
    """The bandwidth for points x (N, D) of any device.

    rule: "third": the kernel's reach covers a third of the data, so that a Gaussian's σ is a third of the distance
    that does. "scikit-learn": the mean distance to the last of the nearest 30 %, whatever the kernel. n_samples:
    points that are asked, all with None; generator: draws them. Raises ValueError for unknown rules and kernels.
    """
    if rule not in RULES or kernel not in REACH:
        raise ValueError(f"unknown rule {rule!r} or kernel {kernel!r}: choose from {', '.join(RULES)} and {', '.join(REACH)}")
    probes = compute_dtype(x)
    if n_samples is not None and n_samples < len(x):
        if generator is None:
            raise ValueError("a sample of the points needs a generator: pass one, or n_samples=None to ask all of them")
        probes = probes[torch.randperm(len(x), generator=generator, device=x.device)[:n_samples]]
    data = probes if rule == "scikit-learn" else compute_dtype(x)  # scikit-learn looks only among the sample
    k = max(1, int(len(data) * RULES[rule]))
    far = torch.cat([block.kthvalue(k, dim=1).values for _, block in distance_chunks(probes, data, "euclidean")])
    return float(far.mean()) / (REACH[kernel] if rule == "third" else 1.0)
