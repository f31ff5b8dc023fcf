"""DBSCAN: clusters as dense regions, noise as what lies between, on any device.

In: points (N, D), a radius and a number; out: labels, −1 for noise. Neighbours come from `NearestNeighbors`, the
regions from label propagation with pointer jumping, which needs few passes over the pairs and no queue. Source:
Ester, Kriegel, Sander and Xu (1996).
"""

from __future__ import annotations

from typing import Any

import torch
from sklearn.base import BaseEstimator, ClusterMixin
from torch import Tensor

from clustering.arrays import read_points, read_weights, to_input_type
from clustering.neighbors import NearestNeighbors


class DBSCAN(ClusterMixin, BaseEstimator):
    """Density-based clusters.

    Parameters: eps: the distance within which points are neighbours, in the data's units; min_samples: the weight of
    neighbours, itself included, that makes a point a core point; method: of `NearestNeighbors`.

    Attributes, after `fit`: labels_ (N,) int64, numbered by first core point, −1 for noise; core_sample_indices_;
    components_, the core points. A border point between clusters goes to the first of them, as in scikit-learn.
    Raises ValueError for NaN or infinity and for parameters out of range.

    >>> DBSCAN(eps=1.5, min_samples=2).fit(torch.tensor([[0.0], [1.0], [9.0], [20.0], [21.0]])).labels_
    tensor([ 0,  0, -1,  1,  1])
    """

    def __init__(self, eps: float = 0.5, min_samples: int = 5, method: str = "auto") -> None:
        self.eps, self.min_samples, self.method = eps, min_samples, method

    def fit(self, x: Any, y: Any = None, sample_weight: Any = None) -> DBSCAN:
        """Cluster x (N, D); sample_weight (N,) counts towards min_samples. y is ignored."""
        if not self.eps > 0 or self.min_samples < 1:
            raise ValueError(f"eps must be above 0 and min_samples at least 1, not {self.eps} and {self.min_samples}")
        points = read_points(self, x, reset=True)
        weights = read_weights(sample_weight, points)
        near = NearestNeighbors(method=self.method).fit(points).radius_neighbors(points, self.eps)
        rows, columns = near.rows(), near.indices
        one = torch.ones_like(points[:, 0], dtype=torch.float32) if weights is None else weights.float()
        core = torch.zeros_like(one).index_add_(0, rows, one[columns]) >= self.min_samples
        labels = label_regions(core, rows, columns)
        self.labels_, cores = to_input_type(labels, x), core.nonzero()[:, 0]
        self.core_sample_indices_, self.components_ = to_input_type(cores, x), to_input_type(points[cores], x)
        return self


def label_regions(core: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Labels (N,) from core (N,) bool and neighbour pairs (P,) in both directions."""
    n = len(core)
    towards_core = core[columns]
    linked = towards_core & core[rows]
    region = regions(n, rows[linked], columns[linked])
    border = towards_core & ~core[rows]
    none = torch.full_like(region, n)
    owner = torch.where(core, region, none.scatter_reduce(0, rows[border], region[columns[border]], "amin"))
    roots = region[core].unique()  # the first core point of each cluster, in order
    return torch.searchsorted(roots, owner).masked_fill(owner == n, -1)


def regions(n: int, rows: Tensor, columns: Tensor) -> Tensor:
    """The smallest point number (N,) that each point is linked to by pairs, in both directions, directly or not.

    Each round hooks every tree onto the smallest root among its points' neighbours, then lets all points jump to
    their roots; the number of trees shrinks geometrically.
    """
    root = torch.arange(n, device=rows.device)
    while True:
        hooked = root.scatter_reduce(0, root[rows], root[columns], "amin")
        while not torch.equal(jumped := hooked[hooked], hooked):
            hooked = jumped
        if torch.equal(hooked, root):
            return root
        root = hooked
